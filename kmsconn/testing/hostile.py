"""A running world in which every answer of one kind is replaced by a hostile one for a while. Says what came of it; judges in ``check``.

The world runs, then its connections are cut and the answers of one *subject* (``gateway eth_call 0x12345678``, ``core0
GetPublicDecryptionResult``, ``bucket0 GET``) are hostile for ``LASTING`` seconds while requests come in. Then everybody is honest
again. The process must live, what was asked before and after must be answered, and what was wrong must have been named.
"""

from __future__ import annotations

import math
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import msgspec
import trio
import trio.testing

from kmsconn.app.connector import open_connector
from kmsconn.config.settings import AwsKmsKey, Chain, Settings
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.buckets import serve_bucket
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.generations import FHEVM_014, GENERATIONS, HTTPZ_RC7
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.grpc_server import Method, Verbatim, serve_grpc
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.key_life import QUICK, KeyLife
from kmsconn.emulator.network import Handler, MemoryNetwork
from kmsconn.emulator.rpc import RpcNode, Subscriptions
from kmsconn.emulator.rpc_begun import Begun, BegunBatch
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Users
from kmsconn.errors import StartRefused
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.life import State
from kmsconn.testing.determinism import seeded_scheduler
from kmsconn.testing.ground_truth import Truth, truth_of
from kmsconn.testing.hostile_aws import AWS, ENDPOINT, KEY_ID, in_memory, operation_of
from kmsconn.testing.hostile_frames import HTTP2, WEBSOCKET, FramedStream
from kmsconn.testing.hostile_values import (
    BODIES,
    ENDLESS,
    ERRORS,
    GRPC,
    HTTP,
    MESSAGES,
    METADATA,
    PROTOBUF,
    RESULTS,
)
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.testing.world import EPOCH_SECONDS, memory_backed

HOSTILE_FROM = 6.0  # virtual seconds until answers become hostile: the first requests are under way, and the next will be
LASTING = 25.0  # virtual seconds for which they are; longer than any dependency may fail unnamed
LASTING_ON_ETHEREUM = 75.0  # likewise: it is asked once in a block of 12 s
RESTART = 1.0  # virtual seconds from a start that was refused to the next one
RECOVERY_TIMEOUT = 900.0  # virtual seconds in which everything must be answered afterwards
CPU_SECONDS = 20.0  # for one whole world, on any machine
STEP_SECONDS = 1.0  # of CPU for one step of a task, on any machine

WELL = frozenset({State.DONE, State.ABORTED})  # ends that were wanted
PROMPT = 12  # blocks; a request that was answered within them was not disturbed

NAMES: Mapping[str, tuple[str, ...]] = {
    "gateway": ("gateway", "54321", "completeness", "deferred in check", "deferred in reply"),
    "ethereum": ("ethereum", "11155111", "deferred in check", "deferred in reply"),
    "host": ("host chain", "12345", "deferred in check"),
    "core0": ("core", "deferred in submit", "deferred in answer"),
    "bucket0": ("bucket", "deferred in gather"),
    "bucket1": ("bucket", "deferred in gather"),
    "bucket*": ("bucket", "deferred in gather"),
    "aws": ("wallet", "aws kms", "tx sender"),
}
"""How the connector may name a dependency: as such, or by the stage in which a request waits for it, with the reason."""


@attrs.frozen
class Setting:
    """What kind of world it is, and what is asked in it when.

    ``keys`` are made meanwhile; a ``hard`` world has a Gateway of before EIP-1559 and a wallet in AWS KMS, and its first replies are
    mined with status 0, so that they are traced. In one with ``birth`` everybody is hostile from the start on; a start that is refused
    is repeated, as systemd does. Only what ``subjects`` match is hostile.
    """

    name: str = "websocket"
    profile: str = FHEVM_014
    websocket: bool = True
    keys: bool = False
    hard: bool = False
    birth: bool = False
    subjects: tuple[str, ...] = ("*",)
    before: tuple[str, ...] = ("public", "direct")
    during: tuple[str, ...] = ("unified", "public", "wallet")
    after: tuple[str, ...] = ("unified_delegated", "public")


