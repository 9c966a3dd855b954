"""The decision table of the transaction manager: phase × evidence → action. Pure data.

A *phase* follows from the journal's row and the chain's nonce. *Evidence* is what the answers so far amount to (``assess``). The table
names the one action for each pair; a pair that it does not name cannot occur. ``docs/transactions.md`` is printed from it.
"""

from __future__ import annotations

from enum import StrEnum


class Phase(StrEnum):
    """The phase of a reply."""

    UNSIGNED = "unsigned"  # answered; it holds no nonce
    OPEN = "signed, nonce open"  # the chain has not used its nonce yet
    USED = (
        "signed, nonce used"  # by these bytes, by earlier ones of the same reply, or by another transaction
    )
    INCLUDED = "included"  # in a block that may still go


class Action(StrEnum):
    """The next action for a reply."""

    WAIT = "wait"  # nothing: time or another answer brings the next step
    ASK = "ask"  # put the next question about it to a node
    SIGN = "sign"  # give it a nonce, fees and a signature
    BROADCAST = "broadcast"  # hand its bytes to a node
    REPRICE = "reprice"  # sign it again at the same nonce for another fee
    MOVE_DOWN = "move down"  # sign it again for the nonce of a gap below, the last in flight first
    FILL_GAP = "fill gap"  # use its nonce up by an empty transfer, so that others can pass
    CONFIRM = "confirm"  # it is in the chain: included
    RELEASE = "release"  # take its nonce away: back to answered
    DEFER = "defer"  # let it wait in the journal, without a nonce
    REJECT = "reject"  # it can never be taken
    FINISH = "finish"  # it is not this node's to give
    RESEND = "resend"  # its block is gone: back to answered, with the same bytes
    RESTART = "restart"  # likewise, but no answer is kept: the request starts again
    FINALIZE = "finalize"  # it is there for good


class Evidence(StrEnum):
    """The evidence about a reply."""

    UNKNOWN = "no answer yet, or an old one"
    ASKED = "a query is in flight"
    # of an estimate
    ACCEPTED = "the contract would accept it"
    MAYBE_INCLUDED = "the contract would accept it, but earlier bytes may still be included"
    GAS_ABOVE_BLOCK = "its estimate is above the block's gas limit"
    TOO_DEAR = "it would cost more than is allowed"
    NO_FUNDS = "the account cannot pay"
    # of the contract
    HAS_REPLY = "the contract has this node's reply"
    REFUSED_NOW = "the contract refuses it now"
    REFUSED_ONCE = "one look says that the contract refuses it for good"
    REFUSED_FOR_GOOD = "a later look says the same, on a chain with the request's block, which is older than the reorg window"
    NOT_OURS = "the same, and the contract accepts it from other nodes only"
    NO_ANSWER = "no node answered, or the answer is useless"
    # of a broadcast
    NOT_SENT = "never broadcast by this process"
    HELD = "a node holds its bytes"
    OVERDUE = "a node holds its bytes, but there is no receipt for long"
    NOT_HELD = "no node holds its bytes"
    BEHIND_GAP = "a node refused its bytes because of a nonce gap, which persists"
    BEHIND_RIPE_GAP = "the same, a later look confirms the gap, and this is one of the last in flight"
    BEHIND_RIPE_GAP_UNTAKEN = "it could fill such a gap, and the contract has no reply of this node"
    DEARER_THAN_MARKET = "the account cannot pay its fee, which is above the market"
    STUCK = "the node refuses its fee, or there is no receipt for very long"
    STUCK_UNTAKEN = "the same, and the contract has no reply of this node"
    REFUSED_OFTEN = "nodes refused its bytes repeatedly, and its nonce is the chain's next one"
    # of a receipt
    SUCCEEDED = "its receipt has status 1"
    FAILED = "its receipt has status 0, and the reason is unknown"
    FAILED_SILENT = "its receipt has status 0, and the trace gives no reason"
    FAILED_KNOWN = "its receipt has status 0, and the contract may accept another one"
    MISSING_ONCE = "one look found no receipt"
    MISSING = "a later look found no receipt either"
    NONCE_LOST = "there is no receipt, and the contract has no reply of this node"
    # of what is included
    OFF_CHAIN = "its request left the chain"
    NO_ANSWER_KEPT = "it was found on chain, and no answer is kept"
    NONCE_OPEN = "its nonce is open again, and the contract has no reply of this node"
    BLOCK_UNKNOWN = "a reorganisation affected it, the contract has the reply, and no receipt names its block"
    YOUNG = "its block is not final"
    GONE_ONCE = "one look found no reply in the contract"
    GONE = "a later look found no reply in the contract either"
    FINAL = "its block is final, and the contract has it"


