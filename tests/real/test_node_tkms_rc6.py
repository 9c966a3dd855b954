"""The users' library of the first generation, node-tkms 0.11.0-rc6, opens with verification on what went through connectors and chain.

The chain and the Cores are emulated, in virtual time; the library works on the calldata of the replies.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from trio.testing import MockClock

from kmsconn.emulator.dependencies import signer_of
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols import bincode
from tests.httpz.world import USER, USER_KEY, open_world
from tests.real.tkms import as_numbers, ask
from tests.vectors import httpz

REPLY = "userDecryptionResponse"
VALUES = (
    (0, 1),
    (2, 200),
    (3, 16),
    (4, 3_000_000_000),
    (5, 1000),
    (6, 2**127 + 5),
    (7, 2**159 + 6),
    (8, 2**255 + 7),
)
NARROW, WIDE = ((1, 9),), ((9, 2**511 + 9), (10, 2**1023 + 10), (11, 2**2047 + 11))
SECRET_KEY = httpz.load()["keys"]["user_x25519"]["private_key_blob"].removeprefix("0x")


@attrs.frozen
class Run:
    """One request of a user, and the replies to it by party number."""

    library: Path
    nodes: int
    domain: Domain
    materials: list[CiphertextReference]
    replies: dict[int, tuple[bytes, bytes]]

    def open(self, replies: Iterable[tuple[bytes, bytes]], user: str = checksum(USER)) -> Any:
        """Let a user open replies; return the values or the refusal."""
        domain, contract = self.domain, checksum(self.domain.verifying_contract)
        return ask(
            self.library,
            {
                "open": {
                    "servers": [{"address": checksum(signer_of(n).address)} for n in range(self.nodes)],
                    "client_address": user,
                    "secret_key": SECRET_KEY,
                    "request": {
                        "client_address": checksum(USER),
                        "enc_key": USER_KEY.hex(),
                        "ciphertext_handles": [one.handle.hex() for one in self.materials],
                        "eip712_verifying_contract": contract,
                    },
                    "domain": {
                        "name": domain.name,
                        "version": domain.version,
                        "chain_id": list(domain.chain_id.to_bytes(32)),
                        "verifying_contract": contract,
                        "salt": None,
                    },
                    "responses": [
                        {"payload": image.hex(), "signature": signature.hex()} for image, signature in replies
                    ],
                }
            },
        )

    def of(self, parties: Iterable[int]) -> list[tuple[bytes, bytes]]:
        """Return the replies of some nodes."""
        return [self.replies[party] for party in parties]


async def run(
    library: Path, folder: Path, values: Sequence[tuple[int, int]], *, nodes: int = 1, revision: str = "rc9"
) -> Run:
    """Ask for values in one request, and let a connector for each node answer."""
    async with open_world(folder, revision, nodes) as world, world.all_connected(nodes):
        materials = [world.reference(value, kind) for kind, value in values]
        world.ask_user(*materials)
        sent = await world.wait_replies(REPLY, nodes)
    replies = {bincode.decode(image, packed=False).party_id: (image, sig) for _, image, sig in sent}
    return Run(library, nodes, world.dependencies.decryption.domain, materials, replies)


@pytest.mark.parametrize("revision", ["main", "rc9"])
async def test_the_share_of_a_centralised_core_opens_for_every_type(
    autojump_clock: MockClock, node_tkms_rc6: Path, tmp_path: Path, revision: str
) -> None:
    values = (*NARROW, *VALUES, *WIDE)
    there = await run(node_tkms_rc6, tmp_path, values, revision=revision)
    assert as_numbers(there.open(there.of([1]))) == list(values)


async def test_a_share_that_was_changed_or_is_anothers_is_refused(
    autojump_clock: MockClock, node_tkms_rc6: Path, tmp_path: Path
) -> None:
    """The library does verify."""
    there = await run(node_tkms_rc6, tmp_path, VALUES[:2])
    ((image, signature),) = there.of([1])
    flipped = image[:-1] + bytes([image[-1] ^ 1])
    foreign = bytes.fromhex(
        httpz.load()["bytes32"]["client_library"][0]["input"]["responses"][0]["signature"]
    )
    assert as_numbers(there.open([(image, signature)])) == list(VALUES[:2])
    assert "External PT signature" in there.open([(flipped, signature)])["refused"]
    assert "External PT signature" in there.open([(image, foreign)])["refused"]
    assert "signature error" in there.open([(image, signature)], user=httpz.node(2)["tx_sender"])["refused"]


async def test_the_shares_of_handles_that_are_numbers_are_tied_otherwise_than_this_library_expects(
    autojump_clock: MockClock, node_tkms_rc6: Path, tmp_path: Path
) -> None:
    there = await run(node_tkms_rc6, tmp_path, VALUES[:1], revision="rc7")
    assert "link mismatch" in there.open(there.of([1]))["refused"]


async def test_the_shares_of_four_nodes_with_degree_one_open_and_three_are_enough(
    autojump_clock: MockClock, node_tkms_rc6: Path, tmp_path: Path
) -> None:
    """Four connectors, each with its Core and wallet; two of the shares are not enough."""
    values = (*NARROW, *VALUES)
    there = await run(node_tkms_rc6, tmp_path, values, nodes=4)
    assert sorted(there.replies) == [1, 2, 3, 4]
    for parties in ((1, 2, 3, 4), (1, 3, 4)):
        assert as_numbers(there.open(there.of(parties))) == list(values)
    assert "reconstruct" in there.open(there.of([2, 3]))["refused"]
