"""The profile httpz-rc7 from event to reply, through the whole connector, among dependencies of its era."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.description import Mode
from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import (
    AlertRaised,
    AnswerMismatch,
    Event,
    LogQuarantined,
    ReplyCompared,
    ReplySent,
    RequestClosed,
    RequestDeferred,
    StageFailed,
    ignore,
)
from kmsconn.model.life import State
from kmsconn.model.requests import HTTPZ_RC7, Kind
from kmsconn.protocols.comparing import Likeness
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.decryptions import NAMELESS_EVENT
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm, encode_plaintexts
from kmsconn.transport.grpc.framing import Status
from tests.faults.scene import ports, wall
from tests.httpz.world import COPROCESSOR, USER, USER_KEY, World, open_world

PARAMETERS = b"\x9f" * 32
U64 = (5, (1000).to_bytes(8, "little"))
AT_ONCE = HttpzSettings(key_management_at_finality=False)


def identifier(number: int) -> str:
    return f"{number:064x}"


@pytest.mark.parametrize("revision", ["main", "rc7", "rc9"])
async def test_decryptions_of_every_revision_are_answered(tmp_path: Path, revision: str) -> None:
    async with open_world(tmp_path, revision) as world, world.connected() as connector:
        await connector.wait_ready()
        one, other = world.reference(1000), world.reference(1, 0)
        world.ask_public(one, other)
        world.ask_user(one)
        (public,) = await world.wait_replies("publicDecryptionResponse")
        (user,) = await world.wait_replies("userDecryptionResponse")
        assert public[:2] == (1, encode_plaintexts(PlaintextForm.P3, [U64, (0, b"\x01")]))
        assert user[0] == 1


@pytest.mark.parametrize("form", [PlaintextForm.P3, PlaintextForm.P1, PlaintextForm.P2])
async def test_the_form_that_the_core_signs_is_found(tmp_path: Path, form: PlaintextForm) -> None:
    async with open_world(tmp_path, form=form) as world, world.connected():
        world.ask_public(world.reference(1000))
        (reply,) = await world.wait_replies("publicDecryptionResponse")
        assert reply[:2] == (1, encode_plaintexts(form, [U64]))


async def test_a_form_that_nobody_configured_is_not_sent(tmp_path: Path) -> None:
    only_p3 = HttpzSettings(plaintext_encoding="p3")
    async with open_world(tmp_path, form=PlaintextForm.P1) as world, world.connected(httpz=only_p3):
        world.ask_public(world.reference(1000))
        (deferred, *_) = await world.wait(lambda: world.told(RequestDeferred))
        assert "check kms_core_endpoints" in deferred.reason
        await trio.sleep(60)
        assert world.told(RequestClosed) == []  # as long as the Core says so of all
        assert world.replies("publicDecryptionResponse") == []


async def test_public_and_user_requests_of_one_number_are_two(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        reference = world.reference(1000)
        for _ in range(5):
            world.ask_public(reference)
            world.ask_user(reference)
        public = await world.wait_replies("publicDecryptionResponse", 5)
        user = await world.wait_replies("userDecryptionResponse", 5)
        assert sorted(one[0] for one in public) == sorted(one[0] for one in user) == [1, 2, 3, 4, 5]


async def test_a_share_that_is_tied_to_another_request_is_told(tmp_path: Path) -> None:
    async with open_world(tmp_path, wrong_link=True) as world, world.connected():
        world.ask_user(world.reference(1000))
        await world.wait_replies("userDecryptionResponse")
        (mismatch,) = world.told(AnswerMismatch)
        assert "not that of the request" in mismatch.reason


async def ceremony(world: World) -> None:
    """Make a key, a CRS and a switching key, each once what it needs is there."""
    for _ in range(2):
        world.ask_key(Kind.PREP_KEYGEN, PARAMETERS)
    world.ask_key(Kind.CRSGEN, PARAMETERS)
    await world.wait_replies("preprocessKeygenResponse", 2)
    for prepared in (1, 2):
        world.ask_key(Kind.KEYGEN, prepared, PARAMETERS)
    world.ask_key(Kind.PREP_KSKGEN, PARAMETERS)
    await world.wait_replies("keygenResponse", 2)
    await world.wait_replies("preprocessKskgenResponse")
    world.ask_key(Kind.KSKGEN, 1, 1, 2, PARAMETERS)
    await world.wait_replies("kskgenResponse")
    await world.wait_replies("crsgenResponse")


async def test_a_key_ceremony_is_answered_step_by_step(tmp_path: Path) -> None:
    async with open_world(tmp_path, computing=3.0) as world, world.connected():
        await ceremony(world)
        assert sorted(world.replies("preprocessKeygenResponse")) == [(1, 1), (2, 2)]
        assert sorted(world.replies("keygenResponse")) == [(1, 1), (2, 2)]
        for name in ("preprocessKskgenResponse", "kskgenResponse", "crsgenResponse"):
            assert world.replies(name) == [(1, 1)]
        (switching,) = [one for _, one in world.calls if getattr(one, "keyset_added_info", None)]
        assert switching.domain is None


async def test_a_key_is_not_made_before_this_node_has_prepared_it(tmp_path: Path) -> None:
    """The Core gives a preprocessing to the first key that names it, finished or not (8.3)."""
    async with open_world(tmp_path, computing=30.0) as world, world.connected(httpz=AT_ONCE):
        world.ask_key(Kind.PREP_KEYGEN, PARAMETERS)
        world.ask_key(Kind.KEYGEN, 1, PARAMETERS)
        await world.wait_replies("keygenResponse", seconds=300.0)
        starts = [method for method, _ in world.calls if method in {"KeyGenPreproc", "KeyGen"}]
        assert starts == ["KeyGenPreproc", "KeyGen"]
        assert identifier(1) in world.core.prepared


async def test_key_requests_wait_until_their_block_is_final(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        world.chain.finality.depth = 100
        world.ask_key(Kind.CRSGEN, PARAMETERS)
        world.ask_public(world.reference(1000))
        await world.wait_replies("publicDecryptionResponse")
        asked = world.chain.head.number
        (reply,) = await world.wait_replies("crsgenResponse", seconds=120.0)
        assert reply == (1, 1)
        assert world.chain.head.number - asked > 90


async def test_a_centralised_core_is_not_asked_to_prepare(tmp_path: Path) -> None:
    without = HttpzSettings(preprocessing=False)
    async with open_world(tmp_path) as world, world.connected(httpz=without):
        world.ask_key(Kind.PREP_KEYGEN, PARAMETERS)
        assert await world.wait_replies("preprocessKeygenResponse") == [(1, 1)]
        assert world.calls == []


async def test_activation_is_no_business_of_a_node(tmp_path: Path) -> None:
    event = contracts.KEY_MANAGER.event("ActivateKeyRequest")
    async with open_world(tmp_path) as world, world.connected():
        world.chain.actors.act(world.dependencies.keys.address, lambda frame: frame.emit(event, 1))
        world.ask_public(world.reference(1000))
        await world.wait_replies("publicDecryptionResponse")
        await trio.sleep(30)
        assert {method for method, _ in world.calls} == {"Decrypt", "GetDecryptResult"}
        assert len(world.told(LogQuarantined)) == 0


async def test_a_core_that_forgot_is_asked_again(tmp_path: Path) -> None:
    async with open_world(tmp_path, computing=20.0) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait(lambda: world.core.memory.table("GetDecryptResult"))
        world.core.restart()
        await world.wait_replies("publicDecryptionResponse", seconds=200.0)
        assert [method for method, _ in world.calls].count("Decrypt") >= 2


async def test_an_id_that_the_core_knows_is_started(tmp_path: Path) -> None:
    """ABORTED for a duplicate is success: after a restart of the connector its result is asked for."""
    async with open_world(tmp_path, computing=5.0) as world:
        world.ask_public(world.reference(1000))
        async with world.connected():
            await world.wait(lambda: world.core.memory.table("GetDecryptResult"))
        (tmp_path / "journal.db").unlink()
        async with world.connected():
            await world.wait_replies("publicDecryptionResponse")
        await trio.sleep(20)
        assert len(world.replies("publicDecryptionResponse")) == 1


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("Cannot find centralized keys for id 07", "rejected-by-core"),
        ("Could not insert decryption into meta store: Error in table: full", "overloaded"),
    ],
)
async def test_what_aborted_means_decides_how_long_a_request_waits(
    tmp_path: Path, text: str, cause: str
) -> None:
    def does(method: str, number: str) -> None:
        if method == "Decrypt" and number == identifier(1):
            raise GrpcFailure(Status.ABORTED, text)

    async with open_world(tmp_path) as world, world.connected():
        world.core.does = does
        reference = world.reference(1000)
        world.ask_public(reference)
        await trio.sleep(5)
        world.ask_public(reference)
        await world.wait(lambda: world.told(RequestDeferred))
        await world.wait_replies("publicDecryptionResponse")
        assert {failed.cause for failed in world.told(StageFailed)} == {cause}
        assert not world.told(RequestClosed)
        assert [reply[0] for reply in world.replies("publicDecryptionResponse")] == [2]


async def test_a_user_request_without_a_user_is_set_aside(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        world.chain.actors.act(
            world.dependencies.decryption.address, lambda frame: frame.emit(NAMELESS_EVENT, 1, (), USER_KEY)
        )
        world.ask_user(world.reference(1000))
        await world.wait_replies("userDecryptionResponse")
        (told,) = world.told(LogQuarantined)
        assert "names no user address" in told.reason


async def test_a_request_of_unknown_type_reaches_no_core(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        known = world.reference(3)
        strange = attrs.evolve(known, handle=known.handle[:30] + b"\x0c\x00")
        world.ask_public(strange)
        (closed,) = await world.wait(lambda: world.told(RequestClosed))
        assert closed.state is State.REJECTED
        assert "FHE type 12" in closed.reason
        assert world.calls == []


async def test_nothing_is_sent_twice_when_the_journal_is_lost(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        async with world.connected(httpz=AT_ONCE):
            world.ask_public(world.reference(1000))
            world.ask_key(Kind.PREP_KEYGEN, PARAMETERS)
            await world.wait_replies("publicDecryptionResponse")
            await world.wait_replies("preprocessKeygenResponse")
        (tmp_path / "journal.db").unlink()
        calls = len(world.calls)
        async with world.connected(httpz=AT_ONCE):
            await trio.sleep(60)
        assert len(world.replies("publicDecryptionResponse")) == 1
        assert len(world.replies("preprocessKeygenResponse")) == 1
        assert len(world.calls) == calls


async def test_a_coprocessor_without_a_bucket_is_told_and_left_out(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_user(world.reference(1000, coprocessors=(USER, COPROCESSOR)))
        await world.wait_replies("userDecryptionResponse")
        assert [
            trouble.text for trouble in world.told(AlertRaised) if "0x23618e81" in trouble.dependency
        ] == ["has no bucket registered"]


async def test_a_wallet_that_is_no_node_waits_and_is_named(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        httpz = world.dependencies.httpz
        world.chain.evm.set_up(httpz.address, httpz.set_nodes, [])
        for value in (1000, 1001, 1002):
            world.ask_public(world.reference(value))
        await world.wait(
            lambda: any("is not a node" in one.text and one.critical for one in world.told(AlertRaised))
        )
        assert world.calls == []


async def test_the_alert_about_another_signer_names_the_option_of_this_generation(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.core.key = PrivateKey.parse("33" * 32)
        world.ask_public(world.reference(1000))
        [told, *_] = await world.wait(
            lambda: [one for one in world.told(AlertRaised) if one.cause == "wrong-signer"]
        )
    assert "check kms_core_endpoint" in told.text + told.remedy
    assert "kms_core_endpoints" not in told.text + told.remedy


ASKED = 4


async def test_a_shadow_of_the_first_generation_starts_nothing_and_finds_every_reply_equal(
    tmp_path: Path,
) -> None:
    """Public and user requests, each handed to the Core once, by the connector that sends."""
    users = GENERATIONS[HTTPZ_RC7].settle(wall, Random(0), block_time=1.0, computing=0.1)
    dependencies, events = users.dependencies, list[Event]()
    async with dependencies.run_in_memory() as network:
        changes: dict[str, Any] = {"reorg_window": 4.0, "decryption_from_block_number": 0}
        active = dependencies.settings(tmp_path / "active.db", **changes)
        shadow = dependencies.settings(tmp_path / "shadow.db", **changes).but(
            mode=Mode.SHADOW, private_key=None, tx_sender_address=dependencies.sender.address
        )
        async with (
            open_connector(active, ports=ports(network), on_event=ignore),
            open_connector(shadow, ports=ports(network), on_event=events.append),
        ):
            for form in ("public", "user") * (ASKED // 2):
                users.forms[form]()
            with trio.fail_after(120):
                while len(compared := [one for one in events if isinstance(one, ReplyCompared)]) < ASKED:
                    await trio.sleep(1)
    counts = dependencies.cores[0].counts
    assert [one.likeness for one in compared] == [Likeness.EQUAL] * ASKED
    assert not [one for one in events if isinstance(one, ReplySent)]
    assert sum(n for (method, _), n in counts.items() if method in {"Decrypt", "Reencrypt"}) == ASKED
