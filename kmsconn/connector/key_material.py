"""Looks whether this node has what its committee has made: keys and CRS in its Core, key sets in its public storage. Mends nothing.

A request of key management ends once the contract has enough answers, be this node's among them or not: what it did not make is missed only
at the next epoch, by the whole network. Of a migration it is the preparation that the Cores have recorded the key with: an epoch names one
for all, and a Core that has recorded another refuses it. And the Core's answer to a migration is good even where its copy to the migrated
key failed; only the Core's log tells. Coprocessors look for it in the storage of each node.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import suppress
from hashlib import shake_256
from typing import TypeVar

import attrs
import trio

from kmsconn.chain.asking import run_query_plan
from kmsconn.core.client import CoreClient
from kmsconn.errors import Forgotten, RequestError, Terminal, Undecodable, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_name
from kmsconn.model.alerts import Board
from kmsconn.protocols.profile import KeyMigration, KeysAndCrs, MaterialCall, PublicObject, RecordCall
from kmsconn.protocols.queries import PlannedQueries
from kmsconn.requests.components import Components
from kmsconn.transport.http import HttpClient
from kmsconn.transport.urls import show_origin

T = TypeVar("T")
Look = Callable[[], Awaitable[float]]
"""Looks once, tells the board of alerts what it saw, and returns the seconds until the next look. Reads only."""

KEY_MISSING = "key-missing"
KEY_SET_MISSING = "key-set-missing"
MIGRATION_MISSED = "migration-missed"
STORAGE = "own public storage"
INTERVAL = 3600.0  # seconds between looks
AGAIN = 60.0  # seconds until what is missing is looked for once more, before it is told: a Core may end after the others
FIRST_LOOK = 600.0  # seconds until the first look, between looks while something is wrong, and between those at the Core
DOWNLOAD = 1800.0  # seconds for an object of gigabytes
LARGEST = 16 << 30  # bytes

_FOUND, _MISSING = 200, frozenset({403, 404})


@attrs.define
class CoreMaterial:
    """The watch over the keys and CRS of the Core's endpoints."""

    find: Callable[[], Awaitable[KeysAndCrs]]
    """Asks the chain for what a node of this node's committee must have."""
    core: CoreClient
    call: MaterialCall
    board: Board

    async def look(self) -> float:
        """Look once, again at what is missing; where chain or Core do not answer nothing changes."""
        with suppress(RequestError, Undecodable):
            missing = await _still_missing(self._missing)
            for name, lacking in zip(self.core.endpoints, missing, strict=True):
                ids = ", ".join(map(id_name, lacking))
                text = f"the Core does not have {ids}, which the contract has" if ids else ""
                self.board.set(KEY_MISSING, name, text)
        return FIRST_LOOK

    async def _missing(self) -> Sequence[Sequence[int]]:
        """Return what each endpoint lacks; nothing for one that cannot be asked. Raises RequestError, Undecodable."""
        wanted = await self.find()
        return [await self._lacking(index, wanted) for index in range(len(self.core.endpoints))]

    async def _lacking(self, index: int, wanted: KeysAndCrs) -> Sequence[int]:
        reply = await self.core.inspect(index, self.call.method)
        return () if reply is None else self.call.read(reply).lacking(wanted)


@attrs.define
class MissedMigrations:
    """The watch over the migrations that ended without this node: whether its Core has recorded the keys as the other Cores have.

    What lies in the public storage says nothing of that. The Core's own record may yet be right: it may have made what this node did
    not reply with in time, or its operator has mended it.
    """

    find: Callable[[], Awaitable[Sequence[KeyMigration]]]
    """Asks the chain for the migrations."""
    core: CoreClient
    call: RecordCall
    board: Board

    async def look(self) -> float:
        """Look once, again at what was missed; where chain or Core do not answer nothing changes."""
        with suppress(RequestError, Undecodable):
            missed = await _still_missing(self._missed)
            for name, texts in zip(self.core.endpoints, missed, strict=True):
                self.board.set(MIGRATION_MISSED, name, "; ".join(texts))
        return FIRST_LOOK

    async def _missed(self) -> Sequence[Sequence[str]]:
        """Say what each endpoint has missed. Raises RequestError, Undecodable."""
        migrations = await self.find()
        return [
            [text for one in migrations if (text := await self._judge(index, one))]
            for index in range(len(self.core.endpoints))
        ]

    async def _judge(self, index: int, migration: KeyMigration) -> str:
        """Say what is wrong with an endpoint's record of a key; nothing if it is the migration's. Raises RequestError, Undecodable."""
        recorded = await self._recorded(index, migration.key_id)
        if recorded == migration.prep_id:
            return ""
        what = id_name(recorded) if recorded else "none that it names"
        return (
            f"{id_name(migration.key_id)} was migrated without this node, as {id_name(migration.request_id)}: the next epoch names "
            f"{id_name(migration.prep_id)} for it, and the Core has recorded {what}"
        )

    async def _recorded(self, index: int, key_id: int) -> int:
        """Ask with which preparation an endpoint has recorded a key; 0 if it says none. Raises RequestError, Undecodable."""
        try:
            reply = await self.core.inspect(index, self.call.method, self.call.message(key_id))
        except (Forgotten, Terminal):
            # The Core has no result of the key, or a failed one, and so refutes nothing: the contract's word stands.
            return 0
        return 0 if reply is None else self.call.read(reply)


