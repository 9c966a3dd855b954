from __future__ import annotations

import pytest
import trio

from kmsconn.chain.heads import DEFAULT_BLOCK_TIME, FASTEST, LONGEST_NODE_LAG, HeadTracker
from kmsconn.model.debounce import CONFIRMING


async def test_nothing_is_known_before_the_first_note() -> None:
    heads = HeadTracker()
    assert (heads.number, heads.timestamp, heads.block_time) == (None, None, DEFAULT_BLOCK_TIME)


async def test_a_higher_head_is_taken() -> None:
    heads = HeadTracker()
    heads.note(10, 1000)
    heads.note(12, 1001)
    assert (heads.number, heads.timestamp) == (12, 1001)


async def test_a_lower_head_is_a_lagging_node() -> None:
    heads = HeadTracker()
    heads.note(12, 1001)
    heads.note(10, 1000)
    assert (heads.number, heads.timestamp) == (12, 1001)


async def test_a_lower_head_is_believed_when_nobody_confirms_the_higher_one() -> None:
    heads = HeadTracker()
    heads.note(1_000_000, 9_999)
    await trio.sleep(LONGEST_NODE_LAG + 1)
    heads.note(12, 1001)
    assert (heads.number, heads.timestamp) == (12, 1001)


async def test_a_confirmed_head_is_not_given_up() -> None:
    heads = HeadTracker()
    heads.note(12, 1001)
    await trio.sleep(LONGEST_NODE_LAG - 1)
    heads.note(12, 1001)
    await trio.sleep(LONGEST_NODE_LAG - 1)
    heads.note(10, 1000)
    assert heads.number == 12


async def test_one_note_settles_nothing() -> None:
    heads = HeadTracker()
    heads.note(12, 1001)
    await trio.sleep(CONFIRMING - 0.1)
    heads.note(12, 1001)
    assert heads.settled_timestamp is None


async def test_two_notes_some_seconds_apart_settle_the_time_that_both_have_reached() -> None:
    heads = HeadTracker()
    heads.note(12, 1001)
    await trio.sleep(CONFIRMING)
    heads.note(17, 1006)
    assert heads.settled_timestamp == 1001


@pytest.mark.parametrize("wild_at", range(12))
async def test_a_wild_head_of_one_node_settles_nothing(wild_at: int) -> None:
    heads = HeadTracker()
    for second in range(20):
        heads.note(second, 1000 + second)
        if second == wild_at:
            heads.note(1 << 40, 1 << 40)
        await trio.sleep(1)
    assert 1000 + 20 - 2 * CONFIRMING - 1 <= (heads.settled_timestamp or 0) <= 1020


async def test_settled_time_does_not_go_back_for_a_lagging_node() -> None:
    heads = HeadTracker()
    for timestamp in (1000, 1005, 990, 995):
        heads.note(12, timestamp)
        await trio.sleep(CONFIRMING)
    assert heads.settled_timestamp == 1000


async def test_a_wild_time_does_not_stay_settled() -> None:
    """Told twice it settles; told no more it goes, else every later request would be too late."""
    heads = HeadTracker()
    for timestamp in (1000, 1 << 50, 1 << 50, 1015, 1020, 1025):
        heads.note(12, timestamp)
        await trio.sleep(CONFIRMING)
    assert heads.settled_timestamp == 1020


async def test_a_wild_time_does_not_spoil_the_pace() -> None:
    heads = HeadTracker()
    for number in range(100):
        heads.note(number, 1 << 50 if number == 50 else 1000 + 2 * number)
    assert heads.block_time == 2


async def test_a_wild_number_makes_no_number_that_fits_no_column() -> None:
    heads = HeadTracker()
    heads.note(1, 1000)
    heads.note((1 << 53) - 1, 1010)
    assert heads.block_time == FASTEST


@pytest.mark.parametrize("block_time", [2, 12])
async def test_the_pace_is_measured(block_time: int) -> None:
    heads = HeadTracker()
    for number in range(40):
        heads.note(number, 1000 + block_time * number)
    assert heads.block_time == block_time


async def test_the_pace_of_several_blocks_a_second_is_measured() -> None:
    heads = HeadTracker()
    for number in range(400):
        heads.note(number, 1000 + number // 4)
    assert heads.block_time == pytest.approx(0.25, rel=0.02)


async def test_a_few_seconds_say_nothing_about_the_pace() -> None:
    heads = HeadTracker()
    heads.note(1, 1000)
    heads.note(2, 1005)
    assert heads.block_time == DEFAULT_BLOCK_TIME


async def test_blocks_in_some_seconds_follow_the_pace() -> None:
    heads = HeadTracker()
    for number in range(40):
        heads.note(number, 1000 + 12 * number)
    assert heads.blocks_in(30) == 3


async def test_a_burst_counts_with_the_blocks_that_just_came() -> None:
    """After a stall a node that lags by the reorg window's seconds lags by the whole burst."""
    heads = HeadTracker()
    heads.note(0, 1000)
    heads.note(60, 1060)
    heads.note(560, 1090)
    assert heads.blocks_in(30) >= 500


async def test_there_is_always_a_block_to_read_again() -> None:
    assert HeadTracker().blocks_in(0) == 1


async def test_a_burst_within_one_second_counts_with_all_its_blocks() -> None:
    """A stall, then twenty blocks of one timestamp: they are among the last thirty seconds' blocks, and set the pace."""
    heads = HeadTracker()
    for second in range(23):
        heads.note(second, 1000 + second)
    heads.note(23, 1029)
    heads.note(43, 1029)
    assert heads.blocks_in(30) >= 43


async def test_what_may_have_been_replaced_lies_below_what_came() -> None:
    """A stalled head was reorganised, then a burst came: ten blocks at the usual pace below the thirty that came."""
    heads = HeadTracker()
    for number in range(20):
        heads.note(number, 1000 + 3 * number)
    heads.note(49, 1150)
    assert heads.blocks_to_suspect(30) >= 30 + 10