_FIRST = ("public", "user")
_HARD = (
    "aws *",
    "gateway debug_traceTransaction",
    "gateway eth_gasPrice",
    "gateway eth_getTransactionByHash",
)
_AT_BIRTH = (
    "aws GetPublicKey",
    "gateway eth_getCode",
    "gateway eth_chainId",
    "gateway eth_call 0x0d8e6e2c",  # getVersion()
    "gateway eth_call 0x84b0196e",  # eip712Domain()
)
SETTINGS = {
    one.name: one
    for one in (
        Setting(),
        Setting("http", websocket=False),
        Setting("keys", keys=True),
        Setting("httpz", HTTPZ_RC7, before=_FIRST, during=(*_FIRST, "delegated"), after=_FIRST),
        Setting("hard", hard=True, during=("direct", "public", "delegated"), subjects=_HARD),
        Setting("birth", hard=True, birth=True, subjects=_AT_BIRTH),
        Setting(
            "httpz birth",
            HTTPZ_RC7,
            birth=True,
            before=_FIRST,
            during=_FIRST,
            after=_FIRST,
            subjects=_AT_BIRTH,
        ),
    )
}
"""The worlds, by name."""


@attrs.frozen
class Lie:
    """What stands in an answer's place: ``kind`` says in which part of it, ``name`` what it is."""

    kind: str
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


LIES: dict[str, tuple[Lie, ...]] = {
    "result": tuple(Lie("result", name) for name in RESULTS),
    "error": tuple(Lie("error", name) for name in ERRORS),
    "message": tuple(Lie("message", name) for name in MESSAGES),
    "push": tuple(Lie("push", name) for name in RESULTS),
    "http": tuple(Lie("http", name) for name in HTTP),
    "metadata": tuple(Lie("metadata", name) for name in METADATA),
    "body": tuple(Lie("body", name) for name in BODIES),
    "protobuf": tuple(Lie("protobuf", name) for name in PROTOBUF),
    "grpc": tuple(Lie("grpc", name) for name in GRPC),
    "websocket": tuple(Lie("websocket", name) for name in WEBSOCKET),
    "http2": tuple(Lie("http2", name) for name in HTTP2),
    "aws": tuple(Lie("aws", name) for name in AWS),
}
"""By kind."""


class Hostility:
    """Replaces the answers of one subject while it is on; counts every subject that was asked."""

    def __init__(self, subject: str = "", lie: Lie | None = None) -> None:
        self.subject, self.lie = subject, lie
        self.on = False
        self.asked: dict[str, int] = {}
        self.struck = 0

    def strikes(self, subject: str) -> Lie | None:
        """Count an answer; say what stands in its place, if anything does."""
        if not self.on:
            return None
        self.asked[subject] = self.asked.get(subject, 0) + 1
        if self.lie is None or not fnmatchcase(subject, self.subject):
            return None
        self.struck += 1
        return self.lie

    def settle(self, dependencies: EmulatedDependencies, network: MemoryNetwork) -> None:
        """Let dependencies be dialled on a memory network, their answers perhaps hostile."""
        for name, cluster in dependencies.clusters.items():
            cluster.nodes[:] = [_HostileNode(node, name, self) for node in cluster.nodes]
        dependencies.settle_in_memory(network)
        for index, core in enumerate(dependencies.cores):
            name = f"core{index}"
            methods = {path: partial(_call, self, name, path, one) for path, one in core.methods().items()}
            network.serve(*dependencies.places[name], partial(_serve_core, self, name, methods))
        for index, bucket in enumerate(dependencies.buckets):
            name = f"bucket{index}"
            handler = partial(serve_bucket, partial(_get, self, name, bucket.handle))
            network.serve(*dependencies.places[name], partial(_connection, self, name, handler))
        for name, cluster in dependencies.clusters.items():
            network.serve(*dependencies.places[name], partial(_connection, self, name, cluster.serve))

    def frames(self, name: str, honest: bytes) -> bytes:
        """Return what a server sends in the place of a few frames."""
        lie = self.strikes(f"{name} frame")
        if lie is None:
            return honest
        return (HTTP2 if lie.kind == "http2" else WEBSOCKET)[lie.name](honest)


