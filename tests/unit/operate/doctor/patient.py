"""A world that is examined: dependencies in memory, the settings of their connector, a machine that is asked nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import attrs
import trio

from kmsconn.config.settings import Settings
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.users import Users
from kmsconn.model.requests import FHEVM
from kmsconn.operate.doctor.examination import examine
from kmsconn.operate.doctor.machine import JournalFiles, Machine
from kmsconn.operate.doctor.postgres import PostgresPlace
from kmsconn.operate.doctor.probing import CheckStatus, Diagnosis
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.world import EPOCH_SECONDS
from kmsconn.transport.ports import Ports

T = TypeVar("T")

JOURNAL = Path("journal.db")
MONITORING = ("127.0.0.1", 9100)
FUNDS = 10**18


async def _at_once(use: str, work: Callable[[], T]) -> T:
    del use
    await trio.lowlevel.checkpoint()
    return work()


@attrs.define(eq=False)
class Patient:
    """What is examined, with its knobs; ``clock_step`` puts this machine's clock wrong."""

    users: Users[Any]
    network: MemoryNetwork
    changes: dict[str, Any] = attrs.field(factory=dict)
    clock_step: float = 0.0
    place: JournalFiles = attrs.field(factory=partial(JournalFiles, exists=False))
    postgres: PostgresPlace = attrs.field(factory=PostgresPlace)
    address_refusal: str = ""
    ask_core: bool = False

    @property
    def dependencies(self) -> Any:
        """The dependencies with their knobs."""
        return self.users.dependencies

    def wall(self) -> float:
        """Return this machine's clock."""
        return EPOCH_SECONDS + trio.current_time() + self.clock_step

    def ports(self) -> Ports:
        """Return the ports of a process among these dependencies."""
        return Ports(self.network, _at_once, self.wall, Random(1).random)

    def settings(self) -> Settings:
        """Return the settings of the connector that belongs here, with what was changed."""
        settings: Settings = self.dependencies.settings(**{"journal": JOURNAL, **self.changes})
        return settings

    async def examine(self) -> list[Diagnosis]:
        """Let the doctor look."""
        machine = Machine(lambda _: self.place, lambda _: self.address_refusal, lambda _: self.postgres)
        return await examine(self.settings(), self.ports(), machine, ask_core=self.ask_core)

    async def faults(self) -> list[Diagnosis]:
        """Return the lines that are neither well nor skipped."""
        return [one for one in await self.examine() if one.status in {CheckStatus.FAULT, CheckStatus.WARNING}]

    async def only_fault(self) -> Diagnosis:
        """Return the one line that is neither well nor skipped."""
        found = await self.faults()
        assert len(found) == 1, "\n".join(f"{one.status} {one.checked}: {one.found}" for one in found)
        return found[0]

    def fund(self, wei: int) -> None:
        """Give the tx sender so much on every chain."""
        for chain in self.dependencies.chains:
            chain.evm.set_balance(self.dependencies.sender.address, wei)

    async def answer(self, forms: Sequence[str], folder: Path) -> None:
        """Let requests be made and a connector answer them, as one that runs beside the doctor."""
        for form in forms:
            self.users.forms[form]()
        await trio.sleep(3)
        settings = self.dependencies.settings(folder / "journal.db")
        async with open_connector(settings, ports=self.ports()):
            with trio.fail_after(120):
                while read_ground_truth(self.dependencies).open:
                    await trio.sleep(1)


@asynccontextmanager
async def patient(
    profile: str = FHEVM, *, requests: Sequence[str] = ("public",), **options: Any
) -> AsyncIterator[Patient]:
    """Give a healthy world in which something was asked; ``options`` are those of the dependencies."""
    users = GENERATIONS[profile].settle(
        lambda: EPOCH_SECONDS + trio.current_time(), Random(0), block_time=1.0, **options
    )
    async with users.dependencies.run_in_memory() as network:
        for form in requests:
            users.forms[form]()
        await trio.sleep(30)
        yield Patient(users, network)
