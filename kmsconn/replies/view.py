"""What the transaction manager decides about: the chain as a node showed it, each reply with the answers about it; and what is decided."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Collection, Mapping
from enum import StrEnum
from functools import cached_property
from typing import Any

import attrs

from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Receipt
from kmsconn.config.settings import Settings
from kmsconn.errors import Unreachable
from kmsconn.ethereum.transactions import Transaction, decode_transaction
from kmsconn.frozen import frozen
from kmsconn.journal.rows import Row
from kmsconn.model.debounce import CONFIRMING, Debounce, Suspicion
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Operation, Revert
from kmsconn.replies.answers import Accepts, Belief, Broadcast, Finds, Question, Says, Unclear, is_hopeless
from kmsconn.replies.fees import FeeLimits, Price

SILENCES = 3  # in a row, until no answer counts as one that says nothing
FILLS = 16
"""Empty transfers that are paid at once, and the widest hole that is filled: so much may a wrong nonce cost."""
FINDING_LIFETIME = 5.0  # seconds; an older answer is asked for again before something is done


def top(chain_nonce: int, in_flight: Collection[int], high: int) -> int:
    """Return the lowest nonce above everything known."""
    return max(chain_nonce, high, max(in_flight, default=-1) + 1)


def gaps(chain_nonce: int, in_flight: Collection[int], high: int, window: int) -> tuple[int, ...]:
    """Return the nonces below ``top`` that nobody holds, lowest first; only the next ``window`` nonces are looked at.

    No more are in flight at once, and the rest waits behind these: so one wild answer about the nonce costs no endless list.
    """
    end = min(top(chain_nonce, in_flight, high), chain_nonce + window)
    return tuple(nonce for nonce in range(chain_nonce, end) if nonce not in in_flight)


@attrs.define
class NonceTracker:
    """Follows the account's nonces over the looks at the chain.

    No nonce below ``high`` is free, since it was seen used. ``stranger_at`` is when another transaction of the account was seen
    last, which may have been any reply. ``ripe`` are gaps that a later look confirmed. ``whole_since``: since when each look has had every
    transaction of the account that was seen, or been the newest one; inf while one has not, or a pool has more. ``first_block``: that of
    the first look; what was asked up to there, a process before this one may have answered.
    """

    debounce: Debounce
    high: int = 0
    stranger_at: float = -math.inf
    ripe: frozenset[int] = frozenset()
    whole_since: float = math.inf
    first_block: int | None = None
    jumps: Debounce = attrs.field(factory=lambda: Debounce(CONFIRMING))
    """Rises that the purse for empty transfers does not cover: they are believed once all looks of a reorg window said the like."""
    beyond: float = math.inf
    """The lowest nonce above a hole that is wider than what is paid for, and has been for a reorg window: no block reaches it."""

    def rises(self, chain: ChainView, in_flight: Collection[int]) -> bool:
        """Say whether a look shows more nonces used than this process knows of: that counts only where witnesses say so too.

        Raises Unreachable for a rise that costs more than the purse holds, until all looks of a reorg window have said the like.
        """
        known = top(0, in_flight, self.high)
        if self.first_block is None or chain.nonce <= known + FILLS:
            self.jumps.clear("rise")
        elif not self.jumps.confirms("rise", chain.at):
            raise Unreachable(f"the node says that the next nonce is {chain.nonce}, and {known} was expected")
        return self.first_block is None or chain.nonce > known

    def look(self, chain: ChainView, in_flight: Collection[int], window: int, pooled: int = 0) -> None:
        """Compare a look at the chain with the nonces in flight; ``pooled``: the nonce behind what waits in a pool.

        Raises Unreachable for a nonce that this account can hardly have, until all looks of some seconds have said the like.
        """
        known = top(0, in_flight, self.high)
        self.rises(chain, in_flight)
        if chain.nonce > known:
            self.stranger_at = chain.at
        self.high = max(self.high, chain.nonce)
        self.first_block = chain.number if self.first_block is None else self.first_block
        # what is in a pool and not in flight may be replies of a process that lost its journal
        hides = pooled > top(chain.nonce, in_flight, self.high)
        is_whole = not hides and (chain.fresh or chain.nonce == self.high)
        self.whole_since = min(self.whole_since, chain.at) if is_whole else math.inf
        found = gaps(chain.nonce, in_flight, self.high, window)
        above = [nonce for nonce in in_flight if bisect_left(found, nonce) > FILLS]
        if not above or not chain.fresh:
            self.jumps.clear("hole")
        elif self.jumps.confirms("hole", chain.at):
            self.beyond = min(self.beyond, *above)
        if self.beyond <= chain.nonce + FILLS:
            self.beyond = math.inf
        self.debounce.keep(found)
        self.ripe = frozenset(gap for gap in found if self.debounce.confirms(gap, chain.at, chain.number))


@frozen
class IncludedReply:
    """A reply in a block: to which row and request, and its transaction there, where a receipt told."""

    rid: int
    kind: Kind
    id: int
    block: int
    block_hash: bytes = b""
    hash: bytes = b""


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

    ``least_gas`` is what a reply needs that ran out of gas; ``returned`` counts how often it lost its nonce, ``gone`` how often the
    contract had lost it.
    """

    least_gas: int = 0
    returned: int = 0
    gone: int = 0


