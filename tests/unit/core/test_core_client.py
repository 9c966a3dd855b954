"""The client of the Core: which endpoint, which path, and what the answers mean."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from trio.testing import memory_stream_pair

from kmsconn.config.parties import CoreTls
from kmsconn.connector.contracts import PROFILES
from kmsconn.core import statuses
from kmsconn.core.client import (
    HEALTH_PATH,
    METHOD_PATH,
    SERVICE,
    CoreClient,
    Started,
    open_core,
    parse_endpoint,
)
from kmsconn.core.statuses import UNSPOKEN, result_error, start_error
from kmsconn.emulator.grpc_server import GrpcFailure, Method, health_method, serve_grpc
from kmsconn.errors import (
    AbortedByCore,
    Broken,
    Forgotten,
    Misconfigured,
    NotYet,
    Overloaded,
    Refused,
    Rejected,
    RejectedByCore,
    RequestError,
    StartRefused,
    Terminal,
    Unreachable,
)
from kmsconn.protocols import fhevm, httpz_rc7
from kmsconn.protocols.fhevm.profile import MATERIAL_METHOD, STATUS_METHOD
from kmsconn.protocols.port import CoreCall, HandedOver, Meaning
from kmsconn.protocols.protobuf import Chunks
from kmsconn.transport.grpc.framing import MAX_TEXT, Status, StatusError, printable
from kmsconn.transport.ports import Ports, offload_inline

PROTOS = Path(__file__).parents[3] / "protos"
START, RESULT = "PublicDecrypt", "GetPublicDecryptionResult"


NOT_OURS = {"Init", "InsecureKeyGen", "GetInsecureKeyGenResult", "InsecureCrsGen", "GetInsecureCrsGenResult"}
"""Calls of the first generation for operators and for insecure builds."""
LATER = {"PublicDecryptSync", "UserDecryptSync"}
"""Calls of Cores after that of 0.14; they take and give the messages of the calls that they stand for (annex C)."""
METHODS = {
    method
    for path in PROTOS.rglob("kms-service.v1.proto")
    for method in re.findall(r"rpc (\w+)\(", path.read_text())
} - NOT_OURS | LATER


@attrs.define
class Cores:
    """Some Cores at ports 1, 2 …; each tells what it was asked, and answers with ``status``."""

    asked: list[tuple[int, str, bytes]] = attrs.field(factory=list)
    status: Status = Status.OK
    serving: bool = True
    has_health: bool = True
    text: str = "so it is"

    async def answer(self, port: int, method: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        self.asked.append((port, method, request))
        if self.status is not Status.OK:
            raise GrpcFailure(self.status, self.text)
        return b"answer of %d" % port

    def methods(self, port: int) -> dict[str, Method]:
        answers: dict[str, Method] = {
            METHOD_PATH + name: partial(self.answer, port, name) for name in METHODS
        }
        health = health_method({SERVICE: lambda: self.serving})
        return {**answers, HEALTH_PATH: health} if self.has_health else answers


@asynccontextmanager
async def core_with(cores: Cores, count: int = 1) -> AsyncIterator[CoreClient]:
    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if port > count:
            raise ConnectionRefusedError("nobody there")
        client, server = memory_stream_pair()
        nursery.start_soon(serve_grpc, server, cores.methods(port))
        return client

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    endpoints = tuple(f"http://core:{port}" for port in range(1, max(count, 1) + 1))
    async with trio.open_nursery() as nursery:
        async with open_core(endpoints, ports) as core:
            yield core
        nursery.cancel_scope.cancel()


def call(method: str, shard: int = 0) -> CoreCall:
    return CoreCall(method, Chunks([b"mess", b"age"]), shard)


@pytest.mark.parametrize("shard", [0, 1, 2, 3, 2**256 - 1, (1 << 248) + 7])
async def test_the_id_chooses_the_endpoint_for_start_and_result(shard: int) -> None:
    cores = Cores()
    async with core_with(cores, 3) as core:
        await core.start(call(START, shard))
        await core.result(call(RESULT, shard))
    assert cores.asked == [(shard % 3 + 1, START, b"message"), (shard % 3 + 1, RESULT, b"message")]


@pytest.mark.parametrize(
    ("method", "status", "kind"),
    [
        (START, Status.NOT_FOUND, NotYet),
        (START, Status.ABORTED, Overloaded),
        (START, Status.UNAVAILABLE, Unreachable),
        (RESULT, Status.UNAVAILABLE, NotYet),
        (RESULT, Status.NOT_FOUND, Forgotten),
        (RESULT, Status.ABORTED, AbortedByCore),
        (RESULT, Status.INVALID_ARGUMENT, Rejected),
    ],
)
async def test_a_call_that_fails_says_what_to_do(
    method: str, status: Status, kind: type[RequestError]
) -> None:
    async with core_with(Cores(status=status)) as core:
        with pytest.raises(kind, match=rf"core\[0\] {method}: {status.name}: so it is"):
            await (core.start if method == START else core.result)(call(method))


# Calls that start and wait in one.


SYNC = "PublicDecryptSync"
AT_ONCE = CoreCall(START, Chunks([b"mess", b"age"]), 0, at_once=SYNC)


@attrs.define
class LaterCores(Cores):
    """Cores whose calls that wait answer with ``waiting``; the others with OK."""

    waiting: Status = Status.OK

    async def answer(self, port: int, method: str, request: bytes) -> bytes:
        self.status = self.waiting if method == SYNC else Status.OK
        return await super().answer(port, method, request)

    @property
    def methods_asked(self) -> list[str]:
        return [method for _, method, _ in self.asked]


async def test_a_result_that_comes_at_once_is_returned() -> None:
    cores = LaterCores()
    async with core_with(cores) as core:
        assert (await core.decrypt(AT_ONCE)).reply == b"answer of 1"
    assert cores.asked == [(1, SYNC, b"message")]


async def test_where_no_call_waits_the_request_is_handed_over_and_that_is_remembered() -> None:
    cores = LaterCores(waiting=Status.UNIMPLEMENTED)
    async with core_with(cores) as core:
        assert core.waits(AT_ONCE)
        for _ in range(3):
            assert (await core.decrypt(AT_ONCE)).reply is None
            assert not core.waits(AT_ONCE)
    assert cores.methods_asked == [SYNC, START, START, START]


async def test_each_endpoint_is_asked_for_itself() -> None:
    cores = LaterCores(waiting=Status.UNIMPLEMENTED)
    async with core_with(cores, 2) as core:
        for shard in (0, 1, 0, 1):
            await core.decrypt(attrs.evolve(AT_ONCE, shard=shard))
    assert [port for port, method, _ in cores.asked if method == SYNC] == [1, 2]


async def test_after_another_connection_it_is_tried_again() -> None:
    cores = LaterCores(waiting=Status.UNIMPLEMENTED)
    async with core_with(cores) as core:
        await core.decrypt(AT_ONCE)
        link = core._channels[0]._link
        assert link is not None
        link.lose("the Core restarts")
        cores.waiting = Status.OK
        assert (await core.decrypt(AT_ONCE)).reply is None  # the call that connects goes by what is known
        assert (await core.decrypt(AT_ONCE)).reply == b"answer of 1"
        assert core._channels[0].connections == 2


@pytest.mark.parametrize("status", [Status.UNAVAILABLE, Status.ALREADY_EXISTS])
async def test_a_wait_that_ends_without_a_result_leaves_the_request_with_the_core(status: Status) -> None:
    cores = LaterCores(waiting=status)
    async with core_with(cores) as core:
        assert (await core.decrypt(AT_ONCE)).reply is None
    assert cores.methods_asked == [SYNC]


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (Status.NOT_FOUND, NotYet),
        (Status.ABORTED, Overloaded),
        (Status.RESOURCE_EXHAUSTED, Overloaded),
        (Status.DEADLINE_EXCEEDED, Unreachable),
        (Status.INVALID_ARGUMENT, Rejected),
        (Status.INTERNAL, Refused),
    ],
)
async def test_failed_wait_means_what_a_failed_start_means(status: Status, kind: type[RequestError]) -> None:
    async with core_with(LaterCores(waiting=status)) as core:
        with pytest.raises(kind, match=rf"core\[0\] {SYNC}: {status.name}: so it is"):
            await core.decrypt(AT_ONCE)


async def test_a_core_that_is_not_there_is_unreachable_also_for_a_result() -> None:
    """The Core's own UNAVAILABLE says *not yet*; a lost connection does not."""
    async with core_with(LaterCores(), count=0) as core:
        for ask in (core.result(call(RESULT)), core.decrypt(AT_ONCE), core.health(0)):
            with pytest.raises(Unreachable, match="nobody there"):
                await ask


