"""The emulated KMSGeneration 0.3.0 does what the vectors of 0.15 say, and 0.2.0 what its compiled code would do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

import pytest
import trio

from kmsconn.emulator.contracts.generation_releases import (
    LATER_0_2,
    MIGRATING_0_3,
    TAGGED_0_2,
    GenerationRelease,
)
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION, LATER_KMS_GENERATION
from tests import vectors
from tests.unit.emulator.ceremony_world import (
    ABORT,
    COMMITTEE,
    COMPRESSED,
    CONFIG,
    FIRST_KEYGEN,
    GENERATION,
    KEY_INFO,
    KEYGEN,
    SENDERS,
    WHOLE,
    EmulatedBackend,
    Play,
    calldata,
    confirmation,
    emitted,
    key_id,
    key_reply,
    prep_id,
    prep_reply,
    refusal,
    slots_of,
    viewed,
)
from tests.unit.emulator.small_world import rpc
from tests.vectors import later, slot_of

URLS = tuple(node.storage_url for node in COMMITTEE.nodes)


MakePlay = Callable[[GenerationRelease], Awaitable[Play]]


@pytest.fixture
def play() -> MakePlay:
    """Deploys a release; ``test_anvil_migrations`` does so on a real node, for many of these tests."""

    async def make(release: GenerationRelease) -> Play:
        await trio.lowlevel.checkpoint()
        return Play(EmulatedBackend.make(release))

    return make


async def with_whole_key(play: MakePlay) -> Play:
    played = await play(TAGGED_0_2)
    await played.whole_key()
    return played


async def view(played: Play, name: str, *values: int) -> tuple[object, ...]:
    function = LATER_KMS_GENERATION.function(name)
    return function.decode_result(await played.at.ask(function.encode(*values)))


async def test_a_fresh_key_is_asked_for_and_made_as_in_the_vectors(play: MakePlay) -> None:
    played = await play(MIGRATING_0_3)
    assert await played.at.do(calldata("keygen fresh (owner)")) == [emitted("PrepKeygenRequest fresh")]
    asked = await played.prepare(1, calldata("prepKeygenResponse fresh"))
    assert asked == [emitted("KeygenRequest fresh")]
    made = await played.make(1, COMPRESSED, calldata("keygenResponse fresh"))
    assert made == [emitted("ActivateKey fresh")]


async def test_a_migration_is_asked_for_and_made_as_in_the_vectors(play: MakePlay) -> None:
    played = await with_whole_key(play)
    assert await played.at.do(calldata("keygen migration (owner)")) == [
        emitted("PrepKeygenRequest migration")
    ]
    asked = await played.prepare(2, calldata("prepKeygenResponse migration"))
    assert asked == [emitted("KeygenRequest migration")]
    made = await played.make(2, COMPRESSED, calldata("keygenResponse migration"))
    assert made == [emitted("ActivateKey migration")]
    info = await played.at.ask(KEY_INFO.encode(key_id(1)))
    assert info == viewed("getKeyInfo of the migrated key")


async def test_the_replies_of_the_vectors_are_the_ones_that_we_sign() -> None:
    for number, case in ((1, "fresh"), (2, "migration")):
        assert prep_reply(number, 0) == calldata(f"prepKeygenResponse {case}")
        assert key_reply(number, COMPRESSED, 0) == calldata(f"keygenResponse {case}")


async def test_a_migration_changes_neither_the_active_key_nor_the_list_of_keys(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.migrate()
    assert await view(played, "getActiveKeyId") == (key_id(1),)
    assert await view(played, "getCompletedKeyIds") == ((key_id(1),),)
    assert await view(played, "getKeyCounter") == (key_id(2),)


async def test_the_storage_of_a_migrated_key_is_that_of_the_nodes_of_its_migration(play: MakePlay) -> None:
    played = await with_whole_key(play)
    assert await view(played, "getKeyMaterials", key_id(1)) == (URLS, WHOLE)
    await played.migrate()
    assert await view(played, "getKeyMaterials", key_id(1)) == (URLS[::-1], (*WHOLE, COMPRESSED[1]))
    assert await view(played, "getKeyParamsType", key_id(1)) == (0,)


async def test_a_request_id_never_becomes_a_key_and_its_end_is_told_by_other_views(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    for end in (False, True):
        for name in ("getKeyInfo", "getKeyMaterials", "getKeyParamsType"):
            asked = LATER_KMS_GENERATION.function(name).encode(key_id(2))
            assert await played.at.refused(asked) == refusal("KeyNotGenerated(uint256)"), name
        assert await view(played, "isRequestDone", key_id(2)) == (end,)
        if not end:
            await played.prepare(2)
            await played.make(2, COMPRESSED)
    assert await view(played, "getConsensusTxSenders", key_id(2)) == (tuple(SENDERS),)


async def test_the_two_mappings_of_a_migration_stand_in_their_slots(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    for entry in ("existingKeyIdByRequestId", "requestIdByExistingKeyId"):
        slot, value = slots_of(entry)
        assert await played.at.slot(slot) == value, entry


async def test_the_context_and_epoch_of_a_migration_stand_in_their_slots(play: MakePlay) -> None:
    """The vectors have their value; where it stands is read from the contract's published source."""
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    plan = later.profile().deployment.keys.generation.extra_data(key_id(2))
    words = [await played.at.slot(slot_of(question)) for question in next(plan)]
    with pytest.raises(StopIteration) as end:
        plan.send([words[0], *(word.to_bytes(32) for word in words[1:])])
    assert to_hex(end.value.value) == vectors.load_later()["ids"]["extra_data"]


