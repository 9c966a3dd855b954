"""What each path of the monitoring port answers, as a plain function."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kmsconn.model.causes import remedy_of
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, Page, answer, make_app
from kmsconn.requests.heartbeats import StalledTask
from kmsconn.serving.wire import ServedAnswer, ServedRequest
from tests.unit.observe.snapshots import snapshot

IDENTITY = Identity("kmsconn", "0.1.0")
METRICS, HEALTH = ServedRequest("/metrics"), ServedRequest("/healthz")


def ask(page: Page, request: ServedRequest) -> ServedAnswer:
    found = page(request)
    assert isinstance(found, ServedAnswer)
    return found


def ready_monitor() -> Monitor:
    monitor = Monitor()
    monitor.watch(snapshot)
    return monitor


def test_liveness_says_alive_in_the_words_of_0_14() -> None:
    found = answer("/liveness", Monitor(), IDENTITY)
    assert (found.status, json.loads(found.body)) == (200, {"status_code": "200", "status": "alive"})


STALLED = StalledTask("reader of 0x01", "gateway", 301.0)


def test_liveness_is_503_where_a_part_stands_still_and_names_it() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(stalled=(STALLED,)))
    found = answer("/liveness", monitor, IDENTITY)
    assert found.status == 503
    assert "reader of 0x01 has made no progress for 301 s" in json.loads(found.body)["details"]


def test_liveness_is_200_where_the_dependency_of_that_part_is_gone() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(stalled=(STALLED,)))
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    assert answer("/liveness", monitor, IDENTITY).status == 200


def test_liveness_is_200_while_it_drains() -> None:
    monitor = Monitor()
    monitor.watch(lambda: snapshot(stalled=(STALLED,), draining=True))
    assert answer("/liveness", monitor, IDENTITY).status == 200


def test_version_names_the_service() -> None:
    body = json.loads(answer("/version", Monitor(), IDENTITY).body)
    assert body == {"name": "kmsconn", "version": "0.1.0", "build": "unknown"}


def test_healthz_is_200_when_ready() -> None:
    found = answer("/healthz", ready_monitor(), IDENTITY)
    assert found.status == 200
    assert json.loads(found.body)["healthy"] is True


def test_healthz_is_503_before_the_connector_runs() -> None:
    assert answer("/healthz", Monitor(), IDENTITY).status == 503


def test_healthz_is_503_with_the_critical_alert_named() -> None:
    monitor = ready_monitor()
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    found = answer("/healthz", monitor, IDENTITY)
    body = json.loads(found.body)
    assert found.status == 503
    assert (body["gateway_connected"], body["details"]) == (False, "gateway: refused")
    assert body["alerts"] == [
        {
            "dependency": "gateway",
            "cause": "unreachable",
            "text": "refused",
            "severity": "critical",
            "remedy": remedy_of("unreachable"),
            "count": 1,
        }
    ]


def test_metrics_are_prometheus_text() -> None:
    found = answer("/metrics", ready_monitor(), IDENTITY)
    assert found.content_type.startswith("text/plain; version=0.0.4")
    assert b"kmsconn_ready 1.0" in found.body


def test_another_path_is_not_found() -> None:
    assert answer("/", Monitor(), IDENTITY).status == 404


def test_metrics_are_rendered_at_most_once_a_second() -> None:
    monitor, clock = ready_monitor(), [0.0]
    page = make_app(monitor, IDENTITY, lambda: clock[0])
    before = ask(page, METRICS)
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    clock[0] = 0.9
    assert ask(page, METRICS) is before
    clock[0] = 1.0
    assert b'kmsconn_alert{cause="unreachable",dependency="gateway"} 2.0' in ask(page, METRICS).body


def test_health_is_of_this_moment() -> None:
    monitor = ready_monitor()
    page = make_app(monitor, IDENTITY, lambda: 0.0)
    assert ask(page, HEALTH).status == 200
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    assert ask(page, HEALTH).status == 503


@pytest.mark.parametrize("path", ["/metrics", "/healthz"])
def test_a_fault_in_the_rendering_costs_an_answer_not_the_connector(path: str) -> None:
    monitor = Monitor()

    def broken() -> Any:
        raise OverflowError("int too large to convert to float")

    monitor.watch(broken)
    found = ask(make_app(monitor, IDENTITY, lambda: 0.0), ServedRequest(path))
    assert found.status == 500
    assert "int too large" in json.loads(found.body)["error"]
