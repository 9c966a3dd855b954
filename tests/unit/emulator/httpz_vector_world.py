"""The gateway of the first generation's vectors played again on an emulated chain, block for block. Asserts nothing itself."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache, partial
from typing import Any

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.gateway_config import EmulatedCoprocessor, KmsNode
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.httpz.contracts import DecryptionManager, HttpzContract, KeyManager
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.httpz_rc7 import contracts
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryption, HttpzUserDecryption
from kmsconn.protocols.httpz_rc7.key_management import (
    HttpzCrsgen,
    HttpzKeygen,
    HttpzPrepKeygen,
    Kskgen,
    PrepKskgen,
)
from kmsconn.protocols.httpz_rc7.profile import EVENTS
from tests.vectors import httpz as vectors

CHAIN_ID = 54321
AFTER_THE_VALID_REPLIES = 324
"""The block at which refusals are looked at: both valid replies are there, nothing surprising has happened yet."""
_TEST = from_hex("0xd61fa44c57b6e7526a46e1072d63332ab4eb38e050fe54dd51fe995f9055c354")
_RELAYER = parse_address(vectors.load()["keys"]["user"]["address"])
_COUNTERS = {
    Kind.PUBLIC_DECRYPTION: contracts.DECRYPTION_MANAGER_BASE + 1,
    Kind.USER_DECRYPTION: contracts.DECRYPTION_MANAGER_BASE + 6,
    Kind.PREP_KEYGEN: contracts.KEY_MANAGER_BASE + 1,
    Kind.PREP_KSKGEN: contracts.KEY_MANAGER_BASE + 9,
    Kind.CRSGEN: contracts.KEY_MANAGER_BASE + 20,
}


@attrs.frozen
class Step:
    """One transaction and the logs that it left; ``request``: the log of a request."""

    block: int
    name: str
    sender: Address
    to: Address
    calldata: bytes
    logs: tuple[dict[str, Any], ...]
    request: dict[str, Any] | None = None


@attrs.define
class Replay:
    """The chain, and what became of each step by its name."""

    chain: EmulatedChain
    node: RpcNode
    httpz: HttpzContract
    manager: DecryptionManager
    keys: KeyManager
    mined: dict[str, Mined] = attrs.field(factory=dict)

    def mine_until(self, number: int) -> None:
        while self.chain.head.number < number:
            self.chain.mine()

    def play(self, step: Step) -> None:
        self.mine_until(step.block - 1)
        sent = self.chain.actors.transact(step.sender, step.to, step.calldata)
        self.chain.mine()
        found = self.chain.history.find(sent)
        assert found is not None
        self.mined[step.name] = found


def replies_after(entry: dict[str, Any], prefix: str) -> Iterator[Step]:
    """Yield the replies of an exchange: each in the block of its log, else in the one after the reply before it."""
    block = int(entry["request"]["log"]["blockNumber"], 16)
    for number, reply in enumerate(entry.get("replies", [entry.get("reply")])):
        yield reply_step(reply, f"{prefix}/{number}", block := block + 1, to_of(entry))


def reply_step(reply: dict[str, Any], name: str, block: int, to: Address) -> Step:
    logs = tuple(reply["outcome"]["logs"])
    block = int(logs[0]["blockNumber"], 16) if logs else block
    sender = parse_address(reply["tx_sender"])
    return Step(block, name, sender, to, from_hex(reply["calldata"]), logs)


def to_of(entry: dict[str, Any]) -> Address:
    return parse_address(entry["request"]["log"]["address"])


def request_step(entry: dict[str, Any], name: str, revision: str) -> Step:
    log = entry["log"]
    calldata = from_hex(entry["request_calldata"]) if "request_calldata" in entry else call_of(log, revision)
    block, to = int(log["blockNumber"], 16), parse_address(log["address"])
    return Step(block, f"{name}/request", _RELAYER, to, calldata, (log,), log)


def call_of(log: dict[str, Any], revision: str) -> bytes:
    """Return the call that makes a request which is recorded by its log alone."""
    manager = contracts.RC7["DecryptionManager"] if revision == "uint256" else contracts.DECRYPTION_MANAGER
    match EVENTS.decode(vectors.read_log(log)):
        case HttpzPublicDecryption(references=materials, numeric=numeric):
            handles = [int.from_bytes(m.handle) if numeric else m.handle for m in materials]
            return manager.function("publicDecryptionRequest").encode(handles)
        case HttpzKeygen(id=prepared):
            return contracts.KEY_MANAGER.function("keygenRequest").encode(prepared)
        case Kskgen(id=prepared, source=source, destination=destination):
            return contracts.KEY_MANAGER.function("kskgenRequest").encode(prepared, source, destination)
        case HttpzPrepKeygen() | PrepKskgen() | HttpzCrsgen() as content:
            name = type(content).__name__.removeprefix("Httpz").replace("Prep", "Preprocess")
            function = contracts.KEY_MANAGER.function(f"{name[0].lower()}{name[1:]}Request")
            return function.encode("TEST" if content.parameters == _TEST else "DEFAULT")
        case other:
            raise AssertionError(other)


def steps(revision: str) -> list[Step]:
    """Return what happened, in the order of the blocks, without what the owner and coprocessors did."""
    group, found = vectors.load()[revision], list[Step]()
    exchanges = [(f"threshold_1/{name}", entry) for name, entry in group["threshold_1"].items()]
    for kind in ("public_decryption", "user_decryption", "key_management", "profile_A_user_decryption"):
        exchanges += [(f"{kind}/{entry['name']}", entry) for entry in group.get(kind, [])]
    for name, entry in exchanges:
        found += [request_step(entry["request"], name, revision), *replies_after(entry, name)]
    for name in ("public", "user"):
        used, valid = group["reverts"][f"{name}_request_used"], group["reverts"][f"{name}_valid_reply"]
        found.append(request_step(used, f"reverts/{name}", revision))
        answering = valid | {"tx_sender": vectors.node(1)["tx_sender"]}
        to = parse_address(used["log"]["address"])
        found.append(reply_step(answering, f"reverts/{name}/valid", 0, to))
    return sorted([*found, *_surprises(group, revision)], key=lambda step: step.block)


def _surprises(group: dict[str, Any], revision: str) -> Iterator[Step]:
    block = AFTER_THE_VALID_REPLIES
    for entry in group["accepted_though_surprising"]:
        name = f"surprising/{entry['name']}"
        if "request" in entry:
            yield request_step(entry["request"], name, revision)
            block = int(entry["request"]["log"]["blockNumber"], 16)
        step = reply_step(entry, name, block + 1, parse_address(entry["to"]))
        yield step
        block = step.block


def fresh(interface: str) -> Replay:
    """Return the gateway before the first request, four nodes of which one may fail, three coprocessors."""
    chain = EmulatedChain(CHAIN_ID, lambda: 1_743_500_000.0)
    httpz = HttpzContract(vectors.address("HTTPZ"), interface)
    manager = DecryptionManager(vectors.address("DecryptionManager"), CHAIN_ID, httpz)
    keys = KeyManager(vectors.address("KeyManager"), httpz)
    for contract in (httpz, manager, keys):
        chain.evm.deploy(contract)
    chain.evm.set_up(httpz.address, partial(_register, httpz, vectors.load()["keys"]))
    for name, digest in (("TEST", _TEST), ("DEFAULT", keccak256(b"DEFAULT"))):
        chain.evm.set_up(keys.address, keys.name_parameters, name=name, digest=digest)
    for material in _materials():
        chain.evm.set_up(manager.address, partial(_commit, manager, material))
    return Replay(chain, RpcNode(chain), httpz, manager, keys)


def _register(httpz: HttpzContract, keys: dict[str, Any], frame: Frame) -> None:
    nodes = [
        KmsNode(
            parse_address(k["tx_sender"]), parse_address(k["signer"]), f"127.0.0.{n}", f"https://da-{n}.com"
        )
        for n, k in enumerate(keys["kms_nodes"], 1)
    ]
    coprocessors = [
        EmulatedCoprocessor(
            parse_address(k["tx_sender"]),
            parse_address(k["signer"]),
            k["s3BucketUrl"],
            f"https://cop-da-{n}.com",
        )
        for n, k in enumerate(keys["coprocessors"], 1)
    ]
    httpz.set_nodes(frame, nodes, 1)
    httpz.set_coprocessors(frame, coprocessors)


def _lower_threshold(httpz: HttpzContract, frame: Frame) -> None:
    httpz.set_nodes(frame, httpz.nodes(frame), 0)


def _commit(manager: DecryptionManager, material: CiphertextReference, frame: Frame) -> None:
    manager.commit(frame, material)
    for account in (None, *_accounts()):
        manager.allow(frame, material.handle, account)


def _materials() -> set[CiphertextReference]:
    """Return every ciphertext that was asked for: each was committed by coprocessors in an order of its own."""
    found: set[CiphertextReference] = set()
    for _, entry in [*vectors.exchanges("public_decryption"), *vectors.exchanges("user_decryption")]:
        content = EVENTS.decode(vectors.log_of(entry))
        assert isinstance(content, HttpzPublicDecryption | HttpzUserDecryption)
        found |= set(content.references)
    return found


@cache
def _accounts() -> frozenset[Address]:
    """Return every user and contract that a recorded request names."""
    found: set[Address] = set()
    for _, entry in vectors.exchanges("user_decryption"):
        data = from_hex(entry["request"]["request_calldata"])
        functions = (
            group.functions_by_selector
            for group in (contracts.DECRYPTION_MANAGER, contracts.RC7["DecryptionManager"])
        )
        (function,) = [known[data[:4]] for known in functions if data[:4] in known]
        pairs = function.decode(data)[0]
        found |= {contract for _, contract in pairs}
        found.add(parse_address(entry["request"]["decoded"]["userAddress"]))
    return frozenset(found)


@cache
def replay(revision: str) -> Replay:
    """Return the gateway after everything that is recorded of a revision; do not change it."""
    played = fresh("rc7" if revision == "uint256" else "main")
    lowered = int(vectors.load()[revision]["deployment"]["update_kms_threshold_0_log"]["blockNumber"], 16)
    for step in steps(revision):
        if step.block > lowered and played.chain.head.number <= lowered:
            played.mine_until(lowered)
            played.chain.evm.set_up(played.httpz.address, partial(_lower_threshold, played.httpz))
        if revision == "uint256" and step.request is not None:
            _skip_what_was_not_recorded(played, step.request)
        played.play(step)
    return played


def _skip_what_was_not_recorded(played: Replay, log: dict[str, Any]) -> None:
    """Bring the counters to where requests that are not in the file had brought them."""
    content = EVENTS.decode(vectors.read_log(log))
    assert content is not None
    if content.kind in _COUNTERS:
        _store(played, parse_address(log["address"]), _COUNTERS[content.kind], content.id - 1)


def _store(played: Replay, address: Address, slot: int, value: int) -> None:
    played.chain.evm.set_up(address, lambda frame: frame.store(slot, value))
