from __future__ import annotations

import attrs
import pytest

from kmsconn.requests.cursor import (
    CALM_AFTER_FAILURE,
    MANY_LOGS,
    MAX_SIZE,
    Cursor,
    Island,
    Range,
    ReadPlan,
    plan,
    shrunk,
    took,
)


def test_near_the_head_the_tail_is_everything_that_is_new() -> None:
    assert plan(Cursor(90), 100, 20, again=False) == ReadPlan(Range(90, None))


def test_with_nothing_new_the_head_block_is_read_so_that_no_node_is_asked_beyond_its_head() -> None:
    assert plan(Cursor(101), 100, 20, again=False) == ReadPlan(Range(100, None))


def test_a_due_reorg_window_stretches_the_tail_downwards() -> None:
    assert plan(Cursor(101), 100, 20, again=True) == ReadPlan(Range(80, None))


def test_an_reorg_window_larger_than_a_range_is_cut_highest_piece_first() -> None:
    due = plan(Cursor(1001, size=100), 1000, 250, again=True)
    assert due == ReadPlan(Range(901, None), (Range(801, 900), Range(750, 800)))


def test_nothing_below_the_origin_is_ever_read() -> None:
    assert plan(Cursor(95, origin=95), 100, 50, again=True) == ReadPlan(Range(95, None))


def test_a_cursor_above_the_head_waits_at_its_origin() -> None:
    assert plan(Cursor(120, origin=120), 100, 50, again=True) == ReadPlan(Range(120, None))


def test_a_head_below_what_was_read_makes_the_reorg_window_due() -> None:
    """A lagging node, or a reorganisation to a lower head."""
    assert plan(Cursor(101), 95, 20, again=False) == ReadPlan(Range(75, None))


def test_far_behind_the_live_tail_comes_first_and_the_back_fill_beside_it() -> None:
    planned = plan(Cursor(0, size=100), 10_000, 20, again=False)
    assert planned == ReadPlan(Range(9901, None), (), Range(0, 99))
    assert planned.ranges == (Range(9901, None), Range(0, 99))


def test_the_tail_goes_on_from_the_island() -> None:
    cursor = Cursor(100, size=100, island=Island(9901, 10_000))
    assert plan(cursor, 10_003, 20, again=False) == ReadPlan(Range(10_001, None), (), Range(100, 199))


def test_an_island_left_behind_by_a_burst_is_not_waited_for() -> None:
    cursor = Cursor(100, size=100, island=Island(9901, 10_000))
    assert plan(cursor, 10_500, 20, again=False).tail == Range(10_401, None)


def test_the_back_fill_stops_where_the_island_begins() -> None:
    cursor = Cursor(9850, size=100, island=Island(9901, 10_000))
    assert plan(cursor, 10_000, 20, again=False).backfill == Range(9850, 9900)


def test_a_narrow_node_gets_ranges_with_an_end() -> None:
    assert plan(Cursor(98, size=8), 100, 3, again=False) == ReadPlan(Range(98, 100))


@pytest.mark.parametrize(
    ("first", "last", "next_block"), [(10, 19, 20), (5, 19, 20), (10, 10, 11), (5, 9, 10), (0, 3, 10)]
)
def test_the_cursor_moves_over_what_was_read_from_it_on(first: int, last: int, next_block: int) -> None:
    assert took(Cursor(10), first, last).next_block == next_block


def test_what_was_read_above_the_cursor_is_an_island() -> None:
    assert took(Cursor(10), 15, 20) == Cursor(10, island=Island(15, 20))


def test_the_island_joins_when_the_back_fill_reaches_it() -> None:
    assert took(Cursor(10, island=Island(15, 20)), 10, 14) == Cursor(21)


def test_the_island_does_not_join_over_a_hole() -> None:
    assert took(Cursor(10, island=Island(15, 20)), 10, 13) == Cursor(14, island=Island(15, 20))


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


def test_an_answer_of_a_node_below_the_range_moves_nothing() -> None:
    assert took(Cursor(10), 10, 9) == Cursor(10)


def test_a_whole_range_that_went_well_doubles_the_size() -> None:
    assert took(Cursor(0, size=100), 0, 99).size == 200


def test_a_part_of_a_range_does_not() -> None:
    assert took(Cursor(0, size=100), 0, 98).size == 100


def test_the_size_has_a_ceiling() -> None:
    assert took(Cursor(0, size=4000), 0, 3999).size == MAX_SIZE
    assert took(Cursor(0, size=MAX_SIZE), 0, MAX_SIZE).size == MAX_SIZE


def test_a_range_that_was_too_wide_halves_the_size_down_to_one() -> None:
    assert [shrunk(Cursor(0, size=size)).size for size in (100, 3, 1)] == [50, 1, 1]


def test_after_that_the_size_grows_again_only_after_a_calm() -> None:
    cursor = shrunk(Cursor(0, size=100))
    for _ in range(CALM_AFTER_FAILURE):
        assert cursor.size == 50
        cursor = took(cursor, cursor.next_block, cursor.next_block + 49)
    assert took(cursor, cursor.next_block, cursor.next_block + 49).size == 100


def test_how_far_behind_does_not_count_the_island() -> None:
    assert Cursor(10, island=Island(15, 20)).behind(30) == 15


def test_an_open_range_ends_at_the_head_of_the_node() -> None:
    assert (Range(1, None).up_to(9), Range(1, 5).up_to(9)) == (Range(1, 9), Range(1, 5))


def test_a_size_of_zero_is_refused() -> None:
    with pytest.raises(ValueError, match="size"):
        Cursor(0, size=0)
    assert attrs.has(Cursor)


def test_a_range_that_held_very_many_logs_is_not_asked_for_so_wide_again() -> None:
    cursor = took(Cursor(0, size=100), 0, 99, logs=MANY_LOGS + 1)
    assert (cursor.next_block, cursor.size) == (100, 50)


def test_a_range_may_hold_many_logs_and_grow() -> None:
    assert took(Cursor(0, size=100), 0, 99, logs=MANY_LOGS).size == 200
