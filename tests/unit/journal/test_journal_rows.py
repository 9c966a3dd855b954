"""Rows and values are the same thing twice."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.rows import pack_id, pack_log, place_of, unpack_log

hashes = st.binary(min_size=32, max_size=32)
logs = st.builds(
    Log,
    st.binary(min_size=20, max_size=20).map(Address),
    st.lists(hashes, max_size=4).map(tuple),
    st.binary(max_size=300),
    st.integers(0, 2**63 - 1),
    hashes,
    hashes,
    st.integers(0, 2**31),
)


@pytest.mark.slow
@given(logs)
def test_a_log_comes_back_as_it_was(log: Log) -> None:
    assert unpack_log(pack_log(log), *place_of(log)) == log


@given(st.integers(0, 2**256 - 1))
def test_an_id_has_32_bytes_and_keeps_its_order(identifier: int) -> None:
    packed = pack_id(identifier)
    assert (len(packed), int.from_bytes(packed, "big")) == (32, identifier)


@pytest.mark.parametrize("identifier", [-1, 2**256])
def test_a_number_that_is_no_id_is_refused(identifier: int) -> None:
    with pytest.raises(OverflowError):
        pack_id(identifier)
