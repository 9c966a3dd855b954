"""The vectors' Ethereum played again: block for block, and those of 0.15 wherever KMSGeneration runs. Asserts nothing itself."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cache, partial
from typing import Any, ClassVar

import attrs
import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts import protocol_config as ceremonies
from kmsconn.emulator.contracts.gateway_config import Committee, KmsNode, Thresholds
from kmsconn.emulator.contracts.generation_releases import (
    TAGGED_0_2,
    GenerationRelease,
    KeyDigests,
    crsgen_hash,
    keygen_hash,
    named_pair,
    prep_keygen_hash,
)
from kmsconn.emulator.contracts.kms_generation import KmsGeneration
from kmsconn.emulator.contracts.protocol_config import Announcement, NodeParams, ProtocolConfig
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.abi import Domain, Function, signing_digest
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, CRS_TAG, EPOCH_TAG, KEY_TAG, PREP_KEYGEN_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION, PROTOCOL_CONFIG
from tests import vectors
from tests.unit.emulator.small_world import rpc

ETHEREUM = vectors.load()["environment"]["ethereum"]
EVENTS: list[dict[str, Any]] = vectors.load()["ethereum"]["events"]
REVERTS: list[dict[str, Any]] = vectors.load()["ethereum"]["reverts"]
_CONTRACTS = {name: parse_address(text) for name, text in ETHEREUM["contracts"].items()}
FIRST_CONTEXT, FIRST_EPOCH = (7 << 248) + 1, (8 << 248) + 1
STATES = [
    (14, "context 1, prep-keygen 1 open"),
    (15, "context 1, prep-keygen 1 answered"),
    (15, "context 1, keygen 1 open"),
    (16, "context 1, keygen 1 answered"),
    (17, "context 1, CRS 1 open"),
    (18, "context 1, CRS 1 answered"),
    (23, "context 2 pending"),
    (24, "context 2 pending, node 1 confirmed"),
    (27, "context 2 created, epoch 2 pending"),
    (28, "epoch 2 pending, node 1 confirmed"),
    (31, "context 2 and epoch 2 active"),
    (32, "context 2, CRS 3 open"),
    (42, "context 1 destroyed"),
]
"""After which block each recorded state began."""
BEGUN_BY_A_REPLY = {"keygen_default", "epoch_2_context_switch"}


@attrs.define
class Ceremony:
    """Ethereum after everything, with what each step gave."""

    chain: EmulatedChain
    node: RpcNode
    config: ProtocolConfig
    generation: KmsGeneration
    replies: dict[tuple[str, int], Mined] = attrs.field(factory=dict)
    reverts: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def mine_until(self, number: int) -> None:
        while self.chain.head.number < number:
            self.chain.mine()

    def reply(self, name: str, answer: dict[str, Any]) -> None:
        """Land one recorded reply in its block."""
        call = answer["reply"]
        sender, to, data = parse_address(call["from"]), parse_address(call["to"]), from_hex(call["calldata"])
        transaction_hash = self.chain.actors.transact(sender, to, data)
        self.chain.mine()
        mined = self.chain.history.find(transaction_hash)
        assert mined is not None
        self.replies[name, answer["node"]] = mined

    def collect_reverts(self, state: str) -> None:
        for entry in REVERTS:
            if entry["state"] == state:
                self.reverts[entry["name"]] = rpc(self.node, "eth_call", entry["call"], "latest")


def announcement(entry: dict[str, Any]) -> Announcement:
    """Return what a recorded NewKmsContext announces."""
    said = entry["decoded"]
    nodes = tuple(
        NodeParams(
            KmsNode(parse_address(sender), parse_address(signer), ip, url),
            party,
            identity,
            from_hex(cert),
            prefix,
        )
        for sender, signer, ip, url, party, identity, cert, prefix in said["kmsNodeParams"]
    )
    pcrs = tuple((from_hex(a), from_hex(b), from_hex(c)) for a, b, c in said["pcrValues"])
    return Announcement(nodes, Thresholds(*said["thresholds"]), said["softwareVersion"], pcrs)


def fresh_ceremony() -> Ceremony:
    """Return Ethereum before the first context."""
    chain = EmulatedChain(ETHEREUM["chain_id"], lambda: 1_767_312_000)
    config = ProtocolConfig(_CONTRACTS["ProtocolConfig"], chain.chain_id)
    generation = KmsGeneration(_CONTRACTS["KMSGeneration"], chain.chain_id, config)
    chain.evm.deploy(config)
    chain.evm.deploy(generation)
    chain.evm.set_up(generation.address, generation.initialize)
    return Ceremony(chain, RpcNode(chain), config, generation)


def _first_context(played: Ceremony, entry: dict[str, Any], frame: Frame) -> None:
    first = announcement(entry)
    played.config.set_context(frame, FIRST_CONTEXT, first.committee)
    played.config.set_epoch(frame, FIRST_CONTEXT, FIRST_EPOCH)
    ceremonies.announce(frame, FIRST_CONTEXT, ceremonies.FIRST_PREDECESSOR, first)


def _action(played: Ceremony, entry: dict[str, Any]) -> tuple[Address, Callable[[Frame], Any]]:
    """Return the contract and what its owner did there."""
    said, config, generation = entry["decoded"], played.config, played.generation
    match entry["event"]:
        case "PrepKeygenRequest":
            return generation.address, lambda f: generation.request_keygen(f, said["paramsType"])
        case "CrsgenRequest":
            bits, params = said["maxBitLength"], said["paramsType"]
            return generation.address, lambda f: generation.request_crsgen(f, bits, params)
        case "AbortKeygen":
            return generation.address, lambda f: generation.abort_keygen(f, said["prepKeygenId"])
        case "AbortCrsgen":
            return generation.address, lambda f: generation.abort_crsgen(f, said["crsId"])
        case "NewKmsContext" if entry["name"] == "context_1_first":
            return config.address, partial(_first_context, played, entry)
        case "NewKmsContext":
            return config.address, lambda f: config.begin_context(f, announcement(entry))
        case "NewKmsEpoch":
            return config.address, config.begin_epoch
        case "KmsContextDestroyed":
            return config.address, lambda f: config.destroy_context(f, said["kmsContextId"])
    raise AssertionError(entry["event"])


def _act(played: Ceremony, entry: dict[str, Any]) -> None:
    address, action = _action(played, entry)
    played.chain.actors.act(address, action)
    played.chain.mine()


def _steps() -> list[tuple[int, Callable[[Ceremony], None]]]:
    steps: list[tuple[int, Callable[[Ceremony], None]]] = []
    for entry in EVENTS:
        if entry["name"] not in BEGUN_BY_A_REPLY:
            steps.append((int(entry["log"]["blockNumber"], 16), partial(_act, entry=entry)))
        for answer in entry["answers"]:
            number = int(answer["proof"]["block_number"], 16)
            steps.append((number, partial(Ceremony.reply, name=entry["name"], answer=answer)))
    return sorted(steps, key=lambda step: step[0])


@cache
def ceremony() -> Ceremony:
    """Return Ethereum after all ceremonies of the vectors; do not change it."""
    played = fresh_ceremony()
    for number, step in _steps():
        played.mine_until(number - 1)
        step(played)
        for state in states_at(number):
            played.collect_reverts(state)
    return played


def states_at(number: int) -> list[str]:
    """Return the states, as the reverts name them, that the chain is in after this block."""
    return [state for block, state in STATES if block == number]


CHAIN_ID = 11155111
GENERATION, CONFIG = Address(b"\x33" * 20), Address(b"\x44" * 20)
CONTEXT, EPOCH = make_id(CONTEXT_TAG, 1), make_id(EPOCH_TAG, 1)
EXTRA_DATA = named_pair(CONTEXT, EPOCH)
DOMAIN = Domain("KMSGeneration", "1", CHAIN_ID, GENERATION)
KEYS = [PrivateKey(number.to_bytes(32)) for number in (1, 2)]
SENDERS = [Address(bytes([0x51 + number]) * 20) for number in range(2)]
COMMITTEE = Committee(
    tuple(
        KmsNode(sender, key.address, storage_url=f"https://kms-{number}.example/bucket")
        for number, (sender, key) in enumerate(zip(SENDERS, KEYS, strict=True), 1)
    ),
    Thresholds(kms_gen=2),
)
WHOLE: KeyDigests = ((0, b"\xcc" * 32), (1, b"\xaa" * 32))
"""The digests of the key that the migrated one of the vectors had before."""
COMPRESSED: KeyDigests = ((1, b"\xaa" * 32), (3, b"\xbb" * 32))
"""The digests of the replies of the vectors."""
FIRST_KEYGEN = Function.from_item({"name": "keygen", "inputs": ({"type": "uint8"},), "outputs": ()})
KEYGEN = LATER_KMS_GENERATION.function("keygen")
ABORT = LATER_KMS_GENERATION.function("abortKeygen")
PREP_RESPONSE = LATER_KMS_GENERATION.function("prepKeygenResponse")
KEY_RESPONSE = LATER_KMS_GENERATION.function("keygenResponse")
KEY_INFO = LATER_KMS_GENERATION.function("getKeyInfo")
Emission = tuple[list[str], str]
"""Topics and data of a log."""


def prep_id(number: int) -> int:
    return make_id(PREP_KEYGEN_TAG, number)


def key_id(number: int) -> int:
    return make_id(KEY_TAG, number)


def emitted(name: str) -> Emission:
    """Return a log of the vectors."""
    log = vectors.load_later()["logs"][name]
    return log["topics"], log["data"]


def calldata(name: str) -> bytes:
    """Return the calldata of the vectors."""
    return from_hex(vectors.load_later()["calldata"][name])


def refusal(signature: str) -> bytes:
    """Return the revert data of the vectors."""
    [found] = [one["data"] for one in vectors.load_later()["reverts"] if one["signature"] == signature]
    return from_hex(found)


def viewed(name: str) -> bytes:
    """Return the result of a view of the vectors."""
    return from_hex(vectors.load_later()["view_results"][name])


def prep_reply(number: int, node: int) -> bytes:
    """Return a node's reply for a preparation."""
    identifier = prep_id(number)
    signed = KEYS[node].sign(signing_digest(DOMAIN, prep_keygen_hash(identifier, EXTRA_DATA)))
    return PREP_RESPONSE.encode(identifier, signed)