# Health.


@pytest.mark.parametrize("serving", [True, False])
async def test_health_is_what_the_core_says(serving: bool) -> None:
    async with core_with(Cores(serving=serving), 2) as core:
        assert (await core.health(0) == "") is serving
        assert core.endpoints == ("core[0]", "core[1]"), "endpoints have names for troubles"
    async with core_with(Cores(serving=serving, has_health=False)) as core:
        assert await core.health(0) == "", "without a health service it serves since it says so"


# Paths and endpoints.


def rows(kind: type[Any]) -> Iterator[type[Any]]:
    for one in kind.__subclasses__():
        if one.__module__.startswith((fhevm.__name__, httpz_rc7.__name__)):  # not those of other tests
            yield one
        yield from rows(one)


def test_what_operations_call_are_methods_of_the_service() -> None:
    assert PROFILES, "their rows are imported"
    called = {name for row in rows(HandedOver) for name in (row.start, row.result, row.at_once) if name}
    assert called | {MATERIAL_METHOD, STATUS_METHOD} == METHODS


@pytest.mark.parametrize(
    ("endpoint", "parts"),
    [
        ("http://localhost:50051", ("localhost", 50051, False)),
        ("https://core.example", ("core.example", 443, True)),
        ("core-1:50100", ("core-1", 50100, False)),
        ("http://[::1]:50051/", ("::1", 50051, False)),
        ("http://core", ("core", 80, False)),
    ],
)
def test_an_endpoint_is_read(endpoint: str, parts: tuple[str, int, bool]) -> None:
    assert parse_endpoint(endpoint) == parts


