"""What is done once for a journal, beside its requests: retention, alerts about key management, looks at agreements and contracts.

Alerts about key management are read from the journal, so that a restart forgets none of it, and end no request. *Overdue:* requests for
keys, contexts and epochs never expire, they wait until the chain says that they are over, for days if need be; one that has waited for an
hour is named. *Undone:* a request that was rejected or quarantined is undone until a later one of its kind is done, or until an operator
retries it; one whose context or epoch was destroyed meanwhile is meant to end. *Not agreed:* of what this node has replied to for long
(a key, a CRS, an epoch) the nodes have not agreed.

*Unknown event:* a reader asks for the topics that it understands, and hears nothing at all of a contract that was upgraded to others. So
each contract is asked for all its events, one call every ten minutes: over all finalized blocks where events are rare, and over the newest
few where each request has some. There an unknown event is found once it is about as frequent as requests are. What was found is told until
it is a week old, by the chain and not by this process: a start looks back as far. Nothing of it is recorded.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import takewhile
from typing import Any, Never

import attrs
import trio

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.logs import decode_logs
from kmsconn.chain.port import Rpc, RpcError, is_range_limit
from kmsconn.connector.key_material import FIRST_LOOK, Look, material_looks
from kmsconn.errors import RequestError, Retryable, Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.rows import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import DECRYPTION_KINDS, Kind
from kmsconn.protocols.profile import Profile
from kmsconn.requests.components import Components
from kmsconn.requests.range_reader import WatchedContract, watched_contracts
from kmsconn.requests.retaining import retain
from kmsconn.requests.rows import request_of

UNKNOWN_EVENT = "unknown-event"
EVENTS_INTERVAL = 600.0  # seconds between looks
WITHOUT_HEAD = 1.0  # seconds between looks for a first head
WEEK = 7 * 86_400.0
LOOKED_BACK = 50_400
"""Blocks that the first look after a start goes back: a week of Ethereum."""
SAMPLE = 4
"""The newest blocks that are looked at of a contract with many events: a second of a Gateway, and some hundred kilobytes."""
WIDEST = 5_000  # blocks in one call, halved for a node that takes fewer
TOPICS_NAMED = 64  # topics, more than a release ever brings; what a node makes up beyond them is counted


@attrs.define
class UnknownEvents:
    """The watch over the events of one contract. What was found stays an alert until it is a week old."""

    contract: WatchedContract
    known: frozenset[bytes]
    looked_back: int | None = None
    """So many of the newest blocks are looked at, each time; None: all, and at first ``LOOKED_BACK``."""
    next_block: int | None = None
    size: int = WIDEST
    found: dict[bytes, Log] = attrs.field(factory=dict)
    """The newest log of each unknown topic; without a topic, under nothing."""

    async def look(self) -> float:
        """Look at what was finalized since the last look; what a node does not give is asked for at the next one."""
        while (blocks := self._next_range()) is not None:
            try:
                logs, _ = decode_logs(await self._ask(*blocks))
            except RpcError as error:
                if not is_range_limit(error) or self.size == 1:
                    break
                self.size = max(1, self.size // 2)
            except Retryable:
                break
            else:
                self.next_block = blocks[1] + 1
                self._note(logs)
        self._tell()
        return WITHOUT_HEAD if self.contract.head.number is None else EVENTS_INTERVAL

    def _next_range(self) -> tuple[int, int] | None:
        last = self.contract.head.number
        if last is None:
            return None
        if self.next_block is None or self.next_block > last + 1:  # as after a wild head
            self.next_block = max(0, last - LOOKED_BACK)
        first = self.next_block
        if self.looked_back is not None:
            first = max(first, last - self.looked_back + 1)
        return (first, min(last, first + self.size - 1)) if first <= last else None

    async def _ask(self, first: int, last: int) -> Any:
        address = to_hex(self.contract.subscription.contract)
        return await self.contract.endpoint.call(
            "eth_getLogs", {"address": address, "fromBlock": quantity(first), "toBlock": quantity(last)}
        )

    def _note(self, logs: Iterable[Log]) -> None:
        of = self.contract.subscription.contract
        for log in logs:
            topic = log.topics[0] if log.topics else b""
            if log.address == of and topic not in self.known:
                self.found[topic] = log

    def _tell(self) -> None:
        head = self.contract.head
        oldest = (head.number or 0) - max(LOOKED_BACK, head.blocks_in(WEEK))
        self.found = {topic: log for topic, log in self.found.items() if log.block_number >= oldest}
        about = f"{self.contract.endpoint.name} {self.contract.name}"
        self.contract.components.board.set(UNKNOWN_EVENT, about, "; ".join(self._said()))

    def _said(self) -> Iterator[str]:
        if self.found:
            yield f"the contract emits {len(self.found)} events that this version does not know"
        for topic, log in [*self.found.items()][:TOPICS_NAMED]:
            what = f"topic {to_hex(topic)}" if topic else "an event without topics"
            yield f"{what} in block {log.block_number}, transaction {to_hex(log.transaction_hash)}"


def unknown_events(contracts: Iterable[WatchedContract]) -> Iterator[UnknownEvents]:
    """Yield the watch over each contract whose events the profile knows all of."""
    for contract in contracts:
        profile, address = contract.components.profile, contract.subscription.contract
        if known := profile.all_topics(address):
            yield UnknownEvents(contract, known, SAMPLE if profile.has_many_events(address) else None)


async def keep_looking(look: Look, first: float = 0.0) -> Never:
    """Look for ever, at first after so many seconds. Cancellation: at any time. Repeating: reads only."""
    pause = first
    while True:
        await trio.sleep(pause)
        pause = await look()


async def run_upkeep(components: Components) -> None:
    """Run these tasks until cancelled. Cancellation: at any time. Repeating: each begins anew from the journal."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(retain, components)
        for look, first in _looks(components):
            nursery.start_soon(keep_looking, look, first)


