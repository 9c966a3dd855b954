"""The queue of spans and its export, in virtual time."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import attrs
import trio

from kmsconn.config.settings import TracingSettings
from kmsconn.config.values import Secret
from kmsconn.errors import Unreachable
from kmsconn.model import events
from kmsconn.model.requests import Kind
from kmsconn.observe.otlp import NotTaken
from kmsconn.observe.spans import Span, SpanMaker
from kmsconn.observe.tracing import FAREWELL, Tracing, open_tracing
from kmsconn.transport.ports import Ports, offload_inline
from tests import vectors
from tests.unit.transport.scripted_http import Asked, HttpNet, Reply

SETTINGS = vectors.vector_settings()
SMALL = TracingSettings("http://collector:4318/v1/traces", queue=4, batch=2, timeout=3.0)


@attrs.define
class Memory:
    """An exporter that keeps spans; ``trouble`` is raised instead, ``hangs`` never returns."""

    spans: list[Span] = attrs.field(factory=list)
    batches: list[int] = attrs.field(factory=list)
    trouble: Exception | None = None
    hangs: bool = False

    async def export(self, spans: Sequence[Span]) -> None:
        await trio.lowlevel.checkpoint()
        if self.hangs:
            await trio.sleep_forever()
        if self.trouble is not None:
            raise self.trouble
        self.batches.append(len(spans))
        self.spans += spans


@attrs.define
class Bench:
    exporter: Memory
    told: list[events.Event]
    tracing: Tracing

    def finish(self, *rids: int) -> None:
        for rid in rids:
            self.tracing.on_event(events.StageFinished(rid, Kind.PUBLIC_DECRYPTION, "check", 0.1, id=rid))

    @property
    def alerts(self) -> list[str]:
        return [type(event).__name__ for event in self.told]


def make(settings: TracingSettings = SMALL) -> Bench:
    told: list[events.Event] = []
    maker = SpanMaker(SETTINGS, settings, lambda: 1000.0, lambda: 0.5)
    return Bench(Memory(), told, Tracing(maker, told.append))


@asynccontextmanager
async def running(bench: Bench) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(bench.tracing.run, bench.exporter)
        yield
        nursery.cancel_scope.cancel()


async def test_spans_are_exported_after_a_while() -> None:
    bench = make()
    async with running(bench):
        bench.finish(1)
        await trio.sleep(SMALL.delay - 0.1)
        assert bench.exporter.batches == []
        await trio.sleep(0.2)
    assert bench.exporter.batches == [1]


async def test_a_full_batch_is_exported_at_once() -> None:
    bench = make()
    async with running(bench):
        bench.finish(1, 2, 3)
        await trio.sleep(0.1)
    assert bench.exporter.batches == [2, 1]


async def test_what_the_queue_does_not_hold_is_lost_and_counted() -> None:
    bench = make()
    bench.finish(*range(1, 8))
    await bench.tracing.say_farewell(bench.exporter)
    assert (len(bench.exporter.spans), bench.tracing.lost) == (4, 3)


async def test_a_collector_that_is_away_gets_everything_later_and_has_an_alert_meanwhile() -> None:
    bench = make()
    bench.exporter.trouble = Unreachable("http://collector:4318: refused")
    async with running(bench):
        bench.finish(1, 2)
        await trio.sleep(30)
        assert bench.alerts == ["AlertRaised"]
        bench.exporter.trouble = None
        await trio.sleep(120)
    assert bench.alerts == ["AlertRaised", "AlertCleared"]
    assert (len(bench.exporter.spans), bench.tracing.lost) == (2, 0)


async def test_spans_that_a_collector_refuses_are_lost_and_the_next_are_tried() -> None:
    bench = make()
    bench.exporter.trouble = NotTaken("HTTP 400")
    async with running(bench):
        bench.finish(1, 2)
        await trio.sleep(1)
        bench.exporter.trouble = None
        bench.finish(3, 4)
        await trio.sleep(10)
    assert (len(bench.exporter.spans), bench.tracing.lost) == (2, 2)


async def test_a_collector_that_hangs_is_given_up() -> None:
    bench = make()
    bench.exporter.hangs = True
    async with running(bench):
        bench.finish(1, 2)
        await trio.sleep(SMALL.timeout + 0.1)
    assert bench.alerts == ["AlertRaised"]


async def test_the_end_exports_what_is_left_within_a_deadline() -> None:
    bench = make()
    bench.finish(1)
    await bench.tracing.say_farewell(bench.exporter)
    assert len(bench.exporter.spans) == 1
    bench.exporter.hangs = True
    bench.finish(2)
    before = trio.current_time()
    await bench.tracing.say_farewell(bench.exporter)
    assert trio.current_time() - before <= FAREWELL
    assert bench.tracing.lost == 1


@asynccontextmanager
async def collector(
    answer: Callable[[Asked], Reply], settings: TracingSettings
) -> AsyncIterator[tuple[Tracing, list[events.Event]]]:
    async def handle(asked: Asked) -> Reply:
        await trio.lowlevel.checkpoint()
        return answer(asked)

    told: list[events.Event] = []
    async with trio.open_nursery() as nursery:
        net = HttpNet(nursery, handle)
        ports = Ports(net, offload_inline, lambda: 1000.0, lambda: 0.5)
        async with open_tracing(SETTINGS.but(tracing=settings), ports, told.append) as tracing:
            assert tracing is not None
            yield tracing, told
        nursery.cancel_scope.cancel()


async def test_spans_are_posted_as_otlp_with_the_configured_headers() -> None:
    asked: list[Asked] = []

    def answer(one: Asked) -> Reply:
        asked.append(one)
        return Reply()

    settings = attrs.evolve(SMALL, headers={"api-key": Secret("s3cr3t")}, gzip=True)
    async with collector(answer, settings) as (tracing, _):
        tracing.on_event(events.StageFinished(1, Kind.PUBLIC_DECRYPTION, "check", 0.1, id=1))
    [one] = asked
    assert (one.method, one.target, one.headers["api-key"]) == ("POST", "/v1/traces", "s3cr3t")
    assert one.headers["content-type"] == "application/x-protobuf"
    assert one.headers["content-encoding"] == "gzip"


async def test_no_secret_of_the_collector_stands_in_its_alert() -> None:
    settings = attrs.evolve(
        SMALL,
        endpoint="http://me:hidden@collector:4318/v1/traces?key=hidden",
        headers={"k": Secret("hidden")},
    )
    for status in (401, 503):
        async with collector(lambda _, status=status: Reply(status), settings) as (tracing, told):  # type: ignore[misc]
            tracing.on_event(events.StageFinished(1, Kind.PUBLIC_DECRYPTION, "check", 0.1, id=1))
            await trio.sleep(20)
        assert f"HTTP {status}" in str(told)
        assert "hidden" not in str(told)


async def test_traces_are_off_without_a_collector() -> None:
    ports = Ports(None, offload_inline, lambda: 0.0, lambda: 0.5)  # type: ignore[arg-type]
    async with open_tracing(SETTINGS, ports, events.ignore) as tracing:
        assert tracing is None
