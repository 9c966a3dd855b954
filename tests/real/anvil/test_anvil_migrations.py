"""Our Solidity KMSGeneration 0.3.0 does what the vectors of 0.15 say, and 0.2.0 knows no compressed key set; on a real node."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from kmsconn.chain.port import Call, RpcError
from kmsconn.emulator.contracts.generation_releases import (
    LATER_0_2,
    MIGRATING_0_3,
    TAGGED_0_2,
    GenerationRelease,
)
from kmsconn.emulator.dependencies import key_for
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from tests.real.anvil import contracts
from tests.real.anvil.account import receipt
from tests.real.anvil.contracts import put_code, set_counters
from tests.real.anvil.world import OWNER, Place, open_place
from tests.unit.emulator.ceremony_world import (
    CHAIN_ID,
    COMMITTEE,
    CONFIG,
    CONTEXT,
    EPOCH,
    GENERATION,
    SENDERS,
    Backend,
    Emission,
    Play,
    confirmation,
)
from tests.unit.emulator.test_migration_vectors import (  # noqa: F401 - the tests, played here on the compiled contract
    MakePlay,
    test_a_compressed_key_is_migrated_no_more,
    test_a_fresh_key_is_asked_for_and_made_as_in_the_vectors,
    test_a_migrated_key_is_migrated_no_more,
    test_a_migration_is_asked_for_and_made_as_in_the_vectors,
    test_a_migration_keeps_the_parameters,
    test_a_migration_needs_exactly_one_compressed_key_set,
    test_a_request_id_never_becomes_a_key_and_its_end_is_told_by_other_views,
    test_an_aborted_migration_is_repeated_under_new_ids,
    test_an_upgrade_in_mid_ceremony_changes_the_events_from_its_block_on,
    test_only_the_active_key_is_migrated,
    test_replies_to_an_aborted_migration_are_taken_without_effect,
    test_the_context_and_epoch_of_a_migration_stand_in_their_slots,
    test_the_later_contract_of_the_same_version_knows_compressed_key_sets,
    test_the_storage_of_a_migrated_key_is_that_of_the_nodes_of_its_migration,
    test_the_tagged_contract_knows_no_compressed_key_set_and_says_nothing_of_it,
    test_the_two_mappings_of_a_migration_stand_in_their_slots,
    test_the_version_is_that_of_the_vectors,
)


@attrs.frozen
class SolidityBackend(Backend):
    """The compiled contract on anvil; nodes send without a key."""

    owner = key_for(OWNER).address

    place: Place

    async def do(self, data: bytes, node: int | None = None) -> list[Emission]:
        wish = {**self.wish(data, node), "gas": "0xb71b00"}
        sent = await self.place.rpc.call("eth_sendTransaction", wish)
        done = await receipt(self.place.rpc, from_hex(sent))
        assert done["status"] == "0x1"
        return [(log["topics"], log["data"]) for log in done["logs"]]

    async def upgrade(self) -> None:
        await put_code(self.place, GENERATION, "MigratingGeneration", CONFIG)

    async def call(self, method: str, *params: Any) -> Any:
        return await self.place.rpc.call(method, *params)


NAMES = {TAGGED_0_2: "KMSGeneration", LATER_0_2: "LaterKMSGeneration", MIGRATING_0_3: "MigratingGeneration"}


@pytest.fixture
async def place(anvil: Path, tmp_path: Path) -> AsyncIterator[Place]:
    """A chain with the committee of the vectors, and a contract of keys without code."""
    async with open_place(anvil, CHAIN_ID, tmp_path) as place:
        await put_code(place, CONFIG, "ProtocolConfig")
        await set_counters(place, GENERATION)
        await place.owner.do(
            (CONFIG, contracts.ethereum_context(CONTEXT, COMMITTEE)),
            (CONFIG, contracts.ethereum_thresholds(CONTEXT, COMMITTEE)),
            (CONFIG, contracts.turn("ProtocolConfig", "setEpoch", CONTEXT, EPOCH, contracts.EPOCH_ACTIVE)),
        )
        for sender in (*SENDERS, key_for(OWNER).address):
            await place.rpc.call("anvil_impersonateAccount", to_hex(sender))
            await place.rpc.call("anvil_setBalance", to_hex(sender), quantity(10**20))
        yield place


@pytest.fixture
def play(place: Place) -> MakePlay:
    """Deploys a release."""

    async def make(release: GenerationRelease) -> Play:
        await put_code(place, GENERATION, NAMES[release], CONFIG)
        return Play(SolidityBackend(place))

    return make


async def test_a_config_of_the_tag_activates_no_epoch_of_compressed_keys_before_it_is_deployed_again(
    place: Place,
) -> None:
    """Likewise inferred there (1.9): the source is the same, and only the key types that it was compiled with are others."""
    await place.owner.do((CONFIG, contracts.turn("ProtocolConfig", "beginEpoch")))
    wish = {"from": to_hex(SENDERS[0]), "to": to_hex(CONFIG), "data": to_hex(confirmation())}
    [refused] = await place.rpc.batch([Call("eth_call", (wish, "latest"))])
    assert isinstance(refused, RpcError)
    assert not refused.data
    await put_code(place, CONFIG, "LaterProtocolConfig")
    assert await place.rpc.call("eth_call", wish, "latest") == "0x"
