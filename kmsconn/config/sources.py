"""Where settings come from: one TOML file, then the environment, then files that hold secrets. Later wins; all faults at once.

Reads files, writes none, and changes nothing. No value of a secret and no URL stands in a fault or a warning.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config import assembly, httpz, networks
from kmsconn.config.assembly import Maker, Written, control_socket_of, has_password, journal_of, warn_if_open
from kmsconn.config.description import PREFIX, REQUIRED, environment_name
from kmsconn.config.http_api import http_api_of
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.options import FHEVM, Findings, Given, OptionTable
from kmsconn.config.settings import Settings
from kmsconn.config.structuring import beside, structure
from kmsconn.config.tracing import tracing_of
from kmsconn.config.wallets import wallet_of
from kmsconn.errors import ConfigError
from kmsconn.model import requests
from kmsconn.transport.proxies import NO_PROXIES, Proxies, ProxyFault, proxies_of


@attrs.frozen
class GenerationOptions:
    """How the options of one generation become settings; ``tidy`` looks at what was given before it is typed."""

    table: OptionTable
    makers: Mapping[str, Maker]
    tidy: Callable[[Findings], None] = lambda _: None


_SHARED: Final[Mapping[str, Maker]] = {
    "core_tls": assembly.core_tls_of,
    "wallet": wallet_of,
    "status_page_token": assembly.status_page_token_of,
    "journal": journal_of,
}

GENERATIONS: Final[Mapping[str, GenerationOptions]] = {
    requests.FHEVM: GenerationOptions(FHEVM, {**_SHARED, "chains": assembly.chains_of, "http_api": http_api_of}),
    requests.HTTPZ_RC7: GenerationOptions(HTTPZ_RC7, {
        **_SHARED, "chains": httpz.chains_of, "protocol_config_contract": httpz.httpz_of,
        "kms_generation_contract": httpz.key_manager_of, "attestation": httpz.attestation_of, "s3": httpz.s3_of,
    }, httpz.tidy),
}  # fmt: skip


FOLDER_VARIABLE: Final = "KMS_CONNECTOR_CONFIG_DIR"
DEFAULT_FOLDER: Final = Path("config") / "environments"

# Kubernetes puts these into every pod beside a Service named kms-connector or kms-connector-…: they are not meant for us.
_SERVICE_LINK = re.compile(
    r".*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


def load_config(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str],
    network: str | None = None,
    service_name: str | None = None,
    alone: bool = False,
) -> Settings:
    """Return the settings that the defaults, ``network``, the file at ``path`` and ``environ`` give together; later wins.

    ``network`` is ``testnet``, ``mainnet`` or ``devnet``: a known deployment's chain ids and addresses; it and ``service_name`` win over
    the options of these names. ``alone``: a file of httpz-rc7 is judged without the environment, and what a file needs has no default.
    Relative paths in a file begin in its folder. Proxies are what ``environ`` says in its usual variables, ``HTTPS_PROXY`` and the like
    (``transport.proxies``); where traces go, what it says in those of OpenTelemetry (``config.tracing``).
    What was accepted without effect, or is unsafe, stands in ``Settings.warnings``. Raises ConfigError with every fault at once.
    Repeating: reads again, changes nothing.
    """
    written = read_sources(path, environ=environ, network=network, service_name=service_name, alone=alone)
    findings, settings = written.findings, written.assemble()
    alone = alone and written.table is HTTPZ_RC7
    proxies = NO_PROXIES if alone else _proxies(environ, findings)
    if findings.faults or settings is None:
        raise ConfigError(tuple(findings.faults))
    service = settings.monitoring.service_name
    tracing = None if alone else tracing_of(environ, service, findings.warn)
    control, warnings = control_socket_of(settings, path), tuple(findings.warnings)
    return settings.but(proxies=proxies, tracing=tracing, control_socket=control, warnings=warnings)


def read_sources(
    path: str | os.PathLike[str] | None = None,
    *,
    environ: Mapping[str, str],
    network: str | None = None,
    service_name: str | None = None,
    alone: bool = False,
) -> Written:
    """Return what the sources of ``load_config`` say, faulty or not. Raises ConfigError where the file cannot be read."""
    findings = Findings()
    document = {} if path is None else read_toml(Path(path), findings)
    if findings.faults:  # what a file that cannot be read would have said is not missing
        raise ConfigError(tuple(findings.faults))
    variables = dict(read_environment(environ))
    generation = GENERATIONS[profile_of({**document, **variables})]
    findings.table = generation.table
    alone = alone and generation.table is HTTPZ_RC7
    if alone:
        variables = {name: one for name, one in variables.items() if name == "profile"}
    arguments = {"service_name": ("--name", service_name), networks.NETWORK: ("--network", network)}
    said = ((name, *one) for name, one in arguments.items() if one[1] is not None)
    named = {name: Given(value, place, name) for name, place, value in said}
    values = _values(generation, (document, variables, named), findings, alone=alone)
    return Written(generation.table, values, findings, generation.makers, environ)


def _proxies(environ: Mapping[str, str], findings: Findings) -> Proxies:
    try:
        return proxies_of(environ)
    except ProxyFault as fault:
        findings.fault(fault.variable, str(fault), "name one as http://host:port, or unset it")
        return NO_PROXIES


def profile_of(given: Mapping[str, Given]) -> str:
    """Return the generation that the sources ask for; the default where they ask for none that is known."""
    try:
        return requests.profile_named(str(given["profile"].value)) if "profile" in given else requests.FHEVM
    except ValueError:
        return requests.FHEVM


def _values(
    generation: GenerationOptions, sources: tuple[dict[str, Given], ...], findings: Findings, *, alone: bool
) -> dict[str, Any]:
    """Return every option's typed value; later sources win, and a known network fills in what they leave out."""
    known = networks.find_network(sources, generation.table, findings)
    if known is not None:
        findings.take(networks.preset(known))
    document, *others = sources
    findings.take(document)
    for source in others:
        findings.take(source, strict=False)
    generation.tidy(findings)
    if known is not None:
        networks.complete(known, findings)
    values = _structured(findings, alone=alone)
    if known is not None:
        networks.compare(values, known, findings)
    return values


