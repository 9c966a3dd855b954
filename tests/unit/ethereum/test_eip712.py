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


@pytest.mark.parametrize("text", ["T", "T(U u)U(bool b)", "(bool b)", ""])
def test_other_type_strings_are_value_errors(text: str) -> None:
    with pytest.raises(ValueError, match="flat struct"):
        hash_struct(text)


def test_the_empty_struct_has_only_its_type() -> None:
    assert hash_struct("T()") == keccak256(keccak256(b"T()"))