async def _serve_core(
    hostility: Hostility, name: str, methods: Mapping[str, Method], stream: trio.abc.Stream
) -> None:
    await serve_grpc(FramedStream(stream, partial(hostility.frames, name)), methods=methods)


async def _connection(hostility: Hostility, name: str, handler: Handler, stream: trio.abc.Stream) -> None:
    """Serve one connection of HTTP, or let everything on it be hostile from the first request on."""
    lie = hostility.strikes(f"{name} http")
    if lie is None:
        await handler(FramedStream(stream, partial(hostility.frames, name), upgrades=True))
        return
    await stream.receive_some()
    await stream.send_all(HTTP[lie.name])
    while lie.name in ENDLESS and hostility.on:
        await trio.sleep(0.1)
        await stream.send_all(ENDLESS[lie.name])


async def _call(hostility: Hostility, name: str, path: str, method: Method, request: bytes) -> bytes:
    lie = hostility.strikes(f"{name} {path.rpartition('/')[2]}")
    if lie is None:
        return await method(request)
    if lie.kind == "grpc":
        await trio.lowlevel.checkpoint()
        raise Verbatim(*GRPC[lie.name])
    return PROTOBUF[lie.name](await method(request))


async def _sign(hostility: Hostility, kms: EmulatedAwsKms, request: HttpRequest) -> HttpResponse:
    honest = await kms.handle(request)
    lie = hostility.strikes(f"aws {operation_of(request)}")
    if lie is None or not isinstance(honest.body, bytes):
        return honest
    status, body = AWS[lie.name](honest.body)
    return attrs.evolve(honest, status=status, body=body)


async def _get(
    hostility: Hostility,
    name: str,
    handle: Callable[[HttpRequest], Awaitable[HttpResponse]],
    request: HttpRequest,
) -> HttpResponse:
    honest = await handle(request)
    lie = hostility.strikes(f"{name} {request.method}")
    if lie is None or not isinstance(honest.body, bytes):
        return honest
    if lie.kind == "body":
        return attrs.evolve(honest, body=BODIES[lie.name](honest.body) if honest.body else b"")
    return attrs.evolve(honest, headers=tuple(METADATA[lie.name].items()))


class _HostileNode(RpcNode):
    """A node whose answers may be hostile."""

    def __init__(self, node: RpcNode, name: str, hostility: Hostility) -> None:
        super().__init__(node.chain, node.faults)
        self._name, self._hostility = name, hostility

    def _begin_one(self, request: Any, subscriptions: Subscriptions | None) -> Begun:
        lie = self._hostility.strikes(f"{self._name} {subject_of(request)}")
        if lie is None:
            return super()._begin_one(request, subscriptions)
        return _Crooked(request["id"], lie=lie)

    async def finish(self, begun: Begun | BegunBatch) -> bytes:
        honest = await super().finish(begun)
        lie = self._hostility.strikes(f"{self._name} {'answer' if isinstance(begun, Begun) else 'batch'}")
        return honest if lie is None else MESSAGES[lie.name](honest)

    def pushed(self, content: Any) -> Any:
        lie = self._hostility.strikes(f"{self._name} push of {'a log' if 'topics' in content else 'a head'}")
        return content if lie is None else msgspec.Raw(RESULTS[lie.name])


@attrs.frozen(kw_only=True)
class _Crooked(Begun):
    """An answer with a hostile result or error."""

    lie: Lie

    def as_json(self) -> dict[str, Any]:
        head = {"jsonrpc": "2.0", "id": self.id}
        values = ERRORS if self.lie.kind == "error" else RESULTS
        return {**head, self.lie.kind: msgspec.Raw(values[self.lie.name])}


def subject_of(request: Any) -> str:
    """Return the kind of answer that a JSON-RPC request wants: its method, and for a call of a contract the function's selector."""
    method, params = request["method"], request.get("params") or []
    if method == "eth_call":
        return f"eth_call {params[0].get('data', params[0].get('input', '0x'))[:10]}"
    if method == "eth_getBlockByNumber":
        return f"{method} {params[0] if params[0].isalpha() else 'number'}"
    return f"{method} {params[0]}" if method == "eth_subscribe" else str(method)


