"""Turns the answers about one reply into evidence, by the reply's phase. Pure; the action follows from ``table``."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.transactions import Transaction, decode_transaction
from kmsconn.frozen import frozen
from kmsconn.journal.values import Row
from kmsconn.model.life import BLOCK_UNKNOWN, RowCause
from kmsconn.replies.broadcasts import LONGEST_RETRY, Broadcast
from kmsconn.replies.evidence import (
    UNHELD,
    UNPAYABLE,
    Accepts,
    Receipt,
    Says,
    Sent,
    Stands,
    Unclear,
    alert_of,
    is_done,
    is_hopeless,
    is_not_ours,
    reason_of,
)
from kmsconn.replies.fees import gas_limit, highest_fee
from kmsconn.replies.table import Evidence, Phase
from kmsconn.replies.view import SILENCES, Finding, Question, Track, View, nonce_of, phase_of

REFUSALS = 3  # of the same bytes, until their nonce is used up by an empty transfer
REPRICED_AT_ONCE = 16  # nonces above the chain's: the others wait for these
MARGIN_PERCENT = 112  # of the market's fee: bytes that no node holds and that cost more are signed again


@frozen
class Assessment:
    """Evidence about a reply with what belongs to it: why, in which block, with which gas limit, what to ask next.

    ``alert``: the cause of an alert about this reply alone.
    """

    evidence: Evidence
    reason: str = ""
    block: int = 0
    gas: int = 0
    questions: tuple[Question, ...] = ()
    alert: str = ""


def assess(view: View, track: Track) -> tuple[Phase, Assessment]:
    """Return the phase of a reply and what is known of it."""
    phase = phase_of(view, track.row)
    return phase, _ASSESSORS[phase](view, track)


def _asked(track: Track, *questions: Question) -> Assessment | None:
    return Assessment(Evidence.ASKED) if track.asked.intersection(questions) else None


def _ask(evidence: Evidence, *questions: Question) -> Assessment:
    return Assessment(evidence, questions=questions)


# --- unsigned


def _unsigned(view: View, track: Track) -> Assessment:
    finding = track.finding(Question.ESTIMATE, view.now)
    if finding is None or finding.head < view.nonces.stranger_block or finding.at < view.chain.reorganised_at:
        return _asked(track, Question.ESTIMATE) or _ask(Evidence.UNKNOWN, Question.ESTIMATE)
    match finding.value:
        case Accepts(gas):
            return _accepted(view, track, finding, gas)
        case Unclear(reason, funds=True):
            return Assessment(Evidence.NO_FUNDS, reason)
        case Unclear(reason):
            return Assessment(Evidence.NO_ANSWER, reason)
        case _:
            return _refused(view, track, finding)


def _refused(view: View, track: Track, finding: Finding) -> Assessment:
    said = _said_by_contract(finding)
    if is_done(said):
        return Assessment(Evidence.HAS_REPLY, reason_of(said), finding.head)
    if is_hopeless(said) and finding.trusted and view.chain.is_old(track.row):
        if track.refused is not None and track.refused.is_confirmed(view.policy.absence_seconds):
            return _refused_for_good(view, track, said)
        if view.now >= finding.again:
            return _asked(track, Question.ESTIMATE) or _ask(Evidence.UNKNOWN, Question.ESTIMATE)
        return Assessment(Evidence.REFUSED_ONCE, reason_of(said))
    return Assessment(Evidence.REFUSED_NOW, reason_of(said), alert=alert_of(said))


def _said_by_contract(finding: Finding) -> Says:
    assert finding.value is not None
    assert not isinstance(finding.value, (Receipt, Stands))
    return finding.value


def _refused_for_good(view: View, track: Track, said: Says) -> Assessment:
    """Believe a final no of a chain that holds the request's block: on another branch the id may name something else.

    The block is asked for together with the estimate, so that one node answers both.
    """
    both = (Question.ESTIMATE, Question.BLOCK)
    block = track.finding(Question.BLOCK, view.now)
    if block is None or track.asked.intersection(both):
        return _asked(track, *both) or _ask(Evidence.UNKNOWN, *both)
    if not block.trusted or block.value != Stands(True):
        return Assessment(Evidence.REFUSED_NOW, f"{reason_of(said)}, on a chain without the request's block")
    ending = Evidence.NOT_OURS if is_not_ours(said) else Evidence.REFUSED_FOR_GOOD
    return Assessment(ending, reason_of(said))


def _accepted(view: View, track: Track, finding: Finding, estimate: int) -> Assessment:
    most = view.chain.gas_limit
    if most is not None and estimate > most:
        return Assessment(
            Evidence.GAS_ABOVE_BLOCK,
            f"the estimate of {estimate} gas is above the block's limit of {most}: the node's estimate may be wrong",
        )
    if _may_be_included(view, track, finding):
        if view.now < finding.again:
            return Assessment(Evidence.MAYBE_INCLUDED)
        return _asked(track, Question.ESTIMATE) or _ask(Evidence.UNKNOWN, Question.ESTIMATE)
    gas = gas_limit(estimate, view.policy.gas_percent) + view.policy.spare_gas(track.row.kind, estimate)
    gas = max(gas, track.history.least_gas)
    gas = gas if most is None else min(gas, most)
    if view.price is not None and view.policy.limits.for_gas(view.price, gas) is None:
        return Assessment(Evidence.TOO_DEAR, view.policy.limits.too_dear(view.price, gas))
    return Assessment(Evidence.ACCEPTED, gas=gas)


def _may_be_included(view: View, track: Track, finding: Finding) -> bool:
    """Say whether earlier bytes of a reply may still be included although their nonce is used: a node may lag, or be on a fork."""
    nonce = track.earlier_nonce
    if nonce is None or nonce >= view.chain.nonce:
        return False
    confirmed = track.absent is not None and track.absent.is_confirmed(view.policy.absence_seconds)
    return not (view.chain.fresh and finding.trusted and confirmed)


# --- signed, nonce open


def _open(view: View, track: Track) -> Assessment:
    broadcast = view.broadcast_of(track.row)
    if broadcast is None:
        since, found = track.signed_at, Assessment(Evidence.NOT_SENT)
    elif broadcast.on_its_way:
        return Assessment(Evidence.ASKED)
    else:
        since, found = broadcast.since, _broadcast_before(view, track, broadcast)
    goes_out = found.evidence in _GOES_OUT and not view.sends_held
    return (_kept_back(view, track, since) if goes_out else None) or found


_GOES_OUT = frozenset(
    {
        Evidence.NOT_SENT,
        Evidence.OVERDUE,
        Evidence.NOT_HELD,
        Evidence.DEARER_THAN_MARKET,
        Evidence.STUCK_UNTAKEN,
    }
)
"""After these a reply is broadcast, as it is or signed anew."""


def _kept_back(view: View, track: Track, since: float) -> Assessment | None:
    """Return what keeps back a reply that was signed before: after a reorganisation, or a start, the contract is asked whether it has one.

    ``since`` is when this process signed it or broadcast it first. A branch that comes back brings the reply that was included there, and
    bytes that no node took need not follow it. None, also where no node says: it may go out.
    """
    call = track.findings.get(Question.CALL)
    asked_at = since if call is None else max(since, call.at)
    if asked_at < view.chain.reorganised_at:
        return _asked(track, Question.CALL) or _ask(Evidence.UNKNOWN, Question.CALL)
    if call is None or not call.trusted or not is_done(_said_by_contract(call)):
        return None
    if call.head > view.chain.number:
        return Assessment(Evidence.ASKED)  # these bytes may have come in since the look: the next one tells
    return Assessment(Evidence.HAS_REPLY, block=call.head)


def _broadcast_before(view: View, track: Track, broadcast: Broadcast) -> Assessment:
    """Return what is known of bytes by what a node said to them last."""
    row = track.row
    if _refused_often(view, row, broadcast):
        return Assessment(Evidence.REFUSED_OFTEN)
    if broadcast.said in UNPAYABLE:
        return Assessment(Evidence.DEARER_THAN_MARKET if _is_dear(view, row) else Evidence.NOT_HELD)
    if broadcast.said is Sent.GAP and any(gap < nonce_of(row) for gap in view.nonces.missing):
        return _behind_gap(view, track)
    return _stuck(view, track, broadcast) or _delivery(view, broadcast)


def _behind_gap(view: View, track: Track) -> Assessment:
    """Say whether a reply may be signed again for a gap below; its bytes would be held for a moment, and could come in behind a moved one.

    The gap may be there since a branch came back on which the contract has the reply by earlier bytes, so it is asked first: about as
    many replies as there are gaps, since the last ones in flight are moved.
    """
    gaps = sum(gap < nonce_of(track.row) for gap in view.nonces.ripe)
    if view.last is None or nonce_of(track.row) <= nonce_of(view.last.row) - gaps:
        return Assessment(Evidence.BEHIND_GAP)
    asked = _ask_contract(view, track, Evidence.BEHIND_RIPE_GAP)
    return asked or _by_call(track, Evidence.BEHIND_RIPE_GAP_UNTAKEN) or Assessment(Evidence.BEHIND_GAP)


def _delivery(view: View, broadcast: Broadcast) -> Assessment:
    if not broadcast.is_due(view.now, view.block_time):
        return Assessment(Evidence.HELD)
    return Assessment(Evidence.OVERDUE if broadcast.is_held else Evidence.NOT_HELD)


def _refused_often(view: View, row: Row, broadcast: Broadcast) -> bool:
    often = broadcast.said is Sent.REFUSED and broadcast.times >= REFUSALS
    return often and nonce_of(row) == view.chain.nonce


def transaction_of(row: Row) -> Transaction | None:
    """Return the transaction in a row's bytes, None where they cannot be read."""
    try:
        return decode_transaction(row.reply.raw or b"").transaction
    except Undecodable:
        return None


