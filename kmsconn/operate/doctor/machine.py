"""Probes of this machine: the journal's place, its owner, the monitoring address. Makes no file, takes no lock, opens no port."""

from __future__ import annotations

import errno
import os
import socket
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import attrs
import msgspec
import trio

from kmsconn.config.assembly import common_settings
from kmsconn.config.description import PostgresAddress
from kmsconn.config.settings import Settings
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.database import Binding, differences
from kmsconn.journal.sqlite import lock_path
from kmsconn.journal.sqlite_faults import file_fault, is_damage, layout_of, opening_fault
from kmsconn.model.events import Severity
from kmsconn.operate.doctor.postgres import (
    PostgresPlace,
    judge_common,
    judge_postgres,
    judge_workers,
    look_at_postgres,
)
from kmsconn.operate.doctor.probing import Diagnosis, Probe, fault, ok, warning
from kmsconn.transport.certificates import end_of, told_end
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports

LEAST_FREE = 1 << 30
"""Bytes: a journal with a million requests has some two gigabytes (docs/operations.md)."""
FULL = 16 << 20
"""Bytes below which a file system is full: SQLite needs some for its log before it can keep anything."""
CERTIFICATE = "tls_config.cert_path"
ANSWER_BYTES = 1 << 20  # of an answer of a monitoring port
NO_HTTP = "a program that does not answer HTTP"
MONITORING_LIMIT = 3.0  # seconds for the answer of a monitoring port of this machine


@attrs.frozen
class JournalFiles:
    """What the file system and the file say of a journal. ``holder``: the process that has its lock.

    ``refusal``: why a start would be refused, and its ``remedy``, which is empty where only the place is wrong.
    """

    exists: bool
    refusal: str = ""
    free: int = LEAST_FREE
    holder: str = ""
    stored: Mapping[str, str] = attrs.field(factory=dict)
    """The binding that stands in it."""
    remedy: str = ""


@attrs.frozen
class Machine:
    """How this machine is asked; a test brings its own."""

    journal: Callable[[Path], JournalFiles]
    address: Callable[[str], str]
    """Says why nothing could listen at a host, or nothing."""
    postgres: Callable[[PostgresAddress], PostgresPlace] = look_at_postgres


def real_machine() -> Machine:
    """Return this machine."""
    return Machine(look_at_journal, refusal_of_address)


# --- the journal


def journal_probe(
    settings: Settings, machine: Machine, ports: Ports, tx_sender: Probe[Address]
) -> Probe[None]:
    """Return the probe of the journal's place, and of whose journal it is."""
    checked = f"journal {(journal := settings.storage.journal)}"

    async def look() -> Sequence[Diagnosis]:
        if isinstance(journal, PostgresAddress):
            found = await ports.offload("doctor", partial(machine.postgres, journal))
            lines = [*judge_postgres(checked, journal, found, settings.storage.database_pool_size)]
            lines += judge_common(checked, common_settings(settings), found.members)
            cores = len(settings.core.core_endpoints)
            workers = f"{checked}: workers of all processes"
            lines += judge_workers(workers, settings.work.pools, cores, found.members)
            stored = {} if found.tables is None else found.tables.stored
        else:
            place = await ports.offload("doctor", partial(machine.journal, journal))
            lines, stored = [judge_place(checked, place)], place.stored
        if stored and not tx_sender.missing:
            ours = Binding.of(settings, tx_sender.value).as_text()
            lines.append(judge_binding(f"{checked}: owner", stored, ours))
        return lines

    return Probe(checked, look, uses=(tx_sender,), limit=30.0)


def judge_place(checked: str, place: JournalFiles) -> Diagnosis:
    """Judge whether a journal can be written."""
    if place.refusal:
        return fault(checked, place.refusal, place.remedy or _ELSEWHERE)
    used = f", in use by {place.holder}" if place.holder else ""
    free = f"{place.free / (1 << 30):.1f} GiB" if place.free >= 1 << 30 else f"{place.free >> 20} MiB"
    found = f"{'there' if place.exists else 'not there yet, can be made'}{used}, {free} free"
    if place.free < LEAST_FREE:
        return (fault if place.free < FULL else warning)(checked, found, "make room on this file system")
    return ok(checked, found)