def lies_about(subject: str) -> Iterator[Lie]:
    """Yield every lie that can stand in the place of this answer."""
    _, _, what = subject.partition(" ")
    if what in {"batch", "answer"}:
        yield from LIES["message"]
    elif what == "frame":
        yield from LIES["http2" if subject.startswith("core") else "websocket"]
    elif subject.startswith("aws"):
        yield from LIES["aws"]
    elif what.startswith("push"):
        yield from LIES["push"]
    elif what == "http":
        yield from LIES["http"]
    elif what in {"GET", "HEAD"}:
        yield from LIES["metadata"]
        yield from LIES["body"] if what == "GET" else ()
    elif subject.startswith("core"):
        yield from LIES["protobuf"]
        yield from LIES["grpc"]
    elif what.startswith(("eth_", "debug_")):
        yield from LIES["result"]
        yield from LIES["error"]


@attrs.frozen
class HostileOutcome:
    """What came of a world: whether the lie was told, what ended the process, what was said of the lie, what is on chain."""

    subject: str
    lie: Lie | None
    struck: int
    asked: dict[str, int]
    crash: str
    said: tuple[str, ...]
    """What the connector said of trouble while the lies lasted, and a little longer."""
    told: tuple[Event, ...] = attrs.field(repr=False)
    truth: Truth
    closed: dict[int, str]
    """The requests that ended without a reply, and why."""
    late: frozenset[int]
    """The requests that were asked when everybody was honest again."""
    keys: str
    """The step of the life of keys that was not taken."""
    cpu: float
    step: float

    @property
    def named(self) -> bool:
        """Whether something that was said names the dependency."""
        names = NAMES[self.subject.partition(" ")[0]]
        return any(name in text.lower() for name in names for text in self.said)

    @property
    def undisturbed(self) -> bool:
        """Whether everything was answered as promptly as without the lie: then there was nothing to say."""
        return not self.truth.open and max(self.truth.blocks.values(), default=0) <= PROMPT

    @property
    def lost(self) -> tuple[int, ...]:
        """The requests that are open though nobody said why, or though nothing was hostile any more when they were asked.

        A wallet's public key is asked for once, at the start: behind another one everything waits, as is said, for a restart.
        """
        if self.subject == "aws GetPublicKey" and any("tx sender" in text for text in self.said):
            return ()
        return tuple(one for one in self.truth.open if one not in self.closed or one in self.late)

    def complaints(self) -> list[str]:
        """Return what is wrong with it."""
        found = [self.crash] if self.crash else []
        found += [f"a worker crashed: {text}" for text in self.said if "unexpected-error" in text]
        found += [f"lost: {[hex(one) for one in self.lost]}"] if self.lost else []
        found += [] if self.lie is None or self.named or self.undisturbed else ["nobody was told of it"]
        found += [f"the keys stand at {self.keys!r}"] if self.keys and not self.closed else []
        found += [f"doubled: {[hex(one) for one in self.truth.doubled]}"] if self.truth.doubled else []
        found += [f"took {self.cpu:.1f} s of CPU"] if self.cpu > CPU_SECONDS else []
        found += [f"a step took {self.step:.1f} s of CPU"] if self.step > STEP_SECONDS else []
        return found


