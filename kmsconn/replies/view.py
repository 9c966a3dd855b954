"""Values on which the transaction manager decides: the chain as a node showed it, and each reply with the answers about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping
from enum import StrEnum

import attrs

from kmsconn.frozen import frozen
from kmsconn.journal.values import Row
from kmsconn.model.debounce import Suspicion
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.replies.answers import THERE, UNHELD, Accepts, Finds, Sent, Unclear, is_hopeless
from kmsconn.replies.chain_view import AccountNonces, ChainView
from kmsconn.replies.fees import FeeLimits, Price
from kmsconn.transport.waiting import Backoff

SILENCES = 3  # in a row, until no answer counts as one that says nothing
FINDING_LIFETIME = 5.0  # seconds; an older answer is asked for again before something is done
AGAIN_AFTER = 5.0  # seconds without a receipt until the same bytes are broadcast again; doubled each time
_DOUBLINGS = 4
REPLACE_AFTER = 30.0  # seconds without a receipt until a higher fee is tried
_BLOCKS_TO_WAIT = 3  # on a slow chain: so many blocks instead
_SENT_TWICE = 2
LONGEST_RETRY = 15.0
REFUSED_BACKOFF = Backoff(0.25, LONGEST_RETRY, least=1.0)
"""Until bytes go out again that a node refused."""


class Question(StrEnum):
    """A question to a node about one reply. The first two ask whether the contract would take it: unsigned, and signed."""

    ESTIMATE = "eth_estimateGas"
    CALL = "eth_call"
    CALL_AT_BLOCK = "eth_call at the receipt's block"
    RECEIPT = "eth_getTransactionReceipt"
    TRACE = "debug_traceTransaction"
    BLOCK = "eth_getBlockByNumber of the request's block"


class Belief(StrEnum):
    """Something about a reply that one look does not prove."""

    ABSENT = "the nonce of its bytes was used without them"
    GONE = "the contract has not the reply that was included"
    HOPELESS = "the contract will never take it"


@frozen
class Finding:
    """The answer to a question about a reply, with the head of the node that answered.

    ``trusted``: that node was not behind the look at the chain of its moment. ``asked_at`` and ``at``: when it was asked, and answered.
    ``again``: when it may be asked once more.
    """

    value: Finds
    head: int
    trusted: bool
    asked_at: float
    at: float
    again: float

    @property
    def says_nothing(self) -> bool:
        """Whether there was no answer, or one that does not tell."""
        return isinstance(self.value, Unclear)


@attrs.define
class ReplyHistory:
    """What this process remembers of a reply beside its row. A cache: journal and chain rebuild it.

    ``reusable`` has bytes that lost their nonce or their block: while that nonce is open they go out again as they are. ``least_gas`` is
    what a reply needs that ran out of gas; ``returned`` counts how often it lost its nonce, ``gone`` how often the contract had lost it.
    ``signed_once``: this process signed all bytes that there ever were, and only one set of them; ``lost``: these are not in the chain,
    or failed there, so whoever finds the reply in the contract finds another one's.
    """

    reusable: Row | None = None
    least_gas: int = 0
    returned: int = 0
    gone: int = 0
    signed_once: bool = False
    lost: bool = False

    def included(self) -> None:
        """Forget what says nothing of a reply that is in the chain."""
        self.least_gas = self.returned = 0
        self.signed_once = self.lost = False


@attrs.define
class Track:
    """A reply, with the answers about it. A cache: journal and chain rebuild it.

    ``silences`` counts in a row, for each question, answers that do not tell; ``alone`` are questions that had no answer at all: they
    are asked alone the next time, so that they spoil no batch.
    """

    row: Row
    history: ReplyHistory
    findings: dict[Question, Finding] = attrs.field(factory=dict)
    asked: set[Question] = attrs.field(factory=set)
    silences: Counter[Question] = attrs.field(factory=Counter)
    alone: set[Question] = attrs.field(factory=set)
    signed_at: float = -math.inf
    """When this process signed it last; never, for what an earlier one did."""
    _suspicions: dict[Belief, Suspicion] = attrs.field(factory=dict)

    def believes(self, belief: Belief, seconds: float) -> bool:
        """Say whether a later head, or a look ``seconds`` after the first one, said the same."""
        suspicion = self._suspicions.get(belief)
        return suspicion is not None and suspicion.is_confirmed(seconds)

    def suspects(self, belief: Belief) -> bool:
        """Say whether the last look said so."""
        return belief in self._suspicions

    def file(self, question: Question, finding: Finding, chain: ChainView | None) -> None:
        """Note an answer, and what it makes suspicious."""
        self.asked.discard(question)
        self.findings[question] = finding
        value = finding.value
        silent = isinstance(value, Unclear) and value.silent
        self.silences[question] = self.silences[question] + 1 if finding.says_nothing else 0
        (self.alone.add if silent else self.alone.discard)(question)
        if chain is not None and finding.trusted:
            self._suspect(question, finding, chain, silent=silent)

    def _suspect(self, question: Question, finding: Finding, chain: ChainView, *, silent: bool) -> None:
        """Note that the chain may not have this reply, or may never take it, or that it has it or takes it after all."""
        value, nonce = finding.value, self.earlier_nonce
        lost_nonce = nonce is not None and nonce < chain.nonce
        accepts = isinstance(value, Accepts)
        if question is Question.ESTIMATE:
            if not finding.says_nothing:
                self._note(Belief.HOPELESS, finding, says=is_hopeless(value))
            if lost_nonce and chain.fresh and accepts:
                self._note(Belief.ABSENT, finding, says=True)
        elif question is Question.RECEIPT and self.row.state is State.SIGNED:
            silent = silent and self.silences[question] < SILENCES
            if lost_nonce and (value is None or (finding.says_nothing and not silent)):
                self._note(Belief.ABSENT, finding, says=True)
        elif question is Question.CALL and self.row.state is State.INCLUDED:
            self._note(Belief.GONE, finding, says=accepts)

    def _note(self, belief: Belief, finding: Finding, *, says: bool) -> None:
        if says:
            self._suspicions[belief] = Suspicion.noted(self._suspicions.get(belief), finding.head, finding.at)
        else:
            self._suspicions.pop(belief, None)

    def moved(self, row: Row) -> None:
        """Take the row after a step: what was asked about it before says nothing about it now.

        That its bytes are absent is remembered while they have no nonce: then other ones may be signed, and those are not suspected.
        """
        self.row = row
        self.findings.clear()
        self.silences.clear()
        absent = self._suspicions.get(Belief.ABSENT)
        keeps = absent is not None and row.state is State.ANSWERED
        self._suspicions = {Belief.ABSENT: absent} if absent is not None and keeps else {}

    def finding(self, question: Question, now: float) -> Finding | None:
        """Return an answer that is not too old."""
        found = self.findings.get(question)
        return found if found is not None and now < found.at + FINDING_LIFETIME else None

    @property
    def earlier(self) -> Row | None:
        """The row with earlier bytes of this reply, where the journal or this process still has them."""
        return self.row if self.row.reply.raw is not None else self.history.reusable

    @property
    def earlier_nonce(self) -> int | None:
        """The nonce of earlier bytes."""
        earlier = self.earlier
        return None if earlier is None or earlier.reply.raw is None else earlier.reply.nonce


# --- broadcasts


@frozen
class Broadcast:
    """Bytes that were broadcast: their hash, since when, when last, how often, and what the node said last.

    ``on_its_way``: no answer came yet to the last time. A sequencer answers when the block is made.
    """

    hash: bytes
    since: float
    at: float
    times: int = 0
    said: Sent | None = None
    on_its_way: bool = False

    @property
    def is_held(self) -> bool:
        """Whether the node said that it holds something for the nonce."""
        return self.said in THERE

    def is_due(self, now: float, block_time: float) -> bool:
        """Say whether the bytes are to be broadcast now: not taken, or no receipt for long."""
        if self.on_its_way:
            return False
        if not self.is_held and self.said is not Sent.UNANSWERED:
            return now - self.at >= self._pause()
        doublings = 0 if self.said is Sent.USED else min(self.times - 1, _DOUBLINGS)
        return now - self.at >= max(AGAIN_AFTER, _BLOCKS_TO_WAIT * block_time) * 2.0**doublings

    def _pause(self) -> float:
        """Return the seconds until bytes that no node holds go out again. What fails for all has its pace elsewhere."""
        if self.said in {None, Sent.FAILED, Sent.FUNDS}:
            return 0.0
        if self.said is Sent.GAP:
            return REFUSED_BACKOFF.first
        return REFUSED_BACKOFF.seconds(self.times - 1)

    def says_used(self, now: float, block_time: float) -> bool:
        """Say whether the node's word that the nonce is used still counts: a reorganisation may have opened it since."""
        return self.said is Sent.USED and not self.is_due(now, block_time)

    def is_stuck(self, now: float, block_time: float, replace_after: float) -> bool:
        """Say whether the bytes need another fee: the node refuses them for it, or they have no receipt for ``replace_after`` seconds."""
        if self.on_its_way:
            return False
        if self.said in UNHELD:
            return True
        wait = max(replace_after, 2 * _BLOCKS_TO_WAIT * block_time)
        waits = self.said in (THERE | {Sent.UNANSWERED}) - {Sent.USED}
        return waits and self.times >= _SENT_TWICE and now - self.since >= wait


