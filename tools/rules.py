"""The alerts of Prometheus as data: when each is raised, how urgent it is, and what to do. Raises none itself.

Four kinds of rules, and a quiet chain, on which nobody asks for anything and no block is made, raises none of them:

- the process: it is scraped, alive and ready;
- the connector's own alerts (``kmsconn_alert``): the critical ones by what has to be mended, all others by one rule;
- thresholds over the metrics, which tell before the connector itself has to;
- burn rates of two objectives: decryptions are included in time, and none waits for long. Each is looked at in a long and a short window,
  so that one slow request wakes nobody, and an alert ends soon after its reason.
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import StrEnum
from typing import Final

import attrs

from kmsconn.observe import families, gauges
from tools.promql import by, count, select, within

IN_TIME: Final = 30.0
"""Seconds from the record of a decryption to the inclusion of its reply that are in time."""

WAITS_LONG: Final = 60.0
"""Seconds after which the oldest decryption is said to wait."""

BUDGET: Final = 0.01
"""The share of decryptions that may be late, and of time in which one may wait long: objectives of 99 %."""

RUNBOOK: Final = "docs/runbook"
"""Where the pages are; put an address before it where yours are published."""

FREE_BYTES: Final = 1 << 30
"""Bytes on the journal's file system below which somebody should look."""

LAG_BLOCKS: Final = 240
"""Blocks behind the head: a minute of the Gateway; Ethereum's finalized block is some hundred behind."""

FINALITY_SECONDS: Final = 1800
"""Seconds between head and finalized block on Ethereum, where 13 to 20 minutes are usual."""

HEAD_SECONDS: Final = 300
"""Age of Ethereum's head: it makes a block every 12 seconds, whoever uses it. Other chains make none when nobody does."""

REPLIES_LEFT: Final = 1000
"""Replies that the balance should pay for at least."""


class RuleSeverity(StrEnum):
    """How urgent an alert of Prometheus is: somebody is woken, or somebody looks in working hours."""

    CRITICAL = "critical"
    WARNING = "warning"


@attrs.frozen
class RecordingRule:
    """A series that Prometheus computes, under a name of its own."""

    record: str
    expression: str


@attrs.frozen
class AlertRule:
    """One alert. ``hold`` is how long its condition holds before it is raised; ``causes`` are those of the connector that it tells.

    The summary may name labels of the expression, as ``{{ $labels.chain }}``.
    """

    name: str
    expression: str
    hold: str
    severity: RuleSeverity
    summary: str
    remedy: str
    causes: tuple[str, ...] = ()

    @property
    def runbook(self) -> str:
        """The page that says what to do."""
        return f"{RUNBOOK}/{self.name}.md"


@attrs.frozen
class BurnRate:
    """How fast an objective's budget is used up in two windows before an alert is raised."""

    factor: float
    long: str
    short: str


FAST: Final = (BurnRate(14.4, "1h", "5m"), BurnRate(6, "6h", "30m"))
"""2 % of a month's budget in an hour, or 5 % in six hours."""
SLOW: Final = (BurnRate(3, "1d", "2h"), BurnRate(1, "3d", "6h"))
"""10 % of a month's budget in one or three days."""
WINDOWS: Final = ("5m", "30m", "1h", "2h", "6h", "1d", "3d")

LATE_AT_LEAST: Final = 3
"""Late decryptions in the long window before a burn rate counts: of a few requests one late one is a large share."""

LATE: Final = "kmsconn:decryptions_late:ratio_rate"
LATE_NUMBER: Final = "kmsconn:decryptions_late:increase"
WAITING_NOW: Final = "kmsconn:decryptions_waiting:bool"
WAITING: Final = "kmsconn:decryptions_waiting:ratio"

_DECRYPTIONS = 'kind=~"public_decryption|user_decryption"'
_OF_BOTH_SOURCES = 'kind=~"(http_)?(public|user)_decryption"'


