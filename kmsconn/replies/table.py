"""The decision table of the transaction manager: sixteen rows, of which the first that matches is the next step of a reply. Pure.

A row is one object: the phase of a reply, what is known of it, and what is done. ``docs/transactions.md`` is printed from it, and a test
takes each row away: the worlds that it names must turn red.

*The probe* of a reply is one question: would the contract take it from us, now? It is an estimate of what is unsigned, else a call. It
counts while it is younger than five seconds and not older than the *epoch*, which rises with whatever may have changed the chain. What
one look says of an absence is *believed* once a later head, or the reorg window, says the same.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeGuard

import attrs

from kmsconn.chain.port import Receipt
from kmsconn.ethereum.transactions import Transaction
from kmsconn.protocols.port import Verdict
from kmsconn.replies.answers import (
    UNPAYABLE,
    Accepts,
    Belief,
    Broadcast,
    Question,
    Sent,
    Unclear,
    is_done,
    is_hopeless,
)
from kmsconn.replies.fees import repriced
from kmsconn.replies.view import (
    FILLS,
    FOUND,
    Action,
    Finding,
    Found,
    Phase,
    Track,
    View,
    nonce_of,
    out_of_gas,
    receipt_of,
    said_in,
    transaction_of,
)

REFUSALS = 3  # of the same bytes, until their nonce is used up by an empty transfer
REPRICED_AT_ONCE = 16  # nonces above the chain's: the others wait for these
REFUSED = "contract-refuses"  # the cause of an alert about replies that the contract does not take now
MARGIN_PERCENT = 112  # of the market's fee: bytes that no node holds and that cost more are signed again


When = Callable[..., Found | None]
"""What a row asks of a reply and of its evidence, or of the gaps of the account: None where it does not match."""


@attrs.frozen
class TableRow:
    """A row: where ``when`` finds something, ``action`` is taken. Without it one of ``worlds`` is red."""

    phase: Phase
    action: Action
    worlds: tuple[str, ...]
    when: When = attrs.field(repr=False)


ROWS: list[TableRow] = []
"""In the order of this module."""


def _row(phase: Phase, action: Action, *worlds: str) -> Callable[[When], When]:
    """Make a row of the function that says whether it matches; the document has what the function says of itself."""

    def add(when: When) -> When:
        ROWS.append(TableRow(phase, action, worlds, when))
        return when

    return add


# --- unsigned


@_row(Phase.UNSIGNED, Action.CONFIRM, "answered_by_another")
def _has_it(_view: View, _track: Track, probe: Finding) -> Found | None:
    """The contract has it."""
    return Found(str(said_in(probe)), block=probe.head) if is_done(said_in(probe)) else None


def _never(view: View, track: Track, probe: Finding) -> bool | None:
    """Say whether the contract will never take a reply: a node says so of a settled request, believed; None: it is not known yet.

    That node holds the request's block: on another branch the id may name something else.
    """
    if not (
        probe.trusted and is_hopeless(said_in(probe)) and view.chain.is_old(track.row.event.log.block_number)
    ):
        return False
    block = track.finding(Question.BLOCK, view.now)
    window = view.settings.reading.reorg_window
    if block is None or not track.believes(Belief.HOPELESS, window, least=window):
        return None
    return block.trusted and block.value is True


@_row(Phase.UNSIGNED, Action.FINISH, "others_only")
def _not_ours(view: View, track: Track, probe: Finding) -> Found | None:
    """The contract will never take it from this node, only from others: believed, of a settled request, by a node with its block."""
    said = said_in(probe)
    return Found(str(said)) if said.verdict is Verdict.SKIP and _never(view, track, probe) else None


@_row(Phase.UNSIGNED, Action.REJECT, "id_given_away_for_good")
def _never_ours(view: View, track: Track, probe: Finding) -> Found | None:
    """The contract will never take it: likewise."""
    return Found(str(said_in(probe))) if _never(view, track, probe) else None


@_row(Phase.UNSIGNED, Action.SIGN, "plain_path")
def _takes_it(view: View, track: Track, probe: Finding) -> Found | None:
    """The contract takes it, it can be paid, and the nonce of earlier bytes is open or their absence believed."""
    if not isinstance(probe.value, Accepts) or _may_be_included(view, track, probe):
        return None
    gas = _gas(view, track, probe.value.gas)
    return None if _unpayable(view, probe.value.gas, gas) else Found(gas=gas)


def _may_be_included(view: View, track: Track, probe: Finding) -> bool:
    """Say whether earlier bytes of a reply may still be included although their nonce is used: a node may lag, or be on a fork.

    A process before this one may have sent bytes that the journal has lost; a look that lacks transactions of the account hides them, and
    so does a pool while no block is made.
    """
    nonce = track.row.reply.nonce
    if nonce is None:
        is_older = track.row.event.log.block_number <= (view.nonces.first_block or 0)
        return is_older and not (probe.trusted and probe.asked_at >= view.nonces.whole_since)
    if nonce >= view.chain.nonce:
        return False  # its own nonce is open, or none that a block reaches
    believed = track.believes(Belief.ABSENT, view.settings.reading.reorg_window)
    return not (view.chain.fresh and probe.trusted and believed)


def _gas(view: View, track: Track, estimate: int) -> int:
    """Return the gas limit of a reply: from its estimate, which is not believed below what replies of its kind used of late."""
    estimate = max(estimate, min(track.used, default=0))
    gas = estimate * view.settings.transactions.gas_multiplier_percent // 100
    gas += view.operations[track.row.kind].spare(estimate)
    gas = max(gas, track.history.least_gas)
    return gas if view.chain.gas_limit is None else min(gas, view.chain.gas_limit)


def _unpayable(view: View, estimate: int, gas: int) -> Found | None:
    most = view.chain.gas_limit
    if most is not None and estimate > most:
        text = f"the estimate of {estimate} gas is above the block's limit of {most}: the node's estimate may be wrong"
        return Found(text, alert="gas-estimate")
    if view.price is not None and not view.limits.affords(view.price, gas):
        return Found(view.limits.too_dear(view.price, gas), alert="cost", critical=True)
    return None


@_row(Phase.UNSIGNED, Action.DEFER, "one_is_refused")
def _not_now(view: View, track: Track, probe: Finding) -> Found | None:
    """The contract takes it later, no node tells, its gas is above a block's, or it is too dear."""
    match said := said_in(probe):
        case Accepts(estimate):
            return _unpayable(view, estimate, _gas(view, track, estimate))
        case Unclear(reason):
            return Found(reason)
        case _ if _never(view, track, probe) is None:
            return None
        case _:
            return Found(str(said), alert=said.alert or REFUSED, critical=bool(said.alert))


