"""From typed option values to the settings of any generation: walks their descriptions, so that none is forgotten; secrets out of files.

What is made of several options has a function, by the name of its field; faults that only show between options are noted there. Of a file
with a key, a token or a password a few bytes are read and none is shown; open modes are warned about.

Here too: what all processes over one journal must have alike. Each writes it in words beside its name in the journal, so nothing secret
stands there. The chains, the contracts and the tx sender are not among it: a process with others is refused (``journal.database``).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config.description import ROLES, Form, PostgresAddress, Secret, Section, StatusPage, fields_of
from kmsconn.config.forms import duration_text
from kmsconn.config.options import Findings, OptionTable
from kmsconn.config.parties import Chain, Chains, CoreTls, HostChain
from kmsconn.config.places import is_loopback, is_postgres_url, parse_postgres_url
from kmsconn.config.settings import Settings
from kmsconn.config.structuring import HostChainEntry, NotServedEntry

_LARGEST_KEY_FILE = 4096
_KEY_BYTES = 32
_SHORTEST_TOKEN = 16


def read_secret(
    place: str, path: Path, findings: Findings, decode: Callable[[bytes], str], remedy: str = ""
) -> Secret | None:
    """Return what a file holds as ``decode`` reads it, or None after noting why there is nothing."""
    warn_if_open(path, findings)
    try:
        return secret_in(path, decode)
    except ValueError as error:
        findings.fault(place, str(error), remedy)
        return None


def secret_in(path: Path, decode: Callable[[bytes], str]) -> Secret:
    """Read the secret that a file holds at present. Raises ValueError that says why there is none, and shows nothing of it."""
    try:
        with path.open("rb") as file:
            data = file.read(_LARGEST_KEY_FILE)
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from error
    try:
        return Secret(decode(data))
    except ValueError as error:
        raise ValueError(f"{path} {error}") from None


def hex_key(data: bytes) -> str:
    """Return the text of a key file. Raises ValueError."""
    if not data.isascii():
        raise ValueError("does not hold a private key as hex")
    return data.decode("ascii").strip()


def signing_key(data: bytes) -> str:
    """Return the key of a signing key file of the Core. Raises ValueError."""
    try:
        return read_signing_key(data).hex()
    except ValueError as error:
        raise ValueError(f"is no signing key file of the Core: {error}") from None


def token(data: bytes) -> str:
    """Return the token of a file. Raises ValueError."""
    found = data.decode("latin-1").strip()
    if len(found) < _SHORTEST_TOKEN or not found.isascii() or not found.isprintable() or " " in found:
        least = f"at least {_SHORTEST_TOKEN} printable characters without spaces"
        raise ValueError(f"holds no token: it must be {least}")
    return found


def password(data: bytes) -> str:
    """Return the password of a file, without the end of its line. Raises ValueError."""
    line = data.rstrip(b"\r\n")
    if not line or b"\n" in line or b"\0" in line:
        raise ValueError("holds no password: it must be one line that is not empty")
    try:
        return line.decode()
    except UnicodeDecodeError:
        raise ValueError("holds no password: it is not UTF-8 text") from None


def warn_if_open(path: Path, findings: Findings) -> None:
    """Warn about a file that others than its owner may read or write.

    Of a file with another owner than this process the group may read: Kubernetes mounts secrets so (mode 0440).
    """
    try:
        status = path.stat()
    except OSError:
        return
    mode, is_own = stat.S_IMODE(status.st_mode), status.st_uid == os.geteuid()
    if mode & (0o077 if is_own else 0o037):
        found = f"has mode {mode:04o}: users other than its owner can access it"
        findings.warn(str(path), found, "chmod 600")


# --- the signing key file of the Core


def _text(text: str) -> bytes:
    return len(text).to_bytes(8, "little") + text.encode()


_HEADER: Final = (
    ("the version of the header", _text("0.5")),
    ("the header's variant", bytes(4)),
    ("the version of the versioning scheme", _text("0.1")),
    ("the name of the type", _text("PrivateSigKey")),
    ("the version of the type", bytes(4)),
    ("the length of the key", _KEY_BYTES.to_bytes(8, "little")),
)


def read_signing_key(data: bytes) -> bytes:
    """Return the 32 bytes of the key in a file that the KMS Core wrote. Raises ValueError that names the part which is wrong.

    bincode with fixed-width little-endian integers, 91 bytes; what follows is passed over. Source: httpz-rc7.md 5.2 and A.5.
    """
    for what, expected in _HEADER:
        part, data = data[: len(expected)], data[len(expected) :]
        if part != expected:
            ends = len(part) < len(expected)
            raise ValueError(f"the file ends within {what}" if ends else f"{what} is another one")
    if len(data) < _KEY_BYTES:
        raise ValueError("the file ends within the key")
    return data[:_KEY_BYTES]


@attrs.frozen
class Written:
    """What the sources of a generation say: the typed value of each option, None where it is faulty or not set; and what was found.

    ``makers`` stand by the names of fields. ``environ`` may name files that hold keys.
    """

    table: OptionTable
    values: Mapping[str, Any] = attrs.field(repr=False)
    findings: Findings
    makers: Mapping[str, Maker]
    environ: Mapping[str, str] = attrs.field(repr=False)

    def place(self, name: str) -> str:
        """Return where a given option stands."""
        return self.findings.given[name].place

    def assemble(self) -> Settings | None:
        """Return the settings, or None when a fault was noted, now or before. Reads the files that hold keys."""
        made = {name: make(self) for name, make in self.makers.items()}
        return None if self.findings.faults else Settings(**values_of(Settings, self, made))


Maker = Callable[[Written], Any]
"""Makes the value of a field of several options; None for its default, or after noting what is wrong."""

_TOP: Final = Section()


def values_of(
    cls: type[attrs.AttrsInstance], written: Written, made: Mapping[str, Any], section: Section = _TOP
) -> dict[str, Any]:
    """Return the fields of a class that have another value than its default, or one that was written."""
    values = {}
    for field in fields_of(cls):
        if field.name in made:
            value = made[field.name]
        elif isinstance(field.kind, Form):
            value = written.values.get(written.table.named(section.name_of(field.option)))
        else:
            within = isinstance(field.kind, Section) and values_of(field.type, written, made, field.kind)
            value = field.type(**within) if within else None
        if value is not None:
            values[field.name] = value
    return values


def chains_of(written: Written) -> Chains:
    """Return the chains of fhevm; notes a host chain that is listed twice, and warns about one that is not served."""
    entries: tuple[HostChainEntry | NotServedEntry, ...] = written.values["host_chains"] or ()
    first: dict[int, int] = {}
    for index, entry in enumerate(entries):
        if entry.chain_id in first:
            place, other = f"{written.place('host_chains')}[{index}].chain_id", first[entry.chain_id]
            twice = f"chain {entry.chain_id} is listed twice"
            written.findings.fault(place, twice, f"it is host_chains[{other}] too")
        first.setdefault(entry.chain_id, index)
        if isinstance(entry, NotServedEntry):
            place = f"{written.place('host_chains')}[{index}]"
            what = f"chain {entry.chain_id} is of Solana"
            written.findings.warn(place, f"{what}, which is not served by this version: its requests wait")
    hosts = tuple(
        HostChain(Chain(one.chain_id, one.url, f"host_chains[{index}].url"), one.acl_address)
        for index, one in enumerate(entries)
        if isinstance(one, HostChainEntry)
    )
    not_served = {one.chain_id: at for at, one in enumerate(entries) if isinstance(one, NotServedEntry)}
    gateway, ethereum = (_chain(written.values, name) for name in ("gateway", "ethereum"))
    return Chains(gateway, ethereum, hosts, not_served)


def _chain(values: Mapping[str, Any], name: str) -> Chain:
    """Websockets come first: calls, sends and the wake-up share one connection there (options.md)."""
    options = [f"{name}_ws_url", f"{name}_url"]
    urls = [url for option in options for url in values[option] or ()]
    named = " or ".join(option for option in options if values[option])
    return Chain(values[f"{name}_chain_id"], tuple(dict.fromkeys(urls)), named)


def core_tls_of(written: Written) -> CoreTls | None:
    """Return TLS towards the Core where a file of it is named; notes the missing half of a client certificate."""
    halves = ("core_tls.certificate_file", "core_tls.key_file")
    written.findings.require(*halves, beside=halves)
    files = values_of(CoreTls, written, {}, Section("core_tls"))
    return CoreTls(**files) if files else None


def status_page_token_of(written: Written) -> Secret | None:
    """Return the token for the status page; notes the fault where one is needed and missing."""
    values = written.values
    if values["status_page_token_file"] is not None:
        place = written.place("status_page_token_file")
        path, remedy = values["status_page_token_file"], "write one with: openssl rand -hex 32"
        return read_secret(place, path, written.findings, token, remedy)
    host = str(values["monitoring_endpoint"]).rpartition(":")[0]
    if values["status_page"] is StatusPage.ON and not is_loopback(host):
        needs = "needs status_page_token_file, since monitoring_endpoint is not a loopback address"
        written.findings.fault_of("status_page", needs)
    return None


RUN: Final = Path("/run/kmsconn")
"""Where a service manager lets a process make sockets (systemd: RuntimeDirectory)."""

_FOR_POSTGRES: Final = ("journal_password_file", "database_pool_size", "lease")


def journal_of(written: Written) -> Path | PostgresAddress | None:
    """Return where the journal is; None where its option is faulty. Notes what does not fit together."""
    values, findings = written.values, written.findings
    journal: Path | PostgresAddress | None = values["journal"]
    if isinstance(journal, PostgresAddress):
        path = values["journal_password_file"]
        place = path and written.place("journal_password_file")
        return with_password(journal, place, path, findings) if path else journal
    if journal is not None:
        _check_single(values, findings)
        warn_if_open(journal, findings)
    return journal


def with_password(address: PostgresAddress, place: str, path: Path, findings: Findings) -> PostgresAddress:
    """Return an address with a file for its password, which ``place`` names; notes what is wrong with the file at present."""
    if address.password is not None:
        findings.fault(place, "names a second password: the URL of the journal has one too", "keep one")
    read_secret(place, path, findings, password)
    return attrs.evolve(address, password_file=path)


def _check_single(values: Mapping[str, Any], findings: Findings) -> None:
    """A file of SQLite has one process, which must do all."""
    for name in _FOR_POSTGRES:
        if name in findings.given:
            instead = "the journal is a SQLite file of one process; it is for journal = postgresql://…"
            findings.warn(findings.given[name].place, "has no effect", instead)
    if values["roles"] not in (ROLES, None):
        found = "leaves something to other processes, and a journal in SQLite has one process"
        findings.fault_of("roles", found, "leave roles out, or set journal = postgresql://…")


def has_password(document: Mapping[str, Any]) -> bool:
    """Say whether the URL of a journal in a file has a password."""
    urls = (str(document.get(name, "")).strip() for name in ("journal", "database_url"))
    return any(_has_password(url) for url in urls if is_postgres_url(url))


def _has_password(url: str) -> bool:
    try:
        return parse_postgres_url(url).password is not None
    except ValueError:  # whatever it is, it may hold one
        return True


def control_socket_of(settings: Settings, file: str | os.PathLike[str] | None) -> Path | None:
    """Return the configured control socket; of a journal in PostgreSQL one in ``RUN``, named as the service.

    Where that folder is missing, it stands beside the configuration file. None for one beside a journal that is a file.
    """
    storage = settings.storage
    if storage.control_socket is not None or isinstance(storage.journal, Path):
        return storage.control_socket
    beside = Path() if file is None else Path(file).parent
    folder = RUN if RUN.is_dir() else beside
    return folder / socket_name(settings)


def socket_name(settings: Settings) -> str:
    """Return the name of the control socket of a service whose journal is no file."""
    return f"{settings.monitoring.service_name.replace('/', '-')}.sock"


CORES: Final = "kms_core_endpoints"
_BETWEEN: Final = ", "


@attrs.frozen
class SettingDifference:
    """An option that not all processes have alike; ``text``: each value, with those that have it."""

    option: str
    text: str


def common_settings(settings: Settings) -> dict[str, str]:
    """Return in words what all processes must have alike, by option."""
    storage, prepared = settings.storage, sorted(settings.protocol.preprocessing_ids.items())
    return {
        "mode": settings.work.mode.value,
        "lease": duration_text(storage.lease),
        CORES: _BETWEEN.join(settings.core.core_endpoints),
        "retention.contents": duration_text(storage.retention.contents),
        "retention.rows": duration_text(storage.retention.rows),
        "audit_log": "none" if storage.audit_log is None else "a file",
        "compressed_key_sets": settings.protocol.compressed_key_sets.value,
        "preprocessing_ids": _BETWEEN.join(f"{key:#x} = {other:#x}" for key, other in prepared) or "none",
    }


def differences(processes: Iterable[tuple[str, Mapping[str, str]]]) -> list[SettingDifference]:
    """Compare processes, each a name and its settings; what one has not said, as an older version, is no difference."""
    named = list(processes)
    options = dict.fromkeys(option for _, settings in named for option in settings)
    found = []
    for option in options:
        values = _values(option, named)
        if len(values) > 1:
            text = "; ".join(f"{value} at {_BETWEEN.join(names)}" for value, names in values.items())
            found.append(SettingDifference(option, text))
    return found


def _values(option: str, named: Iterable[tuple[str, Mapping[str, str]]]) -> dict[str, list[str]]:
    """Return those that have each value of an option; values that mean the same are one."""
    found: dict[str, list[str]] = {}
    for name, settings in named:
        if option not in settings:
            continue
        value = settings[option]
        same = (one for one in found if one == value or (option == CORES and _same_cores(one, value)))
        found.setdefault(next(same, value), []).append(name)
    return found


def _same_cores(one: str, other: str) -> bool:
    """Say whether two lists of Cores may mean the same ones: as many, and whichever both name is at the same place in both.

    A Core may have another address on another machine.
    """
    first, second = one.split(_BETWEEN), other.split(_BETWEEN)
    pairs = zip(first, second, strict=False)
    alike = (mine == theirs or (mine not in second and theirs not in first) for mine, theirs in pairs)
    return len(first) == len(second) and all(alike)
