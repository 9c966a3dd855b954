"""A running world in which every answer of one kind is replaced by a hostile one for a while.

The world runs, then its connections are cut and the answers of one *subject* (``gateway eth_call 0x12345678``, ``core0
GetPublicDecryptionResult``, ``bucket0 GET``) are hostile for ``LASTING`` seconds while requests come in. Then everybody is honest
again. The process must live, what was asked before and after must be answered, and what was wrong must have been named.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import cache, partial
from typing import Any

import trio
import trio.testing

from kmsconn.config.values import AwsKmsKey
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import ground_truth_of
from kmsconn.emulator.key_life import QUICK, KeyLife
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Users
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model import events
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.hostile.aws import ENDPOINT, KEY_ID, in_memory
from kmsconn.testing.hostile.lies import SETTINGS, Lie, Setting, lies_about
from kmsconn.testing.hostile.outcome import WELL, CpuUse, HostileOutcome, trouble_in
from kmsconn.testing.hostile.servers import Hostility, _sign
from kmsconn.testing.world import World, open_world

HOSTILE_FROM = 6.0  # virtual seconds until answers become hostile: the first requests are under way, and the next will be
LASTING = 25.0  # virtual seconds for which they are; longer than any dependency may fail unnamed
LASTING_ON_ETHEREUM = 75.0  # likewise: it is asked once in a block of 12 s
RECOVERY_TIMEOUT = 900.0  # virtual seconds in which everything must be answered afterwards


def play(
    subject: str = "", lie: Lie | None = None, *, setting: str = "websocket", seed: int = 0
) -> HostileOutcome:
    """Play a world under a clock of its own. Repeating: the same arguments do the same."""
    clock = trio.testing.MockClock(autojump_threshold=0)
    with seeded_scheduler(seed), _collecting_only_the_new():
        return trio.run(_play, Hostility(subject, lie), SETTINGS[setting], seed, clock=clock)


@contextmanager
def _collecting_only_the_new() -> Iterator[None]:
    """Keep what exists by now from the garbage collector: in a large process one pass over it takes a second of whichever step it meets."""
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


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


async def _play(hostility: Hostility, setting: Setting, seed: int) -> HostileOutcome:
    longest, began = _Longest(), time.process_time()
    hostility.on = setting.birth
    async with open_world(_changes(setting), seed, setting.profile, settle=hostility.settle) as world:
        world.websocket = setting.websocket
        # a start may only be refused where it was lied to
        world.process.may_refuse = lambda: setting.birth and hostility.on and bool(hostility.struck)
        if setting.hard:
            world.dependencies.gateway.base_fee = None
        life = _life(world.traffic) if setting.keys else None
        with _aws(hostility, setting, world.dependencies.sender):
            async with trio.open_nursery() as nursery:
                trio.lowlevel.add_instrument(longest)
                nursery.start_soon(world.live)
                before = await _script(world, hostility, setting, life, nursery)
                nursery.cancel_scope.cancel()
            trio.lowlevel.remove_instrument(longest)
    ground_truth = read_ground_truth(world.dependencies)
    return HostileOutcome(
        hostility.subject, hostility.lie, hostility.struck, hostility.asked, "".join(world.process.crashes),
        _said(world, setting), tuple(event for _, event in world.record.log), ground_truth, _closed(world),
        frozenset(ground_truth.requested) - before, _doing(life), CpuUse(time.process_time() - began, longest.seconds),
    )  # fmt: skip


def _said(world: World, setting: Setting) -> tuple[str, ...]:
    begin = 0.0 if setting.birth else HOSTILE_FROM
    said = (text for at, event in world.record.log if at >= begin and (text := trouble_in(event)))
    return (*said, *world.process.refusals)


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


def _aws(hostility: Hostility, setting: Setting, key: PrivateKey) -> AbstractContextManager[None]:
    """Let the SDK find the wallet's key where a world has it in AWS KMS."""
    if not setting.hard:
        return nullcontext()
    return in_memory(partial(_sign, hostility, EmulatedAwsKms({KEY_ID: key})))


def _life(traffic: Users[EmulatedDependencies]) -> KeyLife:
    assert isinstance(traffic, Traffic), "keys are made in the generation of today"
    return KeyLife.beside(traffic, ground_truth_of(traffic.dependencies))


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
    slow = hostility.subject.startswith("ethereum")
    await trio.sleep(LASTING_ON_ETHEREUM if slow else LASTING)
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


def _changes(setting: Setting) -> Mapping[str, Any]:
    # whatever is asked now and then is asked while the answers are hostile
    now_and_then = {"reorg_window": 4.0, "registry_refresh": 5.0}
    return {**now_and_then, **(QUICK if setting.keys else {}), **(_IN_AWS if setting.hard else {})}


_IN_AWS: Mapping[str, Any] = {"private_key": None, "aws_kms": AwsKmsKey(KEY_ID, "eu-west-1", ENDPOINT)}
