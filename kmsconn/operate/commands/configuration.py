"""``kmsconn validate``, ``config`` and ``list``: what a configuration amounts to, where its values come from, and which files there are.

They ask no dependency and start nothing. ``config import`` merges the files of the three services of 0.14 into one: what is kept, renamed
and dropped. Source: fhevm-0.14.md 9 (the options of gw-listener, kms-worker and tx-sender).
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config.description import ROLES, form_of
from kmsconn.config.forms import ChainId, SecretText, suggestion
from kmsconn.config.networks import NETWORKS
from kmsconn.config.options import ALIASES, FHEVM, ExplainedOption, Findings, Given, explain
from kmsconn.config.parties import Chain
from kmsconn.config.places import ContractAddress, CoreEndpoints, RpcUrls, WebsocketUrls
from kmsconn.config.settings import Settings
from kmsconn.config.sources import configurations, directory, find_file, load_config, read_sources, read_toml
from kmsconn.config.structuring import HostChainTables, structure
from kmsconn.config.working import HttpApi
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.operate.commands.command import CliCommand, ExitStatus
from kmsconn.transport.urls import show_origin

_UNITED: Final = tuple(map(form_of, (RpcUrls, WebsocketUrls, CoreEndpoints)))
"""Lists of endpoints: what the files name is united, in their order."""

_IDENTITY: Final = tuple(map(form_of, (ChainId, HostChainTables, ContractAddress, SecretText)))
"""Values that say which network and which node this is: two that differ are a fault."""

_OF_THEIR_DATABASE: Final = ("database_url", "database_pool_size")
"""The database is the way back, until the services are gone."""

_SERVICE_NAME: Final = "service_name"
"""Each service had its own; the one process keeps its default."""


@attrs.frozen
class Offer:
    """One value of an option, and the file that gives it."""

    file: str
    value: Any = attrs.field(repr=False)


@attrs.frozen
class Merged:
    """The options of the one file, and a line for everything that was renamed, dropped or chosen. No line shows a value."""

    options: Mapping[str, Any] = attrs.field(repr=False)
    notes: tuple[str, ...]


def merge(files: Mapping[str, Mapping[str, Given]]) -> Merged:
    """Return the options that the files give together; each file is a name and its values by dotted option name.

    Endpoints are united. Of other options that differ the first file's value is taken, and a note says so. Raises ConfigError with every
    chain id, address, key or list of host chains that differs.
    """
    notes: list[str] = []
    offers: dict[str, list[Offer]] = {}
    for file, values in files.items():
        for name, given in values.items():
            alias = ALIASES.get(name)
            for option, value in _translated(file, name, given.value, notes):
                several = offers.setdefault(option, [])
                several.insert(0 if alias and alias.wins else len(several), Offer(file, value))
    if faults := [fault for name, several in offers.items() for fault in _conflicts(name, several)]:
        raise ConfigError(tuple(faults))
    return Merged({name: _chosen(name, several, notes) for name, several in offers.items()}, tuple(notes))


def _translated(file: str, name: str, value: Any, notes: list[str]) -> Iterator[tuple[str, Any]]:
    """Yield the option that a name stands for, with its value; nothing where it is dropped."""
    alias = ALIASES.get(name)
    if name == _SERVICE_NAME:
        notes.append(f"{file}: {name} is dropped: the three services are one process")
    elif name in _OF_THEIR_DATABASE and not str(value).startswith("sqlite:"):
        stays = "the database of the three services stays as it is; journal names ours"
        notes.append(f"{file}: {name} is dropped: {stays}")
    elif name in FHEVM.options:
        yield name, value
    elif alias is not None:
        notes.append(f"{file}: {name} becomes {alias.option}")
        yield alias.option, alias.translate(value) if alias.translate else value
    elif name in FHEVM.accepted:
        notes.append(f"{file}: {name} is dropped: {FHEVM.accepted[name].instead}")
    else:
        remedy = suggestion(name, FHEVM.known_names)
        notes.append(f"{file}: {name} is dropped: kmsconn has no such option{remedy and f'; {remedy}'}")


def _conflicts(name: str, offers: Sequence[Offer]) -> Iterator[Fault]:
    if FHEVM.options[name].form not in _IDENTITY:
        return
    first = offers[0]
    for other in offers[1:]:
        if _typed(name, other.value) != _typed(name, first.value):
            yield Fault(name, f"differs between {first.file} and {other.file}", "make them the same first")


def _typed(name: str, value: Any) -> Any:
    """Return a value in its option's form, so that two spellings of one address are equal; as it is where it is faulty."""
    faults: list[Fault] = []
    typed = structure(value, FHEVM.options[name].form, name, faults)
    return value if faults else typed


