"""Words of storage: what is none is never read, since requests end for good by them."""

from __future__ import annotations

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.queries import StorageRead, flag

DESTROYED = StorageRead(1, Address(bytes(20)), 7, flag)


@pytest.mark.parametrize(("number", "is_set"), [(0, False), (1, True)])
def test_a_flag_is_0_or_1(number: int, is_set: bool) -> None:
    assert DESTROYED.understand(number.to_bytes(32)) is is_set


@pytest.mark.parametrize("number", [2, 0x20, 2**255, 2**256 - 1])
def test_another_word_is_no_flag(number: int) -> None:
    """The beginning of a list, say: a context would be taken for destroyed."""
    with pytest.raises(Undecodable, match="neither 0 nor 1"):
        DESTROYED.understand(number.to_bytes(32))


@pytest.mark.parametrize("size", [0, 1, 31, 33, 64, 500_000])
def test_what_is_not_32_bytes_is_no_word(size: int) -> None:
    with pytest.raises(Undecodable, match=f"32 bytes, not {size}"):
        DESTROYED.understand(bytes(size))
