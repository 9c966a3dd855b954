"""Laws of kept block hashes: few are kept, what was dropped is never missed, and a fork is found near where it is."""

from __future__ import annotations

import hypothesis.strategies as st
from hypothesis import given

from kmsconn.chain.cursor import Cursor, Range, rewound, took
from kmsconn.chain.fork import DENSE, Checkpoint, Checkpoints, Search, spacing, thinned

numbers = st.sets(st.integers(0, 1 << 40), min_size=1, max_size=200)


def of(found: set[int] | range) -> Checkpoints:
    return tuple(Checkpoint(number, number.to_bytes(32)) for number in sorted(found))


@given(numbers)
def test_the_oldest_and_the_newest_stay(found: set[int]) -> None:
    kept = thinned(of(found))
    assert (kept[0], kept[-1]) == (of(found)[0], of(found)[-1])


@given(numbers)
def test_all_are_kept_that_are_near_the_newest(found: set[int]) -> None:
    near = {number for number in found if max(found) - number < DENSE}
    assert near <= {one.number for one in thinned(of(found))}


@given(numbers, numbers)
def test_what_is_dropped_has_a_kept_block_close_below(early: set[int], late: set[int]) -> None:
    """Also when it was dropped long ago, with what was known then."""
    newest = max(early) + 1 + max(late)
    kept = [one.number for one in thinned((*thinned(of(early)), *of({max(early) + 1 + n for n in late})))]
    for number in early:
        below = max(one for one in kept if one <= number)
        assert number - below <= 2 * spacing(newest - number)


@given(st.integers(1, 40_000), st.integers(1, 50))
def test_few_are_kept_of_a_long_chain(length: int, step: int) -> None:
    kept = thinned(of(range(0, length * step, step)))
    assert len(kept) <= DENSE + 16 * (length * step).bit_length() + 2


@given(st.integers(0, 1 << 50))
def test_the_spacing_is_an_eighth_of_the_distance_at_most(distance: int) -> None:
    assert spacing(distance) == 1 or spacing(distance) <= distance / 8


@given(st.integers(2, 3000), st.data())
def test_a_search_ends_at_the_highest_kept_block_that_stands(length: int, data: st.DataObject) -> None:
    """A chain read block by block forks somewhere; the new branch may be shorter."""
    kept = thinned(of(range(length)))
    fork = data.draw(st.integers(0, length - 1))
    head = data.draw(st.integers(fork, 2 * length))
    search, questions = Search.below(kept, head), 0
    while (asked := search.question) is not None:
        assert asked.number <= head
        search = search.answered(asked.hash if asked.number <= fork else b"other")
        questions += 1
    stands = [one.number for one in kept if one.number <= min(fork, head)]
    assert search.fork == (stands[-1] if stands else kept[0].number - 1)
    assert search.proved == any(fork < one.number <= head for one in kept)
    assert questions <= 2 * len(kept).bit_length() + 1
    depth = length - 1 - fork
    assert fork - search.fork <= max(1, depth / 4)


@given(
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20),
    st.integers(0, 80),
)
def test_after_a_fork_no_block_above_it_counts_as_read(reads: list[tuple[int, int]], fork: int) -> None:
    cursor = Cursor(10)
    for first, blocks in reads:
        cursor = took(cursor, first, first + blocks)
    back = rewound(cursor, fork)
    assert back.next_block == min(cursor.next_block, fork + 1)
    assert back.behind(100) >= 100 - fork if fork < cursor.next_block else back.island is None
    assert Range(back.next_block, back.next_block).first <= fork + 1 or back.next_block == cursor.next_block