def key_reply(number: int, digests: KeyDigests, node: int) -> bytes:
    """Return a node's reply for a key."""
    struct_hash = keygen_hash(prep_id(number), key_id(number), digests, EXTRA_DATA)
    return KEY_RESPONSE.encode(key_id(number), digests, KEYS[node].sign(signing_digest(DOMAIN, struct_hash)))


def confirmation() -> bytes:
    """Return the first node's confirmation of the second epoch at ProtocolConfig, with a compressed key and a CRS."""
    extra_data, crs_id = named_pair(CONTEXT, EPOCH + 1), make_id(CRS_TAG, 1)
    domain = Domain("ProtocolConfig", "1", CHAIN_ID, CONFIG)
    hashes = (
        keygen_hash(prep_id(1), key_id(1), COMPRESSED, extra_data),
        crsgen_hash(crs_id, 512, b"\xcc" * 32, extra_data),
    )
    key, crs = (KEYS[0].sign(signing_digest(domain, struct_hash)) for struct_hash in hashes)
    return PROTOCOL_CONFIG.function("confirmEpochActivation").encode(
        EPOCH + 1, ((prep_id(1), key_id(1), COMPRESSED, key),), ((crs_id, 512, b"\xcc" * 32, crs),)
    )


class Backend(ABC):
    """A ``KMSGeneration`` with its committee, on some chain; what is done or asked comes from its owner, or from a node."""

    owner: ClassVar[Address]

    @abstractmethod
    async def do(self, data: bytes, node: int | None = None) -> list[Emission]:
        """Call the contract with success; return what was logged."""

    @abstractmethod
    async def upgrade(self) -> None:
        """Run 0.3.0 from here on."""

    @abstractmethod
    async def call(self, method: str, *params: Any) -> Any:
        """Return what the chain's node answers. Raises RpcError."""

    async def ask(self, data: bytes, node: int | None = None) -> bytes:
        """Return the result of a call that is not included."""
        return from_hex(await self.call("eth_call", self.wish(data, node), "latest"))

    async def refused(self, data: bytes, node: int | None = None) -> bytes:
        """Return the revert data of such a call."""
        with pytest.raises(RpcError) as refusal:
            await self.ask(data, node)
        return refusal.value.data or b""

    async def slot(self, slot: int) -> int:
        """Return what a storage slot holds."""
        where = to_hex(GENERATION), to_hex(slot.to_bytes(32)), "latest"
        return int(await self.call("eth_getStorageAt", *where), 16)

    def wish(self, data: bytes, node: int | None) -> dict[str, str]:
        return {"from": to_hex(self.sender(node)), "to": to_hex(GENERATION), "data": to_hex(data)}

    def sender(self, node: int | None) -> Address:
        return self.owner if node is None else SENDERS[node]


