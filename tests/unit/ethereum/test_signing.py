from __future__ import annotations

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex, from_quantity
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, is_canonical, recover, recoverable
from kmsconn.ethereum.transactions import Transaction, decode_transaction, sign_transaction
from tests import vectors

ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
KEY = PrivateKey((0x41).to_bytes(32))
DIGEST = bytes(range(32))
SIGNATURE = KEY.sign(DIGEST)


def with_v(v: int) -> bytes:
    return SIGNATURE[:64] + bytes([v])


def high_s() -> bytes:
    s = ORDER - int.from_bytes(SIGNATURE[32:64])
    return SIGNATURE[:32] + s.to_bytes(32) + bytes([55 - SIGNATURE[64]])


@pytest.mark.parametrize("name", sorted(vectors.load()["environment"]["keys"]))
def test_addresses_of_the_vector_keys(name: str) -> None:
    address, secret = vectors.account(name)
    assert address == PrivateKey(secret).address


def test_a_key_is_read_with_and_without_prefix() -> None:
    digits = "00" * 31 + "41"
    assert PrivateKey.parse(digits).address == PrivateKey.parse(f"0x{digits}\n").address == KEY.address


def test_the_public_key_is_compressed() -> None:
    generator = "0279be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798"
    assert generator == PrivateKey((1).to_bytes(32)).public_key.hex()


@pytest.mark.parametrize("text", ["", "12", "zz" * 32, "00" * 32, f"{ORDER:064x}", "ff" * 32, "11" * 33])
def test_what_is_no_key_is_refused_without_its_text(text: str) -> None:
    with pytest.raises(ValueError, match="private key") as caught:
        PrivateKey.parse(text)
    assert not text or text not in str(caught.value)
    assert caught.value.__cause__ is None


def test_no_representation_holds_the_secret() -> None:
    key = PrivateKey(b"\xab" * 32)
    assert "abab" not in repr(key) + str(key) + str(vars(key).values())


def test_a_signature_is_low_s_with_v_27_or_28_and_always_the_same() -> None:
    assert is_canonical(SIGNATURE)
    assert KEY.sign(DIGEST) == SIGNATURE
    assert recover(DIGEST, high_s()) == KEY.address
    assert not is_canonical(high_s())


@pytest.mark.parametrize("base", [0, 27, 35, 37, 253])
def test_any_form_of_v_recovers_and_contracts_take_only_27_and_28(base: int) -> None:
    signature = with_v(base + SIGNATURE[64] - 27)
    assert recover(DIGEST, signature) == KEY.address
    assert is_canonical(signature) is (base == 27)


@pytest.mark.parametrize("v", [2, 3, 4, 26, 29, 34])
def test_another_v_does_not(v: int) -> None:
    assert recover(DIGEST, with_v(v)) is None
    assert not is_canonical(with_v(v))


def test_only_digests_are_signed_and_recovered() -> None:
    with pytest.raises(ValueError, match=r".+"):
        KEY.sign(b"short")
    with pytest.raises(ValueError, match="32 bytes"):
        recover(b"short", SIGNATURE)


@pytest.mark.parametrize(
    "signature",
    [
        b"",
        SIGNATURE[:64],
        SIGNATURE + b"\0",
        bytes(64) + b"\x1b",
        b"\xff" * 64 + b"\x1b",
        bytes(32) + SIGNATURE[32:],
        SIGNATURE[:32] + bytes(32) + SIGNATURE[64:],
    ],
)
def test_what_is_no_signature_recovers_nothing(signature: bytes) -> None:
    assert recover(DIGEST, signature) is None


@given(st.binary(min_size=32, max_size=32), st.booleans())
def test_a_foreign_signature_becomes_the_canonical_one_of_its_key(digest: bytes, high: bool) -> None:
    key = PrivateKey.parse("33" * 32)
    signature = key.sign(digest)
    r, s = int.from_bytes(signature[:32]), int.from_bytes(signature[32:64])
    assert recoverable(digest, r, ORDER - s if high else s, key.address) == signature


RIGHT = PrivateKey.parse("33" * 32).sign(bytes(32))
R, S = int.from_bytes(RIGHT[:32]), int.from_bytes(RIGHT[32:64])


@pytest.mark.parametrize(
    ("r", "s", "key"),
    [
        *((r, s, "33") for r, s in ((0, 1), (1, 0), (ORDER, 1), (1, ORDER), (-1, 1), (2**256, 2**256))),
        pytest.param(R, S, "44", id="of another key"),
    ],
)
def test_what_is_no_signature_of_a_key_is_not_taken_for_one(r: int, s: int, key: str) -> None:
    assert recoverable(bytes(32), r, s, PrivateKey.parse(key * 32).address) is None


SENDER_KEY = PrivateKey((0x11).to_bytes(32))
TO = Address(b"\x35" * 20)
DYNAMIC = Transaction(54321, 7, 10**6, 10**9, 300_000, TO, 0, b"\x6f\x89\x13\xbc")
MINED = [entry["transaction"] for entry in vectors.requests("legacy_direct", "legacy_delegated")]


