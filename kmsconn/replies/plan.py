"""Decides the next step of every reply of a chain: from a view to a plan. Pure; the manager carries it out.

``table`` says which step a reply takes; here nonces are planned over all of them. A nonce is *in flight* while a journaled reply holds
it. The next one is the lowest that is not below the chain's and not in flight. Nonces that were seen used and are not on the chain any
more are *gaps*, like those between nonces in flight: either the answering node lags, or a block is gone. So a gap is filled only when a
later look still finds it.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Sequence
from functools import partial
from itertools import chain, count
from typing import Any

import attrs

from kmsconn.model.life import State
from kmsconn.replies import table
from kmsconn.replies.answers import Question
from kmsconn.replies.fees import new_transaction
from kmsconn.replies.view import Action, Found, Phase, Step, Track, View, nonce_of, receipt_of, top

Steps = defaultdict[Action, list[Step]]
Table = dict[Phase, tuple[table.TableRow, ...]]


def by_phase(rows: Sequence[table.TableRow]) -> Table:
    """Return the rows that count in each phase, in their order; those of any phase of a reply are told in which."""

    def counting(phase: Phase) -> Iterator[table.TableRow]:
        for row in rows:
            if row.phase is phase:
                yield row
            elif row.phase is Phase.ANY and phase is not Phase.ACCOUNT:
                yield attrs.evolve(row, when=partial(row.when, phase))

    return {phase: tuple(counting(phase)) for phase in Phase}


TABLE = by_phase(table.ROWS)


def phase_of(view: View, track: Track) -> tuple[Phase, Any]:
    """Return where a reply stands, and the evidence at which all rows of that phase look."""
    row, broadcast = track.row, track.broadcast
    if row.state is State.ANSWERED:
        probe = track.finding(Question.ESTIMATE, view.now)
        counts = probe is not None and probe.asked_at >= view.epoch
        return (Phase.UNSIGNED, probe) if counts else (Phase.UNPROBED, None)
    if row.state is State.INCLUDED:
        return Phase.INCLUDED, track.finding(Question.CALL, view.now)
    said = broadcast is not None and broadcast.says_used(view.now, view.block_time)
    if said or nonce_of(row) < view.chain.nonce:
        return Phase.SPENT, receipt_of(track, view.epoch)
    call = track.findings.get(Question.CALL)  # however long ago, in this epoch
    return Phase.IN_FLIGHT, call if call is not None and call.asked_at >= view.epoch else None


def assess(view: View, track: Track, rows: Table) -> tuple[table.TableRow, Found]:
    """Return the first row that matches a reply, and what it found. Raises LookupError for a table without the last one."""
    phase, evidence = phase_of(view, track)
    for row in rows[phase]:
        found = row.when(view, track, evidence)
        if found is not None:
            return row, found
    raise LookupError("no row of the table matches")


def decide(view: View, tracks: Iterable[Track], rows: Table | None = None) -> tuple[Steps, tuple[int, ...]]:
    """Return what to do now by action, and nonces to use up by an empty transfer; by other rows than the table's where they are given."""
    steps = Steps(list)
    for track in tracks:
        row, found = assess(view, track, rows or TABLE)
        steps[row.action].append(Step(track, found))
    unfilled: tuple[int, ...] = ()
    if steps[Action.SIGN] or view.missing:
        steps[Action.SIGN], unfilled = _plan_nonces(view, _claimed(view, steps), steps[Action.SIGN])
    steps[Action.SIGN] += steps[Action.REPRICE]
    return steps, () if view.sends_held else tuple(_fills(view, steps[Action.FILL], unfilled))


def _claimed(view: View, steps: Steps) -> set[int]:
    """Return the open nonces of earlier bytes that go out again if the contract takes them, which is not known yet, or is asked next.

    With another transaction there the reply would be signed under a second nonce, and once its branch came back it would be sent twice.
    """
    waits = (*steps[Action.ASK], *steps[Action.WAIT])
    unsure = [step for step in waits if step.track.row.state is State.ANSWERED]
    nonces = [_open_nonce(view, step) for step in (*unsure, *steps[Action.TAKE_BACK])]
    return {nonce for nonce in nonces if nonce is not None}