def play(
    subject: str = "", lie: Lie | None = None, *, setting: str = "websocket", seed: int = 0
) -> HostileOutcome:
    """Play a world under a clock of its own. Repeating: the same arguments do the same."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with seeded_scheduler(seed):
        return trio.run(_play, Hostility(subject, lie), SETTINGS[setting], seed, clock=clock)


@cache
def every_lie(setting: str) -> list[tuple[str, Lie]]:
    """Return every answer that the connector reads in a world, with every lie that can stand in its place."""
    wanted = SETTINGS[setting].subjects
    asked = [*play(setting=setting).asked, *TOGETHER]
    subjects = [subject for subject in asked if any(fnmatchcase(subject, one) for one in wanted)]
    return [(subject, lie) for subject in subjects for lie in lies_about(subject)]


TOGETHER = ("bucket* GET", "bucket* HEAD", "bucket* http")
"""Subjects that no single dependency answers."""


class _Longest(trio.abc.Instrument):
    """The longest step of any task, in seconds of CPU."""

    def __init__(self) -> None:
        self.seconds, self._began = 0.0, math.inf

    def before_task_step(self, _task: Any) -> None:
        self._began = time.thread_time()

    def after_task_step(self, _task: Any) -> None:
        self.seconds = max(self.seconds, time.thread_time() - self._began)
        self._began = math.inf


@attrs.define(eq=False)
class _World:
    dependencies: EmulatedDependencies
    network: MemoryNetwork
    hostility: Hostility
    setting: Setting
    settings: Settings
    life: KeyLife | None
    told: list[tuple[float, Event]] = attrs.field(factory=list)
    crash: str = ""
    refusals: list[str] = attrs.field(factory=list)

    async def live(self) -> None:
        """Run the connector until it is cancelled; note what it dies of."""
        ports = KillablePorts(
            Life(), self.network, lambda: EPOCH_SECONDS + trio.current_time(), Random(0)
        ).ports()
        while not self.crash:
            try:
                async with open_connector(self.settings, ports=ports, on_event=self.note) as connector:
                    await connector.wait_drained()
                    self.crash = "the connector ended by itself"
            except* StartRefused as group:
                self.refused(group)
            except* Exception as group:  # noqa: BLE001 - whatever the process dies of is the finding
                self.crash = "".join(traceback.format_exception(group))
            await trio.sleep(RESTART)

    def refused(self, group: BaseExceptionGroup[StartRefused]) -> None:
        """Note that a start was refused, which may only be where it was lied to."""
        if self.setting.birth and self.hostility.on and self.hostility.struck:
            self.refusals.append("".join(traceback.format_exception_only(group.exceptions[0])))
        else:
            self.crash = "".join(traceback.format_exception(group))

    def note(self, event: Event) -> None:
        self.told.append((trio.current_time(), event))

    @property
    def said(self) -> tuple[str, ...]:
        begin = 0.0 if self.setting.birth else HOSTILE_FROM
        said = (text for at, event in self.told if at >= begin and (text := trouble_in(event)))
        return (*said, *self.refusals)

    @property
    def closed(self) -> dict[int, str]:
        ids = {one.rid: one.id for _, one in self.told if isinstance(one, events.RequestRecorded)}
        ended = [one for _, one in self.told if isinstance(one, events.RequestClosed)]
        return {ids[one.rid]: one.reason for one in ended if one.state not in WELL}

    @property
    def keys(self) -> str:
        return "" if self.life is None else self.life.doing

    def is_done(self) -> bool:
        answered = all(one in self.closed for one in truth_of(self.dependencies).open)
        return bool(self.crash) or (answered and (not self.keys or bool(self.closed)))


def trouble_in(event: Event) -> str:
    """Return what an event says of something that is not as it should be; nothing for all others."""
    match event:
        case events.RequestClosed(state=state) if state in WELL:
            return ""
        case events.AlertRaised():
            return f"{event.dependency}: {event.cause}: {event.text}"
        case events.RequestDeferred():
            return f"deferred in {event.stage}: {event.reason}"
        case events.RequestClosed() | events.ReplyReturned() | events.AnswerMismatch():
            return f"{type(event).__name__}: {event.reason}"
        case events.LogQuarantined():
            return f"LogQuarantined of chain {event.chain_id}: {event.reason}"
        case events.CiphertextMismatch() | events.AttestationMismatch():
            return f"{type(event).__name__}: {event.reason}"
        case _:
            return ""


async def _play(hostility: Hostility, setting: Setting, seed: int) -> HostileOutcome:
    longest, began = _Longest(), time.process_time()
    traffic = GENERATIONS[setting.profile].settle(
        lambda: EPOCH_SECONDS + trio.current_time(), Random(seed), block_time=1.0, computing=0.1, seed=seed
    )
    dependencies, network = traffic.dependencies, MemoryNetwork()
    hostility.on = setting.birth
    if setting.hard:
        dependencies.gateway.base_fee = None
    life = _life(traffic) if setting.keys else None
    hostility.settle(dependencies, network)
    with (
        tempfile.TemporaryDirectory(dir=memory_backed()) as folder,
        _aws(hostility, setting, dependencies.sender),
    ):
        settings = _settings(dependencies, Path(folder) / "journal.db", setting)
        world = _World(dependencies, network, hostility, setting, settings, life)
        trio.lowlevel.add_instrument(longest)
        async with trio.open_nursery() as nursery:
            await nursery.start(network.run)
            await nursery.start(dependencies.run)
            nursery.start_soon(world.live)
            before = await _script(world, traffic, nursery)
            nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(longest)
    truth = truth_of(dependencies)
    crash = world.crash or "".join(map(repr, network.crashes))
    return HostileOutcome(
        hostility.subject, hostility.lie, hostility.struck, hostility.asked, crash, world.said,
        tuple(event for _, event in world.told), truth, world.closed, frozenset(truth.requested) - before,
        world.keys, time.process_time() - began, longest.seconds,
    )  # fmt: skip


def _aws(hostility: Hostility, setting: Setting, key: PrivateKey) -> AbstractContextManager[None]:
    """Let the SDK find the wallet's key where a world has it in AWS KMS."""
    if not setting.hard:
        return nullcontext()
    return in_memory(partial(_sign, hostility, EmulatedAwsKms({KEY_ID: key})))


