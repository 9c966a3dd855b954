"""A running world in which every answer of one kind is replaced by a hostile one for a while, and what came of it.

The world runs, then its connections are cut and the answers of one *subject* (``gateway eth_call 0x12345678``, ``core0
GetPublicDecryptionResult``, ``bucket0 GET``) are hostile for ``LASTING`` seconds while requests come in. Then everybody is honest
again. The process must live, what was asked before and after must be answered, and what was wrong must have been named.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any, Final

import attrs
import trio
import trio.testing

from kmsconn.config.description import AwsKmsKey
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.fhevm_dependencies import Traffic
from kmsconn.emulator.ground_truth import ground_truth_of
from kmsconn.emulator.key_life import QUICK, KeyLife
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.life import State
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.testing import GroundTruthReport, World, read_ground_truth, seeded_scheduler
from kmsconn.testing.world import open_world
from tests.faults.hostile.servers import Hostility, Lie, lies_about
from tests.faults.hostile.services import ENDPOINT, KEY_ID, in_memory

HOSTILE_FROM = 6.0  # virtual seconds until answers become hostile: the first requests are under way, and the next will be
LASTING = 25.0  # virtual seconds for which they are; longer than any dependency may fail unnamed
LASTING_LONGER = 75.0  # likewise, of Ethereum, asked once in a block of 12 s, and of logs, of which counters tell each 30 s
SLOW = ("ethereum", "gateway eth_getLogs")
RECOVERY_TIMEOUT = 900.0  # virtual seconds in which everything must be answered afterwards
CPU_SECONDS = 20.0  # for one whole world, on any machine
STEP_SECONDS = 1.0  # of CPU for one step of a task, on any machine
WELL = frozenset({State.DONE, State.ABORTED})  # ends that were wanted
PROMPT = 12  # blocks; a request that was answered within them was not disturbed
NAMES: Final = {
    "gateway": ("gateway", "54321", "completeness", "deferred in check", "deferred in reply"),
    "ethereum": ("ethereum", "11155111", "deferred in check", "deferred in reply"),
    "host": ("host chain", "12345", "deferred in check"),
    "core0": ("core", "deferred in submit", "deferred in answer"),
    **dict.fromkeys(("bucket0", "bucket1", "bucket*"), ("bucket", "deferred in gather")),
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

    profile: str = FHEVM
    websocket: bool = True
    keys: bool = False
    hard: bool = False
    birth: bool = False
    subjects: tuple[str, ...] = ("*",)
    before: tuple[str, ...] = ("public", "direct")
    during: tuple[str, ...] = ("unified", "public", "wallet")
    after: tuple[str, ...] = ("unified_delegated", "public")

    def changes(self) -> Mapping[str, Any]:
        """Return the connector's settings: whatever is asked now and then is asked while the answers are hostile."""
        now_and_then = {"reorg_window": 4.0, "registry_refresh": 5.0}
        in_aws = {"private_key": None, "aws_kms": AwsKmsKey(KEY_ID, "eu-west-1", ENDPOINT)}
        return {**now_and_then, **(QUICK if self.keys else {}), **(in_aws if self.hard else {})}


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
_FIRST = ("public", "user")
_HTTPZ = Setting(HTTPZ_RC7, before=_FIRST, during=(*_FIRST, "delegated"), after=_FIRST)
SETTINGS = {
    "websocket": Setting(),
    "http": Setting(websocket=False),
    "keys": Setting(keys=True),
    "httpz": _HTTPZ,
    "hard": Setting(hard=True, during=("direct", "public", "delegated"), subjects=_HARD),
    "birth": Setting(hard=True, birth=True, subjects=_AT_BIRTH),
    "httpz birth": attrs.evolve(_HTTPZ, birth=True, during=_FIRST, subjects=_AT_BIRTH),
}
"""The worlds, by name."""


@attrs.frozen
class HostileOutcome:
    """What came of a world: whether the lie was told, what ended the process, what was said of the lie, what is on chain."""

    hostility: Hostility
    crash: str
    said: tuple[str, ...]
    """What the connector said of trouble while the lies lasted, and a little longer."""
    ground_truth: GroundTruthReport
    closed: dict[int, str]
    """The requests that ended without a reply, and why."""
    late: frozenset[int]
    """The requests that were asked when everybody was honest again."""
    keys: str
    """The step of the life of keys that was not taken."""
    cpu: float
    """Seconds of CPU of the whole world."""
    step: float
    """Seconds of CPU of its longest step of a task."""

    def complaints(self) -> list[str]:
        """Return what is wrong with it."""
        subject, truth = self.hostility.subject, self.ground_truth
        named = any(
            name in text.lower() for name in NAMES.get(subject.partition(" ")[0], ()) for text in self.said
        )
        # where all is answered as promptly as without the lie, there was nothing to say
        undisturbed = not truth.open and max(truth.blocks.values(), default=0) <= PROMPT
        doubled = [hex(one) for one in truth.doubled]
        rows = (
            (self.crash, self.crash),
            (self.lost, f"lost: {self.lost}"),
            (self.hostility.lie and not named and not undisturbed, "nobody was told of it"),
            (self.keys and not self.closed, f"the keys stand at {self.keys!r}"),
            (doubled, f"doubled: {doubled}"),
            (self.cpu > CPU_SECONDS, f"took {self.cpu:.1f} s of CPU"),
            (self.step > STEP_SECONDS, f"a step took {self.step:.1f} s of CPU"),
        )
        crashed = [f"a worker crashed: {text}" for text in self.said if "unexpected-error" in text]
        return [*crashed, *(text for wrong, text in rows if wrong)]

    @property
    def lost(self) -> list[str]:
        """The requests that are open though nobody said why, or though nothing was hostile any more when they were asked.

        A wallet's public key is asked for once, at the start: behind another one everything waits, as is said, for a restart.
        """
        if self.hostility.subject == "aws GetPublicKey" and any("tx sender" in text for text in self.said):
            return []
        return [hex(one) for one in self.ground_truth.open if one not in self.closed or one in self.late]


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
    asked = [*play(setting=setting).hostility.asked, *TOGETHER]
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


