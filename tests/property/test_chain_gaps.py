"""Law of completeness: every id in (low water, newest] is known or in exactly one gap, and no other id is."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmsconn.chain.cursor import gaps
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG as TAG
from kmsconn.ethereum.ids import make_id

COUNTERS = st.integers(0, 40)


@given(st.sets(st.integers(1, 45)), COUNTERS, COUNTERS)
def test_every_id_is_known_or_in_exactly_one_gap(known: set[int], newest: int, low: int) -> None:
    found = gaps(TAG, [make_id(TAG, counter) for counter in known], make_id(TAG, newest), make_id(TAG, low))
    for counter in range(1, 46):
        missing = low < counter <= newest and counter not in known
        assert [make_id(TAG, counter) in gap for gap in found].count(True) == (1 if missing else 0)
