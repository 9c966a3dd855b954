"""What contexts and epochs wait for, and what ends them. Never looks at what is open; ``service.ordering`` does.

The contract has one change of contexts or epochs open at a time, and an epoch becomes active only once *every* node of its context
has confirmed it. A node may still be behind: down for a day, or with a Core that cannot do what is asked. So:

- A *context* waits for nothing. Its Core is told of the one before it too, unless that was destroyed.
- An *epoch* needs its context in the Core, and the shares of the epochs before it: it waits for what makes its context, or another
  epoch of it, and was asked for earlier.
- The *end of an epoch* waits for an earlier epoch that is still made of it in the same context: its shares are needed. An epoch that
  takes them over into another context is not waited for: activated, it has them; else the chain wants it no more.
- The *end of a context* waits for nothing.
- An end waits for no end, and nothing waits for an end: what a Core cannot destroy holds up nobody.
- An end *ends* what makes the same context or epoch, or an epoch of that context, and is still open: that can never be wanted again.

Source: fhevm-0.14.md, 1.4, 1.5, annex E.2; outcomes: "Key management".
"""

from __future__ import annotations

from kmsconn.protocols.fhevm_014.key_events import (
    ContextDestroyed,
    EpochDestroyed,
    KeyContent,
    NewContext,
    NewEpoch,
)
from kmsconn.protocols.port import Order


def order_of(content: KeyContent) -> Order | None:
    """Return the order of what makes or ends contexts and epochs; None for everything else."""
    match content:
        case NewContext():
            made = frozenset({content.id})
            return Order(under=made, holds=made)
        case NewEpoch():
            context = frozenset({content.context_id})
            return Order(under=context | {content.id}, holds=context | _reshared(content), behind=context)
        case EpochDestroyed():
            ended = frozenset({content.id})
            return Order(ends=ended, behind=ended)
        case ContextDestroyed():
            return Order(ends=frozenset({content.id}))
        case _:
            return None


def _reshared(content: NewEpoch) -> frozenset[int]:
    """Return the epoch whose shares a new one of the same context is made of."""
    inside = content.previous_context_id == content.context_id
    return frozenset({content.previous_epoch_id}) if inside else frozenset()