def _chosen(name: str, offers: Sequence[Offer], notes: list[str]) -> Any:
    first, *others = offers
    if FHEVM.options[name].form in _UNITED:
        return _united(offers)
    taken = _typed(name, first.value)
    differing = (other.file for other in others if _typed(name, other.value) != taken)
    why = f"{first.file} gives another value, which is taken"
    notes += (f"{file}: {name} is dropped: {why}" for file in differing)
    return first.value


def _united(offers: Sequence[Offer]) -> list[str]:
    values = (offer.value for offer in offers)
    written = (value if isinstance(value, list) else str(value).split(",") for value in values)
    return list(dict.fromkeys(str(url).strip() for urls in written for url in urls))


def toml_text(options: Mapping[str, Any]) -> str:
    """Return options as a TOML file: dotted names, tables in lists as arrays of tables at the end."""
    tables = {name: value for name, value in options.items() if _is_tables(value)}
    lines = [f"{name} = {_value(value)}" for name, value in options.items() if name not in tables]
    for name, entries in tables.items():
        for entry in entries:
            lines += ["", f"[[{name}]]", *(f"{key} = {_value(value)}" for key, value in entry.items())]
    return "\n".join(lines) + "\n"


def _is_tables(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(one, dict) for one in value)


def _value(value: Any) -> str:
    """Write a value: texts, numbers, booleans and lists of them are the same in JSON and TOML."""
    return json.dumps(value)


# --- validate


def add_config_argument(parser: argparse.ArgumentParser) -> None:
    """Describe ``-c FILE`` and ``--network``, which every command that needs settings takes."""
    words = "TOML file, or its name in KMS_CONNECTOR_CONFIG_DIR; variables KMS_CONNECTOR_… override it and may replace it"
    parser.add_argument("-c", "--config", metavar="FILE", help=words)
    words = "use chain ids and addresses of a known deployment; file and environment override them"
    parser.add_argument("--network", choices=tuple(NETWORKS), help=words)


def add_socket(parser: argparse.ArgumentParser) -> None:
    """Describe where a running connector listens."""
    words = "the control socket of a running connector; no configuration is read"
    parser.add_argument("--socket", type=Path, metavar="PATH", help=words)


def config_file(arguments: argparse.Namespace) -> Path | None:
    """Return the file that ``-c`` means, a path or a name in the directory of configurations."""
    return None if arguments.config is None else find_file(arguments.config, os.environ)


def validate(arguments: argparse.Namespace) -> int:
    """Print warnings and a summary. Raises ConfigError with all faults."""
    path = config_file(arguments)
    settings = load_config(path, environ=os.environ, network=arguments.network, alone=path is not None)
    for warning in settings.warnings:
        print(f"warning: {warning}")
    for line in summary(settings):
        print(line)
    print("the configuration is valid" if path is None else f"the configuration {path} is valid")
    return ExitStatus.WELL


def summary(settings: Settings) -> Iterator[str]:
    """Yield what a reader would check, without secrets: of a URL only scheme, host and port."""
    yield f"profile      {settings.protocol.profile}"
    yield f"mode         {settings.work.mode}"
    if settings.work.roles != ROLES:
        yield f"roles        {', '.join(sorted(settings.work.roles))}"
    yield f"tx sender    {_sender(settings)}"
    yield f"gateway      {_chain(settings.chains.gateway)}"
    if settings.chains.ethereum != settings.chains.gateway:
        yield f"ethereum     {_chain(settings.chains.ethereum)}"
    for host in settings.chains.host_chains:
        yield f"host chain   {_chain(host.chain)}, ACL {checksum(host.acl)}"
    yield f"decryption   {checksum(settings.protocol.decryption_contract.address)}"
    yield f"core         {', '.join(show_origin(url) for url in settings.core.core_endpoints)}"
    yield f"journal      {settings.storage.journal}"
    yield f"monitoring   {settings.monitoring.monitoring_endpoint}"
    if settings.http_api is not None:
        yield f"http         {_http_api(settings.http_api)}"
    if settings.monitoring.tracing is not None:
        yield f"traces       {show_origin(settings.monitoring.tracing.endpoint)}"
    if settings.proxies.shown:
        yield f"proxies      {settings.proxies.shown}"


def _sender(settings: Settings) -> str:
    """Return the wallet's address; that of a key in AWS KMS is known once it is asked, at the start."""
    if settings.wallet.private_key is not None:
        return checksum(PrivateKey.parse(settings.wallet.private_key.reveal()).address)
    if settings.wallet.tx_sender_address is not None:
        return checksum(settings.wallet.tx_sender_address)
    return "none" if settings.wallet.aws_kms is None else f"the AWS KMS key {settings.wallet.aws_kms.key_id}"


