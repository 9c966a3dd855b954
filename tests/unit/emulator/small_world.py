"""Emulated Gateways for the chain's tests: a small one, and that of the vectors, played again block for block. Asserts nothing itself."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import Any

import attrs
import msgspec

from kmsconn.emulator.blocks import EmulatedTransaction, Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.decryption import PUBLIC_TYPE, DecryptionContract
from kmsconn.emulator.contracts.gateway_config import (
    Committee,
    EmulatedCoprocessor,
    GatewayConfig,
    KmsNode,
    Material,
    Thresholds,
)
from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL, public_request
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.abi import hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, KEY_TAG, PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from tests import vectors

CHAIN_ID = 54321
NOW = 1_767_312_000
DECRYPTION_ADDRESS = Address(b"\xde" * 20)
CONFIG_ADDRESS = Address(b"\xc0" * 20)
RELAYER = Address(b"\x0e" * 20)
CONTEXT = make_id(CONTEXT_TAG, 1)
KEY = make_id(KEY_TAG, 1)
SIGNER, SENDER, STRANGER = (PrivateKey(number.to_bytes(32)) for number in (1, 0x11, 0x99))
MAX_FEE = 10**9
GAS = 500_000


def handle(index: int = 0, *, fhe_type: int = 5, chain_id: int = 12345) -> bytes:
    return bytes([index]) * 21 + b"\0" + chain_id.to_bytes(8) + bytes([fhe_type, 0])


def public_id(counter: int) -> int:
    return make_id(PUBLIC_DECRYPTION_TAG, counter)


def user_id(counter: int) -> int:
    return make_id(USER_DECRYPTION_TAG, counter)


@attrs.define
class World:
    """The chain, its contracts and a node."""

    chain: EmulatedChain
    config: GatewayConfig
    decryption: DecryptionContract
    node: RpcNode
    nonce: int = 0

    def commit(self, *handles: bytes, key_id: int = KEY) -> None:
        for item in handles:
            made = Material(item, key_id, b"\xd1" * 32, (RELAYER,))
            self.chain.evm.set_up(DECRYPTION_ADDRESS, partial(self.decryption.commit, material=made))

    def ask(self, *indices: int) -> bytes:
        """Queue a public request for these handles."""
        data = public_request([handle(i) for i in indices or (0,)])
        return self.chain.actors.transact(RELAYER, DECRYPTION_ADDRESS, data)

    def reply(
        self, counter: int, *indices: int, result: bytes = b"\x07" * 32, signer: PrivateKey = SIGNER
    ) -> bytes:
        """Return the calldata of a good reply for these handles."""
        handles = tuple(handle(i) for i in indices or (0,))
        digest = signing_digest(self.decryption.domain, hash_struct(PUBLIC_TYPE, handles, result, b""))
        call = DECRYPTION.function("publicDecryptionResponse")
        return call.encode(public_id(counter), result, signer.sign(digest), b"")

    def mined(self, transaction_hash: bytes) -> Mined:
        found = self.chain.history.find(transaction_hash)
        assert found is not None
        return found


def signed(
    nonce: int,
    data: bytes = b"",
    *,
    key: PrivateKey = SENDER,
    max_fee: int = MAX_FEE,
    tip: int = 0,
    gas: int = GAS,
    chain_id: int = CHAIN_ID,
    to: Address = DECRYPTION_ADDRESS,
) -> bytes:
    """Return a raw transaction of the node's wallet."""
    return sign_transaction(Transaction(chain_id, nonce, tip, max_fee, gas, to, 0, data), key)[0]


def world(*, pool: PoolKind = "arbitrum", base_fee: int | None = 100, block_time: float = 0.25) -> World:
    """Return a fresh world with handles 0 to 9 committed."""
    chain = EmulatedChain(CHAIN_ID, lambda: NOW, base_fee=base_fee, block_time=block_time, pool=pool)
    config = GatewayConfig(CONFIG_ADDRESS)
    decryption = DecryptionContract(DECRYPTION_ADDRESS, CHAIN_ID, config)
    chain.evm.deploy(config)
    chain.evm.deploy(decryption)
    nodes = Committee((KmsNode(SENDER.address, SIGNER.address),))
    chain.evm.set_up(CONFIG_ADDRESS, lambda f: config.set_context(f, CONTEXT, nodes))
    made = World(chain, config, decryption, RpcNode(chain))
    made.commit(*(handle(i) for i in range(10)))
    return made


