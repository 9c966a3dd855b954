"""Checks that the context and the epoch of a request are valid on chain: cached with a time to live, asked anew after it (3.5).

And ends what a destroyed one leaves: the answers that are kept and not yet signed. A reply that was broadcast may be in the chain already,
and its nonce must be used in any case, so one that the contract refuses ends by its revert (``Operation.revert``).

One question is shared among all requests that wait for its answer (``Shared``): one asks, a "no" counts for all, and is asked ever more
rarely. That is a cache: a process that begins anew asks again.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable, Collection, Hashable, Mapping, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import attrs
import trio

from kmsconn.chain.asking import run_query_plan
from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.port import Rpc
from kmsconn.chain.witness import Denials
from kmsconn.errors import (
    Aborted,
    AlreadyDone,
    Destroyed,
    DestroyedOnce,
    NotYet,
    Over,
    Rejected,
    RequestError,
    Retryable,
    Unreachable,
)
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import queries
from kmsconn.journal.journal import Journal
from kmsconn.journal.rows import Row
from kmsconn.model.debounce import CONFIRMING, Debounce
from kmsconn.model.requests import Request
from kmsconn.protocols.profile import Profile
from kmsconn.requests.rows import order_of
from kmsconn.transport.waiting import Backoff

K = TypeVar("K")
E = TypeVar("E", bound=RequestError)
T = TypeVar("T")

_REMEMBERED = 4096  # keys with a "no"; who names more of them costs further questions, not memory


@attrs.define
class _No:
    """A "no", how many there were in a row, and until when nobody asks again."""

    error: Retryable
    times: int
    until: float


@attrs.define
class _Asking:
    """A question that is under way; ``error`` is what it failed with, for those who wait for it."""

    over: trio.Event = attrs.field(factory=trio.Event)
    answered: bool = False
    error: RequestError | None = None


@attrs.define
class Shared(Generic[K]):
    """Questions by key. The wait after a "no" is that of ``backoff``, without jitter.

    ``noes`` are the errors that say "no" and are remembered; any other failure is that of those who waited for this question alone.
    """

    noes: tuple[type[Retryable], ...]
    backoff: Backoff
    said: dict[K, _No] = attrs.field(factory=dict)
    """The last "no" to each question."""
    _asking: dict[K, _Asking] = attrs.field(factory=dict)

    def recall(self, key: K) -> None:
        """Raise the last "no" while it is too early to ask again, with the seconds until then in ``again_in``."""
        no = self.said.get(key)
        if no is not None and (left := no.until - trio.current_time()) > 0:
            raise _copy(no.error, left)

    async def ask(self, key: K, question: Callable[[], Awaitable[None]]) -> None:
        """Return once the answer is yes. Raises what the question raises, or raised for somebody else just now.

        Cancellation: of who asks, lets the next one ask. Repeating: a "no" is not asked again before its time.
        """
        while (other := self._asking.get(key)) is not None:
            await other.over.wait()
            if other.answered:
                return
            if other.error is not None:
                raise _copy(other.error, getattr(other.error, "again_in", None))
        self.recall(key)
        await self._ask(key, question)

    async def _ask(self, key: K, question: Callable[[], Awaitable[None]]) -> None:
        asking = self._asking[key] = _Asking()
        try:
            await question()
        except RequestError as error:
            asking.error = error
            if isinstance(error, self.noes):
                self._remember(key, error)
            raise
        else:
            asking.answered = True
            self.said.pop(key, None)
        finally:
            del self._asking[key]
            asking.over.set()

    def _remember(self, key: K, error: Retryable) -> None:
        before = self.said.pop(key, None)
        times = 0 if before is None else before.times + 1
        wait = self.backoff.seconds(times)
        error.again_in = wait
        if len(self.said) >= _REMEMBERED:
            del self.said[next(iter(self.said))]  # the one that was asked about longest ago
        self.said[key] = _No(_copy(error, wait), times, trio.current_time() + wait)


def _copy(error: E, again_in: float | None) -> E:
    """Return the same error for another waiting request: each has a traceback and a stage of its own."""
    mine = copy.copy(error).with_traceback(None)
    if isinstance(mine, Retryable):
        mine.again_in = again_in
    return mine


WITHOUT_BLOCKS = (
    30.0  # seconds after which the same answer counts though the chain made no block: it has no traffic
)
REMEMBERED = 4096  # subjects; a forgotten one is looked at once more
TIME_TO_LIVE = 60.0  # seconds that a valid pair is believed
_INVALID = Backoff(0.5, 60.0, least=1.0)  # between two questions about a pair that is not valid

Pair = tuple[int | None, int | None]


@attrs.define
class Suspicions:
    """Final answers that no later head has confirmed yet, by what they are about: one ends a request only once a later head says the same.

    What one node says once must close nothing (``model.debounce``). ``heads`` of the chains that gave them.
    """

    heads: Mapping[int, HeadTracker]
    window: float = CONFIRMING
    """For so many seconds every look must say the same."""
    _debounce: Debounce = attrs.field(init=False)

    @_debounce.default
    def _begin(self) -> Debounce:
        return Debounce(max(WITHOUT_BLOCKS, self.window), least=self.window, most=REMEMBERED, anew_below=True)

    def confirms(self, subject: Hashable, chain_id: int, cause: str = "") -> bool:
        """Note that a chain says something final; say whether an earlier look, at an earlier head, had it already."""
        return self._debounce.confirms(subject, trio.current_time(), self._head(chain_id), cause)

    def clear(self, subject: Hashable) -> None:
        """Forget what was said: another look says otherwise."""
        self._debounce.clear(subject)

    async def of(self, subject: Hashable, chain_id: int, asking: Awaitable[T]) -> T:
        """Return what is asked. An end that a chain names for the first time is NotYet; one that a later head names, too, is let through.

        AlreadyDone is judged by the age of its block and Destroyed for all requests together (``Contexts``): both pass.
        """
        try:
            answer = await asking
        except (AlreadyDone, Destroyed):
            raise
        except (Rejected, Aborted, Over) as error:
            if self.confirms(subject, chain_id, type(error).__name__):
                self._debounce.clear(subject)
                raise
            raise NotYet(f"{error}; asked again at a later head") from error
        self._debounce.clear(subject)
        return answer

    def _head(self, chain_id: int) -> int:
        tracker = self.heads.get(chain_id)
        return -1 if tracker is None or tracker.number is None else tracker.number


async def _error_of(asking: Awaitable[Any]) -> RequestError | None:
    """Return what a question raises, None if it is answered."""
    try:
        await asking
    except RequestError as error:
        return error
    return None


@attrs.define
class Contexts:
    """Remembers the pairs found valid, and when (``now``: seconds that only grow), those that are not, and what was destroyed."""

    profile: Profile
    ethereum: Rpc
    now: Callable[[], float]
    suspicions: Suspicions
    witnesses: Sequence[Rpc] = ()
    """Other nodes of Ethereum."""
    _denials: Denials = attrs.field(factory=Denials)
    _valid: dict[Pair, float] = attrs.field(factory=dict)
    _invalid: Shared[Pair] = attrs.field(factory=lambda: Shared((NotYet,), _INVALID))
    _destroyed: set[int] = attrs.field(factory=set)
    """So many only as the contract has destroyed."""

    def recall(self, context_id: int | None, epoch_id: int | None) -> bool:
        """Say whether the pair is believed to be valid without asking.

        Raises Destroyed, or the last NotYet while it is too early to ask again (``Shared``).
        """
        self.refuse_destroyed({context_id, epoch_id})
        found = self._valid.get((context_id, epoch_id))
        if found is not None and self.now() - found < TIME_TO_LIVE:
            return True
        self._invalid.recall((context_id, epoch_id))
        return False

    def note_destroyed(self, identifiers: Collection[int]) -> None:
        """Remember contexts and epochs that are over for good."""
        self._destroyed.update(identifiers)

    def is_destroyed(self, identifier: int) -> bool:
        """Say whether a context or epoch is known as destroyed, on the word of several nodes; asks nothing."""
        return identifier in self._destroyed

    def refuse_destroyed(self, identifiers: Collection[int | None]) -> None:
        """Raise Destroyed where one of these contexts and epochs is known as destroyed; asks nothing."""
        for identifier in self._destroyed.intersection(identifiers):
            raise Destroyed(id_name(identifier), identifier)

    async def check(self, context_id: int | None, epoch_id: int | None) -> None:
        """Return when the pair is valid; a request that names no context passes.

        Raises Destroyed, DestroyedOnce, NotYet when the chain says no, Unreachable. All who name the same pair wait for one question.
        Repeating: reads only.
        """
        pair = (context_id, epoch_id)
        if not self.recall(*pair):
            await self._invalid.ask(pair, lambda: self._ask(pair))

    async def _ask(self, pair: Pair) -> None:
        destroyed: Destroyed | None = None
        try:
            await self._put(pair, self.ethereum)
        except Destroyed as error:
            destroyed = error
        if destroyed is not None:
            await self.weigh(destroyed, partial(self._put, pair))
            raise destroyed
        for identifier in pair:
            self.suspicions.clear(("destroyed", identifier))
        self._valid[pair] = self.now()

    async def _put(self, pair: Pair, rpc: Rpc) -> None:
        if (checks := self.profile.context_checks(*pair)) is not None:
            await run_query_plan(rpc, checks[1])

    async def weigh(self, said: Destroyed, ask: Callable[[Rpc], Awaitable[Any]]) -> None:
        """Note that a node says that something was destroyed. Raises DestroyedOnce until it said so for long, and others too.

        ``ask`` puts the same question to another node.
        """
        subject = "destroyed", said.identifier
        if not self.suspicions.confirms(subject, self.ethereum.chain_id):
            raise DestroyedOnce(f"{said}, a node says; asked again at a later head") from said
        for witness in self._denials.needed(subject, self.witnesses):
            other = await _error_of(ask(witness))
            if isinstance(other, Destroyed):
                continue
            if not isinstance(other, Unreachable):
                # Its word must hold for a reorg window again.
                self.suspicions.clear(subject)
                self._denials.note(subject)
            text = "does not" if other is None else f"says: {other}"
            raise DestroyedOnce(f"{said}, a node says, and another one {text}") from said
        self.note_destroyed([said.identifier])


PAGE = 256  # rows read at once: milliseconds of the loop, however many wait
_START = (-1, -1)


@attrs.define
class Destruction:
    """Remembers destroyed contexts and epochs, and ends their kept answers once in a process. ``end`` rejects a row with a reason."""

    profile: Profile
    journal: Journal
    chain_ids: Collection[int]
    contexts: Contexts
    end: Callable[[Row, str], Awaitable[None]]
    _ended: set[int] = attrs.field(factory=set)
    """Contexts and epochs under which every kept answer was ended."""

    async def apply(self, request: Request) -> None:
        """Let nothing more be answered under what a request destroys, before its Core is told; what is signed, the contract decides.

        Raises JournalFailed. Cancellation: between rows. Repeating: ends what is left.
        """
        destroyed = request.content.order.ends
        if destroyed <= self._ended:  # once in a process is enough: nothing is answered under it any more
            return
        self.contexts.note_destroyed(destroyed)
        reason = f"{' and '.join(map(id_name, destroyed))} was destroyed before the answer was sent"
        for chain_id in self.chain_ids:
            await self._end_answered(chain_id, destroyed, reason)
        self._ended |= destroyed

    async def _end_answered(self, chain_id: int, destroyed: frozenset[int], reason: str) -> None:
        """End every kept answer to a request of a chain that one of the ``destroyed`` ends."""
        after = _START
        while rows := await self.journal.run(queries.answered_after, chain_id, after, PAGE):
            for row in rows:
                if order_of(self.profile, row).under & destroyed:
                    await self.end(row, reason)
            after = rows[-1].event.log.block_number, rows[-1].event.log.log_index
