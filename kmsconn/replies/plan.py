"""Decides the next step of every reply of a chain: from a view to a plan. Pure; the manager carries it out.

``table`` says which step a reply takes; here nonces are planned over all of them. A nonce is *in flight* while a journaled reply holds
it. The next one is the lowest that is not below the chain's and not in flight. Nonces that were seen used and are not on the chain any
more are *gaps*, like those between nonces in flight: either the answering node lags, or a block is gone. So a gap is filled only when a
later look still finds it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence
from itertools import count

import attrs

from kmsconn.ethereum.transactions import Transaction
from kmsconn.frozen import frozen
from kmsconn.model.life import State
from kmsconn.replies import table
from kmsconn.replies.fees import new_transaction
from kmsconn.replies.table import Action, Found, Phase
from kmsconn.replies.view import Track, View, top


@frozen
class Step:
    """A reply for which something is done, and what was found for it."""

    track: Track
    found: Found


@attrs.frozen
class Signature:
    """Something to sign for a reply: with its nonce; ``transaction`` None: the earlier bytes go out again."""

    track: Track
    nonce: int
    transaction: Transaction | None


@attrs.frozen
class ActionPlan:
    """All that is done now, by action. ``fill`` are nonces to use up by an empty transfer."""

    steps: defaultdict[Action, list[Step]]
    sign: tuple[Signature, ...] = ()
    fill: tuple[int, ...] = ()


def decide(view: View, rows: table.Table | None = None) -> ActionPlan:
    """Return what to do now, by other rows than those of the table where they are given."""
    rows = rows or table.TABLE
    steps = defaultdict[Action, list[Step]](list)
    for track in view.tracks.values():
        row, found = table.assess(view, track, rows)
        steps[row.action].append(Step(track, found))
    ready = steps.pop(Action.SIGN, [])
    planned = NoncePlan((), ())
    if ready or view.nonces.missing:
        planned = _plan_nonces(view, _claimed(view, steps), ready)
    repriced = [
        Signature(step.track, step.found.transaction.nonce, step.found.transaction)
        for step in steps[Action.REPRICE]
        if step.found.transaction is not None
    ]
    return ActionPlan(
        steps,
        sign=(*_signatures(view, ready, planned.nonces), *repriced),
        fill=() if view.sends_held else tuple(_fills(view, steps[Action.FILL], planned.unfilled)),
    )


def _claimed(view: View, steps: defaultdict[Action, list[Step]]) -> set[int]:
    """Return the open nonces of earlier bytes that go out again if the contract takes them, which is not known yet, or is asked next.

    With another transaction there the reply would be signed under a second nonce, and once its branch came back it would be sent twice.
    """
    waits = (*steps[Action.ASK], *steps[Action.WAIT])
    unsure = [step for step in waits if step.track.row.state is State.ANSWERED]
    nonces = [_open_nonce(view, step) for step in (*unsure, *steps[Action.TAKE_BACK])]
    return {nonce for nonce in nonces if nonce is not None}


@attrs.frozen
class NoncePlan:
    """A nonce for each new reply, in their order; and the gaps that hold up something in flight and nothing new fills."""

    nonces: tuple[int, ...]
    unfilled: tuple[int, ...]


def _plan_nonces(view: View, claimed: Collection[int], ready: list[Step]) -> NoncePlan:
    """Give nonces to what may be signed, and take the others off ``ready``: without a price only earlier bytes go out.

    While a gap below something in flight is not confirmed, new replies would only wait behind it, and soon may fill it. One that is
    claimed is another reply's, and what stands above waits for it. On a branch that is not believed nobody gets a new nonce.
    """
    in_flight, gaps, ripe = view.in_flight, view.gaps, view.ripe
    _drop_second_claims(view, ready, in_flight)
    blocking = [gap for gap in gaps if gap < max(in_flight, default=-1)]
    unsure = bool(claimed) or view.chain.suspicious or not ripe.issuperset(blocking)
    if view.price is None or unsure:
        ready[:] = [step for step in ready if _open_nonce(view, step) is not None]
    if not ready and not ripe:
        return NoncePlan((), ())
    del ready[view.room :]
    reusable = [step.track.earlier_nonce for step in ready]
    fillable = [gap for gap in ripe if gap < min(claimed, default=math.inf)]
    return plan(view.chain.nonce, in_flight, view.nonces.high, fillable, reusable)


def _open_nonce(view: View, step: Step) -> int | None:
    """Return the nonce of a reply's earlier bytes while the chain has not used it."""
    nonce = step.track.earlier_nonce
    return nonce if nonce is not None and nonce >= view.chain.nonce else None


def _drop_second_claims(view: View, ready: list[Step], in_flight: Collection[int]) -> None:
    """Let one reply claim each open nonce of earlier bytes: nobody signs two transactions for one nonce."""
    claimed = set(in_flight)
    kept = []
    for step in ready:
        nonce = _open_nonce(view, step)
        if nonce is None or nonce not in claimed:
            kept.append(step)
        if nonce is not None:
            claimed.add(nonce)
    ready[:] = kept


def plan(
    chain_nonce: int,
    in_flight: Collection[int],
    high: int,
    ripe: Collection[int],
    reusable: Sequence[int | None],
) -> NoncePlan:
    """Give a nonce to each new reply, oldest first; ``reusable`` holds for each the nonce of its earlier bytes, if any.

    Earlier bytes may still be included while their nonce is not below the chain's: such a reply takes the same nonce again, so that
    it is never included twice. ``ripe`` are the gaps that may be filled.
    """
    taken, again = set(in_flight), list[int | None]()
    for nonce in reusable:
        is_open = nonce is not None and nonce >= chain_nonce and nonce not in taken
        again.append(nonce if is_open else None)
        taken.update({nonce} if nonce is not None and is_open else ())
    open_gaps = [nonce for nonce in sorted(ripe) if nonce not in taken]
    fresh = iter([*open_gaps[: again.count(None)]])
    beyond = (nonce for nonce in count(top(chain_nonce, taken, high)) if nonce not in taken)
    nonces = tuple(next(fresh, None) if nonce is None else nonce for nonce in again)
    filled = tuple(next(beyond) if nonce is None else nonce for nonce in nonces)
    last = max((*in_flight, *filled), default=-1)
    return NoncePlan(filled, tuple(n for n in open_gaps if n not in filled and n < last))


def _signatures(view: View, ready: Sequence[Step], planned: Sequence[int]) -> list[Signature]:
    found = []
    for step, nonce in zip(ready, planned, strict=True):
        earlier, event, answer = step.track.earlier, step.track.row.event, step.track.row.answer
        price = None if view.price is None else view.limits.for_gas(view.price, step.found.gas)
        if earlier is not None and earlier.reply.nonce == nonce:
            found.append(Signature(step.track, nonce, None))
        elif price is not None:
            assert answer is not None
            new = new_transaction(
                event.chain_id, event.contract, answer.calldata, step.found.gas, nonce=nonce, price=price
            )
            found.append(Signature(step.track, nonce, new))
    return sorted(found, key=lambda one: one.nonce)


def _fills(view: View, poisoned: Sequence[Step], unfilled: Sequence[int]) -> Iterator[int]:
    """Yield the nonces that an empty transfer uses up: gaps below something in flight, and those whose bytes nobody takes."""
    for row in table.TABLE[Phase.ACCOUNT]:
        found = row.when(view, None, unfilled)
        yield from () if found is None else found.nonces
    for step in poisoned:
        yield from step.found.nonces