def _late(window: str) -> Iterable[RecordingRule]:
    kinds = by("kind")
    all_of_them = f"sum {kinds} (%s({count(families.INCLUSION_SECONDS, _DECRYPTIONS)}[{window}]))"
    in_time = f"sum {kinds} (%s({within(families.INCLUSION_SECONDS, IN_TIME, _DECRYPTIONS)}[{window}]))"
    rates, increases = ((in_time % function, all_of_them % function) for function in ("rate", "increase"))
    yield RecordingRule(LATE + window, f"1 - {rates[0]} / {rates[1]}")
    yield RecordingRule(LATE_NUMBER + window, f"{increases[1]} - {increases[0]}")


def _waiting_now() -> RecordingRule:
    """Say whether a decryption waits that could be answered.

    One whose reply is included waits for finality alone, and on a quiet chain for long. One for a host chain that is not configured, or not
    served, is what any stranger can ask for: an alert of its own tells of the chain.
    """
    states = 'state=~"pending|answered|signed"'
    old = f"{select(gauges.ANSWERABLE, _OF_BOTH_SOURCES)} > bool {WAITS_LONG:g}"
    kinds = by("kind")
    there = f"sum {kinds} ({select(gauges.REQUESTS, _OF_BOTH_SOURCES, states)}) > bool 0"
    return RecordingRule(WAITING_NOW, f"({old}) * on (job, instance, kind) ({there})")


RECORDING_RULES: Final[tuple[RecordingRule, ...]] = (
    *(rule for window in WINDOWS for rule in _late(window)),
    _waiting_now(),
    *(RecordingRule(WAITING + window, f"avg_over_time({WAITING_NOW}[{window}])") for window in WINDOWS),
)


def _burns(record: str, rates: Iterable[BurnRate], number: str = "") -> str:
    return " or ".join(f"({_burn(record, rate, number)})" for rate in rates)


def _burn(record: str, rate: BurnRate, number: str) -> str:
    limit = f"{rate.factor * BUDGET:g}"
    several = f" and {number}{rate.long} > {LATE_AT_LEAST}" if number else ""
    return f"{record}{rate.long} > {limit} and {record}{rate.short} > {limit}{several}"


_CHAINS = "gateway.*|ethereum.*|host chain.*|checks"
_CORES = "core.*"
_STORES = "buckets|coprocessor.*"
_WALLET = "wallet"
_USE = ("unreachable", "no-answer-yet", "calls-fail", "too-slow", "overloaded", "misconfigured")
"""Causes for which a dependency cannot be used, whichever it is."""


def _critical(
    name: str, summary: str, remedy: str, causes: tuple[str, ...], dependency: str = ""
) -> AlertRule:
    """Return the rule for critical alerts of the connector with one of these causes."""
    matchers = [f'cause=~"{"|".join(causes)}"', *([f'dependency=~"{dependency}"'] if dependency else [])]
    summary = f"{{{{ $labels.dependency }}}}: {summary} ({{{{ $labels.cause }}}})"
    expression = f"{select(gauges.ALERT, *matchers)} == 2"
    return AlertRule(name, expression, "1m", RuleSeverity.CRITICAL, summary, remedy, causes)


def _warning(name: str, expression: str, hold: str, summary: str, remedy: str) -> AlertRule:
    return AlertRule(name, expression, hold, RuleSeverity.WARNING, summary, remedy)


def _present(name: str, summary: str, remedy: str, causes: tuple[str, ...]) -> AlertRule:
    """Return the rule for alerts with one of these causes, warnings too: the connector never says that they are critical."""
    summary = f"{{{{ $labels.dependency }}}}: {summary} ({{{{ $labels.cause }}}})"
    matcher = f'cause=~"{"|".join(causes)}"'
    return AlertRule(
        name, f"{select(gauges.ALERT, matcher)} >= 1", "1m", RuleSeverity.WARNING, summary, remedy, causes
    )


_ELSEWHERE = (
    'cause!~"clock|overdue|not-agreed|damaged-rows|permissions|paused|unknown-event|key-set-missing|'
    "replies-differ|replies-unmatched|replies-missing|api-keys|certificate|certificate-ends|"
    'lease-late|lease-lost|member-fenced|journal-went-back|settings-differ|old-primary"'
)
"""Warnings that no rule of their own tells."""

