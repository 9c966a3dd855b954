"""The alerts of a transaction manager: each cause once, until it is over. Texts have the figures and what to do. Asks nobody."""

from __future__ import annotations

from collections.abc import Collection
from itertools import islice

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal.values import Row
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, Severity
from kmsconn.txmanager.assess import Assessment, transaction_of
from kmsconn.txmanager.evidence import THERE, Accepts, Finds, Sent, Unclear
from kmsconn.txmanager.fees import Market, highest_cost, in_ether
from kmsconn.txmanager.table import Evidence
from kmsconn.txmanager.view import Question

ALERT_KEPT_FOR = 120.0  # seconds after which a reply that was not heard of again keeps no alert; the longest wait of a deferred one is 60

SEVERAL = 3  # replies that wait alike for so long, while none got further: then no reply passes
WAITING_LONG = 15.0  # seconds; a node that lags, or misses one question, holds none up for longer

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

    An alert about replies lasts while one of them has its cause. It is critical while several wait for long and none has got further
    since: then no reply passes at all.
    """

    name: str
    on_event: OnEvent
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
    )
    dependency: str = attrs.field(
        default=attrs.Factory(lambda self: f"txmanager {self.name}", takes_self=True), init=False
    )
    """What the alerts are about."""
    _replies: dict[str, dict[int, float]] = attrs.field(factory=dict)
    """When each waiting reply was last heard of, by the cause."""
    _stuck: dict[str, dict[int, float]] = attrs.field(factory=dict)
    """Those that have waited since nobody passed, each with the moment since when; the oldest first."""

    def raise_(self, cause: str, text: str, *, critical: bool = False, remedy: str = "") -> None:
        """Raise an alert, once, and again when its severity changes."""
        severity = Severity.CRITICAL if critical else Severity.WARNING
        if self._alerts.severity(self.dependency, cause) is not severity:
            self._alerts.raise_(self.dependency, cause, text, severity, remedy=remedy)

    def clear(self, cause: str) -> None:
        """Clear an alert."""
        self._replies.pop(cause, None)
        self._stuck.pop(cause, None)
        self._alerts.clear(self.dependency, cause)

    def raise_for(
        self, row: Row, cause: str, text: str, now: float, *, critical: bool = False, remedy: str = ""
    ) -> None:
        """Raise an alert about a reply, once for all that have its cause."""
        stuck = self._wait(row.rid, cause, now)
        self.raise_(cause, _about(row, text, stuck), critical=critical or stuck > 0, remedy=remedy)

    def blocked_for(self, row: Row, cause: str, text: str, now: float) -> None:
        """Raise an alert about a reply that waits as others do now and then, but only while no reply passes."""
        if stuck := self._wait(row.rid, cause, now):
            self.raise_(cause, _about(row, text, stuck), critical=True)
        else:
            self._alerts.clear(self.dependency, cause)

    def passed(self, cause: str) -> None:
        """Note that a reply got past what others wait for: those that wait already do so by their own fault."""
        self._stuck.pop(cause, None)

    def _wait(self, rid: int, cause: str, now: float) -> int:
        """Note that a reply waits; return how many do where none passes. Costs the same however many wait."""
        replies = self._replies.setdefault(cause, {})
        stuck = self._stuck.setdefault(cause, {})
        if rid not in replies:
            stuck[rid] = now
        replies[rid] = now
        oldest = [*islice(stuck.values(), SEVERAL)]
        return len(replies) if len(oldest) == SEVERAL and now - oldest[-1] >= WAITING_LONG else 0

    def clear_for(self, rid: int, causes: Collection[str] | None = None) -> None:
        """Note that it is over for a reply, for all causes or for some."""
        for cause in list(self._replies):
            if causes is None or cause in causes:
                self._replies[cause].pop(rid, None)
                self._stuck.get(cause, {}).pop(rid, None)
                self._clear_empty(cause)

    def forget(self, now: float) -> None:
        """Forget replies that were not heard of for long."""
        for cause, replies in list(self._replies.items()):
            silent = {rid for rid, last in replies.items() if now - last >= ALERT_KEPT_FOR}
            for rid in silent:
                self.clear_for(rid, {cause})

    def _clear_empty(self, cause: str) -> None:
        if not self._replies[cause]:
            self.clear(cause)


def _about(row: Row, text: str, stuck: int) -> str:
    """Return a text about a reply; where none passes it says how many wait."""
    none_passes = f"no reply passes, {stuck} wait: " if stuck else ""
    return f"{none_passes}the reply to request {row.id:#066x}: {text}"


def tell_market(alerts: TxAlerts, market: Market) -> None:
    """Say why nothing can be signed, or that it can again."""
    if market.beyond or market.failure:
        remedy = "raise the option in the text, if the chain really costs as much" if market.beyond else ""
        what = "nothing is signed" if market.price is None else "the connector pays the last known price"
        text = f"{what}: {market.refusal or market.failure}"
        alerts.raise_("fees", text, critical=market.beyond, remedy=remedy)
    elif market.price is not None:
        alerts.clear("fees")


def tell_deferred(alerts: TxAlerts, row: Row, found: Assessment, now: float, *, funds: str) -> None:
    """Say why a reply waits where it is not the contract that refuses it. ``funds`` says who has how much."""
    if found.evidence is Evidence.NO_FUNDS:
        alerts.raise_("funds", f"{funds} ({found.reason})", critical=True, remedy=SEND_FUNDS)
    elif found.evidence is Evidence.TOO_DEAR:
        remedy = "raise max_reply_cost, if replies really cost as much"
        alerts.raise_for(row, "cost", f"{found.reason}: it waits", now, critical=True, remedy=remedy)
    elif found.evidence is Evidence.GAS_ABOVE_BLOCK:
        alerts.raise_for(row, "gas-estimate", f"{found.reason}: it waits", now)
    elif found.alert:
        alerts.raise_for(row, found.alert, found.reason, now, critical=True)
    elif found.evidence is Evidence.REFUSED_NOW:
        alerts.blocked_for(row, "contract-refuses", found.reason, now)


def tell_sent(alerts: TxAlerts, row: Row, said: Sent, result: object, now: float, *, funds: str) -> None:
    """Say that bytes were not taken, or that they are again."""
    if said in THERE:
        alerts.clear("funds")
        alerts.clear("broadcast")
    elif said is Sent.FUNDS:
        transaction = transaction_of(row)
        need = "" if transaction is None else f", a reply needs {in_ether(highest_cost(transaction))}"
        alerts.raise_("funds", f"{funds}{need} ({result})", critical=True, remedy=SEND_FUNDS)
    elif said in {Sent.FAILED, Sent.UNANSWERED, Sent.CAPPED, Sent.REFUSED}:
        # never the text of an answer that is none: it may be a megabyte, or nested too deeply to be written
        why = (
            str(result)
            if isinstance(result, KmsconnError)
            else "the node's answer is not the transaction's hash"
        )
        alerts.raise_for(
            row, "broadcast", f"the transaction with nonce {row.reply.nonce} was not accepted: {why}", now
        )


def tell_answer(alerts: TxAlerts, row: Row, question: Question, said: Finds, now: float) -> None:
    """Say that a question about a reply has no answer, or none that tells, and when it has one again."""
    cause = CAUSES[question]
    if not isinstance(said, Unclear):
        alerts.passed(cause)
        alerts.clear_for(row.rid, {cause})
        if isinstance(said, Accepts):
            alerts.passed("contract-refuses")
            alerts.clear_for(row.rid, {"contract-refuses"})
    elif not said.funds and question is not Question.TRACE:
        which = f" of {to_hex(row.reply.hash)}" if question is Question.RECEIPT and row.reply.hash else ""
        alerts.raise_for(row, cause, f"{question.value}{which}: {said.reason}", now)


def funds_of(account: Address, balance: int | None) -> str:
    """Say what an account has."""
    has = "an unknown balance" if balance is None else in_ether(balance)
    return f"account {checksum(account)} has {has}"
