"""A shadow beside an active connector of the same node, in virtual time. Holds what the shadow said."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

from kmsconn.config.settings import Settings
from kmsconn.config.values import Mode
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.dependencies import sender_of
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.traffic import Traffic
from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import Event, ReplyCompared, ReplyFinalized, ReplySent, ReplySigned, ignore
from kmsconn.model.life import State
from kmsconn.protocols.fhevm.decryptions import RESPONSE as PUBLIC
from kmsconn.protocols.fhevm.user_decryption import RESPONSE as USER
from kmsconn.replies.shadow import Likeness
from tests.faults.scene import Stand, wall

WINDOW = 4.0


class ShadowScene(Stand[FhevmDependencies, Traffic]):
    """One node with two connectors: the active one asks the first shard of its Core, the shadow the last one, which is heard."""

    def settings(self, name: str, shard: int, **changes: Any) -> Settings:
        """Return the settings of one of the two connectors."""
        settings = self.dependencies.settings(self.folder / f"{name}.db", reorg_window=WINDOW)
        core = (settings.core.core_endpoints[shard],)
        return settings.but(**{"core_endpoints": core, "decryption_from_block_number": 0, **changes})

    def active(self, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return the connector that sends."""
        return open_connector(self.settings("active", 0, **changes), ports=self.ports(), on_event=ignore)

    def shadow(self, **changes: Any) -> AbstractAsyncContextManager[Connector]:
        """Return the connector that compares; it has no key."""
        changed = {
            "mode": Mode.SHADOW,
            "private_key": None,
            "tx_sender_address": self.sender,
            **changes,
        }
        return open_connector(self.settings("shadow", -1, **changed), ports=self.ports(), on_event=self._note)

    def _note(self, event: Event) -> None:
        self.events.append(event)
        self.monitor.on_event(event)

    def likenesses(self) -> list[str]:
        """Return how the compared replies stand to the shadow's."""
        return [event.likeness for event in self.told(ReplyCompared)]

    def ask(self, *forms: str) -> None:
        """Request decryptions."""
        for form in forms:
            self.traffic.forms[form]()

    async def wait_finalized(self, count: int) -> None:
        """Wait until the shadow knows so many replies to be final."""
        await self.wait(lambda: len(self.told(ReplyFinalized)) >= count)

    @property
    def sender(self) -> Address:
        """The account of the node."""
        return sender_of(0).address

    def replies(self) -> list[bytes]:
        """Return the calldata of all transactions of the node's tx sender, failed ones too."""
        chain = self.dependencies.gateway
        blocks = (chain.block(number) for number in range(chain.head.number + 1))
        return [
            mined.transaction.data
            for block in blocks
            if block is not None
            for mined in block.mined
            if mined.transaction.sender == self.sender
        ]

    def check_sends_nothing(self, count: int) -> None:
        """Raise AssertionError unless the shadow signed and sent nothing, and the other connector ``count`` replies."""
        assert not self.told(ReplySigned)
        assert not self.told(ReplySent)
        self.check_sent_once(count)

    def check_sent_once(self, count: int) -> None:
        """Raise AssertionError unless the node sent so many replies, each to another request, and nothing else."""
        sent = self.replies()
        assert all(data[:4] in {PUBLIC.selector, USER.selector} for data in sent)
        assert len(sent) == len({data[4:36] for data in sent}) == count, f"{len(sent)} transactions"


def states_of(connector: Connector) -> dict[State, int]:
    """Return how many requests of a connector are in which state."""
    counts = connector.statistics().queue.counts
    found: dict[State, int] = {}
    for (_, state), number in ({} if counts is None else counts.states).items():
        found[state] = found.get(state, 0) + number
    return found


EVERY_FORM: Sequence[str] = ("public", "direct", "unified", "delegated", "public")
ALL_EQUAL = [Likeness.EQUAL] * len(EVERY_FORM)


@asynccontextmanager
async def open_shadow_scene(folder: Path, *, shards: int = 1) -> AsyncIterator[ShadowScene]:
    """Run the dependencies while the block lasts; needs a virtual clock. With two shards each connector has a Core of its own."""
    dependencies = FhevmDependencies.make(wall, block_time=1.0, computing=0.1, shards=shards)
    async with dependencies.run_in_memory() as network:
        yield ShadowScene(dependencies, network, Traffic(dependencies, Random(0)), folder)
