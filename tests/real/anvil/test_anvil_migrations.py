"""Our Solidity KMSGeneration 0.3.0 does what the vectors of 0.15 say, and 0.2.0 knows no compressed key set; on a real node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from kmsconn.chain.port import Call, RpcError
from kmsconn.emulator.dependencies import key_for
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION, LATER_KMS_GENERATION
from tests.real.anvil import contracts
from tests.real.anvil.account import receipt
from tests.real.anvil.placing import put_code, set_counters
from tests.real.anvil.world import OWNER, Place, open_place
from tests.unit.emulator.migration_world import (
    ABORT,
    CHAIN_ID,
    COMMITTEE,
    COMPRESSED,
    CONFIG,
    CONTEXT,
    EPOCH,
    FIRST_KEYGEN,
    GENERATION,
    KEY_INFO,
    KEYGEN,
    SENDERS,
    WHOLE,
    Emission,
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


@attrs.frozen
class SolidityBackend:
    """The compiled contract on anvil; nodes send without a key."""

    place: Place

    async def do(self, data: bytes, node: int | None = None) -> list[Emission]:
        wish = {**self._wish(data, node), "gas": "0xb71b00"}
        sent = await self.place.rpc.call("eth_sendTransaction", wish)
        done = await receipt(self.place.rpc, from_hex(sent))
        assert done["status"] == "0x1"
        return [(log["topics"], log["data"]) for log in done["logs"]]

    async def ask(self, data: bytes, node: int | None = None) -> bytes:
        return from_hex(await self.place.rpc.call("eth_call", self._wish(data, node), "latest"))

    async def refused(self, data: bytes, node: int | None = None) -> bytes:
        [answer] = await self.place.rpc.batch([Call("eth_call", (self._wish(data, node), "latest"))])
        assert isinstance(answer, RpcError), answer
        return answer.data or b""

    async def slot(self, slot: int) -> int:
        where = (to_hex(GENERATION), to_hex(slot.to_bytes(32)), "latest")
        return int(await self.place.rpc.call("eth_getStorageAt", *where), 16)

    async def upgrade(self) -> None:
        await put_code(self.place, GENERATION, "MigratingGeneration", CONFIG)

    def _wish(self, data: bytes, node: int | None) -> dict[str, str]:
        return {"from": to_hex(_sender(node)), "to": to_hex(GENERATION), "data": to_hex(data)}


def _sender(node: int | None) -> Address:
    return key_for(OWNER).address if node is None else SENDERS[node]


def place_of(played: Play) -> Place:
    assert isinstance(played.at, SolidityBackend)
    return played.at.place


@asynccontextmanager
async def playing(binary: Path, folder: Path, release: str = "KMSGeneration") -> AsyncIterator[Play]:
    """Deploy a release with the committee of the vectors."""
    async with open_place(binary, CHAIN_ID, folder) as place:
        await put_code(place, CONFIG, "ProtocolConfig")
        await put_code(place, GENERATION, release, CONFIG)
        await set_counters(place, GENERATION)
        await place.owner.do(
            (CONFIG, contracts.ethereum_context(CONTEXT, COMMITTEE)),
            (CONFIG, contracts.ethereum_thresholds(CONTEXT, COMMITTEE)),
            (CONFIG, contracts.turn("ProtocolConfig", "setEpoch", CONTEXT, EPOCH, contracts.EPOCH_ACTIVE)),
        )
        for sender in (*SENDERS, key_for(OWNER).address):
            await place.rpc.call("anvil_impersonateAccount", to_hex(sender))
            await place.rpc.call("anvil_setBalance", to_hex(sender), quantity(10**20))
        yield Play(SolidityBackend(place))


async def test_a_fresh_key_is_made_as_in_the_vectors_and_migrated_no_more(
    anvil: Path, tmp_path: Path
) -> None:
    async with playing(anvil, tmp_path, "MigratingGeneration") as played:
        assert await played.at.do(calldata("keygen fresh (owner)")) == [emitted("PrepKeygenRequest fresh")]
        asked = await played.prepare(1, calldata("prepKeygenResponse fresh"))
        assert asked == [emitted("KeygenRequest fresh")]
        made = await played.make(1, COMPRESSED, calldata("keygenResponse fresh"))
        assert made == [emitted("ActivateKey fresh")]
        expected = refusal("CompressedKeyMaterialsAlreadyAdded(uint256)")
        assert await played.at.refused(calldata("keygen migration (owner)")) == expected


async def test_a_migration_goes_as_in_the_vectors(anvil: Path, tmp_path: Path) -> None:
    """Its events, views, refusals and slots, beginning with a key of 0.2.0 and an upgrade."""
    async with playing(anvil, tmp_path) as played:
        assert await played.at.ask(calldata("getVersion")) == viewed("getVersion of 0.2.0")
        await played.whole_key()
        assert await played.at.ask(calldata("getVersion")) == viewed("getVersion of 0.3.0")
        await _migrate(played)
        info = await played.at.ask(KEY_INFO.encode(key_id(1)))
        assert info == viewed("getKeyInfo of the migrated key")
        await _after_a_migration(played)


async def _migrate(played: Play) -> None:
    mismatch = refusal("InvalidMigrationParamsType(uint256,uint8,uint8)")
    assert await played.at.refused(KEYGEN.encode(1, key_id(1))) == mismatch
    assert await played.at.do(calldata("keygen migration (owner)")) == [
        emitted("PrepKeygenRequest migration")
    ]
    asked = await played.prepare(2, calldata("prepKeygenResponse migration"))
    assert asked == [emitted("KeygenRequest migration")]
    for digests in (WHOLE, ((3, b""),), (COMPRESSED[1], COMPRESSED[1])):
        expected = refusal("InvalidCompressedKeySetDigest(uint256)")
        assert await played.at.refused(key_reply(2, digests, 0), 0) == expected
    made = await played.make(2, COMPRESSED, calldata("keygenResponse migration"))
    assert made == [emitted("ActivateKey migration")]


async def _after_a_migration(played: Play) -> None:
    for name in ("getKeyInfo", "getKeyMaterials", "getKeyParamsType"):
        asked = LATER_KMS_GENERATION.function(name).encode(key_id(2))
        assert await played.at.refused(asked) == refusal("KeyNotGenerated(uint256)"), name
    materials = LATER_KMS_GENERATION.function("getKeyMaterials")
    urls, digests = materials.decode_result(await played.at.ask(materials.encode(key_id(1))))
    assert urls == tuple(node.storage_url for node in COMMITTEE.nodes)
    assert digests == (*WHOLE, COMPRESSED[1])
    for entry in ("existingKeyIdByRequestId", "requestIdByExistingKeyId"):
        slot, value = slots_of(entry)
        assert await played.at.slot(slot) == value, entry
    expected = refusal("CompressedKeyMaterialsAlreadyAdded(uint256)")
    assert await played.at.refused(calldata("keygen migration (owner)")) == expected
    await played.at.do(KEYGEN.encode(0, 0))
    await played.prepare(3)
    await played.make(3, COMPRESSED)
    assert await played.at.refused(calldata("keygen migration (owner)")) == refusal("NotActiveKey(uint256)")


async def test_an_aborted_migration_is_repeated_under_new_ids(anvil: Path, tmp_path: Path) -> None:
    async with playing(anvil, tmp_path) as played:
        await played.whole_key()
        await played.at.do(KEYGEN.encode(0, key_id(1)))
        assert await played.at.do(ABORT.encode(prep_id(2))) == [emitted("AbortKeygen migration")]
        assert await played.prepare(2) == await played.make(2, COMPRESSED) == []
        assert await played.at.refused(KEY_INFO.encode(key_id(2))) == refusal("KeyNotGenerated(uint256)")
        await played.migrate(3)
        info = await played.at.ask(KEY_INFO.encode(key_id(1)))
        assert info == viewed("getKeyInfo of the migrated key")


async def test_an_upgrade_in_mid_ceremony_changes_the_events(anvil: Path, tmp_path: Path) -> None:
    async with playing(anvil, tmp_path) as played:
        [(topics, _)] = await played.at.do(FIRST_KEYGEN.encode(0))
        assert topics == ["0x" + KMS_GENERATION.event("PrepKeygenRequest").topic0.hex()]
        await played.at.do(prep_reply(1, 0), 0)
        await played.at.upgrade()
        assert (await played.at.do(prep_reply(1, 1), 1))[1:] == [emitted("KeygenRequest fresh")]
        assert await played.make(1, COMPRESSED) == [emitted("ActivateKey fresh")]


async def test_the_tagged_contract_reverts_without_data_at_a_compressed_key_set(
    anvil: Path, tmp_path: Path
) -> None:
    """What the specification infers from the source (1.5); the same source with later key types takes it."""
    async with playing(anvil, tmp_path) as played:
        await played.at.do(FIRST_KEYGEN.encode(0))
        reply = key_reply(1, COMPRESSED, 0)
        pending = KMS_GENERATION.error("KeyManagementRequestPending").selector
        assert await played.at.refused(reply, 0) == pending
        await played.prepare(1)
        assert await played.at.refused(reply, 0) == b""
        assert (await played.at.refused(reply))[:4] == KMS_GENERATION.error("NotKmsTxSender").selector
        await put_code(place_of(played), GENERATION, "LaterKMSGeneration", CONFIG)
        assert await played.at.ask(calldata("getVersion")) == viewed("getVersion of 0.2.0")
        assert len(await played.make(1, COMPRESSED)) == 1


async def test_a_config_of_the_tag_activates_no_epoch_of_compressed_keys_before_it_is_deployed_again(
    anvil: Path, tmp_path: Path
) -> None:
    """Likewise inferred there (1.9): the source is the same, and only the key types that it was compiled with are others."""
    async with playing(anvil, tmp_path) as played:
        place = place_of(played)
        await place.owner.do((CONFIG, contracts.turn("ProtocolConfig", "beginEpoch")))
        wish = {"from": to_hex(SENDERS[0]), "to": to_hex(CONFIG), "data": to_hex(confirmation())}
        [refused] = await place.rpc.batch([Call("eth_call", (wish, "latest"))])
        assert isinstance(refused, RpcError)
        assert not refused.data
        await put_code(place, CONFIG, "LaterProtocolConfig")
        assert await place.rpc.call("eth_call", wish, "latest") == "0x"
