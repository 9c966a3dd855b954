"""Values on which the transaction manager decides: the chain as a node showed it, and each reply with the answers about it."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from enum import StrEnum
from functools import cached_property

import attrs

from kmsconn.frozen import frozen
from kmsconn.journal.values import Row
from kmsconn.model.debounce import Suspicion
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.replies.broadcasts import Broadcast, Broadcasts
from kmsconn.replies.chain_view import ChainView
from kmsconn.replies.evidence import Accepts, Finds, Receipt, Stands, Unclear, is_hopeless
from kmsconn.replies.fees import FeeLimits, Price
from kmsconn.replies.table import Phase

SILENCES = 3  # in a row, until no answer counts as one that says nothing


class Question(StrEnum):
    """A question to a node about one reply."""

    ESTIMATE = "eth_estimateGas"
    CALL = "eth_call"
    CALL_AT_BLOCK = "eth_call at the receipt's block"
    RECEIPT = "eth_getTransactionReceipt"
    TRACE = "debug_traceTransaction"
    BLOCK = "eth_getBlockByNumber of the request's block"


@frozen
class Finding:
    """The answer to a question about a reply, with the head of the node that answered.

    ``trusted``: that node was not behind the look at the chain of its moment. ``again``: when the question may be put once more.
    """

    value: Finds
    head: int
    trusted: bool
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
    ``signed_once``: this process signed all bytes that there ever were, and only one set of them.
    """

    reusable: Row | None = None
    least_gas: int = 0
    returned: int = 0
    gone: int = 0
    signed_once: bool = False

    def included(self) -> None:
        """Forget what says nothing of a reply that is in the chain."""
        self.least_gas = self.returned = 0
        self.signed_once = False


@attrs.define
class Track:
    """A reply, with the answers about it. A cache: journal and chain rebuild it.

    ``absent`` and ``gone`` are suspicions that the chain does not have it: that the nonce of its bytes was used without them, that its
    block is gone. ``refused`` is the suspicion that the contract will never take it.
    ``silences`` counts in a row, for each question, answers that do not tell; ``alone`` are questions that had no answer at all: they
    are asked alone the next time, so that they spoil no batch.
    """

    row: Row
    history: ReplyHistory
    findings: dict[Question, Finding] = attrs.field(factory=dict)
    asked: set[Question] = attrs.field(factory=set)
    absent: Suspicion | None = None
    gone: Suspicion | None = None
    refused: Suspicion | None = None
    silences: Counter[Question] = attrs.field(factory=Counter)
    alone: set[Question] = attrs.field(factory=set)
    signed_at: float = -math.inf
    """When this process signed it last; never, for what an earlier one did."""

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
        nonce = self.earlier_nonce
        if question is Question.ESTIMATE and not finding.says_nothing:
            self._note_refusal(finding)
        if question is Question.RECEIPT and self.row.state is State.SIGNED:
            missing = finding.value is None or (
                finding.says_nothing and (not silent or self.silences[question] >= SILENCES)
            )
            self._note_absence(finding, missing=missing and nonce is not None and nonce < chain.nonce)
        elif question is Question.ESTIMATE and nonce is not None and nonce < chain.nonce and chain.fresh:
            self._note_absence(finding, missing=isinstance(finding.value, Accepts))
        elif question is Question.CALL and self.row.state is State.INCLUDED:
            gone = isinstance(finding.value, Accepts)
            self.gone = Suspicion.noted(self.gone, finding.head, finding.at) if gone else None

    def _note_refusal(self, finding: Finding) -> None:
        assert not isinstance(finding.value, Receipt | Stands | None)
        hopeless = is_hopeless(finding.value)
        self.refused = Suspicion.noted(self.refused, finding.head, finding.at) if hopeless else None

    def _note_absence(self, finding: Finding, *, missing: bool) -> None:
        if missing:
            self.absent = Suspicion.noted(self.absent, finding.head, finding.at)

    def moved(self, row: Row) -> None:
        """Take the row after a step: what was asked about it before says nothing about it now.

        That its bytes are absent is remembered while they have no nonce: then other ones may be signed, and those are not suspected.
        """
        self.row = row
        self.findings.clear()
        self.silences.clear()
        self.refused = None
        if row.state is not State.ANSWERED:
            self.absent = None

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


FINDING_LIFETIME = 5.0  # seconds; an older answer is asked for again before something is done


@attrs.frozen
class AccountNonces:
    """The account's nonces as a decision sees them.

    ``in_flight`` are those that signed replies hold; no nonce below ``high`` is free, since it was seen used. An estimate of before
    ``stranger_block`` is not believed: another transaction of the account came in by it, and may have been that reply. ``missing`` are
    nonces that nobody holds below one that somebody does, ``gaps`` the same of a fresh look, ``ripe`` those of them that a later look
    confirmed.
    """

    in_flight: frozenset[int]
    high: int
    stranger_block: int
    missing: Collection[int]
    gaps: Collection[int]
    ripe: Collection[int]


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
    signed: Sequence[Track]
    broadcasts: Broadcasts
    nonces: AccountNonces
    policy: TxPolicy
    price: Price | None
    now: float
    block_time: float
    sends_held: bool
    may_sign: bool

    @property
    def in_flight(self) -> frozenset[int]:
        """The nonces that signed replies hold."""
        return self.nonces.in_flight

    @cached_property
    def last(self) -> Track | None:
        """The reply in flight with the highest nonce."""
        return max(self.signed, key=lambda track: nonce_of(track.row), default=None)

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


def phase_of(view: View, row: Row) -> Phase:
    """Return where a reply stands."""
    if row.state is State.ANSWERED:
        return Phase.UNSIGNED
    if row.state is State.INCLUDED:
        return Phase.INCLUDED
    broadcast = view.broadcast_of(row)
    said = broadcast is not None and broadcast.says_used(view.now, view.block_time)
    return Phase.USED if said or nonce_of(row) < view.chain.nonce else Phase.OPEN
