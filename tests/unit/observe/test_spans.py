"""Events as spans: one trace for each request, in every process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from random import Random

import attrs
import pytest
import trio
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Status

from kmsconn import __version__
from kmsconn.config.description import Secret
from kmsconn.config.settings import TracingSettings
from kmsconn.errors import Unreachable
from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind, trace_of
from kmsconn.observe import spans as module
from kmsconn.observe.spans import Span, SpanMaker
from kmsconn.observe.tracing import FAREWELL, NotTaken, Tracing, open_tracing, otlp_encoder
from kmsconn.transport.ports import Ports, offload_inline
from tests import vectors
from tests.unit.observe.snapshots import EACH
from tests.unit.transport.scripted_http import Asked, HttpNet, Reply

PUBLIC = Kind.PUBLIC_DECRYPTION
ID = (1 << 248) | 7
HASH = b"\x03" * 32
SETTINGS = vectors.vector_settings()
COLLECTOR = TracingSettings("http://collector")
TRACE = trace_of(SETTINGS.chains.gateway.chain_id, PUBLIC, ID)
RECORDED = events.RequestRecorded(1, PUBLIC, ID, 10901, 55, HASH, 2)
BEFORE_THE_REPLY = (
    (0.5, events.StageFinished(1, PUBLIC, "check", 0.5, id=ID)),
    (0.2, events.StageFinished(1, PUBLIC, "gather", 0.2, id=ID)),
    (0.1, events.StageFinished(1, PUBLIC, "submit", 0.1, id=ID)),
    (1.0, events.StageFinished(1, PUBLIC, "answer", 1.0, id=ID)),
    (0.0, events.AnswerKept(1, PUBLIC, 1.8, id=ID)),
)
REPLY = (
    (0.1, events.ReplySigned(1, PUBLIC, 9, HASH, id=ID)),
    (0.2, events.ReplySent(1, PUBLIC, 9, 0.3, id=ID)),
    (0.4, events.ReplyIncluded(1, PUBLIC, 60, 2.5, transaction_hash=HASH, id=ID)),
    (30.0, events.ReplyFinalized(1, PUBLIC, id=ID)),
)


@attrs.define
class Process:
    """The spans of one process; its clock is moved by hand."""

    now: float = 1000.0
    tracing: TracingSettings = COLLECTOR
    maker: SpanMaker = attrs.field(init=False)
    spans: list[Span] = attrs.field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.maker = SpanMaker(SETTINGS, self.tracing, lambda: self.now, Random(1).random)

    def hear(self, *told: tuple[float, events.Event]) -> list[Span]:
        """Take events, each so many seconds after the one before; return their spans."""
        before = len(self.spans)
        for seconds, event in told:
            self.now += seconds
            self.spans += self.maker.take(event)
        return self.spans[before:]


def names(spans: Iterable[Span]) -> list[str]:
    return [span.name for span in spans]


def whole() -> list[Span]:
    return Process().hear((0.0, RECORDED), *BEFORE_THE_REPLY, *REPLY)


def test_a_request_has_a_span_for_each_stage_below_its_own_that_lasts_as_long() -> None:
    spans = whole()
    assert [(span.name, round(span.end - span.start, 3)) for span in spans] == [
        ("record", 0.0), ("check", 0.5), ("gather", 0.2), ("submit", 0.1), ("answer", 1.0), ("sign", 0.1), ("broadcast", 0.2),
        ("include", 0.4), ("public_decryption", 2.5), ("finalize", 30.0),
    ]  # fmt: skip
    assert len({span.span_id for span in spans}) == len(spans)
    assert {span.trace_id for span in spans} == {TRACE.trace_id}
    assert {span.parent_id for span in spans if span.name != PUBLIC} == {TRACE.span_id}
    [root] = [span for span in spans if span.name == PUBLIC]
    assert (root.span_id, root.parent_id) == (TRACE.span_id, None)


def test_the_next_process_goes_on_with_the_same_trace() -> None:
    """The request's own span begins when it was recorded, whichever process did."""
    first, second = Process(), Process(now=1010.0)
    spans = [*first.hear((0.0, RECORDED), *BEFORE_THE_REPLY), *second.hear(*REPLY)]
    assert {span.trace_id for span in spans} == {TRACE.trace_id}
    assert {span.parent_id for span in spans if span.name != PUBLIC} == {TRACE.span_id}
    [root] = [span for span in spans if span.parent_id is None]
    assert (round(root.start, 3), round(root.end, 3)) == (1008.2, 1010.7)


