"""Which of several servers has the journal of today: refuses one that was left behind by a fail-over.

As a standby is promoted it begins a *timeline* with a higher number than its primary's. A primary that comes back after that, and takes
writes, has the journal as it was before: processes on either side would answer the same requests. So a process that has met a timeline
connects to no server of a lower one, and gives connections up that it has there. Only servers that are copies of each other are compared:
they have one system identifier. A server that does not tell, as managed ones may, is taken as it comes.

Two standbys that were promoted both may have timelines of one number: that is not noticed.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import attrs
import psycopg

from kmsconn.journal.postgres_asking import ask_plainly

# The write-ahead log names the new timeline at once, ``pg_control_checkpoint`` only after the next checkpoint. Any role may ask.
_ASK: Final = (
    "SELECT CASE WHEN NOT pg_is_in_recovery() THEN (SELECT system_identifier FROM pg_control_system()) || ' ' || "
    "left(pg_walfile_name(pg_current_wal_lsn()), 8) END"
)
_LISTS: Final = ("host", "hostaddr", "port")
"""The parameters of a connection that have a place for each server, or one value for all."""


@attrs.frozen
class ServerTimeline:
    """A timeline of a server and its copies: ``system`` is what they have in common, nothing of a server that does not tell."""

    system: str = ""
    number: int = 0


class NewestTimelines:
    """The timelines that were met. Used by several threads: they only ever add, so that none undoes what another one has noted."""

    def __init__(self) -> None:
        self._met: set[ServerTimeline] = set()

    def note(self, timeline: ServerTimeline) -> None:
        """Note that a server was met."""
        self._met.add(timeline)

    def newest(self, system: str) -> int:
        """Return the newest timeline that was met of a system; 0 where none was."""
        return max((one.number for one in tuple(self._met) if one.system == system), default=0)

    def is_behind(self, timeline: ServerTimeline) -> bool:
        """Say whether a newer timeline than this one was met."""
        return timeline.number < self.newest(timeline.system)

    def say(self, timeline: ServerTimeline) -> str:
        """Say what is wrong with a server that is behind, and what to do."""
        return (
            f"was left behind by a fail-over: its timeline is {timeline.number}, and timeline {self.newest(timeline.system)} was met "
            "already; stop it, or make it a standby of the new primary (if it is the one you want, a restored backup, restart kmsconn)"
        )


MET: Final = NewestTimelines()
"""What this process has met: it holds for all its connections, and for those of a connector that is started anew."""


def connect_to_newest(
    keywords: Mapping[str, Any], met: NewestTimelines = MET
) -> tuple[psycopg.Connection[Any], ServerTimeline]:
    """Make a connection to the first server that was not left behind, and return it with its timeline. Raises OperationalError."""
    left, refused = dict(keywords), ""
    while True:
        connection = _connect(left, refused)
        timeline = _timeline_of(connection)
        if not met.is_behind(timeline):
            met.note(timeline)
            return connection, timeline
        host, port = connection.info.host, connection.info.port
        connection.close()
        refused += f"the server at {host}, port {port}, {met.say(timeline)}; "
        left = without_server(left, host, port)
        if not left:
            raise psycopg.OperationalError(refused.removesuffix("; "))


def look_around(keywords: Mapping[str, Any], met: NewestTimelines = MET) -> str:
    """Meet each server that the parameters of a connection name, where they name several; say which ones were left behind.

    Passes over a server that cannot be reached or is a standby: nobody writes there.
    """
    found = [*filter(None, (_meet(one, met) for one in servers_of(keywords)))]
    return "; ".join(f"the server at {where} {met.say(one)}" for where, one in found if met.is_behind(one))


def servers_of(keywords: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the parameters of a connection to each single one of several servers; nothing where no more than one is named."""
    lists = {name: str(keywords[name]).split(",") for name in _LISTS if name in keywords}
    count = max(map(len, lists.values()), default=1)
    return [
        {**keywords, **{name: values[min(place, len(values) - 1)] for name, values in lists.items()}}
        for place in range(count if count > 1 else 0)
    ]


def without_server(keywords: Mapping[str, Any], host: str, port: int) -> dict[str, Any]:
    """Return the parameters of a connection without one of several servers; nothing where no other one is named."""
    servers = servers_of(keywords)
    left = [one for one in servers if _place_of(one) != (host, str(port))]
    if not left or len(left) == len(servers):
        return {}
    return {**keywords, **{name: ",".join(one[name] for one in left) for name in _LISTS if name in keywords}}


def _place_of(server: Mapping[str, Any]) -> tuple[str, str]:
    return server.get("host") or server.get("hostaddr") or "", server.get("port") or "5432"


def _connect(keywords: Mapping[str, Any], refused: str) -> psycopg.Connection[Any]:
    """Make a connection; the error has what was said of servers that were refused before."""
    try:
        return psycopg.connect(autocommit=True, **keywords)
    except psycopg.OperationalError as error:
        if not refused:
            raise
        raise psycopg.OperationalError(f"{refused}{error}") from error


def _meet(keywords: Mapping[str, Any], met: NewestTimelines) -> tuple[str, ServerTimeline] | None:
    try:
        with closing(_connect(keywords, "")) as connection:
            timeline = _timeline_of(connection)
    except psycopg.Error:
        return None
    met.note(timeline)
    return ", port ".join(_place_of(keywords)), timeline


def _timeline_of(connection: psycopg.Connection[Any]) -> ServerTimeline:
    """Ask a server for its timeline. Raises OperationalError where the connection is lost meanwhile."""
    try:
        told = ask_plainly(connection, _ASK)
    except psycopg.Error:
        if connection.closed:
            raise
        return ServerTimeline()
    system, _, number = told.partition(" ")
    return ServerTimeline(system, int(number, 16)) if number else ServerTimeline()