def _http_api(http: HttpApi) -> str:
    keys = f"{len(http.keys)} API keys" if http.keys else "no API keys"
    return f"{http.endpoint}, {'with' if http.tls else 'without'} TLS, {keys}"


def _chain(chain: Chain) -> str:
    return f"{chain.chain_id} at {', '.join(show_origin(url) for url in chain.urls)}"


# --- config


def configure_config(parser: argparse.ArgumentParser) -> None:
    """Describe the two commands."""
    commands = parser.add_subparsers(metavar="COMMAND", required=True)
    words = "print each option with its value, its source and its variable"
    explained = commands.add_parser("explain", help=words)
    add_config_argument(explained)
    explained.add_argument("--all", action="store_true", help="also print options that have their default")
    explained.set_defaults(config_command=explain_config)
    words = "merge gw-listener.toml, kms-worker.toml and tx-sender.toml"
    imported = commands.add_parser("import", help=words)
    add, words = imported.add_argument, "where to write; has mode 0600, since it may hold the key"
    add("files", metavar="FILE", nargs="+", type=Path, help="a file of the three services of 0.14")
    add("-o", "--output", metavar="FILE", type=Path, required=True, help=words)
    imported.add_argument("--force", action="store_true", help="overwrite that file")
    imported.set_defaults(config_command=import_files)


def config(arguments: argparse.Namespace) -> int:
    """Run the command that was named."""
    status: int = arguments.config_command(arguments)
    return status


def explain_config(arguments: argparse.Namespace) -> int:
    """Print the options, then warnings and faults. A faulty configuration is explained too, and ends with status 2."""
    path = config_file(arguments)
    written = read_sources(path, environ=os.environ, network=arguments.network)
    written.assemble()
    findings = written.findings
    rows = explain(written.table, findings.given, written.values, "default" if path is None else str(path))
    for line in table([row for row in rows if arguments.all or row.source != "default"]):
        print(line)
    for warning in findings.warnings:
        print(f"warning: {warning}")
    if findings.faults:
        raise ConfigError(tuple(findings.faults))
    return ExitStatus.WELL


def table(rows: Sequence[ExplainedOption]) -> list[str]:
    """Return rows as aligned columns: option, value, source, variable."""
    cells = [("option", "value", "source", "variable"), *map(attrs.astuple, rows)]
    widths = [*(max(len(cell[column]) for cell in cells) for column in range(3)), 0]
    return ["  ".join(map(str.ljust, cell, widths)) for cell in cells]


def import_files(arguments: argparse.Namespace) -> int:
    """Write the merged file and say what was renamed or dropped. Raises ConfigError with what is still missing in it."""
    merged = merge(_read(arguments.files))
    _write(arguments.output, toml_text(merged.options), overwrite=arguments.force)
    for note in merged.notes:
        print(note)
    print(f"{arguments.output}: {len(merged.options)} options of {len(arguments.files)} files")
    for warning in load_config(arguments.output, environ={}).warnings:
        print(f"warning: {warning}")
    return ExitStatus.WELL


def _read(paths: Sequence[Path]) -> dict[str, dict[str, Given]]:
    """Return what each file gives. Raises ConfigError with every file that cannot be read."""
    findings = Findings()
    files = {str(path): read_toml(path, findings) for path in paths}
    if findings.faults:
        raise ConfigError(tuple(findings.faults))
    for warning in findings.warnings:
        print(f"warning: {warning}", file=sys.stderr)
    return files


def _write(path: Path, text: str, *, overwrite: bool) -> None:
    """Write a new file that its owner alone may read. Raises ConfigError where it is there already, or cannot be written."""
    flags = os.O_WRONLY | os.O_CREAT | (os.O_TRUNC if overwrite else os.O_EXCL)
    try:
        with os.fdopen(os.open(path, flags, 0o600), "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o600)
            file.write(text)
    except FileExistsError:
        fault = Fault(str(path), "is there already", "name another file, or add --force")
        raise ConfigError((fault,)) from None
    except OSError as error:
        raise ConfigError((Fault(str(path), f"cannot be written: {error.strerror}"),)) from error


# --- list


def configure_list(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    parser.add_argument("-f", "--full-path", action="store_true", help="print paths instead of names")


def list_files(arguments: argparse.Namespace) -> int:
    """Print one name a line; a directory that is not there is a warning."""
    folder = directory(os.environ)
    if not folder.is_dir():
        missing = f"the directory {folder} does not exist"
        print(f"warning: {missing}; set KMS_CONNECTOR_CONFIG_DIR", file=sys.stderr)
    for path in configurations(folder):
        print(path.absolute() if arguments.full_path else path.name)
    return ExitStatus.WELL


COMMANDS: Final = {
    "validate": CliCommand(add_config_argument, validate),
    "config": CliCommand(configure_config, config),
    "list": CliCommand(configure_list, list_files),
}