_PROCESS: Final = (
    AlertRule(
        "KmsconnDown",
        'up{job="kmsconn"} == 0 or absent(up{job="kmsconn"})',
        "2m",
        RuleSeverity.CRITICAL,
        "The connector {{ $labels.instance }} cannot be scraped: it does not run, or does not answer",
        "start it, and see in its log and exit status why it ended",
    ),
    AlertRule(
        "KmsconnNotLive",
        f"{select(gauges.LIVE)} == 0",
        "2m",
        RuleSeverity.CRITICAL,
        "A part of the connector {{ $labels.instance }} stands still although its dependency answers",
        "restart it; nothing is lost. Keep the log and what /liveness said, and report them",
    ),
    AlertRule(
        "KmsconnNotReady",
        f"{select(gauges.READY)} == 0 unless {select(gauges.DRAINING)} == 1",
        "5m",
        RuleSeverity.CRITICAL,
        "Not every dependency of the connector {{ $labels.instance }} has answered since its start",
        "look at /healthz: its alerts name what has not answered yet",
    ),
    _warning(
        "KmsconnDrainHangs",
        f"{select(gauges.DRAINING)} == 1",
        "15m",
        "The connector {{ $labels.instance }} has been ending for 15 minutes",
        "see which replies are still in flight; a second SIGTERM ends it at once, and nothing is lost",
    ),
)