def _is_dear(view: View, row: Row) -> bool:
    """Say whether bytes that no node holds cost more than the market asks for now."""
    old = transaction_of(row)
    if old is None or view.price is None:
        return False
    return highest_fee(old) * 100 > view.price.highest * MARGIN_PERCENT


def _stuck(view: View, track: Track, broadcast: Broadcast) -> Assessment | None:
    """Return evidence that a reply needs a higher fee, None when it does not; where there is no market only a node's word counts."""
    if view.chain.base_fee is None and broadcast.said is not Sent.UNDERPRICED:
        return None
    if nonce_of(track.row) >= view.chain.nonce + REPRICED_AT_ONCE:
        return None
    if _is_old_word(view, broadcast) or not broadcast.is_stuck(
        view.now, view.block_time, view.policy.replace_after
    ):
        return None
    return _ask_contract(view, track, Evidence.STUCK) or _by_call(track, Evidence.STUCK_UNTAKEN)


def _ask_contract(view: View, track: Track, evidence: Evidence) -> Assessment | None:
    """Let the contract be asked for a signed reply before it is signed again; None where it was a moment ago."""
    finding = track.finding(Question.CALL, view.now)
    if finding is None or (not finding.trusted and view.now >= finding.again):
        return _asked(track, Question.CALL) or _ask(evidence, Question.CALL)
    return None


