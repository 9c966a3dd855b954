"""A connector of the first generation among its emulated dependencies, in virtual time; with a Core, and a connector, for each node."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs

from kmsconn._generated.httpz_rc7.kms.v1 import RequestId
from kmsconn.config.description import LogFormat
from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.config.settings import Settings
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.ciphertexts import make_ciphertext
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.httpz.core import STARTS, FirstCore
from kmsconn.emulator.httpz.dependencies import FirstTraffic, HttpzDependencies
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.events import Event, OnEvent
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.observe.logs import LineLog, line_takes
from kmsconn.observe.tally import EventTakers
from kmsconn.protocols.httpz_rc7 import contracts
from tests.faults.scene import Stand, all_mined, wall
from tests.vectors import httpz as vectors

COPROCESSOR = key_for("coprocessor sender 0").address
USER = parse_address("0x23618e81E3f5cdF7f54C3d65f7FBc0aBf5B21E8f")
USER_KEY = from_hex(vectors.load()["keys"]["user_x25519"]["enc_key"])


@attrs.define(eq=False)
class World(Stand[HttpzDependencies, FirstTraffic]):
    """The scene: ``calls`` has what its Core was asked, ``log`` as text what its connector told."""

    calls: list[tuple[str, Any]] = attrs.field(factory=list)
    """Method and message of each call."""
    log: io.StringIO = attrs.field(factory=io.StringIO)
    default_log: io.StringIO = attrs.field(factory=io.StringIO)
    """What it told at the default level; ``log`` has everything."""
    writes: list[OnEvent] = attrs.field(init=False)
    chain: EmulatedChain = attrs.field(init=False)
    core: FirstCore = attrs.field(init=False)
    bucket: EmulatedBucket = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.chain, self.bucket = self.dependencies.gateway, self.dependencies.buckets[0].bucket
        self.core = self.dependencies.cores[0].core
        self.dependencies.cores[0].on_call = self._hear
        self.writes = [
            EventTakers(line_takes(LineLog(log, level, LogFormat.JSON))).on_event
            for log, level in ((self.log, "debug"), (self.default_log, "info"))
        ]

    def _hear(self, method: str, request: bytes) -> None:
        message, _ = STARTS.get(method, (RequestId, ""))
        self.calls.append((method, message.parse(request)))

    def set_buckets(self, buckets: dict[Address, str]) -> None:
        """Say which coprocessor keeps its ciphertexts where."""
        coprocessors = [EmulatedCoprocessor(sender, sender, bucket) for sender, bucket in buckets.items()]
        httpz = self.dependencies.httpz
        self.chain.evm.set_up(httpz.address, httpz.set_coprocessors, coprocessors)

    def settings(self, member: int = 0, **changes: Any) -> Settings:
        """Return the settings of a node's connector; no bucket stands in for those of the chain."""
        return super().settings(member, **{"httpz": HttpzSettings(), **changes})

    def on_event(self, event: Event) -> None:
        super().on_event(event)
        for write in self.writes:
            write(event)

    def reference(
        self, value: int, fhe_type: int = 5, coprocessors: tuple[Address, ...] = (COPROCESSOR,)
    ) -> CiphertextReference:
        """Make a ciphertext, put it into the bucket under its digest, and return what a request names."""
        made = make_ciphertext("httpz", value, fhe_type, chain_id=2025)
        self.dependencies.plaintexts[made.body] = value
        self.bucket.put(made.digest.hex(), made.body)
        return CiphertextReference(made.handle, 7, made.digest, coprocessors)

    def ask_public(self, *references: CiphertextReference) -> None:
        """Let a public decryption be asked for in the next block."""
        manager = self.dependencies.decryption
        self.chain.actors.act(manager.address, lambda frame: manager.ask_public(frame, references))

    def ask_user(self, *references: CiphertextReference) -> None:
        """Let a user decryption be asked for in the next block."""
        manager = self.dependencies.decryption
        self.chain.actors.act(
            manager.address, lambda frame: manager.ask_user(frame, references, USER, USER_KEY)
        )

    def ask_key(self, kind: Kind, *rest: Any) -> None:
        """Let something be asked of the KeyManager in the next block."""
        keys = self.dependencies.keys
        self.chain.actors.act(keys.address, lambda frame: keys.ask(frame, kind, *rest))

    def replies(self, name: str) -> list[tuple[Any, ...]]:
        """Return the arguments of each successful call of a reply function, in the order of the chain."""
        contract = contracts.DECRYPTION_MANAGER if "Decryption" in name else contracts.KEY_MANAGER
        function = contract.function(name)
        calls = [mined.transaction.data for mined in all_mined(self.chain) if mined.outcome.status]
        return [function.decode(data) for data in calls if data[:4] == function.selector]

    async def wait_replies(self, name: str, count: int = 1, seconds: float = 60.0) -> list[tuple[Any, ...]]:
        """Return the replies of a function once there are that many."""
        await self.wait(lambda: len(self.replies(name)) >= count, seconds)
        return self.replies(name)


@asynccontextmanager
async def open_world(
    folder: Path, revision: str = "main", members: int = 1, **core: Any
) -> AsyncIterator[World]:
    """Run the dependencies while the block lasts, the first node's Core with these knobs; needs a virtual clock."""
    users = FirstTraffic.settle(wall, Random(0), block_time=0.5, revision=revision, members=members)
    users.dependencies.gateway.finality.depth = 4
    async with users.dependencies.run_in_memory() as network:
        world = World(users.dependencies, network, users, folder)
        for name, value in core.items():
            setattr(world.core, name, value)
        yield world
