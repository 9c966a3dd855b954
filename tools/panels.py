"""The dashboards of Grafana as data: rows of panels, each with its queries over the registry. Draws nothing."""

from __future__ import annotations

from typing import Final

import attrs

from kmsconn.observe import families, gauges
from kmsconn.observe.families import Family
from tools.promql import buckets, count, select
from tools.rules import LATE, WAITING

NODES: Final = ('job="kmsconn"', 'instance=~"$instance"')
"""The matchers of every query: the connectors that were chosen at the top of the dashboard."""
RANGE: Final = "$__rate_interval"
"""The window of a rate: Grafana fits it to what is shown."""


@attrs.frozen
class PanelQuery:
    """One query, and how its lines are named."""

    expression: str
    legend: str = "{{instance}}"


@attrs.frozen
class DashboardPanel:
    """One panel. ``unit`` is Grafana's name of it; ``single`` shows the newest value as a number."""

    title: str
    queries: tuple[PanelQuery, ...]
    unit: str = "short"
    single: bool = False


@attrs.frozen
class Dashboard:
    """A page of panels under headings."""

    uid: str
    title: str
    rows: tuple[tuple[str, tuple[DashboardPanel, ...]], ...]

    @property
    def panels(self) -> tuple[DashboardPanel, ...]:
        """All panels, in their order."""
        return tuple(panel for _, panels in self.rows for panel in panels)


def _now(family: Family, *labels: str, summed: bool = False) -> PanelQuery:
    selector = select(family, *NODES)
    legend = " ".join(f"{{{{{label}}}}}" for label in labels) or "{{instance}}"
    return PanelQuery(f"sum by ({', '.join(labels)}) ({selector})" if summed else selector, legend)


def _rate(family: Family, *labels: str, legend: str = "") -> PanelQuery:
    names = " ".join(f"{{{{{label}}}}}" for label in labels)
    clause = f"sum by ({', '.join(labels)})" if labels else "sum"
    return PanelQuery(f"{clause} (rate({select(family, *NODES)}[{RANGE}]))", f"{legend} {names}".strip())


def _quantiles(family: Family, *labels: str) -> tuple[PanelQuery, ...]:
    names = " ".join(f"{{{{{label}}}}}" for label in labels)
    rates = f"sum by ({', '.join((*labels, 'le'))}) (rate({buckets(family, *NODES)}[{RANGE}]))"
    return tuple(
        PanelQuery(f"histogram_quantile({share}, {rates})", f"p{share * 100:g} {names}".strip())
        for share in (0.5, 0.99)
    )


def _one(title: str, query: PanelQuery, unit: str = "short") -> DashboardPanel:
    return DashboardPanel(title, (query,), unit, single=True)


def _lines(title: str, *queries: PanelQuery, unit: str = "short") -> DashboardPanel:
    return DashboardPanel(title, queries, unit)


def _beside(title: str, good: Family, bad: Family, label: str, *, legend: str) -> DashboardPanel:
    """Show what went well in a second, and under its legend what did not."""
    return _lines(title, _rate(good, label), _rate(bad, label, legend=legend))


_BURNS = tuple(
    _lines(
        title,
        *(
            PanelQuery(f"{record}{window}{{{','.join(NODES)}}}", f"{{{{kind}}}} {window}")
            for window in ("5m", "1h", "6h")
        ),
        unit="percentunit",
    )
    for title, record in (
        ("Late decryptions (objective 1 %)", LATE),
        ("Time in which one waits (objective 1 %)", WAITING),
    )
)

_ANSWERING = buckets(families.STAGE_SECONDS, 'stage="answer"', *NODES)

