"""The journal from its options, the faults and warnings that only show between them, and what all processes over one must have alike.

Each process writes these in words beside its name in the journal, so nothing secret stands in them. The chains, the contracts and the tx
sender are not among them: a process with others is refused (``journal.database``). Reads a file with a password.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.config.assembly import Written
from kmsconn.config.findings import Findings
from kmsconn.config.forms import duration_text
from kmsconn.config.keyfiles import password, read_secret, warn_if_open
from kmsconn.config.postgres_url import is_postgres_url, parse_postgres_url
from kmsconn.config.settings import Settings
from kmsconn.config.values import ROLES, PostgresAddress

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
            findings.warn(
                findings.given[name].place,
                "has no effect",
                "the journal is a SQLite file of one process; it is for journal = postgresql://…",
            )
    if values["roles"] not in (ROLES, None):
        findings.fault(
            findings.given["roles"].place,
            "leaves something to other processes, and a journal in SQLite has one process",
            "leave roles out, or set journal = postgresql://…",
        )


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
        same = next(
            (one for one in found if one == value or (option == CORES and _same_cores(one, value))), value
        )
        found.setdefault(same, []).append(name)
    return found


def _same_cores(one: str, other: str) -> bool:
    """Say whether two lists of Cores may mean the same ones: as many, and whichever both name is at the same place in both.

    A Core may have another address on another machine.
    """
    first, second = one.split(_BETWEEN), other.split(_BETWEEN)
    return len(first) == len(second) and all(
        mine == theirs or (mine not in second and theirs not in first)
        for mine, theirs in zip(first, second, strict=True)
    )