def own_order(
    *hashes: bytes,
) -> Callable[[Sequence[EmulatedTransaction], int], Sequence[Sequence[EmulatedTransaction]]]:
    """Return an arrangement for ``reorg`` that puts transactions into the last block in this order."""

    def arrange(
        transactions: Sequence[EmulatedTransaction], blocks: int
    ) -> Sequence[Sequence[EmulatedTransaction]]:
        by_hash = {transaction.hash: transaction for transaction in transactions}
        return [*([[]] * (blocks - 1)), [by_hash[wanted] for wanted in hashes]]

    return arrange


FIRST_TIMESTAMP = 1_767_312_000  # the vectors have one block per second from here
END_OF_STAGE = {
    "stage 1": 0x59,
    "stage 2": 0x6D,
    "stage 3": 0x6E,
    "stage 3, pinned context zeroed by hand": 0x6E,
}
_GATEWAY = vectors.load()["environment"]["gateway"]
_CONTRACTS = {name: parse_address(text) for name, text in _GATEWAY["contracts"].items()}


def rpc(node: RpcNode, method: str, *params: Any) -> dict[str, Any]:
    """Ask a node one question that needs no waiting; return the answer object."""
    body = json.dumps({"jsonrpc": "2.0", "id": 1, "method": method, "params": params})
    (carried,) = node.begin(body).all()
    answer: dict[str, Any] = msgspec.json.decode(msgspec.json.encode(carried.as_json()))
    return answer


def committee(context_id: str) -> Committee:
    """Return a context's nodes."""
    (found,) = [c for c in vectors.load()["environment"]["contexts"] if c["context_id"] == context_id]
    limits = found["gateway_thresholds"]
    nodes = tuple(
        KmsNode(
            vectors.account(f"tx{n}")[0],
            vectors.account(f"signer{n}")[0],
            f"kms-{n}.example.test",
            f"https://kms-{n}.example.test/public",
        )
        for n in found["nodes"]
    )
    return Committee(nodes, Thresholds(limits["public"], limits["user"], limits["kms_gen"], limits["mpc"]))


def calldata_of(entry: dict[str, Any]) -> bytes:
    """Return the call that makes a request: recorded for legacy ones, rebuilt for the others."""
    if "transaction" in entry:
        return from_hex(entry["transaction"]["input"])
    if entry["kind"] == "public":
        named = [vectors_handle(name) for name in entry["handles"]]
        return public_request(named, from_hex(entry["extra_data"]))
    decoded = entry["decoded"]
    handles = tuple(
        (from_hex(h["handle"]), parse_address(h["contract_address"]), parse_address(h["owner_address"]))
        for h in decoded["handles"]
    )
    return DECRYPTION.function(UNIFIED_CALL).encode(
        handles,
        parse_address(decoded["user_address"]),
        vectors.hexadecimal(decoded["public_key"]),
        tuple(map(parse_address, decoded["allowed_contracts"])),
        (decoded["start_timestamp"], decoded["duration_seconds"]),
        from_hex(decoded["user_request_eip712"]["signature"]),
        from_hex(entry["extra_data"]),
    )


def vectors_handle(name: str) -> bytes:
    (found,) = [c for c in vectors.load()["ciphertexts"] if c["name"] == name]
    return from_hex(found["handle"])


@attrs.define
class Replay:
    """The chain after everything, with what each step gave."""

    chain: EmulatedChain
    node: RpcNode
    decryption: DecryptionContract
    config: GatewayConfig
    requests: dict[str, Mined] = attrs.field(factory=dict)
    replies: dict[tuple[str, int], Mined] = attrs.field(factory=dict)
    reverts: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)
    estimates: dict[tuple[str, str], dict[str, Any]] = attrs.field(factory=dict)

    def mine_until(self, number: int) -> None:
        while self.chain.head.number < number:
            self.chain.mine()

    def execute(self, number: int, sender: Address, data: bytes) -> Mined:
        """Execute one call alone in block ``number``."""
        self.mine_until(number - 1)
        transaction_hash = self.chain.actors.transact(sender, self.decryption.address, data)
        self.chain.mine()
        mined = self.chain.history.find(transaction_hash)
        assert mined is not None
        return mined

    def collect_reverts(self, state: str) -> None:
        self.mine_until(END_OF_STAGE[state])
        for entry in vectors.load()["reverts"]:
            if entry["state"] == state:
                call = entry["call"]
                self.reverts[entry["name"], state] = rpc(self.node, "eth_call", call, "latest")
                self.estimates[entry["name"], state] = rpc(self.node, "eth_estimateGas", call)