# --- in flight


def _still(track: Track) -> Broadcast | None:
    """Return the last broadcast of a reply, once it is answered."""
    broadcast = track.broadcast
    return None if broadcast is None or broadcast.on_its_way else broadcast


def _is_there(call: Finding | None) -> bool:
    return call is not None and call.trusted and is_done(said_in(call))


@_row(Phase.IN_FLIGHT, Action.CONFIRM, "branch_back_unsent")
def _has_it_since(view: View, _track: Track, call: Finding | None) -> Found | None:
    """The epoch rose, and the contract has it at a head that is not above the look."""
    if call is None or not _is_there(call) or call.head > view.chain.number:
        return None  # above the look, its own bytes may have come in: the next look tells
    return Found(block=call.head)


@_row(Phase.IN_FLIGHT, Action.FILL, "poisoned_nonce")
def _poisoned(view: View, track: Track, _call: Finding | None) -> Found | None:
    """Nodes refused its bytes three times, and its nonce is the chain's next."""
    broadcast, nonce = _still(track), nonce_of(track.row)
    often = broadcast is not None and broadcast.said is Sent.REFUSED and broadcast.refusals >= REFUSALS
    return Found(nonces=(nonce,)) if often and nonce == view.chain.nonce else None


@_row(Phase.IN_FLIGHT, Action.RELEASE, "wild_nonce")
def _stranded(view: View, track: Track, _call: Finding | None) -> Found | None:
    """Its nonce stands above a hole that is wider than what is paid for empty transfers, for a reorg window."""
    stranded = nonce_of(track.row) >= view.nonces.beyond and not view.chain.suspicious
    return Found("no block reaches its nonce: it takes another") if stranded else None