@attrs.define
class Track:
    """A reply, with the answers about it. A cache: journal and chain rebuild it.

    ``silences`` counts in a row, for each question, answers that do not tell.
    """

    row: Row
    history: ReplyHistory
    findings: dict[Question, Finding] = attrs.field(factory=dict)
    asked: set[Question] = attrs.field(factory=set)
    silences: Counter[Question] = attrs.field(factory=Counter)
    signed_at: float = -math.inf
    """When this process signed it last; never, for what an earlier one did."""
    in_flight_since: float = math.inf
    """When a look first saw it signed, whatever bytes it has had since."""
    heads: int = 0
    """How many later heads the looks have seen since."""
    used: deque[int] = attrs.field(factory=deque)
    """The gas that the last included replies of its kind used, shared by all of them. An estimate below the least of it is wrong."""
    broadcast: Broadcast | None = None
    """What became of its bytes in this process; None before they went out here."""
    _suspicions: dict[Belief, Suspicion] = attrs.field(factory=dict)

    def believes(self, belief: Belief, seconds: float, least: float = 0.0) -> bool:
        """Say whether a later head, ``least`` seconds after the first look, or any look ``seconds`` after it, said the same."""
        suspicion = self._suspicions.get(belief)
        return suspicion is not None and suspicion.is_confirmed(seconds, least)

    def suspects(self, belief: Belief) -> bool:
        """Say whether the last look said so."""
        return belief in self._suspicions

    @property
    def lacks_receipt(self) -> bool:
        """Whether no node told whether there is a receipt when it was asked last."""
        finding = self.findings.get(Question.RECEIPT)
        return finding is not None and finding.says_nothing

    def file(self, question: Question, finding: Finding, chain: ChainView | None) -> None:
        """Note an answer, and what it makes suspicious."""
        self.asked.discard(question)
        self.findings[question] = finding
        if finding.says_nothing:
            self.silences[question] += 1
        else:
            self.silences.pop(question, None)
        if chain is not None and finding.trusted:
            self._suspect(question, finding, chain)

    def _suspect(self, question: Question, finding: Finding, chain: ChainView) -> None:
        """Note that the chain may not have this reply, or may never take it, or that it has it or takes it after all."""
        value = finding.value
        accepts = isinstance(value, Accepts)
        if question is Question.ESTIMATE:
            if not finding.says_nothing:
                self._note(Belief.HOPELESS, finding, says=isinstance(value, Revert) and is_hopeless(value))
            if accepts and chain.fresh and self._lost_nonce(chain):
                self._note(Belief.ABSENT, finding, says=True)
        elif question is Question.RECEIPT and self.row.state is State.SIGNED:
            if (value is None or self.silences[question] >= SILENCES) and self._lost_nonce(chain):
                self._note(Belief.ABSENT, finding, says=True)
        elif question is Question.CALL and self.row.state is State.INCLUDED:
            self._note(Belief.GONE, finding, says=accepts)

    def _lost_nonce(self, chain: ChainView) -> bool:
        nonce = self.row.reply.nonce
        return nonce is not None and nonce < chain.nonce

    def _note(self, belief: Belief, finding: Finding, *, says: bool) -> None:
        if says:
            self._suspicions[belief] = Suspicion.noted(self._suspicions.get(belief), finding.head, finding.at)
        else:
            self._suspicions.pop(belief, None)

    def moved(self, row: Row) -> None:
        """Take the row after a step: what was asked about it before says nothing about it now.

        That its bytes are absent is remembered while they have no nonce: then other ones may be signed, and those are not suspected.
        """
        self.row, self.broadcast = row, None
        self.findings.clear()
        self.silences.clear()
        absent = self._suspicions.get(Belief.ABSENT)
        self._suspicions = {Belief.ABSENT: absent} if absent and row.state is State.ANSWERED else {}

    def finding(self, question: Question, now: float) -> Finding | None:
        """Return an answer that is not too old."""
        found = self.findings.get(question)
        return found if found is not None and now < found.at + FINDING_LIFETIME else None