_CONNECTOR: Final = (
    _critical(
        "KmsconnChainUnusable",
        "the chain cannot be used",
        "see that the node runs and serves, and that the option names it; requests wait meanwhile",
        _USE,
        _CHAINS,
    ),
    _critical(
        "KmsconnWrongNetwork",
        "the node or the contract is another one than this version expects",
        "correct the URL, the chain id, the address or the domain; for a newer contract, upgrade kmsconn",
        ("wrong-chain", "wrong-contract", "newer-contract"),
    ),
    _critical(
        "KmsconnLogsUnreadable",
        "logs of a contract cannot be read",
        "use a node that keeps the logs since the cursor and takes the range",
        ("logs", "back-fill", "no-pushes", "unreadable-push"),
    ),
    _present(
        "KmsconnUnknownEvents",
        "the contract emits events that this version does not know",
        "compare the contract's version with the releases of kmsconn: requests of a new release are not heard",
        ("unknown-event",),
    ),
    _critical(
        "KmsconnNotFinalizing",
        "the chain has stopped finalizing",
        "see whether the network finalizes, and whether the node follows its consensus client",
        ("not-finalizing",),
    ),
    _critical(
        "KmsconnCoreUnreachable",
        "the Core cannot be used",
        "see that the Core runs and serves at kms_core_endpoints; requests wait meanwhile",
        _USE,
        _CORES,
    ),
    _critical(
        "KmsconnCoreAnswersWrong",
        "the Core's answers cannot be used",
        "look into the Core's log; compare its version, its key and kms_core_endpoints with this node's registration",
        (
            "wrong-signer",
            "wrong-answer",
            "other-content",
            "internal-error",
            "aborted",
            "rejects",
            "result-lost",
            "taken-ids",
        ),
    ),
    _critical(
        "KmsconnBucketsUnusable",
        "no bucket gives the ciphertexts",
        "see that the coprocessors' buckets are registered, readable and reached from here; requests wait meanwhile",
        (*_USE, "no-bucket", "unreadable"),
        _STORES,
    ),
    _critical(
        "KmsconnHostChainMissing",
        "requests name a host chain that this node does not serve",
        "add the chain to host_chains, where this version serves its kind",
        ("not-configured", "not-served"),
    ),
    _critical(
        "KmsconnNotANode",
        "this node is in no valid context",
        "use the wallet that was registered for the node",
        ("not-a-node",),
    ),
    _critical(
        "KmsconnKeyManagementUndone",
        "a new context or epoch is not done, or this node lacks a key that the network has made",
        "mend what the alert's text names; a context or epoch begins again with `kmsconn requests retry`",
        ("undone", "key-missing", "migration-missed"),
    ),
    _present(
        "KmsconnKeyManagementOverdue",
        "has waited for more than an hour",
        "see what the alert's text says it waits for",
        ("overdue",),
    ),
    _present(
        "KmsconnNotAgreed",
        "this node's reply is final, and the nodes have not agreed",
        "compare this node's reply with those of other nodes",
        ("not-agreed",),
    ),
    _present(
        "KmsconnPaused",
        "an operator has paused these requests",
        "run `kmsconn resume KIND` when the reason is over; requests expire meanwhile",
        ("paused",),
    ),
    _present(
        "KmsconnHttpFiles",
        "a changed file of the HTTP address cannot be used, and what was read before stays in use",
        "correct the file that the alert names; it is used within seconds",
        ("api-keys", "certificate"),
    ),
    _present(
        "KmsconnHttpCertificate",
        "the certificate of the HTTP address ends soon, and clients refuse it then",
        "renew the certificate; a changed file is used within seconds",
        ("certificate-ends",),
    ),
    _critical(
        "KmsconnKeyUsedElsewhere",
        "transactions of this node's account that this connector did not sign",
        "stop the other connector, or give it a key of its own",
        ("used-by-another",),
    ),
    _present(
        "KmsconnShadowDiffers",
        "the shadow's replies and those of the active connector do not agree",
        "stay in shadow mode, and see in the log which request, which bytes and why",
        ("replies-differ", "replies-unmatched"),
    ),
    _present(
        "KmsconnShadowAlone",
        "requests that the shadow has answered were not answered by the active connector",
        "see whether the active connector runs",
        ("replies-missing",),
    ),
    _critical(
        "KmsconnWalletSilent",
        "the wallet does not sign",
        "see that the signer can be reached and may be used",
        (*_USE, "wallet"),
        f"{_WALLET}|txmanager.*",
    ),
    _critical(
        "KmsconnNoFunds",
        "the account cannot pay for replies",
        "send funds to the account that the alert's text names",
        ("funds",),
    ),
    _critical(
        "KmsconnFeesBeyondLimits",
        "a reply costs more than the options allow",
        "see the options that the alert's text names",
        ("fees", "cost", "gas-estimate"),
    ),
    _critical(
        "KmsconnRepliesRefused",
        "no reply gets into the chain",
        "see the node and the contract: whether they take transactions of this account",
        (
            "broadcast",
            "contract-refuses",
            "not-included",
            "nonce-gaps",
            "out-of-gas",
            "rounds",
            "gas-estimate-unanswered",
            "contract-unanswered",
            "receipt-unanswered",
            "trace-unanswered",
        ),
    ),
    _present(
        "KmsconnKeySetMissing",
        "the compressed key set of a migrated key is missing, or another",
        "read the Core's log about its copy, and have the object put there",
        ("key-set-missing",),
    ),
    _critical(
        "KmsconnKeyTypeUnknown",
        "the contract does not know the type of a key, and does not take the reply",
        "have the contract upgraded, or have the network generate keys that are not compressed",
        ("key-type-unknown",),
    ),
    _critical(
        "KmsconnJournalUnwritable",
        "the journal cannot be written, and nothing is answered meanwhile",
        "free the disk, or mend it or the database server",
        ("unwritable",),
    ),
    _critical(
        "KmsconnJournalMisplaced",
        "the journal's file was moved or replaced, and nothing is answered meanwhile",
        "move the same file back, or restart",
        ("misplaced",),
    ),
    _present(
        "KmsconnJournalDamaged",
        "the journal's rows or permissions are not sound",
        "check the disk, and see that nobody else may read the file",
        ("damaged-rows", "permissions"),
    ),
    _present(
        "KmsconnClockWrong",
        "it is not that of the chains",
        "set the clock by NTP (chronyd, systemd-timesyncd)",
        ("clock",),
    ),
    _present(
        "KmsconnMemberLost",
        "one of several processes over a journal in PostgreSQL lost its leases, and another one took over",
        "see why that process was silent for longer than its lease; nothing is lost",
        ("lease-late", "lease-lost", "member-fenced", "journal-went-back"),
    ),
    _present(
        "KmsconnSettingsDiffer",
        "several processes over a journal have this option otherwise than others",
        "set it alike in all processes, and restart those that have it otherwise",
        ("settings-differ",),
    ),
    _present(
        "KmsconnOldPrimary",
        "a server of the journal takes writes although another one was promoted in its place",
        "stop it, or make it a standby of the new primary, before a process begins that knows of no other one",
        ("old-primary",),
    ),
    _critical(
        "KmsconnRoleMissing",
        "none of the processes over the journal has this role, and requests wait",
        "start a process with this role, or add it to roles of one that runs",
        ("role-missing",),
    ),
    _critical(
        "KmsconnUnexpectedError",
        "an unexpected error; that request is quarantined",
        "report it with its traceback, then let the request begin again with `kmsconn requests retry`",
        ("unexpected-error", "unavailable"),
    ),
    _warning(
        "KmsconnWarning",
        f"{select(gauges.ALERT, _ELSEWHERE)} == 1",
        "30m",
        "{{ $labels.dependency }}: {{ $labels.cause }} for half an hour",
        "look at /healthz: the alert's text and remedy stand there",
    ),
)

