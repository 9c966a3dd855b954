"""The alerts of a transaction manager: each cause once, until it is over. Texts have the figures and what to do. Asks nobody."""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs
import trio

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal.values import Row
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.model.life import State
from kmsconn.model.progress import PATIENCE, WINDOW, Lane, Progress, Reason, alert_of
from kmsconn.replies.answers import THERE, Accepts, Finds, Sent, Unclear
from kmsconn.replies.fees import Market, highest_cost, in_ether
from kmsconn.replies.table import REFUSED, Found, transaction_of
from kmsconn.replies.view import Question

ALERT_KEPT_FOR = 120.0  # seconds after which a reply that was not heard of again keeps no alert; the longest wait of a deferred one is 60
REPLY = Lane("reply")
UNSIGNED, SENT = range(2)  # how far on its way to a block a reply is

SEND_FUNDS = "send funds to the account"
CAUSES = {
    Question.ESTIMATE: "gas-estimate-unanswered",
    Question.CALL: "contract-unanswered",
    Question.CALL_AT_BLOCK: "contract-unanswered",
    Question.RECEIPT: "receipt-unanswered",
    Question.TRACE: "trace-unanswered",
    Question.BLOCK: "contract-unanswered",
}


@attrs.define
class TxAlerts:
    """The alerts of one transaction manager, under its name: another one's recovery is not its own.

    An alert about replies lasts while one of them has its cause. It is critical while several wait for a minute and none has got further
    since: then no reply passes at all. On its way to a block a reply passes when it is included. That proves nothing of one that was taken
    back: its node may show receipts of what it swallows. Such a one passes when it is final.
    """

    dependency: str
    """What the alerts are about."""
    on_event: OnEvent
    _board: Board = attrs.field(
        default=attrs.Factory(lambda self: Board(self.on_event, trio.current_time), takes_self=True),
        init=False,
    )
    _to_a_block: Progress = attrs.field(factory=Progress)
    _to_finality: Progress = attrs.field(factory=Progress)

    def set(self, cause: str, text: str | None, *, critical: bool = False, remedy: str = "") -> None:
        """Raise an alert, once, and again when its severity changes; or clear it where there is nothing to say."""
        present = self._board.get(cause, self.dependency)
        if not text or present is None or present.critical is not critical:
            self._board.set(cause, self.dependency, text, critical=critical, remedy=remedy)

    def hold(
        self, row: Row, cause: str, text: str, now: float, *, critical: bool = False, after: float = 0.0
    ) -> None:
        """Note that a reply waits on its way to a block."""
        reason = Reason(self.dependency, cause, _about(row, text), after=after, critical=critical)
        step = SENT if row.state is State.SIGNED else UNSIGNED
        self._to_a_block.hold(REPLY, row.rid, reason, now=now, step=step, keep=ALERT_KEPT_FOR)

    def free(self, rid: int, causes: Collection[str] | None = None) -> None:
        """Note that it is over for a reply, for all causes or for some."""
        self._to_a_block.free(rid, causes)

    def signed(self, rid: int) -> None:
        """Note that a reply is signed: what it waited for before that is over."""
        self._to_a_block.went_on(rid, UNSIGNED)

    def included(self, rid: int) -> None:
        """Note that a reply is in a block, as far as is known."""
        self._to_a_block.passed(REPLY, rid)

    def returned(self, row: Row, text: str, now: float, head: int, finality: float) -> None:
        """Note that a reply that was included is not there. Honest ones have as long again as a block takes to be final, in seconds."""
        after = PATIENCE + finality
        reason = Reason(self.dependency, "not-included", _about(row, text), after=after)
        self._to_finality.hold(REPLY, row.rid, reason, now=now, keep=WINDOW + after, order=head)

    def finalized(self, rid: int, block: int) -> None:
        """Note that a reply is there for good: which proves that replies passed when it was included, not now."""
        self._to_finality.passed(REPLY, rid, order=block)

    def forget(self, rid: int) -> None:
        """Note that a reply is over."""
        self._to_a_block.free(rid)
        self._to_finality.free(rid)

    def show(self, now: float) -> None:
        """Raise what holds up replies now, and clear what does not any more."""
        found = [*self._to_a_block.holdups(now), *self._to_finality.holdups(now)]
        alerts = [alert_of(one, "reply", "replies") for one in found]
        self._board.show("replies", sorted(alerts, key=lambda one: one.critical))


def _about(row: Row, text: str) -> str:
    return f"the reply to request {row.id:#066x}: {text}"


def tell_market(alerts: TxAlerts, market: Market) -> None:
    """Say why nothing can be signed, or that it can again."""
    if market.beyond or market.failure:
        remedy = "raise the option in the text, if the chain really costs as much" if market.beyond else ""
        what = "nothing is signed" if market.price is None else "the connector pays the last known price"
        text = f"{what}: {market.refusal or market.failure}"
        alerts.set("fees", text, critical=market.beyond, remedy=remedy)
    elif market.price is not None:
        alerts.set("fees", None)


def tell_deferred(alerts: TxAlerts, row: Row, found: Found, now: float) -> None:
    """Say why a reply waits; where others may be refused for the same, the alert has patience."""
    if found.alert:
        after = PATIENCE if found.alert == REFUSED else 0.0
        alerts.hold(row, found.alert, found.reason, now, critical=found.critical, after=after)


def tell_sent(
    alerts: TxAlerts, row: Row, said: Sent, result: object, now: float, *, funds: Callable[[], str]
) -> None:
    """Say that bytes were not taken, or that they are again; ``funds`` says what the account has."""
    if said in THERE:
        alerts.set("funds", None)
        alerts.free(row.rid, {"broadcast"})
    elif said is Sent.FUNDS:
        transaction = transaction_of(row)
        need = "" if transaction is None else f", a reply needs {in_ether(highest_cost(transaction))}"
        alerts.set("funds", f"{funds()}{need} ({result})", critical=True, remedy=SEND_FUNDS)
    elif said in {Sent.FAILED, Sent.UNANSWERED, Sent.CAPPED, Sent.REFUSED}:
        # never the text of an answer that is none: it may be a megabyte, or nested too deeply to be written
        why = (
            str(result)
            if isinstance(result, KmsconnError)
            else "the node's answer is not the transaction's hash"
        )
        alerts.hold(
            row, "broadcast", f"the transaction with nonce {row.reply.nonce} was not accepted: {why}", now
        )


def tell_answer(alerts: TxAlerts, row: Row, question: Question, said: Finds, now: float) -> None:
    """Say that a question about a reply has no answer, or none that tells, and when it has one again."""
    cause = CAUSES[question]
    if not isinstance(said, Unclear):
        alerts.free(row.rid, {cause, REFUSED} if isinstance(said, Accepts) else {cause})
    elif question is not Question.TRACE:
        which = f" of {to_hex(row.reply.hash)}" if question is Question.RECEIPT and row.reply.hash else ""
        alerts.hold(row, cause, f"{question.value}{which}: {said.reason}", now)