def test_attributes_name_request_place_core_and_transactions() -> None:
    spans = {span.name: span.attributes for span in whole()}
    assert {one["kmsconn.request.id"] for one in spans.values()} == {f"0x{ID:064x}"}
    assert {one["kmsconn.request.kind"] for one in spans.values()} == {"public_decryption"}
    assert (spans["record"]["kmsconn.chain.id"], spans["record"]["kmsconn.block"]) == (10901, 55)
    assert spans["submit"]["kmsconn.core"] == "core[0]"
    assert spans["sign"]["kmsconn.transaction"] == f"0x{HASH.hex()}"
    assert spans["include"]["kmsconn.reply.block"] == 60


def test_a_failed_pass_and_a_reply_that_goes_back_are_errors_with_their_cause() -> None:
    [span] = Process().hear((2.0, events.StageFailed(1, PUBLIC, "check", "denied", 2.0, id=ID)))
    assert (span.name, span.error, span.end - span.start) == ("check", "denied", 2.0)
    [span] = Process().hear((0.0, events.ReplyReturned(1, PUBLIC, State.ANSWERED, "status 0", id=ID)))
    assert (span.name, span.error) == ("return", "status 0")


def test_the_wait_of_a_deferred_request_is_a_span_once_it_is_over() -> None:
    deferred = events.RequestDeferred(
        1, PUBLIC, "check", "denied by https://me:pass@node/key?k=1", 5.0, id=ID
    )
    spans = Process().hear((0.0, deferred), (6.0, events.StageFinished(1, PUBLIC, "check", 1.0, id=ID)))
    assert names(spans) == ["wait", "check"]
    assert (spans[0].end - spans[0].start, spans[0].attributes["kmsconn.stage"]) == (5.0, "check")
    assert spans[0].attributes["kmsconn.reason"] == "denied by https://node/key"


@pytest.mark.parametrize(("state", "failed"), [(State.REJECTED, True), (State.DONE, False)])
def test_a_request_without_a_reply_ends_with_its_own_span(state: State, failed: bool) -> None:
    process = Process()
    spans = process.hear((0.0, RECORDED), (3.0, events.RequestClosed(1, PUBLIC, state, "so", "other", id=ID)))
    assert (spans[-1].span_id, spans[-1].end - spans[-1].start) == (TRACE.span_id, 3.0)
    assert bool(spans[-1].error) is failed


def test_a_trace_that_is_not_sampled_has_no_span_but_its_log_lines_have_its_id() -> None:
    process = Process(tracing=TracingSettings("http://collector", ratio=0.0))
    assert process.hear((0.0, RECORDED), *BEFORE_THE_REPLY, *REPLY) == []
    assert process.maker.context(REPLY[0][1])["trace_id"] == TRACE.trace_hex


def test_a_log_line_has_the_span_that_its_event_ended_or_that_of_the_request() -> None:
    process, event = Process(), BEFORE_THE_REPLY[0][1]
    [span] = process.hear((0.5, event))
    assert process.maker.context(event) == {"trace_id": TRACE.trace_hex, "span_id": f"{span.span_id:016x}"}
    deferred = events.RequestDeferred(1, PUBLIC, "check", "denied", 5.0, id=ID)
    process.hear((0.0, deferred))
    assert process.maker.context(deferred)["span_id"] == f"{TRACE.span_id:016x}"


@pytest.mark.parametrize("event", [one for one in EACH if not isinstance(one, events.EventOfRequest)])
def test_events_about_no_row_have_no_trace(event: events.Event) -> None:
    process = Process()
    assert process.hear((0.0, event)) == []
    assert process.maker.context(event) == {}