def _life(traffic: Users[EmulatedDependencies]) -> KeyLife:
    assert isinstance(traffic, Traffic), "keys are made in the generation of today"
    dependencies = traffic.dependencies
    ground_truth = GroundTruth(
        dependencies.gateway, dependencies.decryption.address, dependencies.sender.address
    )
    return KeyLife.beside(traffic, ground_truth)


async def _script(
    world: _World, traffic: Users[EmulatedDependencies], nursery: trio.Nursery
) -> frozenset[int]:
    """Let everything happen, and return the requests that were asked before the last lie."""
    _ask(traffic, world.setting.before)
    await trio.sleep_until(HOSTILE_FROM)
    world.dependencies.gateway.evm.failing = 2 if world.setting.hard else 0
    if not world.setting.birth:
        world.hostility.on = True
        _cut(world)
    _ask(traffic, world.setting.during)
    if world.life is not None:
        nursery.start_soon(world.life.play)
    slow = world.hostility.subject.startswith("ethereum")
    await trio.sleep(LASTING_ON_ETHEREUM if slow else LASTING)
    world.hostility.on = False
    before = frozenset(truth_of(world.dependencies).requested)
    _cut(world)
    _ask(traffic, world.setting.after)
    await trio.sleep(5.0)
    with trio.move_on_after(RECOVERY_TIMEOUT):
        while not world.is_done():  # noqa: ASYNC110 - the truth is read from outside
            await trio.sleep(1.0)
    return before


def _ask(traffic: Users[EmulatedDependencies], forms: tuple[str, ...]) -> None:
    for form in forms:
        traffic.forms[form]()


def _cut(world: _World) -> None:
    for place in world.dependencies.places.values():
        world.network.line(*place).cut()


def _settings(dependencies: EmulatedDependencies, journal: Path, setting: Setting) -> Settings:
    # whatever is asked now and then is asked while the answers are hostile
    settings = dependencies.settings(
        journal,
        reorg_window=4.0,
        registry_refresh=5.0,
        **(QUICK if setting.keys else {}),
        **(_IN_AWS if setting.hard else {}),
    )
    if setting.websocket:
        return settings
    hosts = [attrs.evolve(host, chain=_over_http(host.chain)) for host in settings.host_chains]
    gateway, ethereum = _over_http(settings.gateway), _over_http(settings.ethereum)
    return attrs.evolve(settings, gateway=gateway, ethereum=ethereum, host_chains=tuple(hosts))


_IN_AWS: Mapping[str, Any] = {"private_key": None, "aws_kms": AwsKmsKey(KEY_ID, "eu-west-1", ENDPOINT)}


def _over_http(chain: Chain) -> Chain:
    return attrs.evolve(chain, urls=tuple(url.replace("ws://", "http://") for url in chain.urls))