_ELSEWHERE: Final = (
    "name a writable place on a local disk in journal, or give this user the right to write there"
)


def judge_binding(checked: str, stored: Mapping[str, str], ours: Mapping[str, str]) -> Diagnosis:
    """Compare whose a journal is with the configuration."""
    if not (others := differences(stored, ours)):
        return ok(checked, "this connector")
    found = f"it belongs to another connector: {'; '.join(others)}"
    return fault(checked, found, "name another journal path, or correct the configuration")


def look_at_journal(path: Path) -> JournalFiles:
    """Look at a journal's place without touching it."""
    folder = path.parent
    try:
        room = os.statvfs(folder)
    except OSError as error:
        return JournalFiles(False, f"its folder {folder} cannot be used: {error.strerror}")
    exists, free = path.exists(), room.f_bavail * room.f_frsize
    if room.f_flag & os.ST_RDONLY:
        return JournalFiles(exists, f"the file system of {folder} is mounted read-only", free)
    if not os.access(folder, os.W_OK | os.X_OK):
        return JournalFiles(exists, f"this user may not write in {folder}", free)
    if exists and not os.access(path, os.R_OK | os.W_OK):
        return JournalFiles(exists, f"this user may not write {path}", free)
    place = JournalFiles(exists, "", free, lock_holder(path))
    return _look_into(path, place) if exists else place


def lock_holder(journal: Path) -> str:
    """Say which process holds a journal's lock, as the kernel tells it; nothing where none does, or it does not tell."""
    with suppress(OSError):
        inode = str(lock_path(journal).stat().st_ino)
        for line in Path("/proc/locks").read_text(encoding="ascii").splitlines():
            match line.split():  # 1: FLOCK ADVISORY WRITE pid major:minor:inode start end (proc(5))
                case [_, "FLOCK", _, _, pid, file, *_] if file.rpartition(":")[2] == inode:
                    return f"process {pid}"
    return ""


def _look_into(path: Path, place: JournalFiles) -> JournalFiles:
    """Add the binding, or what is wrong with the file.

    A file that no process has open is read without the files that SQLite would make to read it.
    """
    mode = "mode=ro" if place.holder else "mode=ro&immutable=1"
    try:
        with closing(sqlite3.connect(f"file:{quote(str(path))}?{mode}", uri=True, timeout=1.0)) as file:
            refusal, remedy = file_fault(file.execute) or ("", "")
            stored = (
                dict(file.execute(_BINDING).fetchall()) if not refusal and layout_of(file.execute) else {}
            )
    except sqlite3.Error as error:
        # A busy file is in use, and one beside its write-ahead log may lack what stands there.
        if not is_damage(error) or (not place.holder and _has_log(path)):
            return place
        refusal, remedy = opening_fault(error)
        stored = {}
    return attrs.evolve(place, refusal=refusal, remedy=remedy, stored=stored)


_BINDING: Final = "SELECT key, value FROM meta"


def _has_log(journal: Path) -> bool:
    """Say whether commits stand beside a journal that are not in it yet."""
    with suppress(OSError):
        return journal.with_name(journal.name + "-wal").stat().st_size > 0
    return False


# --- the monitoring address


def monitoring_probe(settings: Settings, machine: Machine, ports: Ports) -> Probe[None]:
    """Return the probe of the monitoring address: free, held by a kmsconn that runs, or taken by another program."""
    checked = f"monitoring_endpoint {settings.monitoring.monitoring_endpoint}"

    async def look() -> Sequence[Diagnosis]:
        host, _, port = settings.monitoring.monitoring_endpoint.rpartition(":")
        refusal = await ports.offload("doctor", partial(machine.address, host.strip("[]")))
        if refusal:
            return [fault(checked, refusal, "name an address of this machine in monitoring_endpoint")]
        if port == "0":
            return [ok(checked, "any free port")]
        with trio.move_on_after(MONITORING_LIMIT):
            return await look_at_port(checked, reachable(host), int(port), ports)
        return [_taken(checked, NO_HTTP)]

    return Probe(checked, look)


