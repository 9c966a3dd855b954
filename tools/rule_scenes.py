"""Scenes for the unit tests of the alert rules: series by minute, and which alerts are firing when. Evaluates nothing; promtool does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final

import attrs

_SUMMED: Final = 'instance="10.0.0.7:9100",job="kmsconn"'
"""What is left of the labels of a scrape where a rule sums."""
NODE: Final = f'container="kmsconn",endpoint="monitoring",{_SUMMED},namespace="kms",pod="kmsconn-testnet-0",service="kmsconn-testnet"'
"""The labels of a scrape by the Prometheus operator: more than any other makes."""
UP: Final = {f"up{{{NODE}}}": "1x300"}


@attrs.frozen
class RuleScene:
    """Series, and the alerts that are firing at a minute: those alone. ``before`` is a minute at which none is yet."""

    name: str
    series: Mapping[str, str]
    minute: int
    firing: tuple[str, ...] = ()
    before: int | None = None

    def moments(self) -> Iterator[tuple[int, tuple[str, ...]]]:
        """Yield each minute that is looked at with the labels of the alerts that are firing."""
        if self.before is not None:
            yield self.before, ()
        yield self.minute, self.firing


def series(name: str, **labels: str) -> str:
    """Return the name of a series of the connector under test."""
    own = ",".join(f'{label}="{value}"' for label, value in labels.items())
    return f"{name}{{{own},{NODE}}}" if own else f"{name}{{{NODE}}}"


def firing(alert: str, severity: str, *, node: str = NODE, **labels: str) -> str:
    """Return the labels of an alert that is firing."""
    own = {"alertname": alert, "alertstate": "firing", "severity": severity, **labels}
    return ",".join([*(f'{label}="{value}"' for label, value in own.items()), *([node] if node else [])])


def _told(alert: str, dependency: str, cause: str) -> RuleScene:
    """Return the scene of a critical alert of the connector, a minute after a quiet start."""
    return RuleScene(
        f"{alert}: {dependency} {cause}",
        UP | {series("kmsconn_alert", cause=cause, dependency=dependency): "_x4 2x20"},
        6,
        (firing(alert, "critical", cause=cause, dependency=dependency),),
        before=4,
    )


def _state(  # noqa: PLR0917 - a line for each scene
    alert: str, severity: str, name: str, values: str, minute: int, before: int, **labels: str
) -> RuleScene:
    """Return the scene of an alert about one series."""
    expected = (firing(alert, severity, **labels),)
    return RuleScene(alert, UP | {series(name, **labels): values}, minute, expected, before)


KIND: Final = "public_decryption"


def _included(in_time: str, late: str) -> dict[str, str]:
    """Return the histogram of inclusions as two of its buckets, by what comes in each minute."""
    name = "kmsconn_inclusion_seconds"
    return {
        series(f"{name}_bucket", kind=KIND, le="30"): f"0+{in_time}x300",
        series(f"{name}_bucket", kind=KIND, le="+Inf"): f"0+{late}x300",
        series(f"{name}_count", kind=KIND): f"0+{late}x300",
    }


HTTP_KIND: Final = "http_user_decryption"


def _waiting(oldest: str, waiting: str, kind: str = KIND, *, answerable: str = "") -> dict[str, str]:
    """Return the oldest open request, the oldest ``answerable`` one if that is another, and how many are not included."""
    return {
        series("kmsconn_oldest_open_seconds", kind=kind): oldest,
        series("kmsconn_oldest_answerable_seconds", kind=kind): answerable or oldest,
        series("kmsconn_requests", kind=kind, state="pending"): waiting,
        series("kmsconn_requests", kind=kind, state="included"): "1x300",
    }


_STILL: Final = {
    series("kmsconn_ready"): "1x300",
    series("kmsconn_live"): "1x300",
    series("kmsconn_healthy"): "1x300",
    series("kmsconn_draining"): "0x300",
    series("kmsconn_gaps"): "0x300",
    series("kmsconn_lag_blocks", chain="54321", contract="0x01"): "0x300",
    series("kmsconn_head_age_seconds", chain="gateway"): "0+60x300",
    series("kmsconn_finalized_age_seconds", chain="gateway"): "900+60x300",
    series("kmsconn_head_age_seconds", chain="ethereum"): "6x300",
    series("kmsconn_finalized_age_seconds", chain="ethereum"): "900x300",
    series("kmsconn_quarantined_requests", kind=KIND): "0x300",
    series("kmsconn_quarantined_logs"): "0x300",
    series("kmsconn_replies_left", chain="gateway"): "50000x300",
    series("kmsconn_account_balance_eth", chain="gateway"): "3x300",
    series("kmsconn_next_nonce", chain="gateway"): "41x300",
    series("kmsconn_replies_in_flight", chain="gateway"): "0x300",
    series("kmsconn_bucket_attempts_total", bucket="https://a"): "10x300",
    series("kmsconn_bucket_failures_total", bucket="https://a"): "4x300",
    series("kms_connector_worker_request_check_errors", check_type="copro_consensus"): "0x300",
    series("kmsconn_pool_busy", kind=KIND): "0x300",
    series("kmsconn_pool_places", kind=KIND): "128x300",
    series("kmsconn_journal_free_bytes"): "50000000000x300",
}
"""A connector to which nothing happens: the Gateway makes no block, so that its head grows old."""

QUIET: Final[tuple[RuleScene, ...]] = (
    RuleScene(
        "a quiet chain, on which the last reply is never final",
        UP | _STILL | _included("0", "0") | _waiting("0+60x300", "0x300"),
        150,
    ),
    RuleScene(
        "a request of a stranger for a host chain that nobody has configured waits until it expires",
        UP | _STILL | _included("0", "0") | _waiting("0+60x300", "1x300", answerable="0x300"),
        150,
    ),
    RuleScene(
        "ten requests in a minute, all in time",
        UP
        | _STILL
        | _included("10", "10")
        | _waiting("1x300", "2x300")
        | {
            series("kmsconn_next_nonce", chain="gateway"): "41+10x300",
            series("kmsconn_replies_in_flight", chain="gateway"): "2x300",
            series("kmsconn_account_balance_eth", chain="gateway"): "3-0.00001x300",
            series("kmsconn_bucket_attempts_total", bucket="https://a"): "10+20x300",
            series("kmsconn_bucket_failures_total", bucket="https://a"): "4+2x300",
            series("kmsconn_pool_busy", kind=KIND): "60x300",
        },
        150,
    ),
    RuleScene(
        "two late requests of two",
        UP
        | _STILL
        | _included("0", "0")
        | {series("kmsconn_inclusion_seconds_count", kind=KIND): "0x10 2x300"},
        60,
    ),
    RuleScene(
        "a back-fill that catches up",
        UP | {series("kmsconn_lag_blocks", chain="54321", contract="0x01"): "100000-1000x90"},
        60,
    ),
    RuleScene(
        "warnings that last a minute",
        UP | {series("kmsconn_alert", cause="unreachable", dependency="core[1]"): "_x4 1x2 _x60"},
        50,
    ),
    RuleScene(
        "a start that takes three minutes",
        UP | {series("kmsconn_ready"): "0x3 1x60", series("kmsconn_draining"): "0x60"},
        10,
    ),
    RuleScene(
        "a drain that takes a minute",
        UP | {series("kmsconn_ready"): "0x60", series("kmsconn_draining"): "1x60"},
        10,
    ),
)
"""Scenes in which nothing is firing."""

SCENES: Final[tuple[RuleScene, ...]] = (
    RuleScene("KmsconnDown: not scraped", {f"up{{{NODE}}}": "1x3 0x20"}, 8, (firing("KmsconnDown", "critical"),), before=4),
    RuleScene("KmsconnDown: not there", {}, 3, (firing("KmsconnDown", "critical", node='job="kmsconn"'),), before=1),
    _state("KmsconnNotLive", "critical", "kmsconn_live", "1x3 0x20", 8, 5),
    RuleScene(
        "KmsconnNotReady",
        UP | {series("kmsconn_ready"): "0x20", series("kmsconn_draining"): "0x20"},
        6,
        (firing("KmsconnNotReady", "critical"),),
        before=4,
    ),
    _state("KmsconnDrainHangs", "warning", "kmsconn_draining", "1x30", 16, 14),
    _told("KmsconnChainUnusable", "gateway", "unreachable"),
    _told("KmsconnChainUnusable", "host chain 8009", "calls-fail"),
    _told("KmsconnWrongNetwork", "ethereum https://node", "wrong-chain"),
    _told("KmsconnLogsUnreadable", "gateway 0x01", "logs"),
    _state("KmsconnUnknownEvents", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="unknown-event", dependency="ethereum 0x01"),
    _state("KmsconnNotAgreed", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="not-agreed", dependency="new_kms_epoch 0x01"),
    _state(
        "KmsconnKeySetMissing", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="key-set-missing", dependency="own public storage"
    ),
    _told("KmsconnKeyTypeUnknown", "txmanager ethereum", "key-type-unknown"),
    _told("KmsconnNotFinalizing", "ethereum", "not-finalizing"),
    _told("KmsconnCoreUnreachable", "core[0]", "unreachable"),
    _told("KmsconnCoreAnswersWrong", "core[0]", "wrong-signer"),
    _told("KmsconnBucketsUnusable", "buckets", "too-slow"),
    _told("KmsconnHostChainMissing", "host chain 8009", "not-configured"),
    _told("KmsconnNotANode", "context 0x07", "not-a-node"),
    _told("KmsconnKeyManagementUndone", "new_kms_context", "undone"),
    _told("KmsconnKeyUsedElsewhere", "wallet", "used-by-another"),
    _told("KmsconnWalletSilent", "wallet", "unreachable"),
    _told("KmsconnWalletSilent", "txmanager gateway", "wallet"),
    _told("KmsconnNoFunds", "txmanager gateway", "funds"),
    _told("KmsconnFeesBeyondLimits", "txmanager gateway", "fees"),
    _told("KmsconnRepliesRefused", "txmanager gateway", "not-included"),
    _told("KmsconnJournalUnwritable", "journal", "unwritable"),
    _told("KmsconnJournalMisplaced", "journal", "misplaced"),
    _told("KmsconnRoleMissing", "role work", "role-missing"),
    _told("KmsconnUnexpectedError", "connector", "unexpected-error"),
    _state("KmsconnKeyManagementOverdue", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="overdue", dependency="keygen 0x04"),
    _state("KmsconnPaused", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="paused", dependency="user_decryption"),
    _state("KmsconnHttpFiles", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="certificate", dependency="http api"),
    _state("KmsconnHttpCertificate", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="certificate-ends", dependency="http api"),
    _state("KmsconnShadowDiffers", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="replies-differ", dependency="shadow"),
    _state("KmsconnShadowAlone", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="replies-missing", dependency="shadow"),
    _state("KmsconnJournalDamaged", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="damaged-rows", dependency="journal rows"),
    _state("KmsconnClockWrong", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="clock", dependency="clock of this machine"),
    _state("KmsconnMemberLost", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="member-fenced", dependency="kmsconn@node"),
    _state("KmsconnSettingsDiffer", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="settings-differ", dependency="lease"),
    _state("KmsconnOldPrimary", "warning", "kmsconn_alert", "_x4 1x20", 6, 4, cause="old-primary", dependency="journal"),
    _state("KmsconnWarning", "warning", "kmsconn_alert", "_x4 1x60", 36, 33, cause="unreachable", dependency="core[1]"),
    _state("KmsconnCompletenessGap", "critical", "kmsconn_gaps", "0x4 2x20", 8, 6),
    _state("KmsconnChainLag", "warning", "kmsconn_lag_blocks", "0x4 300+4x40", 12, 9, chain="54321", contract="0x01"),
    _state("KmsconnHeadOld", "warning", "kmsconn_head_age_seconds", "6x4 310+60x40", 12, 9, chain="ethereum"),
    RuleScene(
        "KmsconnFinalityLag",
        UP
        | {
            series("kmsconn_head_age_seconds", chain="ethereum"): "6x60",
            series("kmsconn_finalized_age_seconds", chain="ethereum"): "900x4 1900+60x40",
        },
        17,
        (firing("KmsconnFinalityLag", "warning", chain="ethereum"),),
        before=14,
    ),
    _state("KmsconnRequestsQuarantined", "warning", "kmsconn_quarantined_requests", "0x4 1x20", 8, 5, kind=KIND),
    _state("KmsconnLogsQuarantined", "warning", "kmsconn_quarantined_logs", "0x4 1x20", 8, 5),
    _state("KmsconnBalanceLow", "warning", "kmsconn_replies_left", "2000x4 999x20", 17, 14, chain="gateway"),
    _state("KmsconnBalanceRunsOut", "warning", "kmsconn_account_balance_eth", "3-0.001x300", 185, 170, chain="gateway"),
    RuleScene(
        "KmsconnNonceStuck",
        UP
        | {
            series("kmsconn_next_nonce", chain="gateway"): "1+1x19 20x60",
            series("kmsconn_replies_in_flight", chain="gateway"): "3x80",
        },
        38,
        (firing("KmsconnNonceStuck", "critical", chain="gateway"),),
        before=30,
    ),
    RuleScene(
        "KmsconnBucketFailing",
        UP
        | {
            series("kmsconn_bucket_attempts_total", bucket="https://a"): "0+10x60",
            series("kmsconn_bucket_failures_total", bucket="https://a"): "0+6x60",
            series("kmsconn_bucket_attempts_total", bucket="https://b"): "0+10x60",
            series("kmsconn_bucket_failures_total", bucket="https://b"): "0+4x60",
        },
        30,
        (firing("KmsconnBucketFailing", "warning", bucket="https://a"),),
        before=2,
    ),
    _state(
        "KmsconnAttestationsDisagree",
        "warning",
        "kms_connector_worker_request_check_errors",
        "0x10 1x60",
        12,
        10,
        check_type="copro_consensus",
    ),
    RuleScene(
        "KmsconnPoolSaturated",
        UP | {series("kmsconn_pool_busy", kind=KIND): "0x10 128x60", series("kmsconn_pool_places", kind=KIND): "128x80"},
        40,
        (firing("KmsconnPoolSaturated", "warning", kind=KIND),),
        before=20,
    ),
    _state("KmsconnJournalDisk", "warning", "kmsconn_journal_free_bytes", "5000000000x4 1000000000x60", 16, 13),
    RuleScene(
        "KmsconnJournalDisk: full within a day",
        UP | {series("kmsconn_journal_free_bytes"): "50000000000-100000000x200"},
        135,
        (firing("KmsconnJournalDisk", "warning"),),
        before=110,
    ),
    RuleScene(
        "KmsconnLatencyBurnFast: a fifth is late",
        UP | _included("8", "10"),
        60,
        (
            firing("KmsconnLatencyBurnFast", "critical", node=_SUMMED, kind=KIND),
            firing("KmsconnLatencyBurnSlow", "warning", node=_SUMMED, kind=KIND),
        ),
        before=1,
    ),
    RuleScene(
        "KmsconnLatencyBurnSlow: one in 25 is late",
        UP | _included("9.6", "10"),
        60,
        (firing("KmsconnLatencyBurnSlow", "warning", node=_SUMMED, kind=KIND),),
        before=10,
    ),
    RuleScene(
        "KmsconnWaitingBurnFast: one waits for a quarter of an hour",
        UP | _waiting("1x60 60+60x30", "1x100"),
        80,
        (
            firing("KmsconnWaitingBurnFast", "critical", node=_SUMMED, kind=KIND),
            firing("KmsconnWaitingBurnSlow", "warning", node=_SUMMED, kind=KIND),
        ),
        before=62,
    ),
    RuleScene(
        "KmsconnWaitingBurnFast: one over HTTP waits for a quarter of an hour",
        UP | _waiting("1x60 60+60x30", "1x100", HTTP_KIND),
        80,
        (
            firing("KmsconnWaitingBurnFast", "critical", node=_SUMMED, kind=HTTP_KIND),
            firing("KmsconnWaitingBurnSlow", "warning", node=_SUMMED, kind=HTTP_KIND),
        ),
        before=62,
    ),
    RuleScene(
        "KmsconnWaitingBurnSlow: one minute of every 25",
        UP | _waiting("1x23 61 1x23 61 1x23 61 1x23 61 1x23 61 1x23 61 1x23 61", "1x200"),
        168,
        (firing("KmsconnWaitingBurnSlow", "warning", node=_SUMMED, kind=KIND),),
        before=20,
    ),
    RuleScene(
        "an alert ends once its reason has",
        UP | _waiting("1x60 60+60x30 1x200", "1x300"),
        130,
        (firing("KmsconnWaitingBurnSlow", "warning", node=_SUMMED, kind=KIND),),
    ),
)  # fmt: skip
"""Scenes in which exactly these are firing."""
