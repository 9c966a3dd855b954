"""Planted faults: each is diagnosed with its remedy, and nothing else is found wrong."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, reduce
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.description import Secret
from kmsconn.config.networks import NETWORKS
from kmsconn.config.parties import Chain, Contract, HostChain
from kmsconn.emulator import buckets as bucket_faults
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.dependencies import GATEWAY_ID, HOST_ID, key_for, secret_for
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.ids import KEY_TAG, make_id
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, answer
from kmsconn.operate.doctor.machine import JournalFiles
from kmsconn.operate.doctor.probing import CheckStatus, Diagnosis
from tests.unit.operate.doctor.patient import MONITORING, Patient, patient

STRANGER = Address(bytes(19) + b"\x77")


def fault_of(line: Diagnosis) -> Diagnosis:
    """Return a line that is a fault."""
    assert line.status is CheckStatus.FAULT, line
    return line


def set_one(name: str, value: Any) -> Callable[[Patient], None]:
    """Return what changes a setting."""
    return lambda one: one.changes.update({name: value})


def let(path: str, value: Any) -> Callable[[Patient], None]:
    """Return what sets an attribute below the patient."""

    def do(one: Patient) -> None:
        *above, name = path.split(".")
        setattr(reduce(_below, above, one), name, value)

    return do


def _below(whole: Any, part: str) -> Any:
    return (
        whole[int(part)]
        if part.isdigit()
        else whole[part]
        if isinstance(whole, dict)
        else getattr(whole, part)
    )


def serves_http_only(one: Patient) -> None:
    one.network.serve(
        "gateway", 80, partial(serve_http, handler=one.dependencies.clusters["gateway"].nodes[0].http)
    )


async def gives_a_page(request: HttpRequest) -> HttpResponse:
    """Answer as the web server of somebody else."""
    del request
    await trio.lowlevel.checkpoint()
    return HttpResponse(200, (), b"<html>")


def has_a_page_for_a_node(one: Patient) -> None:
    one.network.serve("page", 80, partial(serve_http, handler=gives_a_page))
    one.changes["gateway"] = Chain(GATEWAY_ID, ("http://page:80",))


def has_a_page_for_a_core(one: Patient) -> None:
    one.network.serve("core0", 80, partial(serve_http, handler=gives_a_page))


def has_a_core_for_a_node(one: Patient) -> None:
    one.changes["gateway"] = Chain(GATEWAY_ID, ("http://core0:80",))


def has_a_private_bucket(one: Patient) -> None:
    """The other bucket has the ciphertext."""
    one.network.serve("bucket.example", 80, one.dependencies.handler("bucket0"))
    one.dependencies.told_urls.update(enumerate(("http://bucket.example/ct0", "http://10.0.0.7/ct1")))
    one.dependencies.settled()
    one.changes["allow_private_buckets"] = False


def has(wei: int) -> Callable[[Patient], None]:
    return lambda one: one.dependencies.gateway.evm.set_balance(one.dependencies.sender.address, wei)


def spoils(fault: Any) -> Callable[[Patient], None]:
    """Let the second bucket do wrong, whatever it is asked for."""
    return lambda one: one.dependencies.buckets[1].script(*[fault] * 20)


def has_exchanged_contracts(one: Patient) -> None:
    one.changes["gateway_config_contract"] = Contract(one.dependencies.decryption.address, "GatewayConfig")


def has_another_domain(one: Patient) -> None:
    one.changes["decryption_contract"] = Contract(one.dependencies.decryption.address, "Decrypt", "1")


def asks_a_core_with_another_signer(one: Patient) -> None:
    one.dependencies.cores[0].core.node = SigningNode(key_for("another signer"))
    one.ask_core = True


OF_ANOTHER_NETWORK = Contract(parse_address(NETWORKS["testnet"].decryption), "Decryption")
NODE = "dependencies.clusters.gateway.nodes.0"
FAULT, WARNING = CheckStatus.FAULT, CheckStatus.WARNING

# What is planted → a fault or a warning, and parts of what the one line is about, says, and advises.
Planted = tuple[Callable[[Patient], None], CheckStatus, str, str, str]

PLANTED: dict[str, Planted] = {
    "a wrong chain id": (
        set_one("ethereum", Chain(5, ("ws://ethereum:80",))), FAULT, "ethereum ws://ethereum: chain id",
        "is on chain 11155111, configured is 5", "name a node of this chain in ethereum_url, or correct ethereum_chain_id",
    ),
    "a websocket url of an address that speaks http only": (
        serves_http_only, FAULT, "gateway ws://gateway: chain id", "", "write http://… in gateway_url: this address speaks that",
    ),
    "a page in place of a node": (
        has_a_page_for_a_node, FAULT, "gateway http://page: chain id", "the answer is no JSON-RPC",
        "a page answers there, as those of web servers and proxies: name the node's JSON-RPC itself in gateway_url",
    ),
    "a Core in place of a node": (
        has_a_core_for_a_node, FAULT, "gateway http://core0: chain id", "the answer is HTTP/2",
        "HTTP/2 is spoken there, as gRPC has it: a Core's port may be meant by kms_core_endpoints",
    ),
    "a web server in place of a Core": (
        has_a_page_for_a_core, FAULT, "core[0] http://core0: health", "the answer is HTTP/1",
        "HTTP/1 is spoken there: a node, a web server or a proxy may be there; name the Core's gRPC port in kms_core_endpoints",
    ),
    "a contract of another network": (
        set_one("decryption_contract", OF_ANOTHER_NETWORK), FAULT, "", f"has no code on chain {GATEWAY_ID}",
        "is the Decryption of testnet: name the Decryption of this network",
    ),
    "an address without code": (
        set_one("host_chains", (HostChain(Chain(HOST_ID, ("ws://host:80",)), STRANGER),)), FAULT, "",
        f"has no code on chain {HOST_ID}", "name the ACL of this network in host_chains[0].acl_address, or correct the chain id",
    ),
    "a contract of another kind": (has_exchanged_contracts, FAULT, "", "says that it is 'Decryption", ""),
    "the name of another EIP-712 domain": (
        has_another_domain, FAULT, "", "decryption_contract.domain_name: is 'Decrypt', but the EIP-712 domain ",
        "configure what the contract has",
    ),
    "the domain of the contract": (has_another_domain, FAULT, "", "has the name 'Decryption'", ""),
    "no funds": (has(0), FAULT, "gateway: balance of the tx sender", "none can be sent", "send funds to 0x"),
    "little funds, in replies": (has(10**14), WARNING, "", "3 replies of 333000 gas", ""),
    "a Core that is down": (
        lambda one: setattr(one.network.line("core0", 80), "refuse", True), FAULT,
        "core[0] http://core0: health", "", "start the Core",
    ),
    "a Core that is not serving": (let("dependencies.cores.0.core.serving", False), FAULT, "", "is not serving", ""),
    "a Core with another signer": (
        asks_a_core_with_another_signer, FAULT, "core[0] http://core0: signer", "registered for the tx sender is",
        "name the Core of this node in kms_core_endpoints",
    ),
    "a Core with another key": (
        let("dependencies.cores.0.core.known.keys", {make_id(KEY_TAG, 9).to_bytes(32)}), FAULT,
        "core[0] http://core0: key material", "does not have key 0x04", "give this Core the storage of the registered node",
    ),
    "a private bucket": (
        has_a_private_bucket, WARNING, "", "private address", "set allow_private_buckets = true where",
    ),
    "a bucket that forbids it": (
        spoils(bucket_faults.RefusingBucket(code=403)), WARNING, "", "answered 403", "ask the coprocessor's operator",
    ),
    "a bucket with wrong bytes": (
        spoils(bucket_faults.SpoiledBodies(how="wrong bytes")), WARNING, "", "holds other bytes than the chain names", "",
    ),
    "a clock ahead of the chains": (
        let("clock_step", 3600.0), FAULT, "clock of this machine", "ahead of", "set the clock by NTP",
    ),
    "a clock behind the chains": (
        let("clock_step", -3600.0), FAULT, "clock of this machine", "behind", "set the clock by NTP",
    ),
    "a read-only disk": (
        let("place", JournalFiles(exists=False, refusal="the file system of /data is mounted read-only")), FAULT,
        "journal journal.db", "", "name a writable place on a local disk in journal",
    ),
    "a journal of another connector": (
        let("place", JournalFiles(exists=True, stored={"gateway chain id": "1", "tick": "7"})), FAULT, "",
        "gateway chain id 1 there, 54321 configured", "",
    ),
    "a monitoring address of another machine": (
        let("address_refusal", "is no address of this machine"), FAULT, "", "",
        "name an address of this machine in monitoring_endpoint",
    ),
    "a node that is behind, and not the clock": (
        let("dependencies.clusters.ethereum.nodes.0.lag", 40), FAULT, "ethereum: newest block", "the node is behind",
        "name a node that has caught up",
    ),
    "a node without the history that is wanted": (
        let(f"{NODE}.limits.pruned_before", 60), FAULT, "gateway ws://gateway: logs of block 0", "",
        "(archive), or a later decryption_from_block_number",
    ),
    "a range of logs that is too small": (
        let(f"{NODE}.limits.log_range", 10), WARNING, "", "", "set get_logs_batch_size to 10, or raise the node's limit",
    ),
    "a node that takes small batches only": (let(f"{NODE}.limits.batch", 20), WARNING, "", "20 at most:", ""),
}  # fmt: skip


@pytest.mark.parametrize("planted", PLANTED.values(), ids=PLANTED)
async def test_the_one_fault_is_diagnosed_with_its_remedy(one: Patient, planted: Planted) -> None:
    """What needs the faulty thing is skipped, not wrong."""
    plant, status, checked, found, remedy = planted
    await trio.sleep(600)
    plant(one)
    line = await one.only_fault()
    assert (line.status, line.checked) == (status, checked or line.checked)
    assert found in line.found
    assert remedy in line.remedy


async def test_a_core_that_does_not_know_the_context() -> None:
    """A Core of a committee tells its contexts."""
    async with patient(members=4) as one:
        one.dependencies.cores[0].core.known.contexts = {bytes(31) + b"\x05"}
        line = fault_of(await one.only_fault())
    assert line.checked == "core[0] http://core0: context"
    assert line.remedy.startswith("let the Core make it")


async def test_only_private_buckets_are_a_fault(one: Patient) -> None:
    """No ciphertext can be had."""
    one.changes["allow_private_buckets"] = False
    lines = await one.faults()
    assert [line.status for line in lines] == [CheckStatus.FAULT] * 2


async def test_a_monitoring_port_that_another_program_has(one: Patient) -> None:
    """A web server of somebody else."""
    one.network.serve(*MONITORING, partial(serve_http, handler=gives_a_page))
    line = fault_of(await one.only_fault())
    assert line.found == "taken by another program"
    assert line.remedy.startswith("name another port in monitoring_endpoint")


async def examined_beside(*alerts: AlertRaised) -> dict[str, Diagnosis]:
    """Return the lines of an examination beside a connector that runs with these alerts."""
    monitor = Monitor()
    for one in alerts:
        monitor.on_event(one)

    async def said(request: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        found = answer(request.target, monitor, Identity("kmsconn", "0.1.0"))
        return HttpResponse(found.status, (), found.body)

    async with patient() as patient_one:
        patient_one.network.serve(*MONITORING, partial(serve_http, handler=said))
        return {line.checked: line for line in await patient_one.examine()}


async def test_a_monitoring_port_that_a_running_kmsconn_has_is_well() -> None:
    """It is known by what it says at /version."""
    line = (await examined_beside())["monitoring_endpoint 0.0.0.0:9100"]
    assert (line.status, line.found) == (CheckStatus.OK, "a running kmsconn 0.1.0 listens there")


async def test_a_monitoring_port_whose_alerts_are_none_of_a_kmsconn(one: Patient) -> None:
    """Its name is one; the examination goes on without them."""

    async def said(request: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        named = b'{"name":"kmsconn","version":"0.1.0","build":""}'
        return HttpResponse(200, (), named if request.target == "/version" else b'{"alerts":[7]}')

    one.network.serve(*MONITORING, partial(serve_http, handler=said))
    lines = {line.checked: line.status for line in await one.examine()}
    assert lines["monitoring_endpoint 0.0.0.0:9100"] is CheckStatus.OK


async def test_a_critical_alert_of_the_connector_that_runs() -> None:
    """What it cannot do is a fault here, too, with its remedy; its warnings are none."""
    full = AlertRaised("journal", "unwritable", "the disk is full", Severity.CRITICAL)
    late = AlertRaised("core[0]", "too-slow", "1 request waits", Severity.WARNING)
    lines = await examined_beside(full, late)
    [line] = [one for name, one in lines.items() if name.startswith("alert of")]
    assert (line.status, line.checked, line.found) == (
        CheckStatus.FAULT,
        "alert of journal: unwritable",
        "the disk is full",
    )
    assert "free or repair the disk" in line.remedy


async def test_a_tx_sender_that_is_not_registered(one: Patient) -> None:
    """Each registry is asked, and the Core's signer cannot be judged."""
    one.changes["private_key"] = Secret("0x" + secret_for("stranger").hex())
    lines = await one.faults()
    assert [line.checked.partition(":")[2] for line in lines] == [" registration of the tx sender"] * 2
    assert {line.remedy.partition(",")[0] for line in lines} == {
        "configure the key of the node that was registered"
    }


