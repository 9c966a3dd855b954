"""Every form of request on anvil, answered once and right; and requests that its contracts take and the connector must not answer."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.contracts.acl import Mood
from kmsconn.emulator.contracts.request_calls import FORMS, UNIFIED_CALL
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH
from kmsconn.emulator.signcryption import abi_word, little_endian, verification_key
from kmsconn.model.events import Event, RequestClosed, RequestDeferred
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm.contracts import DECRYPTION, DecryptionViews
from kmsconn.testing.ground_truth import GroundTruthReport
from tests.opening import open_share
from tests.real.anvil import contracts
from tests.real.anvil.contracts import ask_slot
from tests.real.anvil.ground_truth import replies_of, wait_answered, wait_until
from tests.real.anvil.users import Asked, Plan, Users
from tests.real.anvil.world import World, open_world, sender_key, signer_key
from tests.real.gateways import MOODS

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
    shares = bincode.decode(image).signcrypted_ciphertexts
    return [
        open_share(secret, share.signcrypted_ciphertext, client=one.plan.client, vk=vk).plaintext
        for share in shares
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


_SIGNATURE = 5
"""Which argument of the unified call it is."""


def signed_by_another(plan: Plan) -> Plan:
    """Put a signature of other bytes into a unified request."""
    function = DECRYPTION.function(UNIFIED_CALL)
    arguments = list(function.decode(plan.calldata))
    arguments[_SIGNATURE] = key_for("stranger").sign(bytes(32))
    return attrs.evolve(plan, calldata=function.encode(*arguments))


class Ends:
    """The requests that were deferred or closed, by the connector's own numbers."""

    def __init__(self) -> None:
        self.deferred: set[int] = set()
        self.closed: set[int] = set()

    def on_event(self, event: Event) -> None:
        match event:
            case RequestDeferred():
                self.deferred.add(event.rid)
            case RequestClosed():
                self.closed.add(event.rid)
            case _:
                pass


async def set_mood(world: World, mood: Mood) -> None:
    call = contracts.turn("Wallet", "setMood", MOODS.index(mood))
    await world.host.owner.do((world.at.wallet, call))


async def test_only_the_request_that_everybody_allows_is_answered(anvil: Path, tmp_path: Path) -> None:
    """Denied public and user requests wait; a stranger's signature for an account without code can never be right."""
    ends = Ends()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db")
        async with open_connector(settings, on_event=ends.on_event):
            good = await users.ask("unified")
            denied = await users.request(await users.prepare("public", "direct", "unified", rights=False))
            forged = await users.request([signed_by_another(p) for p in await users.prepare("unified")])
            await wait_until(lambda: len(ends.deferred) >= len(denied) and len(ends.closed) >= len(forged))
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, 1
            )
    assert ground_truth.answered == (good[0].id,)
    assert set(ground_truth.open) == {one.id for one in (*denied, *forged)}
    assert len(ends.closed) == len(forged)


async def test_a_wallet_that_changes_its_mind_is_asked_again(anvil: Path, tmp_path: Path) -> None:
    """ERC-1271 by real code: no, a revert and an endless loop make the request wait; then the owner's signature counts."""
    ends = Ends()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        async with open_connector(world.settings(tmp_path / "journal.db"), on_event=ends.on_event):
            for count, mood in enumerate((Mood.NO, Mood.REVERT, Mood.BURN), start=1):
                await set_mood(world, mood)
                await users.ask("wallet")
                await wait_until(lambda least=count: len(ends.deferred) >= least)  # type: ignore[misc]
            await set_mood(world, Mood.HONEST)
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, 3
            )
    assert (len(ground_truth.answered), ground_truth.open, ground_truth.doubled, ends.closed) == (
        3,
        (),
        (),
        set(),
    )
