"""The vectors' Ethereum played again on an emulated chain: same blocks, same ceremonies, same replies. Asserts nothing itself."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts import protocol_config as ceremonies
from kmsconn.emulator.contracts.gateway_config import KmsNode, Thresholds
from kmsconn.emulator.contracts.kms_generation import KmsGeneration
from kmsconn.emulator.contracts.protocol_config import Announcement, NodeParams, ProtocolConfig
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from tests import vectors
from tests.unit.emulator.vector_world import rpc

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
