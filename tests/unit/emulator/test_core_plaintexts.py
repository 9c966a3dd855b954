"""How decrypted values are written (kms-core-grpc.md, 9 and 11.2)."""

from __future__ import annotations

import pytest

from kmsconn.emulator.plaintexts import (
    ABI_TYPES,
    PLAINTEXT_BYTES,
    abi_word,
    bits_of,
    constant_share,
    little_endian,
)
from tests.opening import value_of_share


@pytest.mark.parametrize(("value", "kind"), [(4, 0), (16, 1), (256, 2), (1 << 160, 7), (-1, 5)])
def test_a_value_beyond_its_type_is_refused(value: int, kind: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        little_endian(value, kind)


def test_a_type_that_no_core_decrypts_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be decrypted"):
        little_endian(1, 34)


@pytest.mark.parametrize("kind", sorted(PLAINTEXT_BYTES.keys() - ABI_TYPES.keys()))
def test_types_without_a_word_are_refused_publicly(kind: int) -> None:
    with pytest.raises(ValueError, match="publicly"):
        abi_word(1, kind)


def test_the_share_of_the_specification() -> None:
    """Uint8 200 is the blocks 0, 2, 0, 3, each times 2^123 (11.2, step 4)."""
    share = constant_share(200, 2)
    assert share[:8] == bytes.fromhex("0100000000000000")
    assert [share[8 + at : 24 + at] for at in (0, 16, 32, 48)] == [
        (block << 123).to_bytes(16, "little") for block in (0, 2, 0, 3)
    ]
    assert len(share) == 72


@pytest.mark.parametrize("kind", sorted(ABI_TYPES))
def test_a_share_reads_back(kind: int) -> None:
    value = 1 if kind == 0 else (1 << bits_of(kind)) - 5
    assert value_of_share(constant_share(value, kind)) == value