def _may_go_out(view: View, track: Track, call: Finding | None) -> bool:
    """Say whether bytes may go out: unless the epoch rose since they were signed or broadcast here, and nobody has asked since.

    A branch that comes back brings the reply that was included there, and bytes that no node took need not follow it.
    """
    since = track.signed_at if track.broadcast is None else track.broadcast.since
    return (since >= view.epoch or call is not None) and not _is_there(call)


def _new_price(view: View, track: Track) -> Transaction | None:
    """Return a reply's transaction at another price, where it needs one, and one that is within the limits."""
    broadcast = _still(track)
    if broadcast is None or view.price is None or view.sends_held:
        return None
    held = broadcast.said not in UNPAYABLE
    if held and not _is_stuck(view, track, broadcast):
        return None
    old = transaction_of(track.row)
    price = view.limits.for_gas(view.price, old.gas)
    if price is None or not (held or old.max_fee * 100 > view.price.max_fee * MARGIN_PERCENT):
        return None
    new = repriced(old, price, held=held)
    return new if view.limits.allows(new) else None


def _is_stuck(view: View, track: Track, broadcast: Broadcast) -> bool:
    """Say whether a reply needs a higher fee; where there is no market only a node's word counts."""
    if view.chain.base_fee is None and broadcast.said is not Sent.UNDERPRICED:
        return False
    near = nonce_of(track.row) < view.chain.nonce + REPRICED_AT_ONCE
    return near and broadcast.is_stuck(view.now, view.block_time, view.replace_after)


@_row(Phase.IN_FLIGHT, Action.REPRICE, "spike")
def _needs_price(view: View, track: Track, call: Finding | None) -> Found | None:
    """Its fee is refused, or no receipt for very long (fee market), or it is dearer than the market and no node holds it."""
    new = _new_price(view, track)
    return None if new is None or not _may_go_out(view, track, call) else Found(gas=new.gas, transaction=new)


def _is_due(view: View, track: Track) -> bool:
    """Say whether bytes are to be broadcast now; a node that keeps nothing for later nonces takes them when the gap below is filled."""
    broadcast = track.broadcast
    if view.sends_held:
        return False
    if broadcast is None:
        return True
    if broadcast.said is Sent.GAP and any(gap < nonce_of(track.row) for gap in view.missing):
        return False
    return broadcast.is_due(view.now, view.block_time)


@_row(Phase.IN_FLIGHT, Action.BROADCAST, "lost_broadcast")
def _goes_out(view: View, track: Track, call: Finding | None) -> Found | None:
    """Its bytes are due: never sent here, not held, or held for too long; after the epoch rose, once it is probed."""
    return FOUND if _is_due(view, track) and _may_go_out(view, track, call) else None


# --- spent


@_row(Phase.SPENT, Action.CONFIRM, "plain_path")
def _succeeded(view: View, _track: Track, receipt: Receipt | None) -> Found | None:
    """Its receipt has status 1."""
    if receipt is None or not receipt.succeeded or receipt.block > view.chain.number:
        return None  # in a block above the look: by that the next one sees whether it goes
    return Found(block=receipt.block)


@_row(Phase.SPENT, Action.RELEASE, "nonce_taken", "mined_in_vain")
def _lost(view: View, track: Track, receipt: Receipt | None) -> Found | None:
    """Its receipt has status 0, and it is known why; or its absence is believed."""
    if receipt is not None and not receipt.succeeded:
        why, limit = _why(track), out_of_gas(track)
        used = "" if limit is None else f", out of gas ({receipt.gas_used} of {limit} used)"
        return None if why is None else Found(f"mined with status 0{used}: {why}")
    absent = track.believes(Belief.ABSENT, view.settings.reading.reorg_window)
    if receipt is not None or not absent or nonce_of(track.row) >= view.chain.nonce:
        return None
    if track.lacks_receipt:
        return Found("its nonce is used, and no node tells by what")
    return Found("another transaction took the nonce", again=True)


def _why(track: Track) -> str | None:
    """Return why a reply was mined with status 0, None before that was asked: its trace is, then a call, once each."""
    trace, call = track.findings.get(Question.TRACE), track.findings.get(Question.CALL_AT_BLOCK)
    if trace is not None and not trace.says_nothing:
        return str(said_in(trace))
    if call is None:
        return None
    hint = "" if trace is None else f"; {said_in(trace)}"
    return f"{said_in(call)}{hint}"