def test_requests_that_are_over_are_forgotten_and_the_others_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "MOST_REQUESTS", 3)
    process = Process()
    process.hear((0.0, RECORDED), *BEFORE_THE_REPLY, *REPLY)
    assert len(process.maker._known) == 0
    process.hear(*((0.0, attrs.evolve(RECORDED, rid=rid)) for rid in range(10)))
    assert len(process.maker._known) == 3


def test_a_request_over_http_has_no_block_and_ends_well() -> None:
    kind = Kind.HTTP_PUBLIC_DECRYPTION
    recorded, root = Process().hear(
        (0.0, events.RequestRecorded(1, kind, ID, 10901, NO_BLOCK, b"", 0)),
        (1.0, events.AnswerKept(1, kind, 1.0, id=ID)),
        (0.0, events.RequestClosed(1, kind, State.DONE, "delivered", "delivered", id=ID)),
    )
    assert recorded.attributes["kmsconn.source"] == "http"
    assert "kmsconn.block" not in recorded.attributes
    assert (root.name, root.error, root.end - root.start) == ("http_public_decryption", "", 1.0)


WIRE_TRACE, ROOT = 0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7
ENCODE = otlp_encoder(TracingSettings("http://collector", resource={"service.name": "node-1"}))


def read(*spans: Span) -> ExportTraceServiceRequest:
    request = ExportTraceServiceRequest()
    request.ParseFromString(ENCODE(spans))
    return request


def test_a_span_has_its_ids_times_and_attributes() -> None:
    request = read(
        Span("check", WIRE_TRACE, 5, ROOT, 1000.5, 1001.0, {"kmsconn.block": 55, "kmsconn.core": "core[0]"})
    )
    [span] = request.resource_spans[0].scope_spans[0].spans
    assert (span.trace_id.hex(), span.span_id.hex(), span.parent_span_id.hex()) == (
        f"{WIRE_TRACE:032x}", f"{5:016x}", f"{ROOT:016x}",
    )  # fmt: skip
    assert (span.start_time_unix_nano, span.end_time_unix_nano) == (1_000_500_000_000, 1_001_000_000_000)
    assert {one.key: one.value.int_value or one.value.string_value for one in span.attributes} == {
        "kmsconn.block": 55,
        "kmsconn.core": "core[0]",
    }
    assert span.status.code == Status.STATUS_CODE_UNSET


def test_the_resource_names_the_service_and_its_version_and_a_failure_has_the_status_error() -> None:
    [resource] = read(
        Span("public_decryption", WIRE_TRACE, ROOT, None, 0.0, 1.0, {}, "denied")
    ).resource_spans
    found = {one.key: one.value.string_value for one in resource.resource.attributes}
    assert (found["service.name"], found["service.version"]) == ("node-1", __version__)
    [span] = resource.scope_spans[0].spans
    assert (span.status.code, span.status.message) == (Status.STATUS_CODE_ERROR, "denied")
    assert span.parent_span_id == b"", "the request's own span has no parent"


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
        nursery.start_soon(bench.tracing.run, bench.exporter.export)
        yield
        nursery.cancel_scope.cancel()


async def test_spans_are_exported_after_a_while_and_a_full_batch_at_once() -> None:
    bench = make()
    async with running(bench):
        bench.finish(1)
        await trio.sleep(SMALL.delay - 0.1)
        assert bench.exporter.batches == []
        await trio.sleep(0.2)
        assert bench.exporter.batches == [1]
        bench.finish(1, 2, 3)
        await trio.sleep(0.1)
    assert bench.exporter.batches == [1, 2, 1]


async def test_what_the_queue_does_not_hold_is_lost_and_counted() -> None:
    bench = make()
    bench.finish(*range(1, 8))
    await bench.tracing.say_farewell(bench.exporter.export)
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
    await bench.tracing.say_farewell(bench.exporter.export)
    assert len(bench.exporter.spans) == 1
    bench.exporter.hangs = True
    bench.finish(2)
    before = trio.current_time()
    await bench.tracing.say_farewell(bench.exporter.export)
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
