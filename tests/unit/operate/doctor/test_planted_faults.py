"""Planted faults: each is diagnosed with its remedy, and nothing else is found wrong."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.networks import NETWORKS
from kmsconn.config.parties import Chain, Contract, HostChain
from kmsconn.config.values import Secret
from kmsconn.emulator import bucket_faults
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.dependencies import GATEWAY_ID, HOST_ID, key_for, secret_for
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.ids import KEY_TAG, make_id
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, answer
from kmsconn.operate.doctor.diagnosis import CheckStatus, Diagnosis
from kmsconn.operate.doctor.machine import JournalFiles
from tests.unit.operate.doctor.patient import MONITORING, Patient, patient

STRANGER = Address(bytes(19) + b"\x77")


def fault_of(line: Diagnosis) -> Diagnosis:
    """Return a line that is a fault."""
    assert line.status is CheckStatus.FAULT, line
    return line


async def test_a_wrong_chain_id(one: Patient) -> None:
    """The option that names it is in the remedy; what needs the chain is skipped, not wrong."""
    one.changes["ethereum"] = Chain(5, ("ws://ethereum:80",))
    line = fault_of(await one.only_fault())
    assert line.checked == "ethereum ws://ethereum: chain id"
    assert "is on chain 11155111, configured is 5" in line.found
    assert line.remedy == "name a node of this chain in ethereum_url, or correct ethereum_chain_id"


async def test_a_websocket_url_of_an_address_that_speaks_http_only(one: Patient) -> None:
    """It is tried over HTTP, and the remedy says what to write."""
    node = one.dependencies.clusters["gateway"].nodes[0]
    one.network.serve("gateway", 80, partial(serve_http, handler=node.http))
    line = fault_of(await one.only_fault())
    assert line.checked == "gateway ws://gateway: chain id"
    assert line.remedy == "write http://… in gateway_url: this address speaks that"


async def test_a_contract_of_another_network(one: Patient) -> None:
    """Whose address it is stands in the remedy."""
    address = parse_address(NETWORKS["testnet"].decryption)
    one.changes["decryption_contract"] = Contract(address, "Decryption")
    line = fault_of(await one.only_fault())
    assert line.found == f"has no code on chain {GATEWAY_ID}"
    assert "is the Decryption of testnet: name the Decryption of this network" in line.remedy


async def test_an_address_without_code(one: Patient) -> None:
    """As of an ACL."""
    one.changes["host_chains"] = (HostChain(Chain(HOST_ID, ("ws://host:80",)), STRANGER),)
    line = fault_of(await one.only_fault())
    assert line.found == f"has no code on chain {HOST_ID}"
    assert (
        line.remedy == "name the ACL of this network in host_chains[0].acl_address, or correct the chain id"
    )


async def test_a_contract_of_another_kind(one: Patient) -> None:
    """The two addresses of a file were exchanged."""
    one.changes["gateway_config_contract"] = Contract(one.dependencies.decryption.address, "GatewayConfig")
    line = fault_of(await one.only_fault())
    assert "says that it is 'Decryption" in line.found


async def test_a_wrong_eip_712_domain(one: Patient) -> None:
    """Signatures over it would be of somebody else."""
    address = one.dependencies.decryption.address
    one.changes["decryption_contract"] = Contract(address, "Decrypt", "1")
    line = fault_of(await one.only_fault())
    assert line.found.startswith("decryption_contract.domain_name: is 'Decrypt', but the EIP-712 domain ")
    assert line.found.endswith("has the name 'Decryption'")
    assert line.remedy.startswith("configure what the contract has")


async def test_no_funds(one: Patient) -> None:
    """The account to fill is in the remedy."""
    one.dependencies.gateway.evm.set_balance(one.dependencies.sender.address, 0)
    line = fault_of(await one.only_fault())
    assert line.checked == "gateway: balance of the tx sender"
    assert "none can be sent" in line.found
    assert line.remedy.startswith("send funds to 0x")


async def test_little_funds_are_a_warning_in_replies(one: Patient) -> None:
    """How many are left is said."""
    one.dependencies.gateway.evm.set_balance(one.dependencies.sender.address, 10**14)
    line = await one.only_fault()
    assert line.status is CheckStatus.WARNING
    assert "3 replies of 333000 gas" in line.found


async def test_a_core_that_is_down(one: Patient) -> None:
    """What needs it is skipped."""
    one.network.line("core0", 80).refuse = True
    line = fault_of(await one.only_fault())
    assert line.checked == "core[0] http://core0: health"
    assert line.remedy.startswith("start the Core")


async def test_a_core_that_is_not_serving(one: Patient) -> None:
    """As while it starts."""
    one.dependencies.cores[0].core.serving = False
    assert fault_of(await one.only_fault()).found == "is not serving"


async def test_a_core_with_another_signer(one: Patient) -> None:
    """Its answer to a request that is handed over tells."""
    one.dependencies.cores[0].core.node = SigningNode(key_for("another signer"))
    one.ask_core = True
    line = fault_of(await one.only_fault())
    assert line.checked == "core[0] http://core0: signer"
    assert "registered for the tx sender is" in line.found
    assert line.remedy.startswith("name the Core of this node in kms_core_endpoints")


async def test_a_core_with_another_key(one: Patient) -> None:
    """The newest request names the key in use."""
    one.dependencies.cores[0].core.known.keys = {make_id(KEY_TAG, 9).to_bytes(32)}
    line = fault_of(await one.only_fault())
    assert line.checked == "core[0] http://core0: key material"
    assert "does not have key 0x04" in line.found
    assert line.remedy.startswith("give this Core the storage of the registered node")


async def test_a_core_that_does_not_know_the_context() -> None:
    """A Core of a committee tells its contexts."""
    async with patient(members=4) as one:
        one.dependencies.cores[0].core.known.contexts = {bytes(31) + b"\x05"}
        line = fault_of(await one.only_fault())
    assert line.checked == "core[0] http://core0: context"
    assert line.remedy.startswith("let the Core make it")


def tell_buckets(one: Patient, *urls: str) -> None:
    """Let the contract say where the buckets are."""
    one.dependencies.told_urls.update(enumerate(urls))
    one.dependencies.settled()


async def test_a_private_bucket(one: Patient) -> None:
    """The option that would allow it is in the remedy."""
    one.network.serve("bucket.example", 80, one.dependencies.handler("bucket0"))
    tell_buckets(one, "http://bucket.example/ct0", "http://10.0.0.7/ct1")
    one.changes["allow_private_buckets"] = False
    line = await one.only_fault()
    assert line.status is CheckStatus.WARNING  # the other bucket has the ciphertext
    assert "private address" in line.found
    assert line.remedy.startswith("set allow_private_buckets = true where")


async def test_only_private_buckets_are_a_fault(one: Patient) -> None:
    """No ciphertext can be had."""
    one.changes["allow_private_buckets"] = False
    lines = await one.faults()
    assert [line.status for line in lines] == [CheckStatus.FAULT] * 2


def spoil_bucket(one: Patient, fault: Any) -> None:
    """Let the second bucket do wrong, whatever it is asked for."""
    one.dependencies.buckets[1].script(*[fault] * 20)


async def test_a_bucket_that_forbids_it(one: Patient) -> None:
    """What it answered is said."""
    spoil_bucket(one, bucket_faults.RefusingBucket(code=403))
    line = await one.only_fault()
    assert line.status is CheckStatus.WARNING
    assert "answered 403" in line.found
    assert line.remedy.startswith("ask the coprocessor's operator")


async def test_a_bucket_with_wrong_bytes(one: Patient) -> None:
    """Both digests are named."""
    spoil_bucket(one, bucket_faults.SpoiledBodies(how="wrong bytes"))
    line = await one.only_fault()
    assert "holds other bytes than the chain names" in line.found


@pytest.mark.parametrize(("step", "words"), [(3600.0, "ahead of"), (-3600.0, "behind")])
async def test_a_clock_off_by_an_hour(one: Patient, step: float, words: str) -> None:
    """The chains are not blamed for it."""
    one.clock_step = step
    line = fault_of(await one.only_fault())
    assert line.checked == "clock of this machine"
    assert words in line.found
    assert line.remedy.startswith("set the clock by NTP")


async def test_a_read_only_disk(one: Patient) -> None:
    """The journal could not be made."""
    one.place = JournalFiles(exists=False, refusal="the file system of /data is mounted read-only")
    line = fault_of(await one.only_fault())
    assert line.checked == "journal journal.db"
    assert line.remedy.startswith("name a writable place on a local disk in journal")


async def test_a_journal_of_another_connector(one: Patient) -> None:
    """Whose it is, and what was configured."""
    one.place = JournalFiles(exists=True, stored={"gateway chain id": "1", "tick": "7"})
    line = fault_of(await one.only_fault())
    assert "gateway chain id 1 there, 54321 configured" in line.found


async def test_a_monitoring_port_that_another_program_has(one: Patient) -> None:
    """A web server of somebody else."""

    async def page(request: HttpRequest) -> HttpResponse:
        del request
        await trio.lowlevel.checkpoint()
        return HttpResponse(200, (), b"<html>")

    one.network.serve(*MONITORING, partial(serve_http, handler=page))
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


async def test_a_monitoring_address_of_another_machine(one: Patient) -> None:
    """Nothing could listen there."""
    one.address_refusal = "is no address of this machine"
    line = fault_of(await one.only_fault())
    assert line.remedy == "name an address of this machine in monitoring_endpoint"


async def test_a_tx_sender_that_is_not_registered(one: Patient) -> None:
    """Each registry is asked, and the Core's signer cannot be judged."""
    one.changes["private_key"] = Secret("0x" + secret_for("stranger").hex())
    lines = await one.faults()
    assert [line.checked.partition(":")[2] for line in lines] == [" registration of the tx sender"] * 2
    assert {line.remedy.partition(",")[0] for line in lines} == {
        "configure the key of the node that was registered"
    }


