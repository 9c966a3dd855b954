"""A life of keys, as the owner of the two contracts on Ethereum leads it: from the first key to the end of its context. Judges nothing.

Its steps are the ceremonies of ``key_ceremonies``, or those of ``key_migrations``.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from kmsconn.emulator.dependencies import sender_of
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.key_ceremonies import DEFAULT_PARAMS, KeyCeremonies
from kmsconn.emulator.key_migrations import KeyMigrations
from kmsconn.emulator.key_verdict import KeyVerdict, read_keys
from kmsconn.emulator.traffic import Traffic, naming

PACE, FINALITY, GENERATING = 0.5, 2, 1.0
"""Of a life beside a load: seconds between the blocks of Ethereum, blocks until one is final, seconds of a Core for what it makes."""
QUICK: dict[str, Any] = {"kms_operation_from_block_number": 0, "key_management_polling": PACE}
"""The settings of a connector that follows such a life."""
KEY_STEP_TIMEOUT = 180.0


@attrs.frozen
class KeyResult:
    """What came of a life of keys: what Ethereum says of the node, and which of all ``steps`` were taken."""

    verdict: KeyVerdict
    done: tuple[str, ...]
    steps: int

    @property
    def well(self) -> bool:
        """Every step was taken, every reply given, and none twice."""
        return len(self.done) == self.steps and self.verdict.well


@attrs.define(eq=False)
class KeyLife:
    """All ceremonies of an owner one after the other, and how far they are."""

    ceremonies: KeyCeremonies
    migrates: bool = False
    """Whether the contracts are upgraded under way, and the key migrated: for threshold Cores."""
    doing: str = ""
    """The step that is under way."""
    done: list[str] = attrs.field(factory=list)

    @classmethod
    def beside(
        cls,
        traffic: Traffic,
        *ground_truths: GroundTruth,
        params: int = DEFAULT_PARAMS,
        migrates: bool = False,
    ) -> KeyLife:
        """Return one that takes half a minute beside a load: Ethereum is made quick, and each Core takes a second for a key.

        The committee stays the same in the next context; nothing ends before all of ``ground_truths`` say that it is answered.

        Its users name a context: what names none is lost when it is answered across a change of it (6.2, annex A).
        """
        dependencies = traffic.dependencies
        dependencies.ethereum.block_time, dependencies.ethereum.finality.depth = PACE, FINALITY
        for core in (*dependencies.cores, *dependencies.others):
            core.core.management.jobs.generating = GENERATING
        traffic.extra_data = naming(CONTEXT, EPOCH)
        owner = KeyCeremonies(dependencies, dependencies.members, traffic, ground_truths, params)
        return cls(owner, migrates)

    @property
    def steps(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The steps by name, in their order."""
        return KeyMigrations(self.ceremonies).by_name if self.migrates else self.ceremonies.by_name

    async def play(self) -> None:
        """Take all steps. Cancellation: at any time; ``done`` says how far it came."""
        for name, step in self.steps.items():
            self.doing = name
            await step()
            self.done.append(name)
        self.doing = ""

    async def lead(self, reply_timeout: float = KEY_STEP_TIMEOUT) -> None:
        """Take all steps, but for so many seconds only. Cancellation: at any time."""
        with trio.move_on_after(reply_timeout):
            await self.play()

    def result(self, member: int = 0) -> KeyResult:
        """Return what came of it so far, of one node of the committee."""
        dependencies = self.ceremonies.dependencies
        verdict = read_keys(dependencies, sender_of(member).address)
        return KeyResult(verdict, tuple(self.done), len(self.steps))