@attrs.define
class Broadcasts:
    """The broadcasts of a chain by whatever holds their nonce. Times are Trio's; ``block_time`` in seconds."""

    _broadcasts: dict[int, Broadcast] = attrs.field(factory=dict)

    def begin(self, holder: int, transaction_hash: bytes, now: float) -> None:
        """Note that bytes are on their way to a node."""
        known = self.of(holder, transaction_hash) or Broadcast(transaction_hash, now, now)
        self._broadcasts[holder] = Broadcast(
            transaction_hash, known.since, now, known.times, known.said, on_its_way=True
        )

    def note(self, holder: int, transaction_hash: bytes, said: Sent, now: float) -> bool:
        """Note what a node said; return whether it is the first time that a node holds something of these bytes."""
        known = self.of(holder, transaction_hash) or Broadcast(transaction_hash, now, now)
        self._broadcasts[holder] = Broadcast(transaction_hash, known.since, now, known.times + 1, said)
        return said in THERE and not known.is_held

    def of(self, holder: int, transaction_hash: bytes | None) -> Broadcast | None:
        """Return the broadcast of these bytes; other bytes of the same holder do not count."""
        broadcast = self._broadcasts.get(holder)
        return broadcast if broadcast is not None and broadcast.hash == transaction_hash else None

    def due(self, holder: int, transaction_hash: bytes | None, now: float, block_time: float) -> bool:
        """Say whether bytes are to be broadcast now, as ``Broadcast.is_due``; what never was is due."""
        broadcast = self.of(holder, transaction_hash)
        return broadcast is None or broadcast.is_due(now, block_time)

    def keep(self, holders: Collection[int]) -> None:
        """Forget all others."""
        self._broadcasts = {holder: one for holder, one in self._broadcasts.items() if holder in holders}


