"""Decides the next step of every reply of a chain: from a view to steps. Pure; the executor carries them out.

``assess`` says what is known of each reply, ``table`` which action follows; here nonces are planned over all of them.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence

import attrs

from kmsconn.ethereum.transactions import Transaction
from kmsconn.frozen import frozen
from kmsconn.journal.values import Row
from kmsconn.replies import nonces
from kmsconn.replies.assess import Assessment, assess, transaction_of
from kmsconn.replies.evidence import Sent
from kmsconn.replies.fees import Price, TransactionRequest, replacement, repriced
from kmsconn.replies.table import Action, Evidence, Phase, action_for
from kmsconn.replies.view import Question, Track, View, nonce_of


@frozen
class Step:
    """One action for one reply, and the evidence for it."""

    action: Action
    track: Track
    phase: Phase
    found: Assessment

    @property
    def row(self) -> Row:
        """The reply's row."""
        return self.track.row


@attrs.frozen
class Signature:
    """Something to sign for a reply: with its nonce; ``transaction`` None: the earlier bytes go out again."""

    track: Track
    nonce: int
    gas: int
    transaction: Transaction | None


@attrs.frozen
class ActionPlan:
    """All that is done now. ``fill`` are nonces to use up by an empty transfer; ``move_down`` is a reply with the gap that it fills."""

    steps: tuple[Step, ...] = ()
    sign: tuple[Signature, ...] = ()
    reprice: tuple[Signature, ...] = ()
    fill: tuple[int, ...] = ()
    move_down: Signature | None = None
    young: tuple[Track, ...] = ()
    """Included replies that the contract has and whose block is not final."""

    def of(self, action: Action) -> list[Step]:
        """Return the steps with an action."""
        return [step for step in self.steps if step.action is action]

    def questions(self) -> Iterator[tuple[Track, Question]]:
        """Yield what is to be asked."""
        for step in self.steps:
            if step.action is Action.ASK:
                yield from ((step.track, question) for question in step.found.questions)


NOTHING = ActionPlan()


def decide(view: View) -> ActionPlan:
    """Return what to do now."""
    steps = [_step(view, track) for track in view.tracks.values()]
    ready = [step for step in steps if step.action is Action.SIGN]
    planned = _plan_nonces(view, steps, ready)
    return ActionPlan(
        steps=tuple(step for step in steps if step.action is not Action.WAIT),
        sign=_signatures(view, ready, planned.nonces) if view.may_sign else (),
        reprice=tuple(_repricings(view, steps)),
        fill=tuple(_fills(view, steps, planned.unfilled)),
        move_down=_moved_down(view, steps, planned.unfilled),
        young=tuple(step.track for step in steps if step.found.evidence is Evidence.YOUNG),
    )


def _step(view: View, track: Track) -> Step:
    phase, found = assess(view, track)
    return Step(action_for(phase, found.evidence), track, phase, found)


# --- nonces


_BEING_ASKED = frozenset({Evidence.UNKNOWN, Evidence.ASKED})


def _claimed(view: View, steps: Sequence[Step]) -> set[int]:
    """Return the open nonces of earlier bytes that go out again if the contract takes them, which it is being asked.

    With another transaction there the reply would be signed under a second nonce, and once its branch came back it would be sent twice.
    """
    asked = (step for step in steps if step.phase is Phase.UNSIGNED and step.found.evidence in _BEING_ASKED)
    claims = (step.track.earlier_nonce for step in asked)
    return {nonce for nonce in claims if nonce is not None and nonce >= view.chain.nonce}


def _plan_nonces(view: View, steps: Sequence[Step], ready: list[Step]) -> nonces.NoncePlan:
    """Give nonces to what may be signed, and take the others off ``ready``: without a price only earlier bytes go out.

    While a gap below something in flight is not confirmed, new replies would only wait behind it, and soon may fill it. A gap that an
    included reply left is that reply's: the contract is asked, and it goes back first. So is one that is claimed, and what stands above
    waits for it.
    """
    in_flight, claimed = view.in_flight, _claimed(view, steps)
    _drop_second_claims(view, ready, in_flight)
    blocking = [gap for gap in view.nonces.gaps if gap < max(in_flight, default=-1)]
    if view.price is None or claimed or not set(blocking) <= set(view.nonces.ripe):
        ready[:] = [step for step in ready if _has_open_nonce(view, step)]
    if any(_may_go_back(view, step) for step in steps):
        ready.clear()
        return nonces.NoncePlan((), ())
    if not ready and not view.nonces.ripe:
        return nonces.NoncePlan((), ())
    del ready[view.room :]
    reusable = [step.track.earlier_nonce for step in ready]
    ripe = [gap for gap in view.nonces.ripe if gap < min(claimed, default=math.inf)]
    return nonces.plan(view.chain.nonce, in_flight, view.nonces.high, ripe, reusable)


