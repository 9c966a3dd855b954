"""Every form of request on anvil, through a whole connector: it is included once, and what is included is right."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.contracts.request_calls import FORMS
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.emulator.plaintexts import abi_word, little_endian
from kmsconn.emulator.signcryption import verification_key
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm.contracts import DecryptionViews
from kmsconn.testing.ground_truth import GroundTruthReport
from tests.opening import open_share
from tests.real.anvil.ground_truth import replies_of, wait_answered
from tests.real.anvil.slots import ask_slot
from tests.real.anvil.users import Asked, Users
from tests.real.anvil.world import World, open_world, sender_key, signer_key

pytestmark = pytest.mark.sampled

EXTRA_DATA = (
    b"",
    b"\x00",
    b"\x01" + CONTEXT.to_bytes(32),
    b"\x02" + CONTEXT.to_bytes(32) + EPOCH.to_bytes(32),
)
ROUNDS = 5


async def test_every_form_is_included_once_and_says_the_truth(anvil: Path, tmp_path: Path) -> None:
    async with open_world(anvil, tmp_path) as world:
        users = Users(world, extra_data=EXTRA_DATA)
        async with open_connector(world.settings(tmp_path / "journal.db")):
            asked = await users.ask(*FORMS * ROUNDS)
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, len(asked)
            )
        assert {one.plan.form for one in asked} == set(FORMS)
        assert_all_once(asked, ground_truth)
        await assert_right(world, users, asked)
        await assert_slots(world, asked)


def assert_all_once(asked: list[Asked], ground_truth: GroundTruthReport) -> None:
    """Check that exactly these requests are there, each answered by one transaction."""
    assert (set(ground_truth.requested), len(ground_truth.requested)) == (
        {one.id for one in asked},
        len(asked),
    )
    assert (ground_truth.open, ground_truth.doubled) == ((), ())


async def assert_right(world: World, users: Users, asked: list[Asked]) -> None:
    """Check that every reply on the chain holds the values that were encrypted."""
    replies = await replies_of(world.gateway.rpc, world.at.decryption, sender_key().address)
    for one in asked:
        _, content, _, extra_data = replies[one.id]
        # The single byte 0x00 goes to the Core as nothing, and comes back so (fhevm-0.14.md, 6.3).
        assert extra_data == (b"" if one.plan.extra_data == b"\x00" else one.plan.extra_data)
        if one.plan.client is None:
            assert content == b"".join(abi_word(each.value, each.fhe_type) for each in one.plan.ciphertexts)
        else:
            assert opened(users, one, content) == [
                little_endian(each.value, each.fhe_type) for each in one.plan.ciphertexts
            ]


def opened(users: Users, one: Asked, image: bytes) -> list[bytes]:
    """Open the shares of a reply as its user."""
    assert one.plan.client is not None
    vk = verification_key(signer_key().public_key)
    secret = users.user_key.secret_key
    shares = bincode.decode(image).shares
    return [
        open_share(secret, share.signcrypted, client=one.plan.client, vk=vk).plaintext for share in shares
    ]


async def assert_slots(world: World, asked: list[Asked]) -> None:
    """Check that our reads of the contracts' storage find what the contracts wrote (annex E.1)."""
    views = DecryptionViews(world.gateway.rpc.chain_id, world.at.decryption)
    ids = [one.id for one in asked]
    public = [one.id for one in asked if one.plan.client is None]
    rpc = world.gateway.rpc
    assert await ask_slot(rpc, views.newest_public_id()) == max(public)
    assert await ask_slot(rpc, views.newest_user_id()) == max(ids)
    for one in asked[: len(FORMS)]:
        assert await ask_slot(rpc, views.pinned_context(one.id)) == CONTEXT
        ours = views.has_answered(one.id, signer_key().address)
        stranger = views.has_answered(one.id, key_for("stranger").address)
        assert [await ask_slot(rpc, ours), await ask_slot(rpc, stranger)] == [True, False]