def _by_call(track: Track, untaken: Evidence) -> Assessment | None:
    """Decide about a signed reply by what the contract said; None where that does not tell."""
    finding = track.findings[Question.CALL]
    if finding.says_nothing or not finding.trusted:
        return None
    if is_done(_said_by_contract(finding)):
        return Assessment(Evidence.HAS_REPLY, block=finding.head)
    return Assessment(untaken)


def _is_old_word(view: View, broadcast: Broadcast) -> bool:
    """Say whether a node refused a fee so long ago that it may take it now, where no other one may be paid."""
    return broadcast.said in UNHELD and view.now - broadcast.at >= LONGEST_RETRY


# --- signed, nonce used


def _used(view: View, track: Track) -> Assessment:
    finding = track.findings.get(Question.RECEIPT)
    if finding is not None and isinstance(finding.value, Receipt):
        if finding.value.succeeded:
            return Assessment(Evidence.SUCCEEDED, block=finding.value.block)
        return _failed(view, track, finding.value)
    if nonce_of(track.row) < view.chain.nonce and _is_missing(view, track, finding):
        return _missing(view, track)
    if finding is None or view.now >= finding.again:
        return _asked(track, Question.RECEIPT) or _ask(Evidence.UNKNOWN, Question.RECEIPT)
    nothing = finding.says_nothing and finding.trusted
    return Assessment(Evidence.NO_ANSWER if nothing else Evidence.MISSING_ONCE)