@attrs.define
class MigratedKeySets:
    """The watch over the object. It is fetched and hashed once, in pieces, and later only looked for."""

    find: Callable[[], Awaitable[PublicObject | None]]
    """Asks the chain for the object; None: there is none to look for."""
    http: HttpClient
    check_url: Callable[[str], None]
    """Raises Misconfigured for an address that may not be asked."""
    board: Board
    _verified: PublicObject | None = None

    async def look(self) -> float:
        """Look once; where chain or storage do not answer nothing changes."""
        with suppress(RequestError):
            wanted = await self.find()
            wrong = "" if wanted is None else await self._wrong(wanted)
            self._verified = None if wrong else wanted
            self.board.set(KEY_SET_MISSING, STORAGE, wrong)
        return INTERVAL if self._verified else FIRST_LOOK

    async def _wrong(self, wanted: PublicObject) -> str:
        """Say what is wrong with the object; nothing where it is as it was signed. Raises Unreachable, Misconfigured."""
        what = f"the compressed key set of {id_name(wanted.key_id)} at {show_origin(wanted.urls[0])}"
        status = 0
        with trio.move_on_after(DOWNLOAD):
            for url in wanted.urls:
                self.check_url(url)
                status, is_same = await self._looked_at(url, wanted, what)
                if status == _FOUND:
                    return "" if is_same else f"{what} is another one than the committee has signed"
            return f"{what} is missing (HTTP {status}) although the migration of the key has ended"
        raise Unreachable(f"{what} was not read in {DOWNLOAD:g} s")

    async def _looked_at(self, url: str, wanted: PublicObject, what: str) -> tuple[int, bool]:
        """Return the HTTP status of a place, and whether what lies there was signed; what was compared is not read again."""
        if wanted == self._verified:
            return _expected((await self.http.head(url)).status, what), True
        async with await self.http.stream_get(url, max_bytes=LARGEST) as answer:
            if _expected(answer.status, what) != _FOUND:
                return answer.status, False
            digest = shake_256(wanted.hashed_before)
            async for chunk in answer:
                digest.update(chunk)
        return _FOUND, digest.digest(len(wanted.digest)) == wanted.digest


async def _still_missing(look: Callable[[], Awaitable[Sequence[Sequence[T]]]]) -> Sequence[Sequence[T]]:
    """Return what each endpoint lacks, looked for once more if any lacks something: a Core may end after the others."""
    missing = await look()
    if any(missing):
        await trio.sleep(AGAIN)
        missing = await look()
    return missing


def _expected(status: int, what: str) -> int:
    """Return the status of an object that is there or missing. Raises Unreachable for one that tells neither."""
    if status not in _MISSING and status != _FOUND:
        raise Unreachable(f"{what}: HTTP {status}")
    return status


def material_looks(components: Components) -> Iterator[Look]:
    """Yield the looks at the Core, where Cores of the generation tell what they have, and at the storage, where it migrates keys."""
    profile, board = components.profile, components.board
    made = _finding(components, profile.made_material)
    missed = _finding(components, profile.missed_migrations)
    migrated = _finding(components, profile.migrated_key_set)
    if made is not None and profile.material_call is not None:
        yield CoreMaterial(made, components.core, profile.material_call, board).look
    if missed is not None and profile.record_call is not None:
        yield MissedMigrations(missed, components.core, profile.record_call, board).look
    if migrated is not None:
        yield MigratedKeySets(migrated, components.buckets, components.policy.check, board).look


def _finding(
    components: Components, plan: Callable[[Address], PlannedQueries[T] | None]
) -> Callable[[], Awaitable[T]] | None:
    """Return what asks a chain as the profile plans it; None in a generation that plans nothing."""
    if plan(components.tx_sender) is None:
        return None

    async def find() -> T:
        planned = plan(components.tx_sender)
        assert planned is not None, "a profile plans always, or never"
        return await run_query_plan(components.chains[planned[0]], planned[1])

    return find