async def _play(hostility: Hostility, setting: Setting, seed: int) -> HostileOutcome:
    longest, began = _Longest(), time.process_time()
    hostility.on = setting.birth
    async with open_world(setting.changes(), seed, setting.profile, settle=hostility.settle) as world:
        world.websocket = setting.websocket
        # a start may only be refused where it was lied to
        world.process.may_refuse = lambda: setting.birth and hostility.on and bool(hostility.struck)
        if setting.hard:
            world.dependencies.gateway.base_fee = None
        life = _life(world) if setting.keys else None
        with _aws(hostility, world) if setting.hard else nullcontext():
            async with trio.open_nursery() as nursery:
                trio.lowlevel.add_instrument(longest)
                nursery.start_soon(world.live)
                before = await _script(world, hostility, setting, life, nursery)
                nursery.cancel_scope.cancel()
            trio.lowlevel.remove_instrument(longest)
    ground_truth = read_ground_truth(world.dependencies)
    late = frozenset(ground_truth.requested) - before
    told = [event for at, event in world.record.log if setting.birth or at >= HOSTILE_FROM]
    said = (*filter(None, map(trouble_in, told)), *world.process.refusals)
    return HostileOutcome(
        hostility, "".join(world.process.crashes), said, ground_truth, _closed(world), late,
        _doing(life), time.process_time() - began, longest.seconds,
    )  # fmt: skip


def trouble_in(event: Event) -> str:
    """Return what an event says of something that is not as it should be; nothing for all others."""
    match event:
        case events.RequestClosed(state=state) if state in WELL:
            return ""
        case events.AlertRaised():
            return f"{event.dependency}: {event.cause}: {event.text}"
        case events.RequestDeferred():
            return f"deferred in {event.stage}: {event.reason}"
        case (
            events.RequestClosed() | events.ReplyReturned() | events.AnswerMismatch()
            | events.CiphertextMismatch() | events.AttestationMismatch()
        ):  # fmt: skip
            return f"{type(event).__name__}: {event.reason}"
        case events.LogQuarantined():
            return f"LogQuarantined of chain {event.chain_id}: {event.reason}"
        case _:
            return ""


def _closed(world: World) -> dict[int, str]:
    told = [event for _, event in world.record.log]
    ids = {one.rid: one.id for one in told if isinstance(one, events.RequestRecorded)}
    ended = [one for one in told if isinstance(one, events.RequestClosed)]
    return {ids[one.rid]: one.reason for one in ended if one.state not in WELL}


def _doing(life: KeyLife | None) -> str:
    return "" if life is None else life.doing


def _is_done(world: World, life: KeyLife | None) -> bool:
    closed = _closed(world)
    answered = all(one in closed for one in read_ground_truth(world.dependencies).open)
    return bool(world.process.crashes) or (answered and (not _doing(life) or bool(closed)))


def _aws(hostility: Hostility, world: World) -> AbstractContextManager[None]:
    """Let the SDK find the wallet's key."""
    return in_memory(partial(hostility.sign, EmulatedAwsKms({KEY_ID: world.dependencies.sender})))


def _life(world: World) -> KeyLife:
    assert isinstance(world.traffic, Traffic), "keys are made in the generation of today"
    return KeyLife.beside(world.traffic, ground_truth_of(world.traffic.dependencies))


async def _script(
    world: World, hostility: Hostility, setting: Setting, life: KeyLife | None, nursery: trio.Nursery
) -> frozenset[int]:
    """Let everything happen, and return the requests that were asked before the last lie."""
    _ask(world, setting.before)
    await trio.sleep_until(HOSTILE_FROM)
    world.dependencies.gateway.evm.failing = 2 if setting.hard else 0
    if not setting.birth:
        hostility.on = True
        world.cut()
    _ask(world, setting.during)
    if life is not None:
        nursery.start_soon(life.play)
    await trio.sleep(LASTING_LONGER if hostility.subject.startswith(SLOW) else LASTING)
    hostility.on = False
    before = frozenset(read_ground_truth(world.dependencies).requested)
    world.cut()
    _ask(world, setting.after)
    await trio.sleep(5.0)
    with trio.move_on_after(RECOVERY_TIMEOUT):
        while not _is_done(world, life):  # noqa: ASYNC110 - the chain is read from outside
            await trio.sleep(1.0)
    return before


def _ask(world: World, forms: tuple[str, ...]) -> None:
    for form in forms:
        world.traffic.forms[form]()
