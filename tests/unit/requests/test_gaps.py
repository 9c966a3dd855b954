from __future__ import annotations

import pytest

from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG as TAG
from kmsconn.ethereum.ids import USER_DECRYPTION_TAG, make_id
from kmsconn.requests.cursor import Gap, Span, gaps, merged


def ids(*counters: int) -> list[int]:
    return [make_id(TAG, counter) for counter in counters]


def test_holes_and_the_tail_are_gaps_down_to_the_low_water() -> None:
    assert gaps(TAG, ids(1, 2, 3), make_id(TAG, 3)) == ()
    assert gaps(TAG, ids(2, 3, 6), make_id(TAG, 8)) == (Gap(TAG, 1, 1), Gap(TAG, 4, 5), Gap(TAG, 7, 8))
    assert gaps(TAG, ids(6), make_id(TAG, 7), make_id(TAG, 5)) == (Gap(TAG, 7, 7),)
    assert gaps(TAG, (), 0) == gaps(TAG, (), make_id(TAG, 0)) == (), "there is none"
    assert gaps(TAG, ids(1, 2, 3), make_id(TAG, 2)) == (), "the node lags"


def test_a_gap_knows_its_ids() -> None:
    gap = Gap(TAG, 4, 5)
    assert len(gap) == 2
    assert make_id(TAG, 5) in gap
    assert make_id(TAG, 6) not in gap
    assert make_id(USER_DECRYPTION_TAG, 5) not in gap


@pytest.mark.parametrize(
    ("spans", "expected"),
    [
        ([], []),
        ([(5, 9), (1, 3)], [(1, 3), (5, 9)]),
        ([(1, 3), (4, 9)], [(1, 9)]),
        ([(1, 9), (2, 3), (9, 12)], [(1, 12)]),
    ],
)
def test_blocks_are_merged_where_they_touch(spans: list[Span], expected: list[Span]) -> None:
    assert merged(spans) == expected
