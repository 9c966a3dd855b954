"""Where a fork is, and when it is believed: a lagging node is no reorganisation, and one wild answer has nothing deep read again."""

from __future__ import annotations

import pytest

from kmsconn.chain.fork import LAGGING, NO_DOUBTS, Checkpoint, Doubts, ForkDebounce, Search
from kmsconn.model.debounce import CONFIRMING

WINDOW = 20


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


def test_a_fork_within_the_window_is_believed_at_once() -> None:
    assert ForkDebounce().confirms(searched(200, 85), 0.0, WINDOW)


def test_a_deeper_fork_is_believed_when_a_later_look_says_so_too() -> None:
    search, debounce = searched(200, 50), ForkDebounce()
    assert not debounce.confirms(search, 0.0, WINDOW)
    assert not debounce.confirms(search, CONFIRMING - 1, WINDOW)
    assert debounce.confirms(search, CONFIRMING, WINDOW)


def test_a_low_head_is_believed_when_it_stays_low_for_longer_than_a_node_lags() -> None:
    search, debounce = searched(95, 95), ForkDebounce()
    assert not debounce.confirms(search, 0.0, WINDOW)
    assert not debounce.confirms(search, LAGGING - 1, WINDOW)
    assert debounce.confirms(search, LAGGING, WINDOW)


def test_a_low_head_in_between_does_not_put_off_a_proved_fork() -> None:
    deep, low, debounce = searched(200, 50), searched(95, 95), ForkDebounce()
    debounce.confirms(deep, 0.0, WINDOW)
    debounce.confirms(low, 1.0, WINDOW)
    assert debounce.confirms(deep, CONFIRMING, WINDOW)


def test_what_was_said_before_counts_unless_the_clock_was_set_back() -> None:
    search = searched(200, 50)
    assert ForkDebounce(Doubts(forked_since=0.0)).confirms(search, CONFIRMING, WINDOW)
    debounce = ForkDebounce(Doubts(forked_since=1000.0))
    assert not debounce.confirms(search, 0.0, WINDOW)
    assert debounce.confirms(search, CONFIRMING, WINDOW)


def test_a_look_that_finds_the_chain_as_it_was_has_a_fork_begin_anew() -> None:
    deep, debounce = searched(200, 50), ForkDebounce()
    debounce.confirms(deep, 0.0, WINDOW)
    debounce.doubts = NO_DOUBTS
    assert not debounce.confirms(deep, CONFIRMING, WINDOW)
