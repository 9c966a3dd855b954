"""A healthy set-up has no fault and no warning, whatever the generation, before the first start and beside a connector."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.config.values import Mode
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.operate.doctor.diagnosis import CheckStatus
from tests.unit.operate.doctor.patient import Patient, patient

BOTH = pytest.mark.parametrize("profile", [FHEVM, HTTPZ_RC7])


async def statuses(one: Patient) -> dict[str, CheckStatus]:
    return {line.checked: line.status for line in await one.examine()}


@BOTH
async def test_before_the_first_start_only_what_a_connector_brings_about_is_skipped(profile: str) -> None:
    """The signer of the Core and a reply need an answer of the Core."""
    async with patient(profile) as one:
        assert await one.faults() == []
        left = {line.checked for line in await one.examine() if line.status is CheckStatus.SKIPPED}
    older = {"core[0] http://core0: key material"} if profile == HTTPZ_RC7 else set[str]()
    assert left == {"core[0] http://core0: signer", "a reply, called and not sent"} | older


@BOTH
async def test_beside_a_connector_every_line_is_well(profile: str, tmp_path: Path) -> None:
    """The newest request's key is compared with the Core's, its answer with the registered signer, its reply with the contract."""
    async with patient(profile) as one:
        await one.answer(["public"], tmp_path)
        found = await statuses(one)
    wanted = {"core[0] http://core0: signer", "a reply, called and not sent"}
    assert {found[checked] for checked in wanted} == {CheckStatus.OK}
    assert set(found.values()) - {CheckStatus.SKIPPED} == {CheckStatus.OK}


async def test_a_shadow_is_examined_without_a_key(one: Patient) -> None:
    """Its account is named, and everything else is looked at as for the connector that sends."""
    sender = one.dependencies.sender.address
    one.changes = {"mode": Mode.SHADOW, "private_key": None, "tx_sender_address": sender}
    assert await one.faults() == []
    found = {line.checked: line.found for line in await one.examine()}
    assert found["tx sender"] == f"{checksum(sender)}, of a shadow"


async def test_asked_to_it_hands_one_public_request_over(one: Patient) -> None:
    """Then the signer is known before the first start, and the contract is asked for the reply."""
    one.ask_core = True
    lines = {line.checked: line for line in await one.examine()}
    assert lines["core[0] http://core0: signer"].status is CheckStatus.OK
    assert "the contract takes the reply" in lines["a reply, called and not sent"].found


async def test_unasked_it_starts_nothing_in_the_core(one: Patient) -> None:
    """Results are read, and no start call is made."""
    await one.examine()
    called = {method for method, _ in one.dependencies.cores[0].counts}
    assert called == {"GetKeyMaterialAvailability", "GetHealthStatus", "GetPublicDecryptionResult"}


async def test_what_only_its_user_may_see_is_not_handed_over() -> None:
    """A user's request stays with the connector, which checks the signature."""
    async with patient(requests=("direct",)) as one:
        one.ask_core = True
        lines = {line.checked: line for line in await one.examine()}
    assert lines["core[0] http://core0: signer"].status is CheckStatus.SKIPPED


async def test_no_transaction_is_sent(one: Patient, tmp_path: Path) -> None:
    """A reply is called only."""
    await one.answer(["public"], tmp_path)
    node = one.dependencies.clusters["gateway"].nodes[0]
    node.calls.clear()
    await one.examine()
    methods = set(node.calls)
    assert not {method for method in methods if method.startswith("eth_send")}


async def test_each_shard_of_the_core_is_examined() -> None:
    """An endpoint has its own health, key material and signer."""
    async with patient(shards=3) as one:
        found = await statuses(one)
    assert {f"core[{index}] http://core{index}: health" for index in range(3)} < found.keys()


async def test_a_quiet_network_is_healthy() -> None:
    """Without a request there is no ciphertext to fetch, and each bucket has to answer only."""
    async with patient(requests=()) as one:
        assert await one.faults() == []
        found = {line.checked: line.found for line in await one.examine()}
    [bucket] = [text for checked, text in found.items() if checked.startswith("bucket http://bucket0")]
    assert bucket == "answers (HTTP 404); no recent ciphertext of it to compare"


async def test_a_shadow_needs_no_funds(one: Patient) -> None:
    """It sends nothing, so that its balance is not looked at."""
    one.fund(0)
    one.changes["mode"] = Mode.SHADOW
    assert await one.faults() == []
    assert not any("balance" in line.checked for line in await one.examine())
