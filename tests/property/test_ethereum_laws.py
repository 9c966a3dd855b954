"""Laws of the Ethereum formats: round trips, strictness, and one kind of error for foreign bytes."""

from __future__ import annotations

from typing import Any

from eth_abi.abi import encode
from hypothesis import assume, example, given
from hypothesis import strategies as st

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp
from kmsconn.ethereum.abi_types import parse_type, tuple_type
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, from_quantity, quantity, to_hex
from kmsconn.ethereum.signing import PrivateKey, is_canonical, recover
from kmsconn.ethereum.transactions import Transaction, decode_transaction, sign_transaction

LEAVES: dict[str, st.SearchStrategy[Any]] = {
    "uint8": st.integers(0, 2**8 - 1),
    "uint256": st.integers(0, 2**256 - 1),
    "int32": st.integers(-(2**31), 2**31 - 1),
    "bool": st.booleans(),
    "address": st.binary(min_size=20, max_size=20),
    "bytes32": st.binary(min_size=32, max_size=32),
    "bytes4": st.binary(min_size=4, max_size=4),
    "bytes": st.binary(max_size=70),
    "string": st.text(max_size=20),
}


def grow(types: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    tuples = st.lists(types, min_size=1, max_size=4).map(lambda items: f"({','.join(items)})")
    return st.one_of(tuples, types.map("{}[]".format))


TYPES = st.recursive(st.sampled_from(sorted(LEAVES)), grow, max_leaves=6)


def values_of(kind: Any) -> st.SearchStrategy[Any]:
    """Return values of an ABI type."""
    if kind.name in LEAVES:
        return LEAVES[kind.name]
    if hasattr(kind, "items"):
        return st.tuples(*[values_of(item) for item in kind.items])
    if hasattr(kind, "item"):
        return st.lists(values_of(kind.item), max_size=3).map(tuple)
    size = int(kind.name.lstrip("uintbyes"))
    if kind.name.startswith("bytes"):
        return st.binary(min_size=size, max_size=size)
    signed = kind.name.startswith("int")
    return st.integers(-(2 ** (size - 1)), 2 ** (size - 1) - 1) if signed else st.integers(0, 2**size - 1)


@st.composite
def typed_values(draw: st.DrawFn) -> tuple[str, tuple[Any, ...]]:
    kinds = draw(st.lists(TYPES, min_size=1, max_size=3))
    text = f"({','.join(kinds)})"
    return text, draw(values_of(parse_type(text)))


def for_eth_abi(kind: Any, value: Any) -> Any:
    """Return a value as eth_abi takes it: addresses as text."""
    if kind.name == "address":
        return to_hex(value)
    if hasattr(kind, "items"):
        return tuple(for_eth_abi(item, part) for item, part in zip(kind.items, value, strict=True))
    if hasattr(kind, "item"):
        return tuple(for_eth_abi(kind.item, part) for part in value)
    return value


@given(typed_values())
def test_abi_encoding_is_that_of_another_implementation_and_comes_back(given_: tuple[str, Any]) -> None:
    text, values = given_
    kind = tuple_type(text)
    encoded = kind.encode(values)
    names = [item.name for item in kind.items]
    assert encoded == encode(names, for_eth_abi(kind, values))
    assert kind.decode(encoded, 0, exact=True) == (values, len(encoded))
    assert kind.decode(encoded, 0, exact=False)[0] == values


@given(typed_values(), st.data())
def test_exact_decoding_takes_one_encoding_of_a_value_only(
    given_: tuple[str, Any], data: st.DataObject
) -> None:
    text, values = given_
    kind = tuple_type(text)
    encoded = bytearray(kind.encode(values))
    assume(encoded)
    encoded[data.draw(st.integers(0, len(encoded) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    try:
        decoded, end = kind.decode(bytes(encoded), 0, exact=True)
    except Undecodable:
        return
    assert kind.encode(decoded) == encoded[:end]


SIMPLE = st.sampled_from(
    [
        "(bytes32,(bytes32,uint256,bytes32,address[])[],bytes)",
        "((bytes32,address)[],bytes,string)",
        "(bool,int8[])",
    ]
)


@given(SIMPLE, st.binary(max_size=600), st.booleans())
def test_foreign_bytes_decode_or_are_undecodable(text: str, data: bytes, exact: bool) -> None:
    kind = tuple_type(text)
    try:
        values, end = kind.decode(data, 0, exact=exact)
    except Undecodable:
        return
    assert not exact or kind.encode(values) == data[:end]


ITEMS: st.SearchStrategy[Any] = st.recursive(
    st.binary(max_size=80), lambda items: st.lists(items, max_size=5).map(tuple), max_leaves=12
)


@given(ITEMS)
def test_rlp_round_trip(item: Any) -> None:
    assert rlp.decode(rlp.encode(item)) == item


@given(st.binary(max_size=200))
@example(b"\xb8\x38" + bytes(56))
def test_rlp_has_one_encoding_only(data: bytes) -> None:
    try:
        item = rlp.decode(data)
    except Undecodable:
        return
    assert rlp.encode(item) == data


NUMBERS = st.integers(0, 2**256 - 1)
ADDRESSES = st.binary(min_size=20, max_size=20).map(Address)
NONCES = st.integers(0, 2**64 - 1)
KEYS = st.integers(1, 2**255).map(lambda secret: PrivateKey(secret.to_bytes(32)))
TRANSACTIONS = st.one_of(
    st.builds(
        Transaction,
        NONCES,
        NONCES,
        st.none() | NUMBERS,
        NUMBERS,
        NONCES,
        ADDRESSES,
        NUMBERS,
        st.binary(max_size=99),
    )
)


@given(TRANSACTIONS, KEYS)
def test_a_signed_transaction_comes_back_with_its_sender(transaction: Any, key: PrivateKey) -> None:
    raw, digest = sign_transaction(transaction, key)
    signed = decode_transaction(raw)
    assert (signed.transaction, signed.sender, signed.hash) == (transaction, key.address, digest)


@given(
    st.one_of(
        st.binary(max_size=200), ITEMS.map(lambda item: b"\x02" + rlp.encode(item)), ITEMS.map(rlp.encode)
    )
)
def test_foreign_transactions_are_undecodable(raw: bytes) -> None:
    try:
        decode_transaction(raw)
    except Undecodable:
        return


@given(KEYS, st.binary(min_size=32, max_size=32))
def test_what_a_key_signs_recovers_it(key: PrivateKey, digest: bytes) -> None:
    signature = key.sign(digest)
    assert is_canonical(signature)
    assert recover(digest, signature) == key.address


@given(st.binary(min_size=32, max_size=32), st.binary(max_size=70))
def test_recovery_never_raises(digest: bytes, signature: bytes) -> None:
    found = recover(digest, signature)
    assert found is None or len(found) == 20


@given(st.binary(max_size=64), NUMBERS)
def test_hex_round_trips(data: bytes, number: int) -> None:
    assert from_hex(to_hex(data)) == data
    assert from_quantity(quantity(number)) == number


@given(st.text(max_size=12))
def test_foreign_hex_is_a_value_error(text: str) -> None:
    for read in (from_hex, from_quantity):
        try:
            read(text)
        except ValueError:
            continue
        assert text[:2].lower() == "0x"