_MAY_GO_BACK = frozenset({Evidence.UNKNOWN, Evidence.ASKED, Evidence.NONCE_OPEN})


def _may_go_back(view: View, step: Step) -> bool:
    left_gap = step.phase is Phase.INCLUDED and step.row.reply.nonce in view.nonces.ripe
    return left_gap and step.found.evidence in _MAY_GO_BACK


def _has_open_nonce(view: View, step: Step) -> bool:
    nonce = step.track.earlier_nonce
    return nonce is not None and nonce >= view.chain.nonce


def _drop_second_claims(view: View, ready: list[Step], in_flight: Collection[int]) -> None:
    """Let one reply claim each open nonce of earlier bytes: nobody signs two transactions for one nonce."""
    claimed = set(in_flight)
    kept = []
    for step in ready:
        nonce = step.track.earlier_nonce
        if nonce is not None and nonce >= view.chain.nonce:
            if nonce in claimed:
                continue
            claimed.add(nonce)
        kept.append(step)
    ready[:] = kept


def _signatures(view: View, ready: Sequence[Step], planned: Sequence[int]) -> tuple[Signature, ...]:
    found = [_signature(view, step, nonce) for step, nonce in zip(ready, planned, strict=True)]
    ordered = sorted((one for one in found if one is not None), key=lambda one: one.nonce)
    return tuple(ordered)


def _signature(view: View, step: Step, nonce: int) -> Signature | None:
    earlier = step.track.earlier
    if earlier is not None and earlier.reply.nonce == nonce and earlier.reply.raw is not None:
        return Signature(step.track, nonce, 0, None)
    if view.price is None:
        return None
    price = view.policy.limits.for_gas(view.price, step.found.gas)
    if price is None:
        return None
    return Signature(
        step.track, nonce, step.found.gas, transaction_for(step.row, nonce, step.found.gas, price)
    )


def transaction_for(row: Row, nonce: int, gas: int, price: Price) -> Transaction:
    """Return the transaction that carries a reply."""
    assert row.answer is not None
    return TransactionRequest(row.event.chain_id, row.event.contract, row.answer.calldata, gas).at(
        nonce, price
    )


# --- other fees at the same nonce


def _repricings(view: View, steps: Sequence[Step]) -> Iterator[Signature]:
    """Yield replies to sign again: at the market's price what no node holds, for more what is stuck; never beyond the limits."""
    for step in steps:
        if step.action is not Action.REPRICE or view.price is None or view.sends_held:
            continue
        old = transaction_of(step.row)
        price = None if old is None else view.policy.limits.for_gas(view.price, old.gas)
        if old is None or price is None:
            continue
        dear = step.found.evidence is Evidence.DEARER_THAN_MARKET
        new = repriced(old, price) if dear else replacement(old, price)
        if view.policy.limits.allows(new):
            yield Signature(step.track, new.nonce, new.gas, new)


# --- gaps


def _moved_down(view: View, steps: Sequence[Step], unfilled: Sequence[int]) -> Signature | None:
    """Return the last reply in flight, signed again for the first gap, if its bytes were refused for the gap and the contract has none.

    Only then: a pool that keeps later nonces could still include them, and the reply would be sent twice.
    """
    if not unfilled or view.sends_held:
        return None
    movable = (step.track for step in steps if step.action is Action.MOVE_DOWN)
    last = next((track for track in movable if track is view.last), None)
    if last is None or nonce_of(last.row) < unfilled[0]:
        return None
    old = transaction_of(last.row)
    return (
        None if old is None else Signature(last, unfilled[0], old.gas, attrs.evolve(old, nonce=unfilled[0]))
    )


def _said(view: View, track: Track) -> Sent | None:
    """Return what the node said to a reply's bytes; None while an answer is on its way."""
    broadcast = view.broadcast_of(track.row)
    return None if broadcast is None or broadcast.on_its_way else broadcast.said


_TELLS_NOTHING = frozenset({None, Sent.GAP, Sent.FAILED, Sent.UNANSWERED})


def _fills(view: View, steps: Sequence[Step], unfilled: Sequence[int]) -> Iterator[int]:
    """Yield the nonces that an empty transfer uses up: gaps below bytes that a pool holds, and a nonce whose bytes nobody takes."""
    if view.sends_held:
        return
    last = view.last if unfilled else None
    if last is not None and _said(view, last) not in _TELLS_NOTHING:
        yield from unfilled
    yield from (nonce_of(step.row) for step in steps if step.action is Action.FILL_GAP)