def certificate_probes(settings: Settings, ports: Ports) -> Sequence[Probe[None]]:
    """Return the probe of the certificate of the HTTP address, where there is one: how long it still counts."""
    if settings.http_api is None or settings.http_api.tls is None:
        return []
    path = settings.http_api.tls.cert_path

    async def look() -> Sequence[Diagnosis]:
        try:
            end = await ports.offload("doctor", partial(end_of, path))
        except (OSError, ValueError) as error:
            return [fault(CERTIFICATE, str(error), "name a certificate chain in PEM")]
        return [judge_certificate(end, ports.wall())]

    return [Probe(CERTIFICATE, look)]


def judge_certificate(end: float, now: float) -> Diagnosis:
    """Judge when a certificate ends."""
    said, remedy = told_end(end, now), "renew it; a changed file is used without a restart"
    if not said:
        return ok(CERTIFICATE, f"counts for {(end - now) / 86400:.0f} days")
    return (fault if end <= now else warning)(CERTIFICATE, said, remedy)


def reachable(host: str) -> str:
    """Return where a listener can be asked that may listen on all addresses."""
    return {"0.0.0.0": "127.0.0.1", "": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104 - is compared, not bound


async def look_at_port(checked: str, host: str, port: int, ports: Ports) -> list[Diagnosis]:
    """Judge who listens at an address: nobody, another program, or a kmsconn, each critical alert of which is a fault."""
    url = f"http://{host}:{port}"
    try:
        stream = await ports.dial(host.strip("[]"), port)
    except OSError:
        return [ok(checked, "free")]
    await stream.aclose()
    try:
        named = as_object((await get(ports, f"{url}/version"))[1])
        if not {"name", "version", "build"} <= named.keys():
            return [_taken(checked, "another program")]
        alerts = _alerts(as_object((await get(ports, f"{url}/healthz"))[1]))
    except KmsconnError:
        return [_taken(checked, NO_HTTP)]
    critical = (one for one in alerts if one.severity == Severity.CRITICAL)
    return [
        ok(checked, f"a running kmsconn {named['version']} listens there"),
        *(fault(f"alert of {one.dependency}: {one.cause}", one.text, one.remedy) for one in critical),
    ]


class _ToldAlert(msgspec.Struct):
    dependency: str
    cause: str
    severity: str
    text: str = ""
    remedy: str = ""


def _alerts(health: Mapping[str, Any]) -> list[_ToldAlert]:
    """Return the alerts in a health answer; none of one that is no kmsconn's."""
    with suppress(msgspec.ValidationError):
        return msgspec.convert(health.get("alerts", ()), list[_ToldAlert])
    return []


async def get(ports: Ports, url: str, headers: Mapping[str, str] | None = None) -> tuple[int, bytes]:
    """Ask a monitoring port and return status and body. Raises Unreachable."""
    async with (
        open_http(ports, limit=1) as http,
        await http.stream_get(url, max_bytes=ANSWER_BYTES, headers=headers) as answer,
    ):
        return answer.status, await answer.read()


def as_object(body: bytes) -> Mapping[str, Any]:
    """Return the JSON object that a body is; an empty one for any other."""
    with suppress(msgspec.DecodeError):
        return msgspec.json.decode(body, type=dict[str, Any])
    return {}


def _taken(checked: str, by: str) -> Diagnosis:
    remedy = "name another port in monitoring_endpoint, or stop the program that listens there"
    return fault(checked, f"taken by {by}", remedy)


def refusal_of_address(host: str) -> str:
    """Say why nothing could listen at a host of this machine: a socket is bound to a port of the kernel's choice, and not listened to."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_STREAM) as probe:
            probe.bind((host, 0))
    except OSError as error:
        unknown = error.errno == errno.EADDRNOTAVAIL
        return "is no address of this machine" if unknown else str(error.strerror or error)
    return ""
