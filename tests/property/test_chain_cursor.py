"""Laws of the cursor: nothing is passed over, everything is read in the end, every round gets on."""

from __future__ import annotations

import attrs
from hypothesis import given, settings
from hypothesis import strategies as st

from kmsconn.chain.fork import DENSE, Checkpoint, Checkpoints, Search, spacing, thinned
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG as TAG
from kmsconn.ethereum.ids import make_id
from kmsconn.requests.cursor import Cursor, Range, gaps, plan, rewound, shrunk, took

SIZES = st.integers(1, 60)


@st.composite
def cursors(draw: st.DrawFn) -> Cursor:
    """Cursors that a life of reads can lead to."""
    origin = draw(st.integers(0, 50))
    cursor = Cursor(origin, size=draw(SIZES), origin=origin)
    for first, length in draw(st.lists(st.tuples(st.integers(0, 400), st.integers(0, 60)), max_size=8)):
        cursor = took(cursor, max(first, origin), max(first, origin) + length)
    return attrs.evolve(cursor, size=draw(SIZES))


def up_to(asked: Range, head: int) -> Range:
    """Return a range as a node with that head reads it."""
    return asked if asked.last is not None else Range(asked.first, head)


def ranges(cursor: Cursor, head: int, again: int | None = None) -> list[Range]:
    """Return all that a round reads, in the order in which it matters."""
    todo = plan(cursor, head, again)
    return [todo.tail, *todo.again, *([todo.backfill] if todo.backfill else [])]


class World:
    """Blocks that were read, beside a cursor that must agree."""

    def __init__(self, cursor: Cursor) -> None:
        self.cursor = cursor
        self.read: set[int] = set(range(cursor.next_block))
        if cursor.island is not None:
            self.read |= set(range(cursor.island.first, cursor.island.last + 1))

    def answer(self, asked: Range, head: int) -> None:
        """Take the trusted answer of a node with that head; none comes when it lags."""
        actual = up_to(asked, head)
        assert actual.last is not None
        if actual.first <= actual.last <= head:
            self.read |= set(range(actual.first, actual.last + 1))
            self.cursor = took(self.cursor, actual.first, actual.last)

    def check(self) -> None:
        assert all(block in self.read for block in range(self.cursor.next_block))
        island = self.cursor.island
        if island is not None:
            assert island.first > self.cursor.next_block
            assert all(block in self.read for block in range(island.first, island.last + 1))


ROUNDS = st.lists(
    st.tuples(
        st.integers(-30, 120),  # how the head moves
        st.integers(0, 10),  # how far the asked node lags
        st.booleans(),  # what is not settled is due
        st.lists(st.sampled_from(["read", "fail", "too wide"]), min_size=1, max_size=6),
    ),
    max_size=12,
)


@given(cursors(), ROUNDS, st.integers(0, 80))
def test_the_cursor_never_passes_an_unread_block_and_never_goes_back(
    cursor: Cursor, rounds: list[tuple[int, int, bool, list[str]]], reorg_window: int
) -> None:
    world, head = World(cursor), 50
    for step, lag, again, fates in rounds:
        head = max(0, head + step)
        for number, asked in enumerate(ranges(world.cursor, head, head - reorg_window if again else None)):
            before = world.cursor.next_block
            fate = fates[number % len(fates)]
            if fate == "read":
                world.answer(asked, head - lag)
            elif fate == "too wide":
                world.cursor = shrunk(world.cursor)
            assert world.cursor.next_block >= before
            world.check()


@given(cursors(), st.integers(0, 500))
@settings(deadline=None)
def test_with_a_head_that_stands_everything_is_read_in_the_end(cursor: Cursor, head: int) -> None:
    world = World(cursor)
    for _ in range(head + 2):
        for asked in ranges(world.cursor, head):
            world.answer(asked, head)
        if world.cursor.next_block > head:
            break
    assert world.cursor.next_block > head or head < cursor.origin
    assert set(range(cursor.origin, head + 1)) <= world.read


@given(cursors(), st.integers(0, 500), st.integers(0, 80), st.booleans())
def test_every_round_gets_on(cursor: Cursor, head: int, reorg_window: int, again: bool) -> None:
    """If anything up to the head is unread, a round reads some of it, and the cursor itself moves."""
    world = World(cursor)
    unread = set(range(cursor.origin, head + 1)) - world.read
    for asked in ranges(cursor, head, head - reorg_window if again else None):
        world.answer(asked, head)
    assert not unread or world.cursor.next_block > cursor.next_block


@given(cursors(), st.integers(0, 500), st.integers(0, 80), st.booleans())
def test_the_first_range_reaches_the_head(cursor: Cursor, head: int, reorg_window: int, again: bool) -> None:
    """A live request waits for nothing."""
    tail = plan(cursor, head, head - reorg_window if again else None).tail
    assert tail.last is None or tail.last == max(head, tail.first)


@given(cursors(), st.integers(0, 500), st.integers(0, 80), st.booleans())
def test_no_range_is_longer_than_the_size_and_none_lies_below_the_origin(
    cursor: Cursor, head: int, reorg_window: int, again: bool
) -> None:
    for asked in ranges(cursor, head, head - reorg_window if again else None):
        known = up_to(asked, max(head, asked.first))
        assert known.last is not None
        assert cursor.origin <= known.first <= known.last
        assert known.last - known.first + 1 <= cursor.size


@given(cursors(), st.integers(0, 500), st.integers(0, 80))
def test_what_is_to_be_read_again_is_read_whole(cursor: Cursor, head: int, reorg_window: int) -> None:
    asked = ranges(cursor, head, head - reorg_window)
    covered = {
        block for one in asked for block in range(one.first, (up_to(one, max(head, one.first)).last or 0) + 1)
    }
    assert set(range(max(cursor.origin, head - reorg_window), head + 1)) <= covered


@given(cursors(), st.integers(0, 400), st.integers(0, 60))
def test_taking_a_read_twice_is_taking_it_once(cursor: Cursor, first: int, length: int) -> None:
    once = took(cursor, first, first + length)
    twice = took(once, first, first + length)
    assert (twice.next_block, twice.island) == (once.next_block, once.island)


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


@given(st.lists(st.tuples(st.integers(0, 60), st.integers(0, 20)), max_size=20), st.integers(0, 80))
def test_after_a_fork_no_block_above_it_counts_as_read(reads: list[tuple[int, int]], fork: int) -> None:
    cursor = Cursor(10)
    for first, blocks in reads:
        cursor = took(cursor, first, first + blocks)
    back = rewound(cursor, fork)
    assert back.next_block == min(cursor.next_block, fork + 1)
    assert back.island is None
    assert Range(back.next_block, back.next_block).first <= fork + 1 or back.next_block == cursor.next_block


COUNTERS = st.integers(0, 40)


@given(st.sets(st.integers(1, 45)), COUNTERS, COUNTERS)
def test_every_id_is_known_or_in_exactly_one_gap(known: set[int], newest: int, low: int) -> None:
    found = gaps(TAG, [make_id(TAG, counter) for counter in known], make_id(TAG, newest), make_id(TAG, low))
    for counter in range(1, 46):
        missing = low < counter <= newest and counter not in known
        assert [make_id(TAG, counter) in gap for gap in found].count(True) == (1 if missing else 0)
