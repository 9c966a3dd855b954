"""A signed transaction that was handed to a node, and the answer that its caller waits for. Decides nothing about it."""

from __future__ import annotations

from typing import Final

import attrs
import trio

from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.node_error import NodeError, refused

HOLD_SECONDS: Final = 1.0  # nonce-failure-cache-expiry of nitro's execution/gethexec/sequencer.go
QUEUE_SECONDS: Final = 12.0  # queue-timeout of the same file; its caller is let go after twice that


@attrs.define(eq=False)
class Submission:
    """One transaction on its way into a block, from the call that brought it to the answer to that call.

    ``age``: seconds since it came, in the steps that matter to a sequencer. ``held``: the refusal of a nonce that is too high,
    while the missing one may still come. ``over``: it was answered, or nobody waits for it any more.
    """

    transaction: Transaction
    age: float = 0.0
    held: NodeError | None = None
    over: bool = False
    refusal: NodeError | None = None
    _answered: trio.Event = attrs.field(factory=trio.Event, init=False)

    def answer(self, refusal: NodeError | None = None) -> None:
        """Answer the call: the transaction is taken, or refused. The last answer before the caller looks counts."""
        self.refusal, self.held, self.over = refusal, None, True
        self._answered.set()

    async def wait(self) -> None:
        """Wait for the answer. Raises NodeError when the transaction is refused.

        Cancellation: the caller is gone, and a sequencer leaves out what nobody waits for.
        """
        start = trio.current_time()
        try:
            for age in (HOLD_SECONDS, QUEUE_SECONDS, 2 * QUEUE_SECONDS):
                with trio.move_on_at(start + age):
                    await self._answered.wait()
                    break
                self._grow(age)
        finally:
            self.over = True
        if self.refusal is not None:
            raise self.refusal

    def _grow(self, age: float) -> None:
        self.age = age
        if self.held is not None:
            self.answer(self.held)
        elif age > QUEUE_SECONDS:
            self.answer(too_late())


def taken(transaction: Transaction) -> Submission:
    """Return a submission that was answered at once."""
    done = Submission(transaction)
    done.answer()
    return done


def too_late() -> NodeError:
    """Return the answer to a transaction that stayed in the queue for too long."""
    return refused("context deadline exceeded")
