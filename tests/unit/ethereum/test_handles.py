from __future__ import annotations

import pytest

from kmsconn.ethereum.ids import FHE_TYPE_NAMES, PLAINTEXT_BITS, Handle
from tests import vectors

B6 = bytes.fromhex("5a88e7aa46f312ff70df6e84c85eb40cdfd42b18a9ff00000000000030390500")


def test_b6_a_handle_taken_apart() -> None:
    assert Handle(B6, 12345, 5, 0xFF, 0) == Handle.parse(B6)
    assert Handle.parse(B6).type_name == "Uint64"


@pytest.mark.parametrize("entry", vectors.load()["ciphertexts"], ids=lambda entry: entry["name"])
def test_handles_of_the_vectors(entry: dict[str, object]) -> None:
    handle = Handle.parse(vectors.hexadecimal(entry["handle"]))
    expected = (entry["host_chain_id"], entry["fhe_type"], entry["index"], 0)
    assert expected == (handle.chain_id, handle.fhe_type, handle.index, handle.version)


def test_the_type_names_are_those_of_the_contracts() -> None:
    assert vectors.abi_source()["enums"]["FheType"] == {
        name: number for number, name in FHE_TYPE_NAMES.items()
    }


def test_only_eight_types_can_be_decrypted() -> None:
    assert PLAINTEXT_BITS == {0: 2, 2: 8, 3: 16, 4: 32, 5: 64, 6: 128, 7: 160, 8: 256}


@pytest.mark.parametrize("raw", [b"", B6[:31], B6 + b"\0", B6[:30] + b"\x54\0", B6[:30] + b"\xff\0"])
def test_malformed_handles_are_value_errors(raw: bytes) -> None:
    with pytest.raises(ValueError, match=r"32 bytes|not known"):
        Handle.parse(raw)


def test_a_chain_id_fills_its_eight_bytes() -> None:
    raw = bytes(22) + b"\xff" * 8 + b"\0\0"
    assert Handle.parse(raw).chain_id == 2**64 - 1
