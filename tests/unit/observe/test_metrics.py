"""The metrics as Prometheus reads them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

from kmsconn.model.events import AlertRaised, RequestClosed, RequestDeferred, Severity, StageFinished
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.observe.families import DECRYPTIONS, FROM_THE_START, HTTP_SECONDS, UNSUFFIXED, Family, Shape
from kmsconn.observe.monitor import Monitor
from kmsconn.replies.state import TxStatistics
from kmsconn.requests.snapshot import QueueStatistics
from kmsconn.transport.waiting import StalledTask
from tests.queries import Reading, kept, named_by_text, readings
from tests.unit.observe.snapshots import EACH, snapshot
from tools.gen_monitoring import known_families


def watched() -> Monitor:
    monitor = Monitor()
    for event in EACH:
        monitor.on_event(event)
    monitor.watch(snapshot)
    return monitor


def samples(monitor: Monitor, only: str = "") -> Iterator[tuple[str, dict[str, str], float]]:
    """Yield those whose names begin so: to read all takes longer than most tests."""
    lines = [line for line in monitor.metrics().decode().splitlines(keepends=True) if line.startswith(only)]
    for family in text_string_to_metric_families("".join(lines)):
        for sample in family.samples:
            yield sample.name, sample.labels, sample.value


def value(monitor: Monitor, name: str, **labels: str) -> float:
    (found,) = [value for one, its, value in samples(monitor, name) if one == name and its == labels]
    return found


@pytest.mark.parametrize(
    ("name", "blocks"), [("kmsconn_cursor_block", 50), ("kmsconn_head_block", 55), ("kmsconn_lag_blocks", 6)]
)
def test_how_far_a_contract_is_read_has_its_chain_and_address(name: str, blocks: float) -> None:
    contract = "0x0000000000000000000000000000000000000005"
    assert value(watched(), name, chain="10901", contract=contract) == blocks


@pytest.mark.parametrize(
    "name",
    [
        family.name
        for family in UNSUFFIXED
        if family.name
        not in {
            "kms_connector_worker_grpc_response_polled_counter",
            "kms_connector_worker_grpc_response_polled_errors",
            "kms_connector_worker_grpc_request_sent_counter",
        }
    ],
)
def test_the_0_14_counters_have_their_own_names_and_types(name: str) -> None:
    text = watched().metrics().decode()
    assert f"# TYPE {name} counter" in text
    assert f"\n{name}{{" in text or f"\n{name} " in text


def lines_of(monitor: Monitor, name: str) -> list[str]:
    """Return the lines of one name; the parser leaves out counters of 0.14, whose names do not end in total."""
    return [line for line in monitor.metrics().decode().splitlines() if line.startswith(f"{name}{{")]


@pytest.mark.parametrize(
    ("name", "label"),
    [
        ("kms_connector_gw_listener_event_received_counter", "event_type"),
        ("kmsconn_open_requests", "kind"),
        ("kmsconn_stage_seconds_count", "stage"),
        ("kms_connector_tx_sender_gateway_tx_sent_counter", "response_type"),
        ("kms_connector_tx_sender_gateway_tx_sent_errors", "response_type"),
    ],
)
def test_requests_stages_and_transactions_are_exposed_by_kind(name: str, label: str) -> None:
    """Row 47 of the first generation: what a metrics endpoint has at least."""
    found = lines_of(watched(), name)
    assert found
    assert all(f'{label}="' in line for line in found)
    assert any(float(line.split()[-1]) for line in found)


def test_each_operation_has_begun_succeeded_failed_by_reason_and_lasted() -> None:
    """Row 100 of the first generation, for one operation: submitting to the Core."""
    monitor = Monitor()
    for event in (
        StageFinished(1, Kind.PUBLIC_DECRYPTION, "submit", 0.3),
        StageFinished(2, Kind.PUBLIC_DECRYPTION, "submit", 0.5),
        RequestDeferred(3, Kind.PUBLIC_DECRYPTION, "submit", "away", 0.0),
        RequestClosed(4, Kind.PUBLIC_DECRYPTION, State.REJECTED, "no such key"),
    ):
        monitor.on_event(event)
    monitor.watch(snapshot)
    of = {"kind": "public_decryption", "stage": "submit"}
    assert (
        'kms_connector_worker_grpc_request_sent_counter{event_type="public_decryption_request"} 2.0'
        in lines_of(monitor, "kms_connector_worker_grpc_request_sent_counter")
    )
    assert (
        'kms_connector_worker_grpc_request_sent_errors{event_type="public_decryption_request"} 1.0'
        in lines_of(monitor, "kms_connector_worker_grpc_request_sent_errors")
    )
    assert value(monitor, "kmsconn_deferred_total", **of) == 1
    assert value(monitor, "kmsconn_closed_total", kind="public_decryption", state="rejected") == 1
    assert value(monitor, "kmsconn_stage_seconds_count", **of) == 2
    assert [value(monitor, "kmsconn_stage_seconds_bucket", **of, le=le) for le in ("0.25", "0.5")] == [0, 2]
    assert value(monitor, "kmsconn_stage_seconds_sum", **of) == pytest.approx(0.8)


@pytest.mark.parametrize(
    ("name", "labels", "expected"),
    [
        ("kmsconn_ready", {}, 1),
        ("kmsconn_live", {}, 1),
        ("kmsconn_healthy", {}, 1),
        ("kmsconn_draining", {}, 0),
        ("kmsconn_journal_free_bytes", {}, 1 << 30),
        ("kmsconn_members", {}, 2),
        ("kmsconn_lease_held", {"lease": "upkeep"}, 1),
        ("kmsconn_head_timestamp_seconds", {}, 1_700_000_000),
        ("kmsconn_requests", {"kind": "public_decryption", "state": "pending"}, 5),
        ("kmsconn_requests", {"kind": "user_decryption", "state": "pending"}, 0),
        ("kmsconn_open_requests", {"kind": "public_decryption"}, 7),
        ("kmsconn_deferred_requests", {"kind": "public_decryption"}, 2),
        ("kmsconn_oldest_open_seconds", {"kind": "public_decryption"}, 12.5),
        ("kmsconn_oldest_answerable_seconds", {"kind": "public_decryption"}, 3.5),
        ("kmsconn_quarantined_requests", {"kind": "user_decryption"}, 1),
        ("kmsconn_quarantined_logs", {}, 4),
        ("kmsconn_off_chain_requests", {}, 1),
        ("kmsconn_pool_busy", {"kind": "public_decryption"}, 3),
        ("kmsconn_pool_places", {"kind": "user_decryption"}, 128),
        ("kmsconn_ciphertext_bytes", {}, 4096),
        ("kmsconn_deleted_requests", {"kind": "public_decryption", "state": "finalized"}, 7),
        ("kmsconn_deleted_requests", {"kind": "keygen", "state": "done"}, 0),
        ("kmsconn_account_balance_eth", {"chain": "gateway"}, 3),
        ("kmsconn_replies_left", {"chain": "gateway"}, 3000),
        ("kmsconn_next_nonce", {"chain": "gateway"}, 41),
        ("kmsconn_replies_in_flight", {"chain": "gateway"}, 2),
        ("kmsconn_replies_waiting", {"chain": "gateway"}, 5),
        ("kmsconn_head_age_seconds", {"chain": "gateway"}, 0.5),
        ("kmsconn_finalized_age_seconds", {"chain": "ethereum"}, 800),
        ("kmsconn_reconnects_total", {"chain": "ethereum"}, 2),
        ("kmsconn_reconnects_total", {"chain": "gateway"}, 0),
        ("kmsconn_bucket_attempts_total", {"bucket": "https://a"}, 10),
        ("kmsconn_bucket_failures_total", {"bucket": "https://a"}, 4),
        ("kmsconn_bucket_failures_total", {"bucket": "https://b"}, 0),
        (
            "kms_connector_unprocessed_operations",
            {"table": "public_decryption_requests", "status": "pending"},
            2,
        ),
        (
            "kms_connector_unprocessed_operations",
            {"table": "public_decryption_requests", "status": "under_process"},
            3,
        ),
        (
            "kms_connector_unprocessed_operations",
            {"table": "public_decryption_responses", "status": "under_process"},
            2,
        ),
    ],
)
def test_the_snapshot_becomes_gauges(name: str, labels: dict[str, str], expected: float) -> None:
    assert value(watched(), name, **labels) == expected


def test_ciphertexts_are_counted_under_their_0_14_names() -> None:
    text = watched().metrics().decode()
    assert "\nkms_connector_worker_s3_ciphertext_retrieval_counter 9.0\n" in text
    assert "\nkms_connector_worker_s3_ciphertext_retrieval_errors 4.0\n" in text


def test_a_present_alert_is_a_gauge() -> None:
    monitor = watched()
    monitor.on_event(AlertRaised("txmanager gateway", "funds", "0 wei", Severity.CRITICAL))
    assert value(monitor, "kmsconn_alert", dependency="txmanager gateway", cause="funds") == 2


def test_a_part_that_stands_still_is_not_live() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(stalled=(StalledTask("reader of decryption", "gateway", 301.0),)))
    assert value(monitor, "kmsconn_live") == 0


@pytest.mark.parametrize(
    "family",
    [one for one in FROM_THE_START if one.shape is Shape.HISTOGRAM and one is not HTTP_SECONDS],
    ids=lambda one: one.name,
)
@pytest.mark.parametrize("kind", DECRYPTIONS)
def test_histograms_of_decryptions_are_there_from_the_first_scrape(family: Family, kind: Kind) -> None:
    first = [
        one for one in samples(Monitor()) if one[0] == f"{family.name}_bucket" and one[1]["le"] == "+Inf"
    ]
    [label] = set(family.labels) - {"stage"}
    own = [number for _, labels, number in first if labels[label].startswith(kind)]
    assert own
    assert set(own) == {0}


def test_before_there_is_a_connector_there_are_metrics_already() -> None:
    """Those of 0.14, with 0; nothing of a connector that is not there."""
    text = Monitor().metrics().decode()
    assert 'kms_connector_worker_request_check_errors{check_type="network"} 0.0' in text
    assert "kms_connector_worker_s3_ciphertext_retrieval_counter 0.0" in text
    assert "kmsconn_ready" not in text


def test_the_collector_fits_into_a_registry_of_an_embedding_program() -> None:
    registry = CollectorRegistry()
    registry.register(watched().collector)
    assert registry.get_sample_value("kmsconn_ready") == 1


def test_what_journal_and_transaction_manager_do_not_know_yet_has_no_series() -> None:
    monitor = Monitor()
    unknown = {"gateway": TxStatistics(None, None, 0, 0, 0, None, None, None)}
    monitor.watch(lambda: snapshot(queue=QueueStatistics(None, {}, {}), chains={}, transactions=unknown))
    names = {name for name, _, _ in samples(monitor)}
    assert {"kmsconn_ready", "kmsconn_replies_in_flight"} <= names
    assert not names & {"kmsconn_requests", "kmsconn_head_timestamp_seconds"}
    assert not names & {"kmsconn_account_balance_eth", "kmsconn_replies_left", "kmsconn_next_nonce"}


def test_every_series_that_is_scraped_is_documented() -> None:
    monitor = Monitor()
    for event in EACH:
        monitor.on_event(event)
    monitor.watch(snapshot)
    scraped = set(re.findall(r"^(\w+)[{ ]", monitor.metrics().decode(), re.MULTILINE))
    families = {one.name for one in known_families()}
    assert {
        name for name in scraped - families if re.sub("_(bucket|sum|count)$", "", name) not in families
    } == set()


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("kmsconn_ready == 0 unless kmsconn_draining == 1", ["kmsconn_ready", "kmsconn_draining"]),
        ('up{job="kmsconn"} == 0 or absent(up{job="kmsconn"})', ["up", "up"]),
        ("histogram_quantile(0.5, sum by (le) (rate(a_bucket[$__rate_interval])))", ["a_bucket"]),
        ('(a{x="sum"} > bool 60) * on (job, kind) (b > bool 0)', ["a", "b"]),
        ("a offset 2h", ["a"]),
        ("predict_linear(a[6h], 86400) < 0 and x:y:ratio1h > 1e3", ["a", "x:y:ratio1h"]),
    ],
)  # fmt: skip
def test_the_metrics_of_an_expression_are_found(expression: str, names: list[str]) -> None:
    assert [one.name for one in readings(expression)] == names


def test_matchers_and_clauses_name_labels() -> None:
    expression = 'sum by (job, kind) (a{state=~"x|y",kind!="z"})'
    assert list(readings(expression)) == [Reading("a", frozenset({"state", "kind"}))]
    assert kept(expression) == {"job", "kind"}


def test_texts_name_labels() -> None:
    assert named_by_text(["{{ $labels.chain }} and {{ $value }}", "{{kind}} 5m"]) == {"chain", "kind"}