async def test_a_node_that_is_behind(one: Patient) -> None:
    """The others' blocks tell that it is not the clock."""
    await trio.sleep(600)
    one.dependencies.clusters["ethereum"].nodes[0].lag = 40
    line = fault_of(await one.only_fault())
    assert line.checked == "ethereum: newest block"
    assert "the node is behind" in line.found
    assert line.remedy.startswith("name a node that has caught up")


async def test_a_node_without_the_history_that_is_wanted(one: Patient) -> None:
    """The connector is to begin at a block whose logs are gone."""
    await trio.sleep(200)
    one.dependencies.clusters["gateway"].nodes[0].limits.pruned_before = 60
    line = fault_of(await one.only_fault())
    assert line.checked == "gateway ws://gateway: logs of block 0"
    assert "(archive), or a later decryption_from_block_number" in line.remedy


async def test_a_range_of_logs_that_is_too_small(one: Patient) -> None:
    """The most that the node gives is measured."""
    one.dependencies.clusters["gateway"].nodes[0].limits.log_range = 10
    line = await one.only_fault()
    assert line.status is CheckStatus.WARNING
    assert line.remedy == "set get_logs_batch_size to 10, or raise the node's limit"


async def test_a_node_that_takes_small_batches_only(one: Patient) -> None:
    """Measured too."""
    one.dependencies.clusters["gateway"].nodes[0].limits.batch = 20
    line = await one.only_fault()
    assert (line.status, line.found.partition(":")[0]) == (CheckStatus.WARNING, "20 at most")


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
        one.dependencies.gateway.evm.set_up(
            config.address, lambda frame: config.set_coprocessors(frame, [], 0)
        )
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