def _is_missing(view: View, track: Track, finding: Finding | None) -> bool:
    noted = finding is not None and track.absent is not None
    return noted and track.absent is not None and track.absent.is_confirmed(view.policy.absence_seconds)


def _missing(view: View, track: Track) -> Assessment:
    """Decide about a reply whose nonce is used and whose bytes are not in the chain: by the contract's state."""
    call = track.finding(Question.CALL, view.now)
    if call is not None and track.absent is not None and call.at < track.absent.first_at:
        call = None
    if call is None or ((call.says_nothing or not call.trusted) and view.now >= call.again):
        return _asked(track, Question.CALL) or _ask(Evidence.MISSING, Question.CALL)
    if call.says_nothing or not call.trusted:
        return Assessment(Evidence.NO_ANSWER)
    return _by_contract(
        call, block=call.head, what="another transaction took the nonce", otherwise=Evidence.NONCE_LOST
    )


def _by_contract(finding: Finding, *, block: int, what: str, otherwise: Evidence) -> Assessment:
    """Decide by what the contract says; whether a no is final is asked once the reply holds no nonce any more."""
    said = _said_by_contract(finding)
    if is_done(said):
        return Assessment(Evidence.HAS_REPLY, block=block)
    return Assessment(otherwise, f"{what}: {reason_of(said)}")


def _failed(view: View, track: Track, receipt: Receipt) -> Assessment:
    """Find out why a reply was mined with status 0; its nonce is used in any case. A trace is asked for once."""
    trace = track.findings.get(Question.TRACE)
    if trace is None and view.policy.tracing:
        return _asked(track, Question.TRACE) or _ask(Evidence.FAILED, Question.TRACE)
    if trace is not None and not trace.says_nothing:
        return _by_contract(
            trace,
            block=receipt.block,
            what=_status_0(track, receipt),
            otherwise=Evidence.FAILED_KNOWN,
        )
    call = track.findings.get(Question.CALL_AT_BLOCK)
    if call is None:
        return _asked(track, Question.CALL_AT_BLOCK) or _ask(Evidence.FAILED_SILENT, Question.CALL_AT_BLOCK)
    found = _by_contract(
        call,
        block=receipt.block,
        what=_status_0(track, receipt),
        otherwise=Evidence.FAILED_KNOWN,
    )
    hint = reason_of(trace.value) if trace is not None and isinstance(trace.value, Unclear) else ""
    return attrs.evolve(found, reason=f"{found.reason}; {hint}") if hint and found.reason else found


def out_of_gas(row: Row, receipt: Receipt) -> int | None:
    """Return the gas limit of a failed reply that used it up; None for every other one."""
    transaction = transaction_of(row)
    if transaction is None or not receipt.used_up(transaction.gas):
        return None
    return transaction.gas


def _status_0(track: Track, receipt: Receipt) -> str:
    limit = out_of_gas(track.row, receipt)
    if limit is not None:
        return f"mined with status 0, out of gas ({receipt.gas_used} of {limit} used)"
    return "mined with status 0"


# --- included