def test_the_example_of_eip_155() -> None:
    transaction = Transaction(1, 9, None, 20 * 10**9, 21000, TO, 10**18, b"")
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
    transaction = Transaction(
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
    for transaction in (DYNAMIC, Transaction(54321, 7, None, 10**9, 300_000, TO, 0, b"\x01")):
        raw, digest = sign_transaction(transaction, SENDER_KEY)
        signed = decode_transaction(raw)
        assert (signed.transaction, signed.sender, signed.hash) == (transaction, SENDER_KEY.address, digest)


def test_another_fee_is_another_transaction_under_the_same_nonce() -> None:
    dearer = attrs.evolve(DYNAMIC, max_fee=DYNAMIC.max_fee + 1)
    assert sign_transaction(dearer, SENDER_KEY) != sign_transaction(DYNAMIC, SENDER_KEY)


def fields() -> list[rlp.Rlp]:
    raw, _ = sign_transaction(DYNAMIC, SENDER_KEY)
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
    raw, _ = sign_transaction(Transaction(1, 0, None, 1, 21000, TO, 0, b""), SENDER_KEY)
    decoded = rlp.decode(raw)
    assert isinstance(decoded, tuple)
    with pytest.raises(Undecodable, match="no chain"):
        decode_transaction(rlp.encode((*decoded[:6], b"\x1b", *decoded[7:])))


UNIFIED = (
    "UserDecryptRequestVerification(address userAddress,bytes publicKey,address[] allowedContracts,"
    "uint256 startTimestamp,uint256 durationSeconds,bytes extraData)"
)
EXTRA_DATA = b"\x02\x07" + bytes(30) + b"\x01\x08" + bytes(30) + b"\x01"
USER = PrivateKey((1).to_bytes(32))
DOMAIN = Domain("Decryption", "1", 11155111, Address(b"\x33" * 20))


def struct_hash() -> bytes:
    contracts = (b"\x11" * 20, b"\x22" * 20)
    return hash_struct(UNIFIED, USER.address, b"\xc0\xff\xee", contracts, 1767225600, 604800, EXTRA_DATA)


def test_struct_hash_separator_digest_and_signature_of_b8() -> None:
    assert struct_hash().hex() == "15a3f352ea3585c8c83cbeddd87a313e975b6b781d5815c7d62793eeffe1424c"
    assert DOMAIN.separator.hex() == "d4689316021acd0ca7a748091447a984a50b4fef55086c7c3c43e9983a90756f"
    digest = signing_digest(DOMAIN, struct_hash())
    assert digest.hex() == "0b9ce3eae909192b62e9b65004b5bd5cdf9a1a23c396ac0a7c1633288e9cab3c"
    assert USER.sign(digest).hex() == (
        "d85962b849187a694602fb1407fb3489c2b704f7f25721a9d240fd4c6acec5de"
        "0c43134f05e19496ec69072ca8fa100aae32b15aeeed514ad50a5bc25de6e7a11c"
    )


def test_the_separator_of_the_deployed_contract() -> None:
    domain = vectors.load()["environment"]["gateway"]["decryption_domain"]
    expected = vectors.hexadecimal(domain["domain_separator"])
    address = Address(vectors.hexadecimal(domain["verifying_contract"]))
    assert expected == Domain(domain["name"], domain["version"], domain["chain_id"], address).separator


@pytest.mark.parametrize(
    ("kind", "value", "encoded"),
    [
        ("bytes32", b"\x01" * 32, b"\x01" * 32),
        ("bool", True, (1).to_bytes(32)),
        ("address", b"\x11" * 20, bytes(12) + b"\x11" * 20),
        ("uint256", 7, (7).to_bytes(32)),
        ("bytes", b"abc", keccak256(b"abc")),
        ("string", "abc", keccak256(b"abc")),
        ("bytes32[]", (b"\x01" * 32, b"\x02" * 32), keccak256(b"\x01" * 32 + b"\x02" * 32)),
        ("address[]", (), keccak256(b"")),
    ],
)
def test_encoding_of_each_type(kind: str, value: object, encoded: bytes) -> None:
    type_string = f"T({kind} x)"
    assert hash_struct(type_string, value) == keccak256(keccak256(type_string.encode()) + encoded)


@pytest.mark.parametrize(
    ("text", "values", "told"),
    [
        ("T(bool x)", (), "1 values"),
        ("T(T t)", (((),),), "refers to itself"),
        ("T(U u)", ((),), "U"),
        *(
            (text, (0, 0), "no type string")
            for text in ("T", "(bool b)", "", "T(bool b) ", "T(B b,A a)B(bool b)A(bool a)", "T(bool b)U")
        ),
    ],
)
def test_what_is_no_struct_is_a_value_error(text: str, values: tuple[Any, ...], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        hash_struct(text, *values)


def test_an_array_of_structs_is_the_hash_of_their_hashes() -> None:
    inner = [hash_struct("U(uint8 n,bytes d)", n, b"x") for n in (1, 2)]
    text = b"T(U[] u)U(uint8 n,bytes d)"
    expected = keccak256(keccak256(text) + keccak256(b"".join(inner)))
    assert hash_struct(text.decode(), ((1, b"x"), (2, b"x"))) == expected


def test_deeper_structs_carry_only_what_they_refer_to() -> None:
    text = b"T(A a)A(B b)B(bool c)"
    deepest = hash_struct("B(bool c)", True)
    middle = keccak256(keccak256(b"A(B b)B(bool c)") + deepest)
    assert hash_struct(text.decode(), ((True,),)) == keccak256(keccak256(text) + middle)
    assert hash_struct("A(B b)B(bool c)", (True,)) == middle
    assert hash_struct("T()") == keccak256(keccak256(b"T()"))


def test_the_key_digests_of_a_keygen_have_the_type_hashes_of_the_specification() -> None:
    """fhevm-0.14.md, 2.4."""
    digest = "KeyDigest(uint8 keyType,bytes digest)"
    keygen = f"KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData){digest}"
    assert (
        keccak256(keygen.encode()).hex() == "bd14835bb4ae13c78ecb88ded2c3370325f39e6006eb94ff45e95f98e4c85a2a"
    )
    assert (
        keccak256(digest.encode()).hex() == "ddd108772e6a3899feb04d148ae915cbe3eb5ebd202688080399e9921ac3616b"
    )
