"""A running world in which every answer of one kind is replaced by a hostile one for a while.

The world runs, then its connections are cut and the answers of one *subject* (``gateway eth_call 0x12345678``, ``core0
GetPublicDecryptionResult``, ``bucket0 GET``) are hostile for ``LASTING`` seconds while requests come in. Then everybody is honest
again. The process must live, what was asked before and after must be answered, and what was wrong must have been named.
"""

from __future__ import annotations

import gc
import math
import time
import traceback
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from fnmatch import fnmatchcase
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any

import attrs
import trio
import trio.testing

from kmsconn.config.settings import Settings
from kmsconn.config.values import AwsKmsKey
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.key_life import QUICK, KeyLife
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import GENERATIONS, Traffic
from kmsconn.emulator.users import Users
from kmsconn.errors import StartRefused
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.testing.endings import seeded_scheduler
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.hostile.aws import ENDPOINT, KEY_ID, in_memory
from kmsconn.testing.hostile.lies import SETTINGS, Lie, Setting, lies_about
from kmsconn.testing.hostile.outcome import WELL, CpuUse, HostileOutcome, trouble_in
from kmsconn.testing.hostile.servers import Hostility, _sign
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.testing.world import EPOCH_SECONDS, memory_backed, over_http

HOSTILE_FROM = 6.0  # virtual seconds until answers become hostile: the first requests are under way, and the next will be
LASTING = 25.0  # virtual seconds for which they are; longer than any dependency may fail unnamed
LASTING_ON_ETHEREUM = 75.0  # likewise: it is asked once in a block of 12 s
RESTART = 1.0  # virtual seconds from a start that was refused to the next one
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
        answered = all(one in self.closed for one in read_ground_truth(self.dependencies).open)
        return bool(self.crash) or (answered and (not self.keys or bool(self.closed)))


async def _play(hostility: Hostility, setting: Setting, seed: int) -> HostileOutcome:
    longest, began = _Longest(), time.process_time()
    traffic = GENERATIONS[setting.profile].settle(
        lambda: EPOCH_SECONDS + trio.current_time(), Random(seed), block_time=1.0, computing=0.1, seed=seed
    )
    dependencies = traffic.dependencies
    hostility.on = setting.birth
    if setting.hard:
        dependencies.gateway.base_fee = None
    life = _life(traffic) if setting.keys else None
    settle = partial(hostility.settle, dependencies)
    with memory_backed() as folder, _aws(hostility, setting, dependencies.sender):
        async with dependencies.run_in_memory(settle) as network, trio.open_nursery() as nursery:
            settings = _settings(dependencies, folder / "journal.db", setting)
            world = _World(dependencies, network, hostility, setting, settings, life)
            trio.lowlevel.add_instrument(longest)
            nursery.start_soon(world.live)
            before = await _script(world, traffic, nursery)
            nursery.cancel_scope.cancel()
        trio.lowlevel.remove_instrument(longest)
    ground_truth = read_ground_truth(dependencies)
    return HostileOutcome(
        hostility.subject, hostility.lie, hostility.struck, hostility.asked, world.crash, world.said,
        tuple(event for _, event in world.told), ground_truth, world.closed, frozenset(ground_truth.requested) - before,
        world.keys, CpuUse(time.process_time() - began, longest.seconds),
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
    before = frozenset(read_ground_truth(world.dependencies).requested)
    _cut(world)
    _ask(traffic, world.setting.after)
    await trio.sleep(5.0)
    with trio.move_on_after(RECOVERY_TIMEOUT):
        while not world.is_done():  # noqa: ASYNC110 - the chain is read from outside
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
    return settings if setting.websocket else over_http(settings)


_IN_AWS: Mapping[str, Any] = {"private_key": None, "aws_kms": AwsKmsKey(KEY_ID, "eu-west-1", ENDPOINT)}
