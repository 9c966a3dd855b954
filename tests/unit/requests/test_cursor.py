"""What is read next and what was read; which numbers of the contract are missing."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG as TAG
from kmsconn.ethereum.ids import USER_DECRYPTION_TAG, make_id
from kmsconn.requests.cursor import (
    CALM_AFTER_FAILURE,
    MANY_LOGS,
    MAX_SIZE,
    Cursor,
    Gap,
    Island,
    Range,
    ReadPlan,
    Span,
    gaps,
    merged,
    pieces,
    plan,
    questions,
    shrunk,
    took,
)


def at(*, again: int | None = None, head: int = 100, **cursor: Any) -> ReadPlan:
    """Return what is to be read at a cursor."""
    return plan(Cursor(**cursor), head, again)


FAR = Island(9901, 10_000)
PLANS = {
    "near the head the tail is everything that is new": (at(next_block=90), ReadPlan(Range(90, None))),
    "with nothing new the head block, so that no node is asked beyond its head": (
        at(next_block=101), ReadPlan(Range(100, None)),
    ),
    "what is read again stretches the tail downwards": (at(next_block=101, again=80), ReadPlan(Range(80, None))),
    "what is larger than a range is cut, highest piece first": (
        at(next_block=1001, size=100, head=1000, again=750),
        ReadPlan(Range(901, None), (Range(801, 900), Range(750, 800))),
    ),
    "nothing below the origin is ever read": (
        at(next_block=95, origin=95, again=50), ReadPlan(Range(95, None)),
    ),
    "a cursor above the head waits at its origin": (
        at(next_block=120, origin=120, again=50), ReadPlan(Range(120, None)),
    ),
    "far behind the live tail comes first and the back-fill beside it": (
        at(next_block=0, size=100, head=10_000), ReadPlan(Range(9901, None), (), Range(0, 99)),
    ),
    "the tail goes on from the island": (
        at(next_block=100, size=100, island=FAR, head=10_003), ReadPlan(Range(10_001, None), (), Range(100, 199)),
    ),
    "an island left behind by a burst is not waited for": (
        at(next_block=100, size=100, island=FAR, head=10_500), ReadPlan(Range(10_401, None), (), Range(100, 199)),
    ),
    "the back-fill stops where the island begins": (
        at(next_block=9850, size=100, island=FAR, head=10_000), ReadPlan(Range(10_000, None), (), Range(9850, 9900)),
    ),
    "a narrow node gets ranges with an end": (at(next_block=98, size=8), ReadPlan(Range(98, 100))),
}  # fmt: skip


@pytest.mark.parametrize(("planned", "expected"), PLANS.values(), ids=PLANS)
def test_tail_is_read_first_and_the_rest_beside_or_after_it(planned: ReadPlan, expected: ReadPlan) -> None:
    assert planned == expected


ISLAND = Island(15, 20)
SIZE = Cursor(0, size=100)
TOOK = {
    "what was read above the cursor is an island": (took(Cursor(10), 15, 20), Cursor(10, island=ISLAND)),
    "the island joins when the back-fill reaches it": (took(Cursor(10, island=ISLAND), 10, 14), Cursor(21)),
    "and not over a hole": (took(Cursor(10, island=ISLAND), 10, 13), Cursor(14, island=ISLAND)),
    "an answer of a node below the range moves nothing": (took(Cursor(10), 10, 9), Cursor(10)),
    "a whole range that went well doubles the size": (took(SIZE, 0, 99), Cursor(100, 200)),
    "a part of a range does not": (took(SIZE, 0, 98), Cursor(99, 100)),
    "the size has a ceiling": (took(Cursor(0, 4000), 0, 3999), Cursor(4000, MAX_SIZE)),
    "and stays there": (took(Cursor(0, MAX_SIZE), 0, MAX_SIZE), Cursor(MAX_SIZE + 1, MAX_SIZE)),
    "a range that held very many logs is not asked for so wide again": (
        took(SIZE, 0, 99, logs=MANY_LOGS + 1), Cursor(100, 50, calm=CALM_AFTER_FAILURE),
    ),
    "a range may hold many logs and grow": (took(SIZE, 0, 99, logs=MANY_LOGS), Cursor(100, 200)),
}  # fmt: skip


@pytest.mark.parametrize(("cursor", "expected"), TOOK.values(), ids=TOOK)
def test_the_cursor_moves_over_what_was_read_one_after_the_other(cursor: Cursor, expected: Cursor) -> None:
    assert cursor == expected


@pytest.mark.parametrize(
    ("first", "last", "next_block"), [(10, 19, 20), (5, 19, 20), (10, 10, 11), (5, 9, 10), (0, 3, 10)]
)
def test_the_cursor_moves_over_what_was_read_from_it_on(first: int, last: int, next_block: int) -> None:
    assert took(Cursor(10), first, last).next_block == next_block


@pytest.mark.parametrize(
    ("first", "last", "island"),
    [
        (21, 25, Island(15, 25)),
        (12, 14, Island(12, 20)),
        (16, 18, Island(15, 20)),
        (30, 35, Island(30, 35)),
        (11, 12, Island(15, 20)),
    ],
)
def test_there_is_one_island_the_one_nearest_to_the_head(first: int, last: int, island: Island) -> None:
    assert took(Cursor(10, island=Island(15, 20)), first, last).island == island


def test_a_range_that_was_too_wide_halves_the_size_down_to_one() -> None:
    assert [shrunk(Cursor(0, size=size)).size for size in (100, 3, 1)] == [50, 1, 1]


def test_after_that_the_size_grows_again_only_after_a_calm() -> None:
    cursor = shrunk(Cursor(0, size=100))
    for _ in range(CALM_AFTER_FAILURE):
        assert cursor.size == 50
        cursor = took(cursor, cursor.next_block, cursor.next_block + 49)
    assert took(cursor, cursor.next_block, cursor.next_block + 49).size == 100


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        Cursor(0, size=0)
    assert attrs.has(Cursor)


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


@pytest.mark.parametrize(
    ("span", "expected"),
    [((5, 5), [(5, 5)]), ((1, 10), [(1, 10)]), ((0, 20), [(0, 9), (10, 19), (20, 20)]), ((3, 2), [])],
)
def test_blocks_are_cut_into_pieces_of_a_size(span: Span, expected: list[Span]) -> None:
    assert list(pieces(span, 10)) == expected


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        ([], []),
        ([(1, (0, 3)), (2, (2, 5))], [([1, 2], (0, 5))]),
        ([(1, (0, 3)), (2, (8, 12))], [([1], (0, 3)), ([2], (8, 12))]),
        ([(1, (0, 50)), (2, (0, 50)), (3, (60, 61))], [([1, 2], (0, 50)), ([3], (60, 61))]),
        ([(n, (0, 3)) for n in (1, 2, 3, 4)], [([1, 2, 3], (0, 3)), ([4], (0, 3))]),
    ],
    ids=["none", "near each other", "too far", "the same blocks, though many", "too many ids"],
)
def test_ids_are_asked_for_together_in_few_blocks_and_not_too_many_at_once(
    missing: list[tuple[int, Span]], expected: list[tuple[list[int], Span]]
) -> None:
    assert list(questions(missing, 3, 10)) == expected