# --- all of it


@attrs.frozen
class TxPolicy:
    """The rules of a transaction manager that stay the same while it runs; seconds and percent where amounts are meant."""

    limits: FeeLimits
    gas_percent: int
    spare_gas: Callable[[Kind, int], int]
    window: int
    tracing: bool
    replace_after: float
    absence_seconds: float


@attrs.frozen
class View:
    """Everything that a decision depends on; ``tracks`` by rid.

    ``price`` None: nothing may be signed now. ``sends_held``: a failed broadcast holds the others back for a moment.
    """

    chain: ChainView
    tracks: Mapping[int, Track]
    broadcasts: Broadcasts
    nonces: AccountNonces
    policy: TxPolicy
    price: Price | None
    now: float
    block_time: float
    sends_held: bool
    may_sign: bool

    @property
    def epoch(self) -> float:
        """Since when the chain is the present one, as far as is known: what was asked before may be of another one."""
        return max(self.chain.forked_at, self.nonces.stranger_at)

    @property
    def in_flight(self) -> frozenset[int]:
        """The nonces that signed replies hold."""
        return self.nonces.in_flight

    @property
    def room(self) -> int:
        """How many more replies may be in flight."""
        return max(0, self.policy.window - len(self.in_flight))

    def broadcast_of(self, row: Row) -> Broadcast | None:
        """Return what became of a row's bytes in this process."""
        return self.broadcasts.of(row.rid, row.reply.hash)


def nonce_of(row: Row) -> int:
    """Return the nonce of a signed row."""
    assert row.reply.nonce is not None
    return row.reply.nonce
