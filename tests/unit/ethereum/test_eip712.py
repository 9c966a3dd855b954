from __future__ import annotations

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors

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


def test_b8_struct_hash() -> None:
    assert struct_hash().hex() == "15a3f352ea3585c8c83cbeddd87a313e975b6b781d5815c7d62793eeffe1424c"


def test_b8_domain_separator() -> None:
    assert DOMAIN.separator.hex() == "d4689316021acd0ca7a748091447a984a50b4fef55086c7c3c43e9983a90756f"


def test_b8_digest_and_signature() -> None:
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


def test_the_wrong_number_of_values_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="1 values"):
        hash_struct("T(bool x)")


@pytest.mark.parametrize(
    "text", ["T", "(bool b)", "", "T(bool b) ", "T(B b,A a)B(bool b)A(bool a)", "T(bool b)U"]
)
def test_other_type_strings_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match="no type string"):
        hash_struct(text, 0, 0)


def test_a_struct_that_refers_to_itself_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="refers to itself"):
        hash_struct("T(T t)", ((),))


def test_a_type_that_the_string_does_not_explain_is_a_value_error() -> None:
    with pytest.raises(ValueError, match="U"):
        hash_struct("T(U u)", ())


def test_a_struct_in_a_struct_is_its_own_hash() -> None:
    inner = hash_struct("U(bool b)", True)
    assert hash_struct("T(U u)U(bool b)", (True,)) == keccak256(keccak256(b"T(U u)U(bool b)") + inner)


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


def test_the_empty_struct_has_only_its_type() -> None:
    assert hash_struct("T()") == keccak256(keccak256(b"T()"))
