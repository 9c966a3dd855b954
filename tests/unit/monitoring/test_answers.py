"""What each path of the monitoring port answers, as a plain function."""

from __future__ import annotations

import json
from typing import Any

import pytest

from kmsconn.model.events import AlertRaised, Severity
from kmsconn.monitoring.monitor import Monitor
from kmsconn.monitoring.server import Identity, answer, make_app
from tests.unit.monitoring.snapshots import snapshot

IDENTITY = Identity("kmsconn", "0.1.0")


def ready_monitor() -> Monitor:
    monitor = Monitor()
    monitor.watch(snapshot)
    return monitor


def test_liveness_says_alive_in_the_words_of_0_14() -> None:
    found = answer("/liveness", Monitor(), IDENTITY)
    assert (found.status, json.loads(found.body)) == (200, {"status_code": "200", "status": "alive"})


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
            "remedy": "",
            "count": 1,
        }
    ]


def test_metrics_are_prometheus_text() -> None:
    found = answer("/metrics", ready_monitor(), IDENTITY)
    assert found.content_type.startswith("text/plain; version=0.0.4")
    assert b"kmsconn_ready 1.0" in found.body


def test_another_path_is_not_found() -> None:
    assert answer("/", Monitor(), IDENTITY).status == 404


async def asked(scope: dict[str, Any], *received: str) -> list[dict[str, Any]]:
    incoming = [{"type": kind} for kind in received]
    sent: list[dict[str, Any]] = []

    async def receive() -> Any:
        return incoming.pop(0)

    async def send(message: Any) -> None:
        sent.append(dict(message))

    await make_app(Monitor(), IDENTITY)(scope, receive, send)
    return sent


@pytest.mark.parametrize("method", ["GET", "POST", "PUT"])
async def test_any_method_is_answered(method: str) -> None:
    start, body = await asked({"type": "http", "path": "/liveness", "method": method})
    assert start["status"] == 200
    assert int(dict(start["headers"])[b"content-length"]) == len(body["body"])


async def test_head_has_the_length_and_no_body() -> None:
    start, body = await asked({"type": "http", "path": "/liveness", "method": "HEAD"})
    assert int(dict(start["headers"])[b"content-length"]) > 0
    assert body["body"] == b""


async def test_the_server_may_start_and_stop_the_application() -> None:
    sent = await asked({"type": "lifespan"}, "lifespan.startup", "lifespan.shutdown")
    assert [message["type"] for message in sent] == [
        "lifespan.startup.complete",
        "lifespan.shutdown.complete",
    ]


async def test_a_websocket_is_refused() -> None:
    assert await asked({"type": "websocket"}) == [{"type": "websocket.close"}]
