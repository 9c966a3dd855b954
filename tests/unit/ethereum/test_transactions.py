from __future__ import annotations

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, from_quantity
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import (
    Eip1559Transaction,
    LegacyTransaction,
    decode_transaction,
    sign_transaction,
)
from tests import vectors

KEY = PrivateKey((0x11).to_bytes(32))
TO = Address(b"\x35" * 20)
DYNAMIC = Eip1559Transaction(54321, 7, 10**6, 10**9, 300_000, TO, 0, b"\x6f\x89\x13\xbc")
MINED = [entry["transaction"] for entry in vectors.requests("legacy_direct", "legacy_delegated")]


def test_the_example_of_eip_155() -> None:
    transaction = LegacyTransaction(1, 9, 20 * 10**9, 21000, TO, 10**18, b"")
    raw, _ = sign_transaction(transaction, PrivateKey(b"\x46" * 32))
    assert (
        transaction.signing_digest.hex() == "daf5a779ae972f972197303d7b574746c7ef83eadac0f2791ad23db92e4c8e53"
    )
    assert raw.hex() == (
        "f86c098504a817c800825208943535353535353535353535353535353535353535880de0b6b3a764000080"
        "25a028ef61340bd939bc2195fe537567866003e1a15d3c71ff63e1590620aa636276"
        "a067cbe9d8997f761aecb703304b3800ccf555c9f3dc64214b297fb1966a3b6d83"
    )


@pytest.mark.parametrize("mined", MINED, ids=lambda mined: mined["hash"][:10])
def test_mined_transactions_have_our_hash_and_sender(mined: dict[str, str]) -> None:
    """Transactions of the vectors, signed and hashed by other software, mined by a real node."""
    transaction = Eip1559Transaction(
        from_quantity(mined["chainId"]),
        from_quantity(mined["nonce"]),
        from_quantity(mined["maxPriorityFeePerGas"]),
        from_quantity(mined["maxFeePerGas"]),
        from_quantity(mined["gas"]),
        parse_address(mined["to"]),
        from_quantity(mined["value"]),
        from_hex(mined["input"]),
    )
    r, s, parity = (from_quantity(mined[field]) for field in ("r", "s", "yParity"))
    signed = decode_transaction(transaction.signed(r.to_bytes(32) + s.to_bytes(32) + bytes([27 + parity])))
    assert signed.transaction == transaction
    assert signed.hash == from_hex(mined["hash"])
    assert signed.sender == parse_address(mined["from"])


def test_a_signed_transaction_names_its_sender() -> None:
    for transaction in (DYNAMIC, LegacyTransaction(54321, 7, 10**9, 300_000, TO, 0, b"\x01")):
        raw, digest = sign_transaction(transaction, KEY)
        signed = decode_transaction(raw)
        assert (signed.transaction, signed.sender, signed.hash) == (transaction, KEY.address, digest)


def test_another_fee_is_another_transaction_under_the_same_nonce() -> None:
    dearer = attrs.evolve(DYNAMIC, max_fee=DYNAMIC.max_fee + 1)
    assert sign_transaction(dearer, KEY) != sign_transaction(DYNAMIC, KEY)


def fields() -> list[rlp.Rlp]:
    raw, _ = sign_transaction(DYNAMIC, KEY)
    decoded = rlp.decode(raw[1:])
    assert isinstance(decoded, tuple)
    return list(decoded)


@pytest.mark.parametrize(
    ("index", "value", "reason"),
    [
        (8, ((TO, ()),), "access lists"),
        (5, b"", "without receiver"),
        (5, (), "list"),
        (7, (), "list"),
        (9, b"\x02", "parity"),
        (1, b"\0", "leading zeros"),
        (10, b"\xff" * 33, "out of range"),
        (10, b"", "recovers no sender"),
    ],
)
def test_transactions_that_are_not_known(index: int, value: rlp.Rlp, reason: str) -> None:
    changed = fields()
    changed[index] = value
    with pytest.raises(Undecodable, match=reason):
        decode_transaction(b"\x02" + rlp.encode(tuple(changed)))


@pytest.mark.parametrize("raw", [b"", b"\x02", b"\x01\xc0", b"\x02\xc0", b"\xc0", b"\x02\x80", b"\x05"])
def test_other_bytes_are_undecodable(raw: bytes) -> None:
    with pytest.raises(Undecodable):
        decode_transaction(raw)


def test_a_legacy_transaction_of_no_chain_is_undecodable() -> None:
    raw, _ = sign_transaction(LegacyTransaction(1, 0, 1, 21000, TO, 0, b""), KEY)
    decoded = rlp.decode(raw)
    assert isinstance(decoded, tuple)
    with pytest.raises(Undecodable, match="no chain"):
        decode_transaction(rlp.encode((*decoded[:6], b"\x1b", *decoded[7:])))