@pytest.mark.parametrize(
    "endpoint", ["", "ftp://core:1", "http://:50051", "http://core:port", "http://core:99999"]
)
def test_a_wrong_endpoint_is_refused(endpoint: str) -> None:
    with pytest.raises(ValueError, match=r"port|Port|endpoint"):
        parse_endpoint(endpoint)


async def test_tls_files_that_are_not_there_refuse_the_start(tmp_path: Path) -> None:
    ports = Ports(dial=None, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)  # type: ignore[arg-type]
    with pytest.raises(StartRefused, match="core_tls"):
        async with open_core(("core:1",), ports, CoreTls(ca_file=tmp_path / "none.pem")):
            pass


EVERYWHERE = CoreCall("NewMpcEpoch", Chunks([b"message"]), None, {"INVALID_ARGUMENT": Meaning.UNCERTAIN})


async def test_a_call_without_a_shard_reaches_every_endpoint_and_brings_what_each_answered() -> None:
    cores = Cores()
    async with core_with(cores, 3) as core:
        started = await core.start(EVERYWHERE)
        assert started == Started()
        assert started.said == (b"answer of 1", b"answer of 2", b"answer of 3")
        assert sorted(port for port, _, _ in cores.asked) == [1, 2, 3]
        cores.status = Status.INVALID_ARGUMENT
        uncertain = (await core.start(EVERYWHERE)).uncertain
        assert uncertain == "core[0] NewMpcEpoch: INVALID_ARGUMENT: so it is"
        cores.status = Status.UNAVAILABLE
        with pytest.raises(Unreachable, match="core"):
            await core.start(EVERYWHERE)


@pytest.mark.parametrize("code", [Status.OK, Status.ALREADY_EXISTS])
async def test_a_start_tells_whether_the_core_had_the_id_already(code: Status) -> None:
    async with core_with(Cores(status=code)) as core:
        assert await core.start(call(START)) == Started(existed=code is Status.ALREADY_EXISTS)


async def test_a_call_says_which_status_is_its_success() -> None:
    abort = CoreCall("AbortKeyGen", Chunks([b"message"]), 0, {"NOT_FOUND": Meaning.SUCCESS})
    async with core_with(Cores(status=Status.NOT_FOUND)) as core:
        assert await core.start(abort) == Started()


@pytest.mark.parametrize("code", [Status.INTERNAL, Status.INVALID_ARGUMENT])
async def test_a_call_says_which_status_is_none_for_ever(code: Status) -> None:
    """An end of a context or epoch: neither done nor given up."""
    end = CoreCall("DestroyMpcEpoch", Chunks([b"message"]), None, {code.name: Meaning.WAIT})
    async with core_with(Cores(status=code), 2) as core:
        with pytest.raises(NotYet, match=f"DestroyMpcEpoch: {code.name}"):
            await core.start(end)


def by_text(text: str) -> Meaning | None:
    return {"known": Meaning.SUCCESS, "bad": Meaning.REFUSED}.get(text)


async def test_a_status_may_mean_what_its_text_says() -> None:
    """A Core of the first generation says ABORTED for everything (httpz-rc7.md, 8.4)."""
    start = CoreCall("Decrypt", Chunks([b"message"]), 0, {"ABORTED": by_text})
    async with core_with(Cores(status=Status.ABORTED, text="known")) as core:
        assert await core.start(start) == Started()
    async with core_with(Cores(status=Status.ABORTED, text="bad")) as core:
        with pytest.raises(Rejected, match=r"core\[0\] Decrypt: ABORTED: bad"):
            await core.start(start)
    async with core_with(Cores(status=Status.ABORTED, text="full")) as core:
        with pytest.raises(Overloaded, match="full"):
            await core.start(start)


