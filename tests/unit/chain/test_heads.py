"""Heads and their time; where a fork is. A lagging node is no reorganisation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import trio

from kmsconn.chain.follower import DEFAULT_BLOCK_TIME, FASTEST, SLOWEST, HeadTracker
from kmsconn.chain.fork import LAGGING, Checkpoint, Search
from kmsconn.model.debounce import CONFIRMING

Story = list[tuple[int, int] | float]
"""The heads that nodes told, by number and time, and the seconds between."""

HEAD, SETTLED = (lambda heads: (heads.number, heads.timestamp)), (lambda heads: heads.settled_timestamp)
PACE, IN_WINDOW = (lambda heads: heads.block_time), (lambda heads: heads.blocks_in(30))


def told(*times: int) -> Story:
    """Return a head that is told at these times, each when it may settle the one before."""
    return [step for time in times for step in ((12, time), CONFIRMING)]


CASES: dict[str, tuple[Story, Callable[[HeadTracker], Any], Any]] = {
    "nothing is known before the first note": ([], HEAD, (None, None)),
    "a higher head is taken": ([(10, 1000), (12, 1001)], HEAD, (12, 1001)),
    "a lower head is a lagging node": ([(12, 1001), (10, 1000)], HEAD, (12, 1001)),
    "a lower head is believed when nobody confirms the higher one": (
        [(1_000_000, 9_999), LAGGING + 1, (12, 1001)], HEAD, (12, 1001),
    ),
    "a confirmed head is not given up": (
        [(12, 1001), LAGGING - 1, (12, 1001), LAGGING - 1, (10, 1000)], HEAD, (12, 1001),
    ),
    "one note settles nothing": ([(12, 1001), CONFIRMING - 0.1, (12, 1001)], SETTLED, None),
    "two notes some seconds apart settle the time that both have reached": (
        [(12, 1001), CONFIRMING, (17, 1006)], SETTLED, 1001,
    ),
    "settled time does not go back for a lagging node": (told(1000, 1005, 990, 995), SETTLED, 1000),
    "a wild time that was told twice does not stay settled": (
        told(1000, 1 << 50, 1 << 50, 1015, 1020, 1025), SETTLED, 1020,
    ),
    "a wild time does not spoil the pace": (
        [(number, 1 << 50 if number == 50 else 1000 + 2 * number) for number in range(100)], PACE, 2,
    ),
    "a wild number makes no number that fits no column": ([(1, 1000), ((1 << 53) - 1, 1010)], PACE, FASTEST),
    "a pace of two seconds": ([(number, 1000 + 2 * number) for number in range(40)], PACE, 2),
    "a pace of twelve seconds": ([(number, 1000 + 12 * number) for number in range(40)], PACE, 12),
    "several blocks a second": (
        [(number, 1000 + number // 4) for number in range(400)], PACE, pytest.approx(0.25, rel=0.02),
    ),
    "nothing tells the pace": ([], PACE, DEFAULT_BLOCK_TIME),
    "a few seconds say nothing about the pace": ([(1, 1000), (2, 1005)], PACE, DEFAULT_BLOCK_TIME),
    "blocks in some seconds follow the pace": (
        [(number, 1000 + 12 * number) for number in range(40)], IN_WINDOW, 3,
    ),
    "after a stall a node that lags by the window lags by the whole burst": (
        [(0, 1000), (60, 1060), (560, 1090)], IN_WINDOW, 500,
    ),
    "there is always a block to read again": ([], lambda heads: heads.blocks_in(0), 1),
    "a stall, then twenty blocks of one timestamp": (
        [*((second, 1000 + second) for second in range(23)), (23, 1029), (43, 1029)], IN_WINDOW, 45,
    ),
}  # fmt: skip


@pytest.mark.parametrize(("story", "look", "expected"), CASES.values(), ids=CASES)
async def test_heads_say_where_a_chain_is_and_how_fast(
    story: Story, look: Callable[[HeadTracker], Any], expected: Any
) -> None:
    heads = HeadTracker()
    for step in story:
        if isinstance(step, tuple):
            heads.note(*step)
        else:
            await trio.sleep(step)
    assert look(heads) == expected


@pytest.mark.parametrize("wild_at", range(12))
async def test_a_wild_head_of_one_node_settles_nothing(wild_at: int) -> None:
    heads = HeadTracker()
    for second in range(20):
        heads.note(second, 1000 + second)
        if second == wild_at:
            heads.note(1 << 40, 1 << 40)
        await trio.sleep(1)
    assert 1000 + 20 - 2 * CONFIRMING - 1 <= (heads.settled_timestamp or 0) <= 1020


def hash_of(number: int, fork: int = 0) -> bytes:
    return bytes([fork]) * 28 + number.to_bytes(4)


KEPT = tuple(Checkpoint(number, hash_of(number)) for number in (10, 20, 40, 80, 90, 99, 100))


def searched(head: int, fork: int) -> Search:
    """Return the end of a search on a chain whose blocks above ``fork`` are others."""
    search = Search.below(KEPT, head)
    while (asked := search.question) is not None:
        search = search.answered(hash_of(asked.number, asked.number > fork))
    return search


@pytest.mark.parametrize(
    ("fork", "found"), [(100, 100), (99, 99), (98, 90), (40, 40), (39, 20), (10, 10), (9, 9), (0, 9)]
)
def test_the_fork_is_the_highest_kept_block_that_stands(fork: int, found: int) -> None:
    search = searched(200, fork)
    assert (search.fork, search.proved, search.depth) == (found, fork < 100, 100 - found)


def test_a_head_below_the_newest_kept_block_proves_nothing() -> None:
    search = searched(95, 95)
    assert (search.fork, search.proved) == (90, False)


def test_a_node_that_lags_is_asked_for_one_block() -> None:
    search = Search.below(KEPT, 95)
    assert search.question == KEPT[4]
    assert search.answered(KEPT[4].hash).question is None


def test_another_hash_below_a_low_head_proves_a_fork() -> None:
    search = searched(95, 50)
    assert (search.fork, search.proved) == (40, True)


def test_a_block_that_the_node_does_not_have_proves_nothing() -> None:
    search = Search.below(KEPT, 100).answered(None)
    assert not search.proved


async def test_a_time_years_ahead_makes_no_wait_of_years() -> None:
    """Waits of the transaction manager are made of the pace, and one of 114 days left a reply signed for good."""
    head = HeadTracker()
    head.note(1, 1000)
    head.note(2, 1000 + 10 * 365 * 86_400)
    assert head.block_time == SLOWEST


@pytest.mark.parametrize(
    ("settled", "block", "sure"),
    [
        (None, 5, 5),
        (1000, 1010, 1010),
        (1000, 5, 1000),
        (1000, 1 << 50, 1000 + int(LAGGING)),
    ],
    ids=["nothing is settled", "a block near by", "long ago", "far ahead"],
)
def test_a_sure_time_is_near_what_several_notes_agree_on(settled: int | None, block: int, sure: int) -> None:
    """One wrong block gives no request a deadline that is over, or none that comes."""
    heads = HeadTracker()
    heads.settled_timestamp = settled
    assert heads.sure(block) == sure
