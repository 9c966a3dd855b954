"""A start looks whether each contract is where the configuration says; the charts of 0.14 name KMSVerifier for ProtocolConfig."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.asking import ask
from kmsconn.config.networks import NETWORKS
from kmsconn.config.parties import Chain, Contract
from kmsconn.config.settings import Settings
from kmsconn.connector import dependency_checks
from kmsconn.connector.connector import open_connector
from kmsconn.connector.dependency_checks import MISSING_INTERVAL, NEWER_CONTRACT, WRONG_CONTRACT
from kmsconn.emulator.contracts.protocol_config import ProtocolConfig
from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL
from kmsconn.emulator.dependencies import address_for, key_for
from kmsconn.emulator.execution import AbiContract, Frame, Reverted, domain_teller
from kmsconn.emulator.fhevm_dependencies import ETHEREUM_ID
from kmsconn.emulator.users import Prepared
from kmsconn.errors import StartRefused, WrongContract
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.model.events import AlertCleared, AlertRaised, Event, ReplyIncluded, RequestClosed, Severity
from kmsconn.model.life import State
from kmsconn.protocols.fhevm.contracts import DECRYPTION, PROTOCOL_CONFIG
from kmsconn.protocols.fhevm.profile import Fhevm
from tests.unit.chain.scripted_node import FakeRpc
from tests.unit.requests.few_components import FewComponents

VERIFIER_ABI = Abi(
    [{"type": "function", "name": "getProtocolConfigAddress", "inputs": [], "outputs": [{"type": "address"}]}]
)


class Verifier(AbiContract):
    """A KMSVerifier: it knows its ProtocolConfig and has none of its functions."""

    def __init__(self, address: Address, protocol_config: Address) -> None:
        super().__init__(address, VERIFIER_ABI, {"getProtocolConfigAddress": lambda _: (protocol_config,)})


class Hesitant(ProtocolConfig):
    """A ProtocolConfig that has nothing to tell before it is ready."""

    ready = False

    def execute(self, frame: Frame) -> bytes:
        if not self.ready:
            raise Reverted(b"\x12\x34\x56\x78")
        return super().execute(frame)


def test_the_selector_is_that_of_the_specification() -> None:
    assert VERIFIER_ABI.function("getProtocolConfigAddress").selector.hex() == "ba82b011"


async def refusal(components: FewComponents, address: Address) -> str:
    return await refused(
        components.settings(protocol_config_contract=Contract(address, "ProtocolConfig")), components
    )


async def test_a_protocol_config_that_answers_is_ready(components: FewComponents) -> None:
    async with components.running():
        pass


async def test_a_kms_verifier_in_its_place_tells_the_address_to_use(components: FewComponents) -> None:
    verifier = Verifier(address_for("KMSVerifier"), address_for("ProtocolConfig"))
    components.dependencies.ethereum.evm.deploy(verifier)
    told = await refusal(components, verifier.address)
    assert told == (
        f"protocol_config_contract.address: there is no ProtocolConfig at {checksum(verifier.address)}; "
        f"use {checksum(address_for('ProtocolConfig'))}"
    )


@pytest.mark.parametrize("network", NETWORKS.values(), ids=lambda network: network.name)
async def test_the_address_of_a_chart_is_known_without_the_contract(
    network: Any, components: FewComponents
) -> None:
    told = await refusal(components, parse_address(network.kms_verifier))
    assert told.endswith(f"use {network.protocol_config}")


NETWORK_OF_IDS = {"testnet": (10901, 11155111), "mainnet": (261131, 1), "devnet": (10900, 11155111)}


@pytest.mark.parametrize("name", NETWORK_OF_IDS)
@pytest.mark.parametrize("kind", ["ProtocolConfig", "KMSGeneration"])
async def test_a_wrong_address_on_the_chains_of_a_known_network_is_refused_with_the_right_one(
    name: str, kind: str, components: FewComponents
) -> None:
    network, wrong = NETWORKS[name], Address(b"\x77" * 20)
    gateway_id, ethereum_id = NETWORK_OF_IDS[name]
    of = {"ProtocolConfig": "protocol_config", "KMSGeneration": "kms_generation"}[kind]
    chains = {"gateway": Chain(gateway_id, ("ws://g",)), "ethereum": Chain(ethereum_id, ("ws://e",))}
    settings = components.settings(**chains, **{f"{of}_contract": Contract(wrong, kind)})
    [one] = [one for one in Fhevm(settings).contracts() if one.kind == kind]
    with pytest.raises(WrongContract) as refused:
        await ask(FakeRpc(["0x", "0x"]), one.identity)
    assert str(refused.value).endswith(f"; use {getattr(network, of)}")
    assert checksum(wrong) in str(refused.value)


async def test_an_account_without_code_is_refused(components: FewComponents) -> None:
    told = await refusal(components, Address(b"\x77" * 20))
    assert told.endswith("name the one on Ethereum")


async def test_a_contract_that_knows_neither_function_is_refused(components: FewComponents) -> None:
    other = AbiContract(address_for("another"), VERIFIER_ABI, {})
    components.dependencies.ethereum.evm.deploy(other)
    assert (await refusal(components, other.address)).endswith("name the one on Ethereum")


async def test_a_protocol_config_without_an_answer_yet_is_waited_for(components: FewComponents) -> None:
    """A contract that reverts with an error of its own is no other contract."""
    events: list[Event] = []
    config = Hesitant(address_for("hesitant"), ETHEREUM_ID)
    components.dependencies.ethereum.evm.deploy(config)
    settings = components.settings(protocol_config_contract=Contract(config.address, "ProtocolConfig"))
    async with open_connector(settings, ports=components.ports, on_event=events.append) as connector:
        with trio.move_on_after(10) as scope:
            await connector.wait_ready()
        assert scope.cancelled_caught
        config.ready = True
        with trio.fail_after(10):
            await connector.wait_ready()
    told = [event for event in events if isinstance(event, AlertRaised)]
    assert [(one.dependency, "reverts: 0x1234" in one.text) for one in told] == [("ethereum", True)]
    assert AlertCleared("ethereum", "no-answer-yet") in events


OPTIONS = {
    "Decryption": "decryption_contract",
    "GatewayConfig": "gateway_config_contract",
    "KMSGeneration": "kms_generation_contract",
}


@pytest.mark.parametrize("where", ["without code", "another contract"])
@pytest.mark.parametrize(("kind", "option"), OPTIONS.items())
async def test_each_contract_at_a_wrong_address_is_refused_by_its_option(
    where: str, kind: str, option: str, components: FewComponents
) -> None:
    near = components.dependencies
    others = {
        "Decryption": near.gateway_config,
        "GatewayConfig": near.decryption,
        "KMSGeneration": near.protocol_config,
    }
    address = Address(b"\x77" * 20) if where == "without code" else others[kind].address
    told = await refused(components.settings(**{option: Contract(address, kind)}), components)
    assert told.startswith(f"{option}.address: there is no {kind} at {checksum(address)} on chain ")
    assert told.endswith(f"name the {kind} of this network")


@pytest.mark.parametrize("field", ["name", "version"])
@pytest.mark.parametrize("kind", ["Decryption", "KMSGeneration", "ProtocolConfig"])
async def test_a_wrong_eip_712_domain_is_refused_by_its_option(
    kind: str, field: str, components: FewComponents
) -> None:
    option = {**OPTIONS, "ProtocolConfig": "protocol_config_contract"}[kind]
    right = getattr(components.settings().protocol, option)
    wrong = attrs.evolve(right, **{f"domain_{field}": "2"})
    told = await refused(components.settings(**{option: wrong}), components)
    assert told.startswith(f"{option}.domain_{field}: is '2', but the EIP-712 domain of the {kind} at ")


async def test_a_contract_that_signs_for_another_place_is_refused(components: FewComponents) -> None:
    decryption = components.dependencies.decryption
    other = attrs.evolve(decryption.domain, chain_id=5)
    decryption.offer(DECRYPTION.function("eip712Domain"), domain_teller(other))
    told = await refused(components.settings(), components)
    assert f"it tells the EIP-712 domain of {checksum(decryption.address)} on chain 5" in told


async def test_only_decryption_must_tell_its_domain(components: FewComponents) -> None:
    near = components.dependencies
    for contract in (near.kms_generation, near.protocol_config):
        contract.offer(DECRYPTION.function("eip712Domain"), untold)
    async with components.running():
        pass
    near.decryption.offer(DECRYPTION.function("eip712Domain"), untold)
    told = await refused(components.settings(), components)
    assert "there is no Decryption at" in told


def untold(_: Frame) -> None:
    raise Reverted


@pytest.mark.parametrize("wrong", ["address", "chain id"])
async def test_a_corrected_start_goes_on_with_the_journal_of_the_refused_one(
    wrong: str, components: FewComponents
) -> None:
    right = components.settings()
    other = Contract(Address(b"\x77" * 20), "Decryption")
    chain = attrs.evolve(right.chains.gateway, chain_id=77)
    changed = {"decryption_contract": other} if wrong == "address" else {"gateway": chain}
    await refused(right.but(**changed), components)
    async with components.running():
        pass
    assert "belongs to another connector" in await refused(right.but(**changed), components)


@pytest.mark.parametrize("where", ["without code", "another contract"])
async def test_acl_at_a_wrong_address_is_refused_by_its_place(where: str, components: FewComponents) -> None:
    other = AbiContract(address_for("another"), VERIFIER_ABI, {})
    components.dependencies.host.evm.deploy(other)
    address = Address(b"\x77" * 20) if where == "without code" else other.address
    [host] = components.settings().chains.host_chains
    changed = (attrs.evolve(host, acl=address),)
    told = await refused(components.settings(host_chains=changed), components)
    said = f"acl_address: there is no ACL at {checksum(address)} on chain "
    assert told.startswith(f"host_chains[0].{said}")
    behind_solana = components.settings(host_chains=changed, not_served={0x01 << 56 | 900: 0})
    assert (await refused(behind_solana, components)).startswith(f"host_chains[1].{said}")


async def test_a_node_that_lags_behind_a_deployment_once_is_asked_again(components: FewComponents) -> None:
    contracts = components.dependencies.gateway.evm.contracts
    address = components.dependencies.decryption.address
    late = contracts.pop(address)
    async with open_connector(components.settings(), ports=components.ports) as connector:
        await trio.sleep(0.5)
        contracts[address] = late
        with trio.fail_after(60):
            await connector.wait_ready()


async def refused(settings: Settings, components: FewComponents) -> str:
    """Return with what words a start is refused."""
    with trio.fail_after(60), pytest.RaisesGroup(StartRefused, flatten_subgroups=True) as refused:
        async with open_connector(settings, ports=components.ports) as connector:
            await connector.wait_ready()
    leaf: BaseException = refused.value
    while isinstance(leaf, BaseExceptionGroup):
        [leaf] = leaf.exceptions
    return str(leaf)


INTERVAL = 30.0


async def test_a_contract_without_code_is_named_with_its_option_until_it_is_back(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_checks, "CONTRACTS_INTERVAL", INTERVAL)
    ethereum, where = components.dependencies.ethereum, address_for("KMSGeneration")
    async with components.running() as (_, events):
        contract = ethereum.evm.contracts.pop(where)
        await trio.sleep(INTERVAL + 5)
        [alert] = alerts(events, WRONG_CONTRACT)
        assert (alert.dependency, alert.severity) == ("ethereum", Severity.CRITICAL)
        assert alert.text.startswith("kms_generation_contract.address: ")
        ethereum.evm.contracts[where] = contract
        await trio.sleep(MISSING_INTERVAL + 5)
        assert AlertCleared("ethereum", WRONG_CONTRACT) in events


def alerts(events: list[Event], cause: str) -> list[AlertRaised]:
    return [one for one in events if isinstance(one, AlertRaised) and one.cause == cause]


async def test_a_signature_is_refused_for_good_only_under_a_confirmed_domain(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_checks, "CONTRACTS_INTERVAL", INTERVAL)
    decryption, tell = components.dependencies.decryption, DECRYPTION.function("eip712Domain")
    async with components.running() as (_, events):
        decryption.offer(tell, domain_teller(attrs.evolve(decryption.domain, version="2")))
        await trio.sleep(INTERVAL + 5)
        [alert] = alerts(events, WRONG_CONTRACT)
        assert (alert.dependency, alert.severity) == ("gateway", Severity.CRITICAL)
        assert alert.text.startswith("decryption_contract.domain_version: is '1', but")
        asked = components.traffic.prepare("unified")
        *_, signature, _ = DECRYPTION.function(UNIFIED_CALL).decode(asked.calldata)
        forged = asked.calldata.replace(signature, key_for("a stranger").sign(bytes(32)))
        components.traffic.send(Prepared("unified", forged, ()))
        await trio.sleep(MISSING_INTERVAL)
        assert not [one for one in events if isinstance(one, RequestClosed)]
        decryption.offer(tell, domain_teller(decryption.domain))
        await trio.sleep(2 * MISSING_INTERVAL + 60)
        [closed] = [one for one in events if isinstance(one, RequestClosed)]
        assert closed.state is State.REJECTED


async def test_after_an_hour_without_an_answer_no_domain_is_confirmed(
    components: FewComponents, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dependency_checks, "CONFIRMED", 2 * INTERVAL)
    monkeypatch.setattr(dependency_checks, "CONTRACTS_INTERVAL", INTERVAL)
    decryption, tell = components.dependencies.decryption, DECRYPTION.function("eip712Domain")
    async with components.running() as (_, events):
        decryption.offer(tell, _not_ready)
        await trio.sleep(2 * INTERVAL - 5)
        assert alerts(events, WRONG_CONTRACT) == []
        await trio.sleep(2 * INTERVAL)
        [alert] = alerts(events, WRONG_CONTRACT)
        assert alert.severity is Severity.CRITICAL
        assert "confirmed for an hour" in alert.text


def _not_ready(_: Frame) -> None:
    raise Reverted(b"\x12\x34\x56\x78")


async def test_a_newer_contract_is_told_at_the_start_and_decryptions_go_on(components: FewComponents) -> None:
    config, version = components.dependencies.protocol_config, PROTOCOL_CONFIG.function("getVersion")
    config.offer(version, lambda _: ("ProtocolConfig v0.4.0",))
    async with components.running() as (_, events):
        [alert] = alerts(events, NEWER_CONTRACT)
        components.traffic.forms["public"]()
        await trio.sleep(30)
        assert [one for one in events if isinstance(one, ReplyIncluded)]
    assert (alert.dependency, alert.severity) == (f"ethereum {checksum(config.address)}", Severity.CRITICAL)
    assert "version 0.4.0, and 0.3 is the newest known here: this concerns contexts and epochs" in alert.text
    assert alert.remedy == "upgrade kmsconn"


@pytest.mark.parametrize(
    ("version", "later"),
    [
        ("Decryption v0.6.0", False),
        ("Decryption v0.7.0", True),
        ("Decryption v0.10.0", True),
        ("Decryption v1.0.0", True),
        ("Decryption v0.7", False),
        ("Decryption v0.7.0-rc1", False),
    ],
)
async def test_the_network_is_later_from_decryption_0_7_0_on(
    version: str, later: bool, components: FewComponents
) -> None:
    decryption = components.dependencies.decryption
    decryption.offer(DECRYPTION.function("getVersion"), lambda _: (version,))
    async with components.running() as (connector, _):
        assert connector.components.checker.expiry.later is later


@pytest.mark.parametrize("others", ["Decryption v0.6.0", "Something v0.7.0"])
async def test_one_node_alone_makes_no_later_network(components: FewComponents, others: str) -> None:
    """What is recorded then would expire after an hour for good."""
    said = iter(["Decryption v0.7.0"])
    decryption = components.dependencies.decryption
    decryption.offer(DECRYPTION.function("getVersion"), lambda _: (next(said, others),))
    async with components.running() as (connector, _):
        assert not connector.components.checker.expiry.later
