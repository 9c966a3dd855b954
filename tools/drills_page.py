"""What the connector shows at each drill, and the tables of docs/drills.md: ``python -m tools.drills_page``. Drills nothing.

A test plays the rows.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.emulator.control import DRILLS
from kmsconn.emulator.drills.drill import Drill, Target
from tools.gen_monitoring import between

PAGE: Final = Path(__file__).parents[1] / "docs" / "drills.md"
_LONGEST = 110  # characters of an order that a row shows


@attrs.frozen
class Named:
    """An alert by dependency and cause; in a dependency ``…`` stands for the rest of it."""

    dependency: str
    cause: str
    critical: bool = False

    @property
    def words(self) -> str:
        """The alert as a cell of the page has it."""
        return f"`{self.dependency}`: `{self.cause}`{', critical' if self.critical else ''}"


def critical(dependency: str, cause: str) -> Named:
    """Return a critical alert."""
    return Named(dependency, cause, critical=True)


@attrs.frozen
class Shown:
    """One drill put on while twelve requests are asked: three public, three by a user, in one unified form, and by a wallet.

    ``alerts``: all that are there ``after`` seconds. ``waits``: not all requests are answered by then. ``pending``: they are on chain
    before the drill is put on; ``lead``: seconds by which they come later. ``ends``: at the end of the drill all of them are answered
    and no alert is left.
    """

    target: str
    drill: str
    body: dict[str, Any] = attrs.field(factory=dict)
    alerts: tuple[Named, ...] = ()
    after: float = 30.0
    waits: bool = False
    pending: bool = False
    lead: float = 0.0
    ends: bool = True

    @property
    def health(self) -> int:
        """The status of ``/healthz`` meanwhile."""
        return 503 if any(one.critical for one in self.alerts) else 200

    @property
    def order(self) -> str:
        """The path and the body by which an operator puts the drill on."""
        return (
            f"/{self.target}/{self.drill} {json.dumps(self.body)}"
            if self.body
            else f"/{self.target}/{self.drill}"
        )


def _shown(path: str, *alerts: Named, body: dict[str, Any] | None = None, **options: Any) -> Shown:
    target, drill = path.split("/")
    return Shown(target, drill, body or {}, alerts, **options)


_GATEWAY, _ETHEREUM, _CORE, _BUCKETS = "txmanager gateway", "txmanager ethereum", "core[0]", "buckets"
_WALLET = "wallet"
_LOOKS = (Named(_GATEWAY, "rounds"), critical("gateway 0x…", "logs"))
_FAILS = critical(_BUCKETS, "calls-fail")

SHOWN: Final = (
    _shown("gateway/refuse", critical("gateway", "unreachable"), Named(_GATEWAY, "rounds"), waits=True),
    _shown("ethereum/refuse", critical("ethereum", "unreachable"), Named(_ETHEREUM, "rounds"), lead=70, after=100, waits=True),
    _shown("host/refuse", critical("host chain 12345", "unreachable"), waits=True),
    _shown("core0/refuse", critical(_CORE, "unreachable"), waits=True),
    _shown("bucket0/refuse"),
    _shown("buckets/refuse", _FAILS, after=90, waits=True),
    _shown("gateway/hang", critical("gateway", "unreachable"), Named(_GATEWAY, "rounds"), waits=True),
    _shown("host/hang", critical("host chain 12345", "unreachable"), critical("host chain 12345", "calls-fail"), after=90, waits=True),
    _shown("gateway/hang", Named(_GATEWAY, "gas-estimate-unanswered"), body={"method": "eth_estimateGas", "one": True}, waits=True),
    _shown("gateway/hang", Named(_GATEWAY, "receipt-unanswered"), body={"method": "eth_getTransactionReceipt"}),
    _shown("gateway/error", *_LOOKS, waits=True),
    _shown("ethereum/error", Named(_ETHEREUM, "rounds"), critical("ethereum 0x…", "logs"), after=120),
    _shown("host/error", critical("checks", "calls-fail"), after=90, waits=True),
    _shown("gateway/error", Named(_GATEWAY, "receipt-unanswered"),
           body={"method": "eth_getTransactionReceipt", "message": "indexing is in progress"}, after=3),
    _shown("gateway/answer", *_LOOKS, waits=True),
    _shown("gateway/answer", critical(_GATEWAY, "gas-estimate-unanswered"),
           body={"method": "eth_estimateGas", "value": "0x1" + 64 * "0"}, after=90, waits=True),
    _shown("gateway/answer", critical(_GATEWAY, "gas-estimate-unanswered"), Named(_GATEWAY, "fees"),
           body={"method": "eth_blockNumber", "value": "0x7fffffffffffffff"}, after=90, waits=True),
    _shown("gateway/batch-limit", body={"calls": 3}),
    _shown("gateway/batch-limit", critical("gateway 0x…", "logs"), body={"calls": 2}, waits=True),
    _shown("gateway/fees", critical(_GATEWAY, "fees"), body={"base_fee": "0x1000000000000000000000000000000"}, waits=True),
    _shown("gateway/fees", body={"base_fee": "0x1000000000000000000000000000000", "times": 1}),
    _shown("gateway/short-estimate"),
    _shown("ethereum/finality", critical("ethereum", "not-finalizing"), after=3000),
    _shown("gateway/finality"),
    _shown("gateway/finality", body={"known": False}),
    _shown("ethereum/finality", critical("ethereum 0x…", "logs"), body={"known": False}, after=120),
    _shown("gateway/lag"),
    _shown("gateway/stall", critical(_GATEWAY, "broadcast"), after=90, pending=True, waits=True),
    _shown("gateway/balance", critical(_GATEWAY, "funds"), waits=True),
    _shown("gateway/pool"),
    _shown("gateway/misbehave", body={"how": "swallowed", "times": 2}),
    _shown("gateway/misbehave", critical(_GATEWAY, "not-included"), body={"how": "swallowed"}, after=400, waits=True),
    _shown("gateway/misbehave", critical(_GATEWAY, "not-included"), body={"how": "forged"}, after=240, waits=True),
    _shown("gateway/answer", critical("checks", "too-slow"), body={"method": "eth_getTransactionByHash"}, after=90, waits=True),
    _shown("gateway/misbehave", critical("completeness 0x…", "missing-requests"), body={"how": "empty_logs"}, after=60, waits=True),
    _shown("gateway/misbehave", body={"how": "no_receipt"}),
    _shown("gateway/reorganise", body={"blocks": 3}),
    _shown("gateway/second-sender", critical(_WALLET, "used-by-another"), ends=False),
    _shown("ethereum/destroy-context", pending=True, ends=False, waits=True),
    _shown("ethereum/destroy-epoch", ends=False),
    _shown("ethereum/new-context", critical("new_kms_epoch", "undone"), after=90, ends=False),
    _shown("host/deny", waits=True),
    _shown("host/wallet", waits=True),
    _shown("core0/fail", critical(_CORE, "internal-error"), critical(_CORE, "unreachable"), after=90, waits=True),
    _shown("core0/fail", critical(_CORE, "unreachable"), body={"code": "UNAVAILABLE"}, waits=True),
    _shown("core0/fail", critical(_CORE, "misconfigured"), body={"code": "UNAUTHENTICATED", "method": "UserDecrypt"}, after=90, waits=True),
    _shown("core0/fail", critical(_CORE, "too-slow"), body={"code": "NOT_FOUND", "method": "PublicDecrypt"}, after=90, waits=True),
    _shown("core0/signer", critical(_CORE, "wrong-signer"), ends=False, after=90, waits=True),
    _shown("core0/taken", critical(_CORE, "taken-ids"), after=400, waits=True),
    _shown("core0/stuck", critical(_CORE, "too-slow"), after=400, waits=True),
    _shown("core0/health", critical(_CORE, "unreachable")),
    _shown("core0/health", body={"known": False}),
    _shown("core0/hang", critical(_CORE, "unreachable"), waits=True),
    _shown("core0/slow", critical(_CORE, "unreachable")),
    _shown("core0/slow", body={"seconds": 2.0}),
    _shown("core0/spoil", critical(_CORE, "wrong-answer"), body={"method": "GetUserDecryptionResult"}, after=90, waits=True),
    _shown("core0/spoil", critical(_CORE, "calls-fail"), body={"method": "GetUserDecryptionResult", "how": "cut"}, after=90, waits=True),
    _shown("bucket0/status"),
    _shown("buckets/status", _FAILS, after=90, waits=True),
    _shown("bucket0/redirect"),
    _shown("buckets/redirect", _FAILS, after=90, waits=True),
    _shown("buckets/chunked"),
    _shown("bucket0/stall"),
    _shown("buckets/stall", _FAILS, after=120, waits=True),
    _shown("buckets/oversized", _FAILS, body={"announced": True}, after=90, waits=True),
    _shown("bucket0/spoil"),
    _shown("buckets/spoil", _FAILS, after=90, waits=True),
    _shown("bucket0/slow"),
    _shown("bucket0/hang"),
    _shown("buckets/hang", _FAILS, after=120, waits=True),
    _shown("buckets/address", _FAILS, body={"url": "http://[::127.0.0.1]/ct0"}, lead=70, after=160, waits=True),
    _shown("decryption/no-code", critical("gateway", "wrong-contract"), critical(_GATEWAY, "not-included"), after=660, pending=True,
           waits=True),
    _shown("gateway_config/no-code", critical("gateway", "wrong-contract"), Named("coprocessor registry", "unreadable"), after=660),
    _shown("protocol_config/no-code", critical("ethereum", "wrong-contract"), after=660),
    _shown("kms_generation/no-code", critical("ethereum", "wrong-contract"), after=660),
    _shown("acl/no-code", critical("checks", "calls-fail"), after=90, waits=True),
    _shown("decryption/pause", pending=True),
    _shown("users/request"),
    _shown("users/unknown-host-chain", Named("host chain 424242", "not-configured"), ends=False),
    _shown("users/other-context", ends=False),
)  # fmt: skip


def tables() -> str:
    """Return one table for each kind of target, and one of what the connector shows."""
    return "\n".join([*(line for target in Target for line in _table(target)), *_alerts()])


def _table(target: Target) -> Iterator[str]:
    drills = [drill for drill in DRILLS if drill.target is target]
    if not drills:
        return
    yield f"## `/{{{target}}}/…`"
    yield ""
    yield "| fault | body | what happens | what the connector does |"
    yield "|---|---|---|---|"
    yield from (_row(drill) for drill in drills)
    yield ""


def _alerts() -> Iterator[str]:
    yield "## Alerts during the drills"
    yield ""
    yield "Users make four requests when the drill starts (later by *asked*). The table shows the alerts after the given seconds and the"
    yield "status of `/healthz`; `/liveness` answers 200. Unless marked ¹, all requests are answered after the end of the drill, and no"
    yield "alert is left. `tests/faults/test_drills.py` runs each row."
    yield ""
    yield "| order | asked | seconds | alerts | `/healthz` | requests |"
    yield "|---|---|---|---|---|---|"
    yield from (_shown_row(row) for row in SHOWN)
    yield ""


def _shown_row(row: Shown) -> str:
    order = row.order if len(row.order) <= _LONGEST else f"{row.order[:_LONGEST]}…"
    alerts = "<br>".join(one.words for one in row.alerts) or "–"
    asked = "before" if row.pending else f"{row.lead:g} s" if row.lead else ""
    requests = ("wait" if row.waits else "answered") + ("" if row.ends else " ¹")
    return f"| `{order}` | {asked} | {row.after:g} | {_cell(alerts)} | {row.health} | {requests} |"


def _row(drill: type[Drill]) -> str:
    body = "<br>".join(f"`{name}`: {words}" for name, words in drill.fields().items()) or "–"
    return f"| `{drill.name}` | {body} | {_cell(drill.does())} | {_cell(drill.connector())} |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def files() -> dict[Path, str]:
    """Return the page with fresh tables between its marks."""
    return {PAGE: between(PAGE.read_text(encoding="utf-8"), f"\n{tables()}\n")}