_ETHEREUM = 'chain="ethereum"'
_CONSENSUS = f'check_type="{families.CONSENSUS}"'
_NONCE_STANDS = (
    f"changes({select(gauges.NEXT_NONCE)}[15m]) == 0 and min_over_time({select(gauges.IN_FLIGHT)}[15m]) > 0"
)
_BUCKET_RATIO = (
    f"rate({select(gauges.BUCKET_FAILURES)}[15m]) / rate({select(gauges.BUCKET_ATTEMPTS)}[15m]) > 0.5"
    f" and increase({select(gauges.BUCKET_ATTEMPTS)}[15m]) > 20"
)
_MISMATCHES = f"increase({select(families.CHECK_ERRORS, _CONSENSUS)}[1h]) > 0"


def _runs_out(family: families.Family, seconds: int) -> str:
    """Return the condition that a gauge is used up soon, once there are two hours to judge it by."""
    return f"predict_linear({select(family)}[6h], {seconds}) < 0 and {select(family)} offset 2h"


_DISK = f"{select(gauges.JOURNAL_FREE)} < {FREE_BYTES} or ({_runs_out(gauges.JOURNAL_FREE, 86400)})"

_THRESHOLDS: Final = (
    AlertRule(
        "KmsconnCompletenessGap",
        f"{select(gauges.GAPS)} > 0",
        "2m",
        RuleSeverity.CRITICAL,
        "{{ $value }} requests that the contract has numbered are not in the journal of {{ $labels.instance }}",
        "use a node that shows all logs of those blocks; they are read again until nothing is missing",
        ("missing-requests",),
    ),
    _warning(
        "KmsconnChainLag",
        f"{select(families.LAG)} > {LAG_BLOCKS} and delta({select(families.LAG)}[10m]) >= 0",
        "5m",
        "Reading contract {{ $labels.contract }} of chain {{ $labels.chain }} is {{ $value }} blocks behind and does not catch up",
        "see whether the node answers eth_getLogs, how many blocks it gives at once, and whether the machine is short of CPU",
    ),
    _warning(
        "KmsconnHeadOld",
        f"{select(gauges.HEAD_AGE, _ETHEREUM)} > {HEAD_SECONDS}",
        "5m",
        "The newest block that the Ethereum node shows is {{ $value }} seconds old",
        "see whether the node follows the chain, and whether this machine's clock is right",
    ),
    _warning(
        "KmsconnFinalityLag",
        f"{select(gauges.FINALIZED_AGE, _ETHEREUM)} - {select(gauges.HEAD_AGE, _ETHEREUM)} > {FINALITY_SECONDS}",
        "10m",
        "Ethereum's finalized block is {{ $value }} seconds behind its head",
        "see whether the network finalizes, and whether the node follows its consensus client; key management is late meanwhile",
    ),
    _warning(
        "KmsconnRequestsQuarantined",
        f"{select(gauges.QUARANTINED)} > 0",
        "1m",
        "{{ $value }} requests of kind {{ $labels.kind }} are in quarantine",
        "see why with `kmsconn requests list`, mend it, and let them begin again with `kmsconn requests retry`",
    ),
    _warning(
        "KmsconnLogsQuarantined",
        f"{select(gauges.QUARANTINED_LOGS)} > 0",
        "1m",
        "{{ $value }} logs could not be decoded and are in quarantine",
        "compare the profile with the contracts' version; an upgrade of kmsconn may be due",
    ),
    _warning(
        "KmsconnBalanceLow",
        f"{select(gauges.REPLIES_LEFT)} < {REPLIES_LEFT}",
        "10m",
        "The balance on {{ $labels.chain }} pays for {{ $value }} more replies",
        "send funds to the account of the tx sender",
    ),
    _warning(
        "KmsconnBalanceRunsOut",
        _runs_out(gauges.BALANCE, 259200),
        "1h",
        "The balance on {{ $labels.chain }} is used up within three days at the rate of the last six hours",
        "send funds to the account of the tx sender",
    ),
    AlertRule(
        "KmsconnNonceStuck",
        _NONCE_STANDS,
        "1m",
        RuleSeverity.CRITICAL,
        "No block of {{ $labels.chain }} has taken a transaction for 15 minutes although replies are in flight",
        "see that the node passes transactions on, and that nobody else sends from this account",
    ),
    _warning(
        "KmsconnBucketFailing",
        _BUCKET_RATIO,
        "10m",
        "More than half of what is asked of bucket {{ $labels.bucket }} fails",
        "tell the coprocessor's operator; ciphertexts are fetched from the other buckets meanwhile",
    ),
    _warning(
        "KmsconnAttestationsDisagree",
        _MISMATCHES,
        "0m",
        "Ciphertexts were found whose attestations do not agree with the chain",
        "compare the digests in the log's attestation_mismatch lines with the coprocessors",
    ),
    _warning(
        "KmsconnPoolSaturated",
        f"avg_over_time({select(gauges.BUSY)}[15m]) / {select(gauges.PLACES)} > 0.95",
        "10m",
        "All workers of pool {{ $labels.kind }} are busy",
        "see which stage is slow; with a Core that has room, raise the size of the pool",
    ),
    _warning(
        "KmsconnJournalDisk",
        _DISK,
        "10m",
        "The disk of the journal is nearly full, or will be within a day: {{ $value | humanize1024 }}B",
        "free space, or shorten retention",
    ),
)