async def test_an_endpoint_that_stops_in_the_middle_of_a_large_reply_takes_nothing_from_the_others() -> None:
    size, stopped = 3 * 1024 * 1024, trio.Event()

    async def flow_or_stop(flow: Any) -> None:
        await flow()
        if stopped.is_set():
            await trio.sleep_forever()

    async def answer(port: int, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        if port == 1:
            stopped.set()
        return bytes(size)

    async def dial(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        client, server = memory_stream_pair()
        if port == 1:
            server.send_stream.send_all_hook = partial(flow_or_stop, server.send_stream.send_all_hook)
        nursery.start_soon(serve_grpc, server, {METHOD_PATH + RESULT: partial(answer, port)})
        return client

    ports = Ports(dial=dial, offload=offload_inline, wall=lambda: 0.0, random=lambda: 0.5)
    both = open_core(("core:1", "core:2"), ports, reply_budget=4 * 1024 * 1024)
    async with trio.open_nursery() as nursery, both as core:
        nursery.start_soon(core.result, call(RESULT, 0))
        await trio.sleep(1)
        assert stopped.is_set()
        with trio.fail_after(5):
            assert len(await core.result(call(RESULT, 1))) == size
        nursery.cancel_scope.cancel()


WAIT = (Status.DEADLINE_EXCEEDED, Status.UNKNOWN, Status.CANCELLED)
OPERATOR = (Status.UNAUTHENTICATED, Status.PERMISSION_DENIED, Status.UNIMPLEMENTED)
REJECT = (Status.INVALID_ARGUMENT, Status.FAILED_PRECONDITION, Status.OUT_OF_RANGE, Status.DATA_LOSS)
COMMON: dict[Status, type[RequestError]] = {
    **dict.fromkeys(WAIT, Unreachable),
    **dict.fromkeys(OPERATOR, Misconfigured),
    **dict.fromkeys(REJECT, RejectedByCore),
    Status.RESOURCE_EXHAUSTED: Overloaded,
    Status.INTERNAL: Refused,
}
STARTED: dict[Status, type[RequestError]] = {
    **COMMON,
    Status.UNAVAILABLE: Unreachable,
    Status.ABORTED: Overloaded,
    Status.NOT_FOUND: NotYet,
}
ASKED: dict[Status, type[RequestError]] = {
    **COMMON,
    Status.UNAVAILABLE: NotYet,
    Status.ABORTED: AbortedByCore,
    Status.NOT_FOUND: Forgotten,
    Status.ALREADY_EXISTS: Broken,
}


@pytest.mark.parametrize("table", [statuses.START, statuses.RESULT, UNSPOKEN])
def test_the_table_knows_every_status(table: dict[Status, object]) -> None:
    assert set(Status) == set(table)


@pytest.mark.parametrize("status", [Status.OK, Status.ALREADY_EXISTS])
def test_a_start_call_succeeds_also_when_it_is_repeated(status: Status) -> None:
    assert start_error(StatusError(status), "core[0] KeyGen") is None


@pytest.mark.parametrize(
    ("error_of", "status", "kind"),
    [*((start_error, *one) for one in STARTED.items()), *((result_error, *one) for one in ASKED.items())],
)
def test_what_the_end_of_a_call_means(error_of: Any, status: Status, kind: type[RequestError]) -> None:
    assert kind is type(error_of(StatusError(status), "core[0] KeyGen"))
    assert set(Status) - {Status.OK} == set(ASKED) == {*STARTED, Status.ALREADY_EXISTS}, "every end is here"


@pytest.mark.parametrize("status", Status)
def test_a_status_that_the_core_did_not_speak_never_rejects_a_request(status: Status) -> None:
    for meaning in (start_error, result_error):
        error = meaning(StatusError(status, spoken=False), "core[0] x")
        assert error is not None
        assert not isinstance(error, (Terminal, NotYet, Broken))


def test_the_error_names_place_status_and_text_which_is_cut_and_has_no_control_characters() -> None:
    error = start_error(StatusError(Status.INTERNAL, "Failed on requestID 01"), "core[1] PublicDecrypt")
    assert str(error) == "core[1] PublicDecrypt: INTERNAL: Failed on requestID 01"
    assert printable("a\nb\x1b") == "a?b?"
    assert len(printable("x" * 5000)) == MAX_TEXT