@attrs.frozen
class Play:
    """The steps of a ceremony on one backend; each returns what the last reply logged beside itself."""

    at: Backend

    async def prepare(self, number: int, first: bytes | None = None) -> list[Emission]:
        """Let both nodes reply for a preparation; ``first`` is the calldata of the first one."""
        await self.at.do(first or prep_reply(number, 0), 0)
        return (await self.at.do(prep_reply(number, 1), 1))[1:]

    async def make(self, number: int, digests: KeyDigests, first: bytes | None = None) -> list[Emission]:
        """Let both nodes reply for a key."""
        await self.at.do(first or key_reply(number, digests, 0), 0)
        return (await self.at.do(key_reply(number, digests, 1), 1))[1:]

    async def whole_key(self) -> None:
        """Have the first key made on 0.2.0, and upgrade the contract after that."""
        await self.at.do(FIRST_KEYGEN.encode(0))
        await self.prepare(1)
        await self.make(1, WHOLE)
        await self.at.upgrade()

    async def migrate(self, number: int = 2) -> None:
        """Have the first key migrated; the second node replies first."""
        await self.at.do(KEYGEN.encode(0, key_id(1)))
        await self.prepare(number)
        for node in (1, 0):
            await self.at.do(key_reply(number, COMPRESSED, node), node)


