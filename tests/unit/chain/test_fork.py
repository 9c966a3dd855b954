"""Where a fork is; a lagging node is no reorganisation."""

from __future__ import annotations

import pytest

from kmsconn.chain.fork import Checkpoint, Search


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
