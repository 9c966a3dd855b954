"""Traces of the real command: a collector on loopback, a connector that is killed in the middle, and the one that goes on after it."""

from __future__ import annotations

import json
import signal
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from kmsconn.model.requests import Kind, trace_of
from tests.e2e.test_process import COUNT, assert_well, scene
from tests.unit.transport.scripted_http import Asked, Reply, serve_http_stream

pytestmark = pytest.mark.sampled

SECRET = "s3cr3t-of-the-collector"


@attrs.define
class Collector:
    """Takes OTLP; keeps the spans of each run of the connector, which says its number as an attribute of the resource."""

    port: int = 0
    spans: dict[str, list[Span]] = attrs.field(factory=lambda: defaultdict(list))
    keys: set[str] = attrs.field(factory=set)

    async def take(self, asked: Asked) -> Reply:
        await trio.lowlevel.checkpoint()
        assert (asked.method, asked.target) == ("POST", "/v1/traces")
        self.keys.add(asked.headers["api-key"])
        request = ExportTraceServiceRequest()
        request.ParseFromString(asked.body)
        for resource in request.resource_spans:
            found = {one.key: one.value.string_value for one in resource.resource.attributes}
            for scope in resource.scope_spans:
                self.spans[found["run"]] += scope.spans
        return Reply()

    def traces(self, run: str) -> set[str]:
        return {span.trace_id.hex() for span in self.spans[run]}

    def variables(self, run: str) -> dict[str, str]:
        """Return what a connector's environment says of this collector."""
        return {
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{self.port}",
            "OTEL_EXPORTER_OTLP_HEADERS": f"api-key={SECRET}",
            "OTEL_RESOURCE_ATTRIBUTES": f"run={run}",
            "OTEL_BSP_SCHEDULE_DELAY": "50",
        }


@asynccontextmanager
async def collecting() -> AsyncIterator[Collector]:
    collector = Collector()
    async with trio.open_nursery() as nursery:

        async def serve(stream: trio.SocketStream) -> None:
            await serve_http_stream(stream, collector.take)

        [listener] = await trio.open_tcp_listeners(0, host="127.0.0.1")
        collector.port = listener.socket.getsockname()[1]
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield collector
        nursery.cancel_scope.cancel()


def logged(folder: Path) -> list[dict[str, object]]:
    """Return the log lines of all runs."""
    texts = [path.read_text() for path in sorted(folder.glob("run-*.log"))]
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]


@pytest.mark.parametrize("profile", ["fhevm", "httpz-rc7"])
async def test_a_trace_goes_on_in_the_process_after_a_kill(profile: str, tmp_path: Path) -> None:
    """Some traces are in the middle when the kill comes: requests come for ten seconds, longer than a slow machine takes to start."""
    load = ("--rate", str(COUNT // 10), "--duration", "10")
    async with (
        collecting() as collector,
        scene(tmp_path, "--profile", profile, "--computing", "0.5", *load) as running,
    ):
        running.lock = "otel.txt"
        async with running.connector(**collector.variables("1")) as connector:
            await running.is_included()
            connector.kill()
            await connector.wait()
        async with running.connector(**collector.variables("2")) as connector:
            assert_well(await running.verdict())
            connector.send_signal(signal.SIGTERM)
            await connector.wait()
    assert len(collector.traces("1") & collector.traces("2")) > 1
    assert len(collector.traces("1") | collector.traces("2")) == COUNT
    assert collector.keys == {SECRET}
    lines = logged(tmp_path)
    assert SECRET not in str(lines)
    check_log(lines, collector)


def check_log(lines: list[dict[str, object]], collector: Collector) -> None:
    """Check that the lines about requests name their traces, as anybody can compute them."""
    [gateway] = {line["chain_id"] for line in lines if line["event"] == "request_recorded"}
    named = {
        (str(line["kind"]), int(str(line["id"]), 0)): line["trace_id"]
        for line in lines
        if line["event"] in {"request_recorded", "reply_included"}
    }
    assert named == {
        (kind, identifier): trace_of(int(str(gateway)), Kind(kind), identifier).trace_hex
        for kind, identifier in named
    }
    assert set(named.values()) == collector.traces("1") | collector.traces("2")


async def test_without_the_extra_a_connector_says_so_and_answers(tmp_path: Path) -> None:
    async with (
        scene(tmp_path) as running,
        running.connector(OTEL_EXPORTER_OTLP_ENDPOINT="http://127.0.0.1:9") as connector,
    ):
        assert_well(await running.verdict())
        connector.kill()
        await connector.wait()
    [line] = [one for one in logged(tmp_path) if one["event"] == "traces are off"]
    assert "pip install 'kmsconn[otel]'" in str(line["reason"])