# --- included


@_row(
    Phase.INCLUDED,
    Action.TAKE_BACK,
    "journal_lost_then_vanished",
    "request_left_the_chain",
    "contract_lost_it",
)
def _gone(view: View, track: Track, _call: Finding | None) -> Found | None:
    """Its request left the chain, no answer is kept, or it is believed that the contract would take it anew."""
    row = track.row
    if not row.on_chain:
        return Found("the request left the chain")
    if row.answer is None:
        return Found("found on chain earlier; it is checked again")
    if track.believes(Belief.GONE, view.settings.reading.reorg_window):
        return Found("its block is gone", again=True)
    return None


def _counts(finding: Finding | None, view: View) -> TypeGuard[Finding]:
    """Say whether an answer is of this epoch, and of a node that was not behind the look."""
    return finding is not None and finding.trusted and finding.asked_at >= view.epoch


@_row(Phase.INCLUDED, Action.FINALIZE, "plain_path", "destroyed_hides_answer")
def _final(view: View, track: Track, call: Finding | None) -> Found | None:
    """Its block is final, as a receipt shows it too, and the contract has it; where that cannot tell, the receipt has status 1."""
    shown = track.finding(Question.RECEIPT, view.now)
    if not _counts(call, view) or view.chain.suspicious or isinstance(call.value, Accepts):
        return None
    asked = track.row.reply.hash is not None
    if asked and (shown is None or not (shown.says_nothing or _counts(shown, view))):
        return None  # it is of a branch that went, or of a node that lags
    block, receipt = track.row.reply.included_block or 0, receipt_of(track)
    if receipt is not None and receipt.succeeded:
        # where a branch came back: later perhaps than on the one in between
        block = max(block, receipt.block)
    elif not is_done(said_in(call)):
        return None
    return Found(block=block) if block <= view.chain.final else None


# --- any


@_row(Phase.ANY, Action.ASK, "plain_path")
def _asks(phase: Phase, view: View, track: Track, evidence: Any) -> Found | None:
    """A question of the above is due."""
    wanted = _wanted(phase, view, track, evidence)
    due = tuple([question for question in wanted if question not in track.asked])  # those are on their way
    return Found(questions=due) if due else None


def _wanted(phase: Phase, view: View, track: Track, evidence: Any) -> Sequence[Question]:
    match phase:
        case Phase.IN_FLIGHT:
            goes_out = evidence is None and (_is_due(view, track) or _new_price(view, track) is not None)
            return (Question.CALL,) if goes_out else ()
        case Phase.SPENT if evidence is None or evidence.succeeded:
            return (Question.RECEIPT,) if _may_ask(track.findings.get(Question.RECEIPT), view) else ()
        case Phase.SPENT:
            traces = view.settings.transactions.trace_reverted_tx and Question.TRACE not in track.findings
            return (Question.TRACE,) if traces else (Question.CALL_AT_BLOCK,)
        case Phase.INCLUDED:
            asked = (Question.CALL,) if track.row.reply.hash is None else (Question.CALL, Question.RECEIPT)
            return [one for one in asked if _may_ask(track.finding(one, view.now), view)]
        case _:
            if not _may_ask(evidence, view) or Question.ESTIMATE in track.asked:
                return ()
            hopeless = track.suspects(Belief.HOPELESS) and view.chain.is_old(track.row.event.log.block_number)
            return (Question.ESTIMATE, Question.BLOCK) if hopeless else (Question.ESTIMATE,)


def _may_ask(finding: Finding | None, view: View) -> bool:
    return finding is None or view.now >= finding.again


@_row(Phase.ANY, Action.WAIT, "lost_broadcast")
def _otherwise(_phase: Phase, _view: View, _track: Track, _evidence: object) -> Found | None:
    """Otherwise."""
    return FOUND


@_row(Phase.ACCOUNT, Action.FILL, "foreign_gap")
def _gaps(view: View, _track: None, unfilled: Sequence[int]) -> Found | None:
    """A ripe gap below something in flight, claimed by no answered reply."""
    few = 0 < len(unfilled) <= FILLS
    return Found(nonces=tuple(unfilled)) if few and not view.chain.suspicious else None