class _Clock:
    """One second per block."""

    def __init__(self) -> None:
        self.chain: EmulatedChain | None = None

    def __call__(self) -> float:
        return FIRST_TIMESTAMP + (0 if self.chain is None else self.chain.head.number + 1)


def fresh_replay() -> Replay:
    """Return the Gateway before the first request."""
    clock = _Clock()
    chain = EmulatedChain(_GATEWAY["chain_id"], clock)
    clock.chain = chain
    config = GatewayConfig(_CONTRACTS["GatewayConfig"])
    decryption = DecryptionContract(_CONTRACTS["Decryption"], chain.chain_id, config)
    chain.evm.deploy(config)
    chain.evm.deploy(decryption)
    replay = Replay(chain, RpcNode(chain), decryption, config)
    _set_up(replay)
    return replay


def _set_up(replay: Replay) -> None:
    environment = vectors.load()["environment"]
    coprocessors = [
        EmulatedCoprocessor(parse_address(c["tx_sender"]), parse_address(c["signer"]), c["s3_bucket_url"])
        for c in environment["coprocessors"]
    ]
    first = environment["contexts"][0]["context_id"]
    chain, config, decryption = replay.chain, replay.config, replay.decryption
    chain.evm.set_up(
        config.address,
        lambda f: config.set_coprocessors(f, coprocessors, environment["coprocessor_threshold"]),
    )
    chain.evm.set_up(config.address, lambda f: config.set_host_chains(f, environment["host_chains"]))
    chain.evm.set_up(config.address, lambda f: config.set_context(f, int(first, 16), committee(first)))
    chain.evm.set_up(decryption.address, decryption.initialize)
    for entry in vectors.load()["ciphertexts"]:
        chain.evm.set_up(decryption.address, partial(decryption.commit, material=material(entry)))


def material(entry: dict[str, Any]) -> Material:
    senders = tuple(map(parse_address, entry["event_coprocessor_order"]))
    return Material(
        from_hex(entry["handle"]), int(entry["key_id"], 16), from_hex(entry["sns_ciphertext_digest"]), senders
    )


@cache
def replay() -> Replay:
    """Return the Gateway after all requests, replies and changes of the vectors; do not change it."""
    played = fresh_replay()
    _play(played, 0, END_OF_STAGE["stage 1"])
    played.collect_reverts("stage 1")
    second = vectors.load()["environment"]["contexts"][1]["context_id"]
    played.chain.actors.act(
        played.config.address, lambda f: played.config.set_context(f, int(second, 16), committee(second))
    )
    _play(played, END_OF_STAGE["stage 1"], END_OF_STAGE["stage 2"])
    played.collect_reverts("stage 2")
    first = int(vectors.load()["environment"]["contexts"][0]["context_id"], 16)
    played.chain.actors.act(played.config.address, lambda f: played.config.destroy_context(f, first))
    played.collect_reverts("stage 3")
    for name in ("pending_public_v1_context_1", "pending_user_v1_context_1"):
        decryption_id = int(vectors.request(name)["decryption_id"], 16)
        played.chain.evm.set_up(
            played.decryption.address,
            partial(played.decryption.pin, decryption_id=decryption_id, context_id=0),
        )
    played.collect_reverts("stage 3, pinned context zeroed by hand")
    return played


def _play(played: Replay, after: int, until: int) -> None:
    relayer = vectors.account("relayer")[0]
    steps: list[tuple[int, dict[str, Any], dict[str, Any] | None]] = [
        (vectors.log_of(r).block_number, r, None) for r in vectors.requests()
    ]
    steps += [(int(a["proof"]["block_number"], 16), r, a) for r, a in vectors.answers() if "proof" in a]
    for number, entry, answer in sorted(steps, key=lambda step: step[0]):
        if not after < number <= until:
            continue
        if answer is None:
            played.requests[entry["name"]] = played.execute(number, relayer, calldata_of(entry))
        else:
            reply = answer["reply"]
            mined = played.execute(number, parse_address(reply["from"]), from_hex(reply["calldata"]))
            played.replies[entry["name"], answer["node"]] = mined