OVERVIEW: Final = Dashboard(
    "kmsconn-overview",
    "kmsconn: overview",
    (
        (
            "Health",
            (
                _one("Healthy", _now(gauges.HEALTHY)),
                _one("Ready", _now(gauges.READY)),
                _one("Live", _now(gauges.LIVE)),
                _one("Missing requests", _now(gauges.GAPS)),
                _lines("Alerts (2: critical)", _now(gauges.ALERT, "dependency", "cause")),
                _lines("Alerts raised", _rate(families.ALERTS, "dependency", "cause")),
            ),
        ),
        (
            "Requests",
            (
                _lines("Heard, in a second", _rate(families.RECEIVED, "event_type"), unit="reqps"),
                _lines(
                    "Included, in a second",
                    PanelQuery(
                        f"sum by (kind) (rate({count(families.INCLUSION_SECONDS, *NODES)}[{RANGE}]))",
                        "{{kind}}",
                    ),
                    unit="reqps",
                ),
                _lines(
                    "Ended without a reply, in a second",
                    _rate(families.CLOSED, "kind", "state"),
                    unit="reqps",
                ),
                _lines("In the journal, by state", _now(gauges.REQUESTS, "state", summed=True)),
                _lines(
                    "Final, in a second",
                    _rate(families.FINALIZED, "kind"),
                    _rate(families.FOUND, "kind", legend="found"),
                    unit="reqps",
                ),
                _lines(
                    "In quarantine",
                    _now(gauges.QUARANTINED, "kind", summed=True),
                    _now(gauges.QUARANTINED_LOGS),
                ),
            ),
        ),
        (
            "Latency",
            (
                _lines("Record to inclusion", *_quantiles(families.INCLUSION_SECONDS, "kind"), unit="s"),
                _lines("Record to answer", *_quantiles(families.DECRYPTION_LATENCY, "event_type"), unit="s"),
                _lines("Answer to broadcast", *_quantiles(families.HANDOVER_SECONDS, "kind"), unit="s"),
                _lines("By stage", *_quantiles(families.STAGE_SECONDS, "stage"), unit="s"),
            ),
        ),
        (
            "Waiting",
            (
                _lines("Oldest open request", _now(gauges.OLDEST, "kind"), unit="s"),
                _lines("Open requests", _now(gauges.OPEN, "kind", summed=True)),
                _lines("Deferred requests", _now(gauges.DEFERRED, "kind", summed=True)),
                _lines("Deferrals, in a second", _rate(families.DEFERRED, "kind", "stage")),
                _lines(
                    "Busy workers",
                    _now(gauges.BUSY, "kind", summed=True),
                    PanelQuery(f"sum by (kind) ({select(gauges.PLACES, *NODES)})", "all of {{kind}}"),
                ),
                *_BURNS,
            ),
        ),
        (
            "Journal",
            (
                _lines("Free bytes", _now(gauges.JOURNAL_FREE), unit="bytes"),
                _lines("Deleted rows", _now(gauges.DELETED, "kind", "state", summed=True)),
            ),
        ),
        (
            "Over HTTP",
            (
                _lines("Clients that wait", _now(gauges.HTTP_WAITING)),
                _lines("Connections", _now(gauges.HTTP_CONNECTIONS)),
                _lines(
                    "End of the certificate",
                    PanelQuery(f"{select(gauges.HTTP_CERTIFICATE_END, *NODES)} * 1000"),
                    unit="dateTimeAsIso",
                ),
            ),
        ),
    ),
)

CHAINS: Final = Dashboard(
    "kmsconn-chains",
    "kmsconn: chains",
    (
        (
            "Reading",
            (
                _lines("Blocks behind the head", _now(families.LAG, "chain", "contract")),
                _lines(
                    "Cursor and head",
                    _now(families.CURSOR, "chain", "contract"),
                    PanelQuery(select(families.HEAD, *NODES), "head {{chain}} {{contract}}"),
                ),
                _lines("Missing requests", _now(gauges.GAPS)),
                _lines("Alerts of chains", _rate(families.LISTENING_ERRORS, "contract")),
            ),
        ),
        (
            "Heads",
            (
                _lines("Age of the head", _now(gauges.HEAD_AGE, "chain"), unit="s"),
                _lines("Age of the finalized block", _now(gauges.FINALIZED_AGE, "chain"), unit="s"),
                _lines(
                    "Timestamp of the Gateway's head",
                    PanelQuery(f"{select(gauges.HEAD_TIME, *NODES)} * 1000"),
                    unit="dateTimeAsIso",
                ),
                _lines("Reconnections", _rate(gauges.RECONNECTS, "chain")),
            ),
        ),
        (
            "Reorganisations",
            (
                _lines("Branches that were left", _rate(families.REORGANISATIONS, "chain")),
                _lines("Depth of the last one", _now(families.REORGANISATION_DEPTH, "chain")),
                _lines("Requests that moved", _rate(families.REORGANISED, "chain", "change")),
                _lines("Requests off the chain", _now(gauges.OFF_CHAIN)),
                _lines("Logs that cannot be decoded", _rate(families.LOGS_QUARANTINED, "chain")),
            ),
        ),
    ),
)