@attrs.define(eq=False)
class EmulatedBackend(Backend):
    """The emulated contract."""

    owner = Address(b"\x0a" * 20)

    chain: EmulatedChain
    node: RpcNode
    config: ProtocolConfig
    generation: KmsGeneration

    @classmethod
    def make(cls, release: GenerationRelease = TAGGED_0_2) -> EmulatedBackend:
        """Deploy a release and its committee."""
        chain = EmulatedChain(CHAIN_ID, lambda: 1_767_312_000)
        config = ProtocolConfig(CONFIG, CHAIN_ID)
        generation = KmsGeneration(GENERATION, CHAIN_ID, config)
        for contract in (config, generation):
            chain.evm.deploy(contract)
        chain.evm.set_up(CONFIG, lambda frame: config.set_context(frame, CONTEXT, COMMITTEE))
        chain.evm.set_up(CONFIG, lambda frame: config.set_epoch(frame, CONTEXT, EPOCH))
        chain.evm.set_up(GENERATION, generation.initialize)
        chain.evm.set_up(GENERATION, lambda frame: generation.upgrade(frame, release))
        return cls(chain, RpcNode(chain), config, generation)

    async def do(self, data: bytes, node: int | None = None) -> list[Emission]:
        await trio.lowlevel.checkpoint()
        sent = self.chain.actors.transact(self.sender(node), GENERATION, data)
        self.chain.mine()
        mined = self.chain.history.find(sent)
        assert mined is not None
        assert mined.outcome.status == 1, mined.outcome.error
        return [([to_hex(topic) for topic in log.topics], to_hex(log.data)) for log in mined.logs]

    async def upgrade(self) -> None:
        await trio.lowlevel.checkpoint()
        self.chain.actors.act(GENERATION, self.generation.upgrade)
        self.chain.mine()

    async def call(self, method: str, *params: Any) -> Any:
        await trio.lowlevel.checkpoint()
        answer = rpc(self.node, method, *params)
        if error := answer.get("error"):
            raise RpcError(error["code"], error["message"], from_hex(error.get("data") or "0x"))
        return answer["result"]


def slots_of(entry: str) -> tuple[int, int]:
    """Return the slot of an example of the vectors, and its value."""
    found = vectors.load_later()["storage"][entry]
    return int(found["slot"], 16), int(found["value"], 16)
