"""Transactions as they are signed and sent: EIP-1559 and legacy with EIP-155; and amounts for people. Never chooses nonce or fee."""

from __future__ import annotations

from functools import cached_property

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recover
from kmsconn.frozen import frozen

_DYNAMIC_FEE, _NO_ACCESS_LIST = b"\x02", b"\xc0"
_DYNAMIC_FEE_FIELDS = 12
_LEGACY_FIELDS = 9
_ETHEREUM_V = 27
_EIP155_V = 35

GWEI = 10**9
ETHER = 10**18
_DIGITS = 30  # of a figure in a text; a wild answer may have 77


@frozen
class Transaction:
    """A type 2 transaction without an access list (EIP-1559). Fees in wei for a unit of gas.

    ``max_priority_fee`` None: one of before EIP-2718, bound to its chain by EIP-155, and ``max_fee`` is its gas price.
    """

    chain_id: int
    nonce: int
    max_priority_fee: int | None
    max_fee: int
    gas: int
    to: Address
    value: int
    data: bytes

    @property
    def is_legacy(self) -> bool:
        """Whether it is one of before EIP-2718."""
        return self.max_priority_fee is None

    @property
    def most_cost(self) -> int:
        """What the account must hold for it, in wei."""
        return self.gas * self.max_fee + self.value

    @cached_property
    def _fields(self) -> bytes:
        if self.max_priority_fee is None:
            return rlp.encode_all(self.nonce, self.max_fee, self.gas, self.to, self.value, self.data)
        numbers = self.chain_id, self.nonce, self.max_priority_fee, self.max_fee, self.gas
        return rlp.encode_all(*numbers, self.to, self.value, self.data) + _NO_ACCESS_LIST

    @property
    def signing_digest(self) -> bytes:
        """What the sender signs."""
        if self.is_legacy:
            return keccak256(rlp.framed(self._fields + rlp.encode_all(self.chain_id, b"", b"")))
        return keccak256(_DYNAMIC_FEE + rlp.framed(self._fields))

    def signed(self, signature: bytes) -> bytes:
        """Return the raw transaction with a signature r ‖ s ‖ v, v 27 or 28."""
        r, s = signature[:32].lstrip(b"\0"), signature[32:64].lstrip(b"\0")
        parity = signature[64] - _ETHEREUM_V
        if self.is_legacy:
            return rlp.framed(self._fields + rlp.encode_all(_EIP155_V + 2 * self.chain_id + parity, r, s))
        return _DYNAMIC_FEE + rlp.framed(self._fields + rlp.encode_all(parity, r, s))


@attrs.frozen
class SignedTransaction:
    """A raw transaction taken apart: what it does, whose it is, and its hash."""

    transaction: Transaction
    sender: Address
    hash: bytes
    signature: bytes = b""
    """r ‖ s ‖ v, v 27 or 28."""


def sign_transaction(transaction: Transaction, key: PrivateKey) -> tuple[bytes, bytes]:
    """Sign; return the raw bytes and their hash."""
    raw = transaction.signed(key.sign(transaction.signing_digest))
    return raw, keccak256(raw)


def decode_transaction(raw: bytes) -> SignedTransaction:
    """Read a raw transaction and recover its sender.

    Raises Undecodable, also for the types, access lists and contract creations that are not supported.
    """
    dynamic = raw[:1] == _DYNAMIC_FEE
    fields = rlp.decode(raw[1:] if dynamic else raw)
    if isinstance(fields, bytes) or len(fields) != (_DYNAMIC_FEE_FIELDS if dynamic else _LEGACY_FIELDS):
        raise Undecodable("no transaction of a known type")
    transaction, parity = _dynamic_fee(fields) if dynamic else _legacy(fields)
    r, s = rlp.decode_int(fields[-2]), rlp.decode_int(fields[-1])
    if max(r, s).bit_length() > 8 * 32:
        raise Undecodable("a signature out of range")
    signature = r.to_bytes(32) + s.to_bytes(32) + bytes([_ETHEREUM_V + parity])
    sender = recover(transaction.signing_digest, signature)
    if sender is None:
        raise Undecodable("the signature recovers no sender")
    return SignedTransaction(transaction, sender, keccak256(raw), signature)


def _dynamic_fee(fields: tuple[rlp.Rlp, ...]) -> tuple[Transaction, int]:
    *head, access, parity, _, _ = fields
    if access != ():
        raise Undecodable("access lists are not supported")
    chain_id, nonce, priority, fee, gas = map(rlp.decode_int, head[:5])
    transaction = Transaction(chain_id, nonce, priority, fee, gas, *_transfer(*head[5:]))
    return transaction, _bit(rlp.decode_int(parity))


def _legacy(fields: tuple[rlp.Rlp, ...]) -> tuple[Transaction, int]:
    *head, v, _, _ = fields
    chain_id, parity = divmod(rlp.decode_int(v) - _EIP155_V, 2)
    if chain_id < 0:
        raise Undecodable("a transaction of no chain")
    nonce, price, gas = map(rlp.decode_int, head[:3])
    return Transaction(chain_id, nonce, None, price, gas, *_transfer(*head[3:])), parity


def _transfer(to: rlp.Rlp, value: rlp.Rlp, data: rlp.Rlp) -> tuple[Address, int, bytes]:
    return _to(to), rlp.decode_int(value), _bytes(data)


def _bit(parity: int) -> int:
    if parity > 1:
        raise Undecodable("a parity that is neither 0 nor 1")
    return parity


def _bytes(field: rlp.Rlp) -> bytes:
    if not isinstance(field, bytes):
        raise Undecodable("a list where bytes are expected")
    return field


def _to(field: rlp.Rlp) -> Address:
    if len(_bytes(field)) != ADDRESS_BYTES:
        raise Undecodable("a transaction without receiver")
    return Address(_bytes(field))


def in_gwei(wei: int) -> str:
    """Return a fee in gwei, for people."""
    return f"{_decimal(wei, GWEI)} gwei"


def in_ether(wei: int) -> str:
    """Return an amount in ether, for people."""
    return f"{_decimal(wei, ETHER)} ether"


def _decimal(wei: int, unit: int) -> str:
    whole, rest = divmod(wei, unit)
    if len(str(whole)) > _DIGITS:
        return f"10^{len(str(whole)) - 1}"
    fraction = str(rest).zfill(len(str(unit)) - 1).rstrip("0")
    return f"{whole}.{fraction}" if fraction else str(whole)