TABLE: dict[Phase, dict[Evidence, Action]] = {
    Phase.UNSIGNED: {
        Evidence.UNKNOWN: Action.ASK,
        Evidence.ASKED: Action.WAIT,
        Evidence.ACCEPTED: Action.SIGN,
        Evidence.MAYBE_INCLUDED: Action.WAIT,
        Evidence.GAS_ABOVE_BLOCK: Action.DEFER,
        Evidence.TOO_DEAR: Action.DEFER,
        Evidence.NO_FUNDS: Action.DEFER,
        Evidence.HAS_REPLY: Action.CONFIRM,
        Evidence.REFUSED_NOW: Action.DEFER,
        Evidence.REFUSED_ONCE: Action.WAIT,
        Evidence.REFUSED_FOR_GOOD: Action.REJECT,
        Evidence.NOT_OURS: Action.FINISH,
        Evidence.NO_ANSWER: Action.DEFER,
    },
    Phase.OPEN: {
        Evidence.NOT_SENT: Action.BROADCAST,
        Evidence.UNKNOWN: Action.ASK,
        Evidence.ASKED: Action.WAIT,
        Evidence.HELD: Action.WAIT,
        Evidence.OVERDUE: Action.BROADCAST,
        Evidence.NOT_HELD: Action.BROADCAST,
        Evidence.BEHIND_GAP: Action.WAIT,
        Evidence.BEHIND_RIPE_GAP: Action.ASK,
        Evidence.BEHIND_RIPE_GAP_UNTAKEN: Action.MOVE_DOWN,
        Evidence.DEARER_THAN_MARKET: Action.REPRICE,
        Evidence.STUCK: Action.ASK,
        Evidence.STUCK_UNTAKEN: Action.REPRICE,
        Evidence.HAS_REPLY: Action.CONFIRM,
        Evidence.REFUSED_OFTEN: Action.FILL_GAP,
    },
    Phase.USED: {
        Evidence.UNKNOWN: Action.ASK,
        Evidence.ASKED: Action.WAIT,
        Evidence.SUCCEEDED: Action.CONFIRM,
        Evidence.FAILED: Action.ASK,
        Evidence.FAILED_SILENT: Action.ASK,
        Evidence.FAILED_KNOWN: Action.RELEASE,
        Evidence.MISSING_ONCE: Action.WAIT,
        Evidence.MISSING: Action.ASK,
        Evidence.NO_ANSWER: Action.WAIT,
        Evidence.HAS_REPLY: Action.CONFIRM,
        Evidence.NONCE_LOST: Action.RELEASE,
    },
    Phase.INCLUDED: {
        Evidence.OFF_CHAIN: Action.RESEND,
        Evidence.NO_ANSWER_KEPT: Action.RESTART,
        Evidence.NONCE_OPEN: Action.RESEND,
        Evidence.BLOCK_UNKNOWN: Action.RESEND,
        Evidence.UNKNOWN: Action.ASK,
        Evidence.ASKED: Action.WAIT,
        Evidence.YOUNG: Action.WAIT,
        Evidence.NO_ANSWER: Action.WAIT,
        Evidence.GONE_ONCE: Action.WAIT,
        Evidence.GONE: Action.RESEND,
        Evidence.FINAL: Action.FINALIZE,
    },
}


def action_for(phase: Phase, evidence: Evidence) -> Action:
    """Return what the table names. Raises KeyError for a pair that cannot occur."""
    return TABLE[phase][evidence]


def markdown() -> str:
    """Return the table for the documentation, one row for each pair."""
    rows = [
        f"| {phase} | {evidence} | {action} |"
        for phase, row in TABLE.items()
        for evidence, action in row.items()
    ]
    return "\n".join(["| phase | evidence | action |", "|---|---|---|", *rows]) + "\n"
