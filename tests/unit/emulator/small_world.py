"""A small emulated Gateway for the chain's tests: one node, one key, one committed handle. Asserts nothing itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs

from kmsconn.emulator.blocks import Mined, Transaction
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.contracts.decryption import PUBLIC_TYPE, DecryptionContract
from kmsconn.emulator.contracts.gateway_config import Committee, GatewayConfig, KmsNode, Material
from kmsconn.emulator.contracts.request_calls import public_request
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import hash_struct, signing_digest
from kmsconn.ethereum.ids import CONTEXT_TAG, KEY_TAG, PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.protocols.fhevm.contracts import DECRYPTION

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
    return sign_transaction(Eip1559Transaction(chain_id, nonce, tip, max_fee, gas, to, 0, data), key)[0]


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


def own_order(*hashes: bytes) -> Callable[[Sequence[Transaction], int], Sequence[Sequence[Transaction]]]:
    """Return an arrangement for ``reorg`` that puts transactions into the last block in this order."""

    def arrange(transactions: Sequence[Transaction], blocks: int) -> Sequence[Sequence[Transaction]]:
        by_hash = {transaction.hash: transaction for transaction in transactions}
        return [*([[]] * (blocks - 1)), [by_hash[wanted] for wanted in hashes]]

    return arrange