async def test_a_chain_that_hangs_holds_up_nobody(one: Patient) -> None:
    """Its own line comes within its limit, every other check is made."""
    one.network.line("host", 80).unreachable = True
    before = trio.current_time()
    line = fault_of(await one.only_fault())
    took = trio.current_time() - before
    assert line.checked == "host chain 12345 ws://host: chain id"
    assert took < 30


async def test_no_quorum_of_coprocessors() -> None:
    """As in a registry that was never set up."""
    async with patient(requests=()) as one:
        config = one.dependencies.gateway_config
        one.dependencies.gateway.evm.set_up(config.address, config.set_coprocessors, [], 0)
        line = fault_of(await one.only_fault())
    assert line.found == "the quorum threshold is 0: no ciphertext could be trusted"


async def test_no_secret_is_shown(one: Patient) -> None:
    """Keys stand in paths, queries and user info of URLs, and in the wallet."""
    secrets = ("path-key", "query-key", "user-key")
    url = "ws://{}:user-key@{}:80/path-key?k=query-key"
    key = one.settings().wallet.private_key
    assert key is not None
    for name in ("gateway", "ethereum"):
        chain: Chain = getattr(one.settings().chains, name)
        one.changes[name] = attrs.evolve(chain, urls=(url.format("me", name), url.format("me", "nobody")))
    text = repr(await one.examine())
    assert [secret for secret in (*secrets, key.reveal().removeprefix("0x")) if secret in text] == []