_BURN_RATES: Final = (
    AlertRule(
        "KmsconnLatencyBurnFast",
        _burns(LATE, FAST, LATE_NUMBER),
        "2m",
        RuleSeverity.CRITICAL,
        "Many {{ $labels.kind }} requests are late: the budget of a month is gone in days",
        "see which stage is slow on the dashboard, and the alerts of its dependency",
    ),
    _warning(
        "KmsconnLatencyBurnSlow",
        _burns(LATE, SLOW, LATE_NUMBER),
        "15m",
        "More {{ $labels.kind }} requests are late than the objective allows",
        "see which stage is slow on the dashboard, and the alerts of its dependency",
    ),
    AlertRule(
        "KmsconnWaitingBurnFast",
        _burns(WAITING, FAST),
        "2m",
        RuleSeverity.CRITICAL,
        "{{ $labels.kind }} requests wait for more than a minute, most of the time",
        "see with `kmsconn requests list` what they wait for, and the alerts of that dependency",
    ),
    _warning(
        "KmsconnWaitingBurnSlow",
        _burns(WAITING, SLOW),
        "15m",
        "{{ $labels.kind }} requests wait for more than a minute more often than the objective allows",
        "see with `kmsconn requests list` what they wait for, and the alerts of that dependency",
    ),
)

ALERT_RULES: Final[tuple[AlertRule, ...]] = (*_PROCESS, *_CONNECTOR, *_THRESHOLDS, *_BURN_RATES)
"""Every alert, in the order in which the rule file has them."""