def _plan_nonces(
    view: View, claimed: Collection[int], ready: Sequence[Step]
) -> tuple[list[Step], tuple[int, ...]]:
    """Give nonces to what may be signed: without a price to earlier bytes alone; return the gaps to fill, too.

    While a gap below something in flight is not confirmed, new replies would only wait behind it, and soon may fill it. One that is
    claimed is another reply's, and what stands above waits for it. On a branch that is not believed nobody gets a new nonce.
    """
    gaps = view.missing if view.chain.fresh else ()
    ripe = view.nonces.ripe.intersection(gaps)
    held = [nonce for nonce in view.in_flight if nonce < view.nonces.beyond]
    blocking = [gap for gap in gaps if gap < max(held, default=-1)]
    unsure = bool(claimed) or view.chain.suspicious or not ripe.issuperset(blocking)
    signed = _first_claims(view, ready)
    if view.price is None or unsure:
        signed = [(step, nonce) for step, nonce in signed if nonce is not None]
    del signed[max(0, view.window - len(view.in_flight)) :]
    fillable = [gap for gap in ripe if gap < min(claimed, default=math.inf)]
    again = [nonce for _, nonce in signed]
    nonces, unfilled = plan(view.chain.nonce, view.in_flight, view.nonces.high, fillable, again)
    made = [_signed(view, step, nonce) for (step, _), nonce in zip(signed, nonces, strict=True)]
    return sorted([one for one in made if one is not None], key=lambda one: one.nonce), unfilled


def _open_nonce(view: View, step: Step) -> int | None:
    """Return the nonce of a reply's earlier bytes while the chain has not used it."""
    nonce = step.track.row.reply.nonce
    return nonce if nonce is not None and view.chain.nonce <= nonce < view.nonces.beyond else None


def _first_claims(view: View, ready: Sequence[Step]) -> list[tuple[Step, int | None]]:
    """Return replies, each with the open nonce of its earlier bytes, which it claims: nobody signs two transactions for one nonce.

    Whoever has bytes for a nonce that another one holds or claims waits.
    """
    claimed, found = set[int | None](view.in_flight), list[tuple[Step, int | None]]()
    for step in ready:
        nonce = _open_nonce(view, step)
        if nonce is None or nonce not in claimed:
            found.append((step, nonce))
        claimed.add(nonce)
    return found


def plan(
    chain_nonce: int,
    in_flight: Collection[int],
    high: int,
    ripe: Collection[int],
    again: Sequence[int | None],
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Give a nonce to each new reply, oldest first; return also the gaps that hold up something in flight and nothing new fills.

    ``again`` holds for each the open nonce of its earlier bytes, if any, which may still be included: such a reply takes the same nonce
    again, so that it is never included twice. ``ripe`` are the gaps that may be filled.
    """
    taken = {*in_flight, *(nonce for nonce in again if nonce is not None)}
    open_gaps = [nonce for nonce in sorted(ripe) if nonce not in taken]
    fresh = chain(open_gaps, count(top(chain_nonce, taken, high)))
    nonces = tuple(next(fresh) if nonce is None else nonce for nonce in again)
    last = max((*in_flight, *nonces), default=-1)
    return nonces, tuple(gap for gap in open_gaps if gap not in nonces and gap < last)


def _signed(view: View, step: Step, nonce: int) -> Step | None:
    """Return what is signed for a reply: its earlier bytes, else a new transaction, where there is a price."""
    row, gas = step.track.row, step.found.gas
    if row.reply.nonce == nonce:
        return step
    price = None if view.price is None else view.limits.for_gas(view.price, gas)
    if price is None:
        return None
    assert row.answer is not None
    to, data = row.event.contract, row.answer.calldata
    new = new_transaction(row.event.chain_id, to, data, gas, nonce=nonce, price=price)
    return Step(step.track, Found(gas=gas, transaction=new))


def _fills(view: View, poisoned: Sequence[Step], unfilled: Sequence[int]) -> Iterator[int]:
    """Yield the nonces that an empty transfer uses up: gaps below something in flight, and those whose bytes nobody takes."""
    for row in TABLE[Phase.ACCOUNT]:
        found = row.when(view, None, unfilled)
        yield from () if found is None else found.nonces
    for step in poisoned:
        yield from step.found.nonces