@pytest.mark.parametrize(
    ("release", "name"), [(TAGGED_0_2, "0.2.0"), (LATER_0_2, "0.2.0"), (MIGRATING_0_3, "0.3.0")]
)
async def test_the_version_is_that_of_the_vectors(
    play: MakePlay, release: GenerationRelease, name: str
) -> None:
    assert await (await play(release)).at.ask(calldata("getVersion")) == viewed(f"getVersion of {name}")


async def test_a_compressed_key_is_migrated_no_more(play: MakePlay) -> None:
    played = await play(MIGRATING_0_3)
    await played.at.do(KEYGEN.encode(0, 0))
    await played.prepare(1)
    await played.make(1, COMPRESSED)
    expected = refusal("CompressedKeyMaterialsAlreadyAdded(uint256)")
    assert await played.at.refused(calldata("keygen migration (owner)")) == expected


async def test_a_migrated_key_is_migrated_no_more(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.migrate()
    expected = refusal("CompressedKeyMaterialsAlreadyAdded(uint256)")
    assert await played.at.refused(calldata("keygen migration (owner)")) == expected


async def test_a_migration_keeps_the_parameters(play: MakePlay) -> None:
    played = await with_whole_key(play)
    expected = refusal("InvalidMigrationParamsType(uint256,uint8,uint8)")
    assert await played.at.refused(KEYGEN.encode(1, key_id(1))) == expected


async def test_only_the_active_key_is_migrated(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, 0))
    await played.prepare(2)
    await played.make(2, COMPRESSED)
    expected = refusal("NotActiveKey(uint256)")
    assert await played.at.refused(calldata("keygen migration (owner)")) == expected


