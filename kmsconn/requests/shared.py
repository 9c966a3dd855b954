"""Shares one question among all requests that wait for its answer: one asks, a "no" counts for all, and is asked ever more rarely.

Holds no question itself. Its memory is a cache: a process that begins anew asks again.
"""

from __future__ import annotations

import copy
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
import trio

from kmsconn.errors import RequestError, Retryable
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