TRANSACTIONS: Final = Dashboard(
    "kmsconn-transactions",
    "kmsconn: transactions",
    (
        (
            "Account",
            (
                _lines("Balance", _now(gauges.BALANCE, "chain"), unit="ETH"),
                _lines("Replies that the balance pays for", _now(gauges.REPLIES_LEFT, "chain")),
                _lines("Next nonce", _now(gauges.NEXT_NONCE, "chain")),
            ),
        ),
        (
            "Replies",
            (
                _lines("In flight", _now(gauges.IN_FLIGHT, "chain")),
                _lines("Waiting to be signed", _now(gauges.UNSENT, "chain")),
                _beside(
                    "Answers, in a second",
                    families.RESPONSES,
                    families.RESPONSE_ERRORS,
                    "response_type",
                    legend="lost",
                ),
                _beside(
                    "Sent to the Gateway, in a second",
                    families.SENT,
                    families.SEND_ERRORS,
                    "response_type",
                    legend="came back",
                ),
                _lines(
                    "Sent to other chains, in a second",
                    _rate(families.OTHER_SENT, "chain", "response_type"),
                    _rate(families.OTHER_RETURNED, "chain", "response_type", legend="came back"),
                ),
                _lines(
                    "Answer to inclusion", *_quantiles(families.FORWARDING_LATENCY, "response_type"), unit="s"
                ),
            ),
        ),
    ),
)

CORE: Final = Dashboard(
    "kmsconn-core",
    "kmsconn: Core and buckets",
    (
        (
            "Core",
            (
                _beside(
                    "Accepted requests, in a second",
                    families.SUBMITTED,
                    families.SUBMIT_ERRORS,
                    "event_type",
                    legend="deferred",
                ),
                _beside(
                    "Answers, in a second",
                    families.POLLED,
                    families.POLL_ERRORS,
                    "event_type",
                    legend="deferred",
                ),
                _lines(
                    "Waiting for the answer",
                    *(
                        PanelQuery(
                            f"histogram_quantile({share}, sum by (kind, le) (rate({_ANSWERING}[{RANGE}])))",
                            f"p{share * 100:g} {{{{kind}}}}",
                        )
                        for share in (0.5, 0.99)
                    ),
                    unit="s",
                ),
            ),
        ),
        (
            "Checks",
            (
                _beside(
                    "Passed, in a second",
                    families.PICKED,
                    families.PICK_ERRORS,
                    "event_type",
                    legend="unexpected",
                ),
                _lines("Not passed, in a second", _rate(families.CHECK_ERRORS, "check_type")),
                _lines("Attestations not looked at", _rate(gauges.SKIPPED)),
            ),
        ),
        (
            "Buckets",
            (
                _lines(
                    "Ciphertexts, in a second",
                    _rate(families.CIPHERTEXTS),
                    _rate(families.CIPHERTEXT_ERRORS, legend="failed"),
                ),
                _lines("Asked, in a second", _rate(gauges.BUCKET_ATTEMPTS, "bucket")),
                _lines("Failed, in a second", _rate(gauges.BUCKET_FAILURES, "bucket")),
                _lines("Ciphertexts in memory", _now(gauges.BYTES), unit="bytes"),
            ),
        ),
    ),
)

DASHBOARDS: Final = (OVERVIEW, CHAINS, TRANSACTIONS, CORE)
"""Every dashboard."""