def _included(view: View, track: Track) -> Assessment:
    row = track.row
    if not row.on_chain:
        return Assessment(Evidence.OFF_CHAIN, "the request left the chain")
    if row.answer is None:
        return Assessment(Evidence.NO_ANSWER_KEPT, "found on chain earlier; it is checked again")
    questions = _look_of(view, row)
    call, receipt = (track.finding(question, view.now) for question in (Question.CALL, Question.RECEIPT))
    if call is None or (receipt is None and Question.RECEIPT in questions):
        return _asked(track, *questions) or _ask(Evidence.UNKNOWN, *questions)
    return _again(view, track, call) or _looked_at(view, track, call, receipt)


def _look_of(view: View, row: Row) -> tuple[Question, ...]:
    bytes_are_in = row.reply.hash is not None and not _is_open_again(view, row)
    return (Question.CALL, Question.RECEIPT) if bytes_are_in else (Question.CALL,)


def _is_open_again(view: View, row: Row) -> bool:
    """Say whether an included reply's nonce is a gap: it went with its block, or the contract has it by earlier bytes."""
    return row.reply.nonce in view.nonces.ripe and (row.reply.included_block or 0) <= view.chain.number


def _again(view: View, track: Track, call: Finding) -> Assessment | None:
    """Say that a look is due again, or on its way."""
    questions = _look_of(view, track.row)
    if view.now < call.again:
        return None
    return _asked(track, *questions) or _ask(Evidence.UNKNOWN, *questions)


def _looked_at(view: View, track: Track, call: Finding, receipt: Finding | None) -> Assessment:
    if not call.trusted:
        return Assessment(Evidence.NO_ANSWER)
    if is_done(_said_by_contract(call)):
        return _has_reply(view, track, call, receipt)
    if _is_open_again(view, track.row) and not call.says_nothing:
        return Assessment(Evidence.NONCE_OPEN, "its nonce is open again")
    if isinstance(call.value, Accepts):
        gone = track.gone is not None and track.gone.is_confirmed(view.policy.absence_seconds)
        return Assessment(Evidence.GONE if gone else Evidence.GONE_ONCE, "its block is gone")
    return _by_receipt(view, track, receipt)


def _has_reply(view: View, track: Track, call: Finding, receipt: Finding | None) -> Assessment:
    """Say whether the reply that the contract has is final: a reorganisation may have put it into a later block.

    Where no receipt tells the block, it is not above the head of the node that has the reply. After a reorganisation that may be far
    above the block that is noted: the reply goes back, is found by its estimate, and waits from that head on.
    """
    silent = receipt is not None and receipt.says_nothing and track.silences[Question.RECEIPT] < SILENCES
    if silent:
        return Assessment(Evidence.NO_ANSWER)
    found = receipt.value if receipt is not None and isinstance(receipt.value, Receipt) else None
    if found is None and RowCause.BLOCK_UNKNOWN in track.row.progress.cause:
        return Assessment(Evidence.BLOCK_UNKNOWN, BLOCK_UNKNOWN)
    noted = track.row.reply.included_block or 0
    block = noted if found is None else max(noted, found.block)
    if block > view.chain.final:
        return Assessment(Evidence.YOUNG)
    return Assessment(Evidence.FINAL, block=block if found is not None else max(noted, call.head))


def _by_receipt(view: View, track: Track, receipt: Finding | None) -> Assessment:
    """Decide by the receipt where the contract cannot tell any more: a destroyed context hides what was answered under it."""
    found = receipt.value if receipt is not None else None
    if not isinstance(found, Receipt) or not found.succeeded:
        return Assessment(Evidence.NO_ANSWER)
    if found.block > view.chain.final:
        return Assessment(Evidence.YOUNG)
    return Assessment(Evidence.FINAL, block=max(track.row.reply.included_block or 0, found.block))


_ASSESSORS: dict[Phase, Callable[[View, Track], Assessment]] = {
    Phase.UNSIGNED: _unsigned,
    Phase.OPEN: _open,
    Phase.USED: _used,
    Phase.INCLUDED: _included,
}