@attrs.frozen
class View:
    """Everything beside a reply that its next step depends on.

    ``in_flight`` are the nonces that signed replies hold.
    ``window`` and ``replace_after`` as in ``TxEndpoint``. ``price`` None: nothing may be signed now. ``sends_held``: a failed broadcast
    holds the others back for a moment.
    """

    chain: ChainView
    nonces: NonceTracker
    in_flight: frozenset[int]
    window: int
    replace_after: float
    settings: Settings
    operations: Mapping[Kind, Operation[Any]]
    limits: FeeLimits
    price: Price | None
    now: float
    block_time: float
    sends_held: bool

    @cached_property
    def missing(self) -> tuple[int, ...]:
        """The nonces that nobody holds below one that somebody does, or did."""
        return gaps(self.chain.nonce, self.in_flight, self.nonces.high, self.window)

    @property
    def epoch(self) -> float:
        """Since when the chain is the present one, as far as is known: what was asked before may be of another one."""
        return max(self.chain.forked_at, self.nonces.stranger_at)


def transaction_of(row: Row) -> Transaction:
    """Return the transaction in the bytes of a signed row."""
    return decode_transaction(row.reply.raw or b"").transaction


def nonce_of(row: Row) -> int:
    """Return the nonce of a signed row."""
    assert row.reply.nonce is not None
    return row.reply.nonce


def said_in(finding: Finding) -> Says:
    """Return what a probe says."""
    assert not isinstance(finding.value, Receipt | bool | None)
    return finding.value


def receipt_of(track: Track, since: float = -math.inf) -> Receipt | None:
    """Return the receipt of a reply's bytes, None where no node that was asked since then showed one."""
    finding = track.findings.get(Question.RECEIPT)
    found = None if finding is None or finding.asked_at < since else finding.value
    return found if isinstance(found, Receipt) else None


def out_of_gas(track: Track) -> int | None:
    """Return the gas limit of a failed reply that used it up; None for every other one."""
    receipt = receipt_of(track)
    if receipt is None:
        return None
    limit = transaction_of(track.row).gas
    return limit if receipt.used_up(limit) else None


class Phase(StrEnum):
    """The phase of a reply, by its row and the nonce of the account; of the account itself, the last one."""

    UNPROBED = "unprobed"  # answered, and no probe counts
    UNSIGNED = "unsigned"  # answered; it holds no nonce
    IN_FLIGHT = "in flight"  # signed, and the chain has not used its nonce yet
    SPENT = "spent"  # its nonce is used: by these bytes, by earlier ones of the same reply, or by another transaction
    INCLUDED = "included"  # in a block that may still go
    ANY = "any"
    ACCOUNT = "account"


class Action(StrEnum):
    """The next action for a reply."""

    CONFIRM = "confirm"
    FINISH = "finish"
    REJECT = "reject"
    SIGN = "sign"
    DEFER = "defer"
    FILL = "fill"
    REPRICE = "reprice"
    BROADCAST = "broadcast"
    RELEASE = "release"
    TAKE_BACK = "take back"
    FINALIZE = "finalize"
    ASK = "ask"
    WAIT = "wait"


@frozen
class Found:
    """What a row found: why, in which block, with which gas limit or transaction, which nonces to fill, what to ask.

    ``alert`` is the cause of an alert while the reply waits, ``critical`` for this reply alone. ``again``: the reply, or its nonce, was
    lost to the chain.
    """

    reason: str = ""
    block: int = 0
    gas: int = 0
    transaction: Transaction | None = None
    nonces: tuple[int, ...] = ()
    questions: tuple[Question, ...] = ()
    alert: str = ""
    critical: bool = False
    again: bool = False


FOUND = Found()


@frozen
class Step:
    """A reply for which something is done, and what was found for it."""

    track: Track
    found: Found

    @property
    def nonce(self) -> int:
        """The nonce of the transaction that is signed for it; without one, of its bytes, which go out as they are."""
        new = self.found.transaction
        return nonce_of(self.track.row) if new is None else new.nonce
