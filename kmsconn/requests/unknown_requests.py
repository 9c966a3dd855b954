"""Asks for requests that are missing in whatever form they came: a request in a form that this version does not know is not missing.

A reader asks for the topics that it understands. A later release of the contract may give a number of the same counter to a request of
another form, and the proof of completeness would miss it forever. So if ids are missing, the contract is asked for all its logs that
carry them as their first value. A log under a topic that no known release emits is such a request. Replies carry the id too, and prove
nothing; a log that can be read proves that the id is missing indeed.

A node that makes up such a log must not hide a request. Other nodes are asked too (``chain.witness``), and an id that one of them does not
show in the same log stays missing. The proof passes an id only once witnesses have shown its log again a reorg window later. After a
reorganisation all are asked for again. The low-water mark of the journal stays below them for as long as a connector would work on such
a request, so that a version that knows the form finds it missing, and answers it. This module never records anything.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice

import attrs
import trio

from kmsconn.chain.logs import block_call, decode_logs, read_found
from kmsconn.chain.port import Call, Rpc, RpcError, is_range_limit
from kmsconn.errors import Retryable, Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.ids import make_id
from kmsconn.journal.queries import JournalPlace
from kmsconn.model.events import UnknownRequestsHeard
from kmsconn.model.requests import Kind
from kmsconn.requests.cursor import Gap, Span, pieces, questions
from kmsconn.requests.range_reader import RangeReader

IDS_AT_ONCE = 64
"""Ids in one call: each of them may have a reply of each node in those blocks, of some kilobytes."""
MOST_ASKED = 100_000
"""Ids in one look: a wild counter could make any number of them."""
MOST_IN_VAIN = 1000
"""Calls that find nothing, after which a look asks no further."""
MOST_HEARD = 100_000
"""Requests of a kind that are remembered: an hour of 27 a second, in thirty megabytes. The oldest are forgotten."""
TOPICS_NAMED = 3


@attrs.frozen
class _Heard:
    """A request in an unknown form: its topic, where it stands, and when it was heard first, in Trio's time.

    ``sure``: witnesses have shown it again a reorg window later.
    """

    topic: bytes
    block: int
    block_hash: bytes
    transaction_hash: bytes
    since: float
    sure: bool = False


@attrs.define
class UnknownRequests:
    """The requests of one contract in forms that are not known, by kind; their kind is that of their numbers."""

    ranges: RangeReader
    _heard: dict[Kind, dict[int, _Heard]] = attrs.field(factory=dict)
    """Those above the low-water mark, by id."""
    _told: dict[Kind, dict[int, bytes]] = attrs.field(factory=dict)
    """The block hash of each that was reported, so that none is reported twice."""

    def forget(self) -> None:
        """Forget all of them: they are asked for again when they are found missing."""
        self._heard.clear()

    def pass_mark(self, kind: Kind, mark: int) -> None:
        """Forget those up to the low-water mark for good: nobody asks for them again."""
        for known in (self._heard.get(kind, {}), self._told.get(kind, {})):
            for id_ in [one for one in known if one <= mark]:
                del known[id_]

    def newest(self, kind: Kind) -> JournalPlace | None:
        """Return the one of a kind with the highest id."""
        heard = self._heard.get(kind)
        if not heard:
            return None
        id_ = max(heard)
        return JournalPlace(id_, heard[id_].block)

    def places(self, kind: Kind, above: int, *, sure: bool) -> list[JournalPlace]:
        """Return those of a kind with ids above this one that the proof may pass (``sure``), or that are to be asked for again."""
        heard = self._heard.get(kind, {}).items()
        return [JournalPlace(id_, one.block) for id_, one in heard if id_ > above and one.sure is sure]

    async def hear(self, kind: Kind, missing: Iterable[tuple[Gap, Span]]) -> None:
        """Ask for ids that are missing, each between these blocks, and note which of them came in a form that is not known.

        Raises Retryable when there is no usable answer. Cancellation: at any time. Repeating: asks for the same ids again, as intended.
        """
        in_vain, size = 0, self.ranges.cursor.size
        # A contract whose topics are not all known has none that is known to be unknown.
        wanted = islice(_ids(missing), MOST_ASKED if self._topics else 0)
        for ids, span in questions(wanted, IDS_AT_ONCE, size):
            if in_vain >= MOST_IN_VAIN:
                break
            logs, attested = await self._ask(ids, span)
            in_vain = 0 if logs else in_vain + 1 + (span[1] - span[0]) // size
            self._note(kind, ids, logs, attested)

    def tell(self, about: str) -> None:
        """Raise the alert that names their topics, or clear it if there are none."""
        heard = [one for kind in self._heard.values() for one in kind.values()]
        text = "; ".join(_said(heard)) if heard else None
        board = self.ranges.contract.components.board
        board.set("unknown-event", about, text, count=max(1, len(heard)))

    @property
    def _topics(self) -> frozenset[bytes]:
        """All topics that the contract is known to emit; none if they are not all known."""
        return self.ranges.contract.components.profile.all_topics(self.ranges.contract.subscription.contract)

    def _note(self, kind: Kind, ids: Iterable[int], logs: dict[int, Log], attested: bool) -> None:
        """Remember which ids were heard in these logs; all others are missing."""
        heard, now = self._heard.setdefault(kind, {}), trio.current_time()
        for id_ in ids:
            known, log = heard.get(id_), logs.get(id_)
            if log is None:
                heard.pop(id_, None)
            elif known is None or (known.topic, known.block_hash) != (log.topics[0], log.block_hash):
                heard[id_] = _Heard(
                    log.topics[0], log.block_number, log.block_hash, log.transaction_hash, now
                )
            elif attested and now - known.since >= self.ranges.contract.reorg_window:
                heard[id_] = attrs.evolve(known, sure=True)
        for oldest in [*islice(heard, max(0, len(heard) - MOST_HEARD))]:
            del heard[oldest]
        self._report(kind, logs)

    def _report(self, kind: Kind, logs: dict[int, Log]) -> None:
        """Report those that were not heard before, by topic."""
        told = self._told.setdefault(kind, {})
        new = [log for id_, log in logs.items() if told.get(id_) != log.block_hash]
        new.sort(key=lambda log: log.block_number)
        told.update({_carried(log): log.block_hash for log in new})
        for oldest in [*islice(told, max(0, len(told) - MOST_HEARD))]:
            del told[oldest]
        contract, of = self.ranges.contract, self.ranges.contract.subscription
        last = {log.topics[0]: log.block_number for log in new}
        for topic, count in Counter(log.topics[0] for log in new).items():
            contract.components.on_event(
                UnknownRequestsHeard(of.chain_id, of.contract, kind, topic, count, last[topic])
            )

    async def _ask(self, ids: Sequence[int], span: Span) -> tuple[dict[int, Log], bool]:
        """Return the log of each id that came in an unknown form, and whether all witnesses have shown these logs.

        The log of an id that a witness does not show is left out. Witnesses that do not answer are no reason to leave out one.
        """
        chain = self.ranges.contract.chain_context
        logs = await self._on_chain(await self._unknown(chain.follower, ids, span))
        attested = bool(logs)
        for witness in chain.witnesses:
            if not logs:
                break
            try:
                shown = await self._unknown(witness, tuple(logs), span)
            except Retryable:
                attested = False
                break
            logs = {id_: log for id_, log in logs.items() if shown.get(id_) == log}
        return logs, attested

    async def _on_chain(self, logs: dict[int, Log]) -> dict[int, Log]:
        """Return the logs whose blocks are on the chain. Raises Unreachable if the node lacks one of these blocks."""
        blocks = {log.block_number for log in logs.values()}
        headers = await self.ranges.headers(blocks)
        if len(headers) < len(blocks):
            raise Unreachable(self.ranges.reason)
        return {id_: log for id_, log in logs.items() if headers[log.block_number] == log.block_hash}

    async def _unknown(self, rpc: Rpc, ids: Sequence[int], span: Span) -> dict[int, Log]:
        """Return the first log under an unknown topic that carries each id, as one node shows it."""
        logs: list[Log] = []
        for piece in pieces(span, self.ranges.cursor.size):
            logs += await self._logs(rpc, ids, piece)
        logs.sort(key=lambda log: (log.block_number, log.log_index), reverse=True)
        understood = self.ranges.contract.subscription.topics
        known = self._topics.union(understood)
        readable = {_carried(log) for log in logs if log.topics[0] in understood}
        unknown = (log for log in logs if log.topics[0] not in known)
        return {_carried(log): log for log in unknown if _carried(log) not in readable}

    async def _logs(self, rpc: Rpc, ids: Sequence[int], span: Span) -> list[Log]:
        """Return all logs of the contract in some blocks that carry one of these ids, whatever their topic.

        The node must have the last of the blocks, else its answer proves nothing.
        """
        of, (first, last) = self.ranges.contract.subscription.contract, span
        criteria = {
            "address": to_hex(of),
            "topics": [None, [to_hex(id_.to_bytes(32)) for id_ in ids]],
            "fromBlock": quantity(first),
            "toBlock": quantity(last),
        }
        block, answer = await rpc.batch([block_call(last), Call("eth_getLogs", (criteria,))])
        if isinstance(answer, RpcError):
            if first == last or not is_range_limit(answer):
                raise Unreachable(f"the node answered {answer}") from answer
            middle = (first + last) // 2
            lower = await self._logs(rpc, ids, (first, middle))
            return [*lower, *await self._logs(rpc, ids, (middle + 1, last))]
        if read_found(block) is None:
            raise Unreachable(f"the node lacks block {last}")
        logs, _ = decode_logs(answer)
        wanted = frozenset(ids)
        there = (log for log in logs if log.address == of and first <= log.block_number <= last)
        return [log for log in there if len(log.topics) > 1 and _carried(log) in wanted]


def _carried(log: Log) -> int:
    """Return the first value of an event, which is its second topic."""
    return int.from_bytes(log.topics[1])


def _ids(missing: Iterable[tuple[Gap, Span]]) -> Iterator[tuple[int, Span]]:
    """Yield each id that is missing, with the blocks between which it must stand."""
    for gap, span in missing:
        for counter in range(gap.first, gap.last + 1):
            yield make_id(gap.tag, counter), span


def _said(heard: Sequence[_Heard]) -> Iterator[str]:
    """Yield the words of the alert, a part for each topic."""
    yield f"{len(heard)} requests came in a form that this version does not know, and are not answered"
    last = {one.topic: one for one in sorted(heard, key=lambda one: one.block)}
    counts = Counter(one.topic for one in heard)
    for topic, count in counts.most_common(TOPICS_NAMED):
        where = (
            f"the last one in block {last[topic].block}, transaction {to_hex(last[topic].transaction_hash)}"
        )
        yield f"topic {to_hex(topic)}: {count}, {where}"
    if len(counts) > TOPICS_NAMED:
        yield f"and {len(counts) - TOPICS_NAMED} other topics"