async def test_what_is_no_key_is_not_migrated(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.migrate()
    assert await played.at.refused(KEYGEN.encode(0, key_id(2))) == refusal("KeyNotGenerated(uint256)")


async def test_one_key_or_migration_is_open_at_a_time(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    expected = LATER_KMS_GENERATION.error("KeygenOngoing").encode(key_id(2))
    assert await played.at.refused(KEYGEN.encode(0, key_id(1))) == expected


@pytest.mark.parametrize(
    "digests",
    [((1, b"\xaa" * 32),), ((3, b""),), ((3, b"\xbb" * 32), (3, b"\xbb" * 32))],
    ids=["none", "empty", "two"],
)
async def test_a_migration_needs_exactly_one_compressed_key_set(
    play: MakePlay, digests: tuple[tuple[int, bytes], ...]
) -> None:
    """Before anything else about the sender: a stranger hears the same."""
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    await played.prepare(2)
    for node in (0, None):
        expected = refusal("InvalidCompressedKeySetDigest(uint256)")
        assert await played.at.refused(key_reply(2, digests, 0), node) == expected


async def test_an_aborted_migration_is_repeated_under_new_ids(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    assert await played.at.do(ABORT.encode(prep_id(2))) == [emitted("AbortKeygen migration")]
    assert await played.at.refused(KEY_INFO.encode(key_id(2))) == refusal("KeyNotGenerated(uint256)")
    await played.migrate(3)
    assert await played.at.slot(slots_of("requestIdByExistingKeyId")[0]) == key_id(3)
    info = await played.at.ask(KEY_INFO.encode(key_id(1)))
    assert info == viewed("getKeyInfo of the migrated key")


async def test_replies_to_an_aborted_migration_are_taken_without_effect(play: MakePlay) -> None:
    played = await with_whole_key(play)
    await played.at.do(KEYGEN.encode(0, key_id(1)))
    await played.at.do(ABORT.encode(prep_id(2)))
    assert await played.prepare(2) == []
    assert await played.make(2, COMPRESSED) == []
    assert await view(played, "getKeyMaterials", key_id(1)) == (URLS, WHOLE)
    assert await view(played, "isRequestDone", key_id(2)) == (True,)


async def test_an_upgrade_in_mid_ceremony_changes_the_events_from_its_block_on(play: MakePlay) -> None:
    played = await play(TAGGED_0_2)
    [(topics, _)] = await played.at.do(FIRST_KEYGEN.encode(0))
    assert topics == ["0x" + KMS_GENERATION.event("PrepKeygenRequest").topic0.hex()]
    await played.at.do(prep_reply(1, 0), 0)
    await played.at.upgrade()
    assert (await played.at.do(prep_reply(1, 1), 1))[1:] == [emitted("KeygenRequest fresh")]
    assert await played.make(1, COMPRESSED) == [emitted("ActivateKey fresh")]


async def test_the_block_before_an_upgrade_has_the_old_release() -> None:
    backend = EmulatedBackend.make()
    backend.chain.mine()
    await backend.upgrade()
    wish = {"to": to_hex(GENERATION), "data": to_hex(calldata("getVersion"))}
    before = rpc(backend.node, "eth_call", wish, quantity(backend.chain.head.number - 1))["result"]
    assert from_hex(before) == viewed("getVersion of 0.2.0")
    assert await backend.ask(calldata("getVersion")) == viewed("getVersion of 0.3.0")


async def test_the_tagged_contract_knows_no_compressed_key_set_and_says_nothing_of_it(play: MakePlay) -> None:
    """The list is read lazily: an unknown id or a stranger hears its own error first."""
    played = await play(TAGGED_0_2)
    await played.at.do(FIRST_KEYGEN.encode(0))
    reply = key_reply(1, COMPRESSED, 0)
    pending = KMS_GENERATION.error("KeyManagementRequestPending").selector
    assert await played.at.refused(reply, 0) == pending
    await played.prepare(1)
    assert await played.at.refused(reply, 0) == b""
    assert (await played.at.refused(reply))[:4] == KMS_GENERATION.error("NotKmsTxSender").selector
    assert (await played.at.refused(key_reply(2, COMPRESSED, 0), 0))[:4] == KMS_GENERATION.error(
        "KeygenNotRequested"
    ).selector


async def test_the_later_contract_of_the_same_version_knows_compressed_key_sets(play: MakePlay) -> None:
    played = await play(LATER_0_2)
    await played.at.do(FIRST_KEYGEN.encode(0))
    await played.prepare(1)
    [(topics, _)] = await played.make(1, COMPRESSED)
    assert topics == ["0x" + KMS_GENERATION.event("ActivateKey").topic0.hex()]


async def test_a_config_of_the_tag_activates_no_epoch_of_compressed_keys_before_it_is_deployed_again() -> (
    None
):
    backend = EmulatedBackend.make()
    backend.chain.mine()
    backend.chain.actors.act(CONFIG, backend.config.begin_epoch)
    backend.chain.mine()
    wish = {"from": to_hex(SENDERS[0]), "to": to_hex(CONFIG), "data": to_hex(confirmation())}
    refused = rpc(backend.node, "eth_call", wish, "latest")["error"]
    assert refused.get("data", "0x") == "0x"
    backend.chain.evm.set_up(CONFIG, backend.config.redeploy)
    assert "result" in rpc(backend.node, "eth_call", wish, "latest")


@pytest.mark.parametrize(
    ("release", "data"),
    [(TAGGED_0_2, KEYGEN.encode(0, 0)), (MIGRATING_0_3, FIRST_KEYGEN.encode(0))],
    ids=["0.2.0", "0.3.0"],
)
async def test_a_key_is_begun_by_the_function_of_the_release(
    play: MakePlay, release: GenerationRelease, data: bytes
) -> None:
    assert await (await play(release)).at.refused(data) == b""