def read_toml(path: Path, findings: Findings) -> dict[str, Given]:
    """Return the values of a file by dotted name; a file that cannot be read is a fault."""
    document, wrong = dict[str, Any](), ""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        wrong = f"cannot be read: {error.strerror}"
    except UnicodeDecodeError:
        wrong = "is not UTF-8 text"
    except tomllib.TOMLDecodeError as error:
        wrong = f"is not TOML: {_position_only(error)}"
    if wrong:
        findings.fault(str(path), wrong)
    if {"private_key", "mnemonic"} & document.keys() or has_password(document):
        warn_if_open(path, findings)
    return {name: Given(value, name, name, path.parent) for name, value in _flattened("", document)}


def _position_only(error: tomllib.TOMLDecodeError) -> str:
    """Return where the syntax is wrong, without the parser's quotations of a text that may hold a secret."""
    found = re.search(r"\(at [^)]*\)$", str(error))
    return f"its syntax is wrong {found[0]}" if found else "its syntax is wrong"


def _flattened(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and not any(name in known.table.options for known in GENERATIONS.values()):
            yield from _flattened(f"{name}.", value)
        else:
            yield name, value


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """Yield the variables that begin with the prefix, by dotted name, in any case of letters.

    An empty one counts as unset: charts render every variable, also those that their values leave out.
    """
    ours = {environment_name(name) for known in GENERATIONS.values() for name in known.table.known_names}
    for written in sorted(environ):
        variable = written.upper()
        foreign = variable == FOLDER_VARIABLE or (variable not in ours and _SERVICE_LINK.fullmatch(variable))
        if variable.startswith(PREFIX) and not foreign and environ[written].strip():
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            yield name, Given(environ[written], written, name)


def _structured(findings: Findings, *, alone: bool) -> dict[str, Any]:
    """Return every option's typed value, or its default; faulty ones are noted and absent, as None."""
    values: dict[str, Any] = {}
    for name, option in findings.table.options.items():
        given = findings.given.get(name)
        if given is not None:
            written = beside(given.folder, given.value, option.form)
            values[name] = structure(written, option.form, given.place, findings.faults)
        elif option.default is REQUIRED:
            findings.fault(name, "is required", f"set it in the file, or {option.environment}")
            values[name] = None
        else:
            if alone and option.in_file:
                findings.fault(name, "is required in a file")
            values[name] = option.default
    return values


# --- where configuration files lie


def directory(environ: Mapping[str, str]) -> Path:
    """Return the directory of configurations: that of the variable, else one below the working directory."""
    named = environ.get(FOLDER_VARIABLE, "").strip()
    return Path(named) if named else DEFAULT_FOLDER


def configurations(folder: Path) -> list[Path]:
    """Return the TOML files of a directory, by name; none where it is not there."""
    return sorted(path for path in folder.glob("*.toml") if path.is_file())


def find_file(written: str, environ: Mapping[str, str]) -> Path:
    """Return the file that is meant by a path, or by a name in the directory, with ``.toml`` or without; else the path itself."""
    path = Path(written)
    places = [path, path.with_name(f"{path.name}.toml")] if path.name else [path]
    if not path.is_absolute():
        places += [directory(environ) / place for place in places]
    return next((place for place in places if place.is_file()), path)