def _looks(components: Components) -> Iterator[tuple[Look, float]]:
    """Yield each look with the seconds until it is first due. What waits for a chain or the Core delays no other one."""
    profile, journal, board = components.profile, components.journal, components.board
    wall, chains, sender = components.ports.wall, components.chains, components.tx_sender
    yield partial(name_overdue, profile, journal, wall, board), 0.0
    yield partial(name_undone, journal, board), 0.0
    agreements = OpenAgreements(profile, journal, chains, sender, wall, board)
    yield agreements.look, AGREEMENT_INTERVAL
    yield from ((look, FIRST_LOOK) for look in material_looks(components))
    for events in unknown_events(watched_contracts(components)):
        yield events.look, 0.0


LONG = 3600.0  # seconds for which a request has waited, or for which a reply was final
OVERDUE_INTERVAL = 60.0  # seconds between looks
OVERDUE = "overdue"
NAMED = 16  # overdue requests; more are not named one by one

UNDONE_INTERVAL = 5.0  # seconds between looks
NEWEST = 64  # endings of a kind that are looked at
UNDONE = "undone"

KEY_MANAGEMENT = tuple(kind for kind in Kind if kind not in DECRYPTION_KINDS)
STOPPING = frozenset({Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH})
"""Without these nothing can be answered in the next context."""
_FAILED = frozenset({State.REJECTED, State.QUARANTINED})


async def name_overdue(profile: Profile, journal: Journal, wall: Callable[[], float], board: Board) -> float:
    """Name what has waited for an hour, and never expires."""
    kinds = [kind for kind, operation in profile.operations.items() if not operation.expires]
    waiting = await until_kept(lambda: journal.run(queries.waiting, kinds, wall() - LONG, NAMED))
    said = "has waited for more than an hour; reason:"
    found = [
        (f"{one.kind} 0x{one.id:064x}", f"{said} {one.progress.reason or 'its turn'}") for one in waiting
    ]
    board.show(OVERDUE, [AlertRaised(name, OVERDUE, text) for name, text in found])
    return OVERDUE_INTERVAL


async def name_undone(journal: Journal, board: Board) -> float:
    """Name the kinds of key management whose last requests failed."""
    endings = await until_kept(lambda: journal.run(queries.endings, KEY_MANAGEMENT, NEWEST))
    failed = {kind: found for kind, ended in endings.items() if ended and (found := undone(ended))}
    board.show(UNDONE, [_undone_alert(kind, found) for kind, found in failed.items()])
    return UNDONE_INTERVAL


def _undone_alert(kind: Kind, found: Sequence[Row]) -> AlertRaised:
    last, severity = found[0], Severity.CRITICAL if kind in STOPPING else Severity.WARNING
    text = f"{len(found)} such requests ended unfinished, the last one, {id_name(last.id)}, {last.state}: {last.progress.reason}"
    return AlertRaised(str(kind), UNDONE, text, severity, count=len(found))


def undone(endings: Sequence[Row]) -> list[Row]:
    """Return what failed since the last request that was done, the newest first."""
    later = takewhile(lambda one: one.state in _FAILED, endings)
    return [one for one in later if RowCause.DESTROYED not in one.progress.cause]


NOT_AGREED = "not-agreed"
AGREEMENT_INTERVAL = 600.0  # seconds between looks
NEWEST_REPLIES = 4  # requests of a kind that are looked at: a contract makes one at a time


@attrs.define
class OpenAgreements:
    """The watch over replies that the contract has and no agreement has come of.

    A contract takes the reply of each node and counts those that are equal. Where nodes say different things it waits for ever and tells
    nobody, and every node's own reply is final: of an epoch, for example, where the nodes name different preprocessing ids of a migrated
    key.
    """

    profile: Profile
    journal: Journal
    chains: Mapping[int, Rpc]
    tx_sender: Address
    wall: Callable[[], float]
    board: Board

    async def look(self) -> float:
        """Look once; of what a chain does not answer nothing changes."""
        rows = [row for kind in self._agreed() for row in await self._long_final(kind)]
        text = f"this node's reply is final for more than {LONG / 3600:g} h, and the nodes have not agreed"
        found = []
        for row in rows:
            is_open = await self._is_open(row)
            if is_open or (is_open is None and (_name_of(row), NOT_AGREED) in self.board):
                found.append(AlertRaised(_name_of(row), NOT_AGREED, text))
        self.board.show(NOT_AGREED, found)
        return AGREEMENT_INTERVAL

    def _agreed(self) -> list[Kind]:
        return [kind for kind, one in self.profile.operations.items() if one.agreed]

    async def _long_final(self, kind: Kind) -> list[Row]:
        endings = await until_kept(lambda: self.journal.run(queries.endings, (kind,), NEWEST_REPLIES))
        final = [one.rid for one in endings[kind] if one.state is State.FINALIZED]
        rows = [await until_kept(partial(self.journal.run, queries.row, rid)) for rid in final]
        before = self.wall() - LONG
        return [row for row in rows if row is not None and (row.times.closed or math.inf) < before]

    async def _is_open(self, row: Row) -> bool | None:
        """Say whether the contract still waits for the nodes; None where nobody can say."""
        try:
            request = request_of(self.profile, row)
            plan = self.profile.operations[row.kind].standing(request.content, self.tx_sender)
            return False if plan is None else await run_query_plan(self.chains[request.chain_id], plan)
        except (Retryable, Undecodable):
            return None
        except RequestError:  # aborted or destroyed: it is over
            return False


def _name_of(row: Row) -> str:
    return f"{row.kind} {id_name(row.id)}"
