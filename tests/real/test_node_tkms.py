"""The users' own library opens, with verification on, what went through connectors and chain: of one node, and of four with degree 1.

node-tkms 0.12.8 verifies with empty extra data whatever a request says (kms-core-grpc.md, section 8), so all requests here are of
version 0 with empty extraData: no context in them.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.emulator.dependencies import GATEWAY_ID
from kmsconn.emulator.signcryption import UserKey
from kmsconn.ethereum.addresses import Address, checksum
from tests.real.anvil.ground_truth import replies_of, wait_answered
from tests.real.anvil.users import Asked, Users
from tests.real.anvil.world import World, open_world, sender_key, signer_key
from tests.real.tkms import as_numbers, ask

USER_FORMS = FORMS[1:]


@attrs.frozen
class Library:
    """node-tkms, asked through a process of Node.js."""

    folder: Path
    keys: dict[str, str]

    @classmethod
    async def at(cls, folder: Path) -> Library:
        """Load it, and let it make a user's key pair."""
        return cls(folder, await _ask(folder, {}))

    @property
    def user_key(self) -> UserKey:
        """The public half for requests; the secret one stays with the library."""
        return UserKey(bytes.fromhex(self.keys["enc_key"]), b"")

    async def open(self, world: World, one: Asked, replies: Sequence[tuple[Any, ...]], nodes: int) -> Any:
        """Let the user of a request open replies to it; return the values or the refusal."""
        assert one.plan.client is not None
        verifying = checksum(world.at.decryption)
        return await _ask(
            self.folder,
            {
                "open": {
                    "servers": [
                        {"party_id": n + 1, "address": checksum(signer_key(n).address)} for n in range(nodes)
                    ],
                    "client_address": checksum(one.plan.client),
                    "secret_key": self.keys["secret_key"],
                    "request": {
                        "client_address": checksum(one.plan.client),
                        "enc_key": self.keys["enc_key"],
                        "ciphertext_handles": [each.handle.hex() for each in one.plan.ciphertexts],
                        "eip712_verifying_contract": verifying,
                    },
                    "domain": {
                        "name": "Decryption",
                        "version": "1",
                        "chain_id": list(GATEWAY_ID.to_bytes(32)),
                        "verifying_contract": verifying,
                        "salt": None,
                    },
                    "responses": [_response(reply) for reply in replies],
                }
            },
        )


def _response(reply: tuple[Any, ...]) -> dict[str, str]:
    _, image, signature, extra_data = reply
    return {"payload": image.hex(), "signature": signature.hex(), "extra_data": extra_data.hex()}


async def _ask(folder: Path, question: dict[str, Any]) -> Any:
    return await trio.to_thread.run_sync(ask, folder, question)


def values_of(one: Asked) -> list[tuple[int, int]]:
    """Return types and values that the library must find."""
    return [(each.fhe_type, each.value) for each in one.plan.ciphertexts]


@attrs.frozen
class Run:
    """What is on the chain: requests, and for each node its replies by id."""

    world: World
    library: Library
    asked: list[Asked]
    replies: list[dict[int, tuple[Any, ...]]]

    def of(self, one: Asked, nodes: Sequence[int]) -> list[tuple[Any, ...]]:
        """Return the replies of these nodes to one request."""
        return [self.replies[node][one.id] for node in nodes]


async def run(world: World, library: Library, folder: Path, nodes: int) -> Run:
    """Ask in every form of user decryption, and let a connector for each node answer."""
    users = Users(world, user_key=library.user_key)
    async with AsyncExitStack() as stack:
        for node in range(nodes):
            settings = world.settings(folder / f"journal-{node}.db", node)
            await stack.enter_async_context(open_connector(settings))
        asked = await users.ask(*USER_FORMS)
        for node in range(nodes):
            ground_truth = await wait_answered(*_gateway(world, node), len(asked))
            assert (ground_truth.open, ground_truth.doubled) == ((), ())
    return Run(
        world, library, asked, [dict(await replies_of(*_gateway(world, node))) for node in range(nodes)]
    )


def _gateway(world: World, node: int) -> tuple[Endpoint, Address, Address]:
    return world.gateway.rpc, world.at.decryption, sender_key(node).address


def changed(one: Asked, other: Asked, there: Run) -> list[tuple[Any, ...]]:
    """Return replies that must not open: a flipped bit in the payload, and the signature of another request's."""
    ((identifier, image, signature, extra_data),) = there.of(one, [0])
    flipped = image[:-1] + bytes([image[-1] ^ 1])
    foreign = there.of(other, [0])[0][2]
    return [(identifier, flipped, signature, extra_data), (identifier, image, foreign, extra_data)]


async def test_the_share_of_a_centralised_core_opens_for_every_form_unless_it_was_changed(
    anvil: Path, node_tkms: Path, tmp_path: Path
) -> None:
    """The library does verify: what does not fit is refused."""
    library = await Library.at(node_tkms)
    async with open_world(anvil, tmp_path) as world:
        there = await run(world, library, tmp_path, 1)
        for one in there.asked:
            said = await library.open(world, one, there.of(one, [0]), 1)
            assert as_numbers(said) == values_of(one), one.plan.form
        for wrong in changed(there.asked[0], there.asked[1], there):
            assert "refused" in await library.open(world, there.asked[0], [wrong], 1)


async def test_the_shares_of_four_nodes_with_degree_one_open_and_three_are_enough(
    anvil: Path, node_tkms: Path, tmp_path: Path
) -> None:
    """Four connectors, each with its Core and wallet; two of the shares are not enough."""
    library = await Library.at(node_tkms)
    async with open_world(anvil, tmp_path, nodes=4) as world:
        there = await run(world, library, tmp_path, 4)
        for one in there.asked:
            for nodes in (range(4), (0, 2, 3)):
                said = await library.open(world, one, there.of(one, nodes), 4)
                assert as_numbers(said) == values_of(one), one.plan.form
        assert "refused" in await library.open(world, one, there.of(one, (1, 2)), 4)
