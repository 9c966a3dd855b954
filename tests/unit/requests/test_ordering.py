"""What of contexts and epochs may begin, and what a later end has ended: every pair that matters, in the order of the chain."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.journal.values import Queued
from kmsconn.model.requests import Content, Order
from kmsconn.protocols.fhevm.aborts import AbortKeygen
from kmsconn.protocols.fhevm.contexts import ContextDestroyed, NewContext
from kmsconn.protocols.fhevm.epochs import EpochDestroyed, NewEpoch
from kmsconn.requests.rows import Entry, ended, free_to_begin

C1, C2, C3 = (make_id(CONTEXT_TAG, n) for n in (1, 2, 3))
E1, E2, E3, E4 = (make_id(EPOCH_TAG, n) for n in (1, 2, 3, 4))


def context(identifier: int, previous: int) -> NewContext:
    return NewContext(identifier, previous, (), 0, "", ())


def epoch(identifier: int, of: int, previous: tuple[int, int]) -> NewEpoch:
    return NewEpoch(of, identifier, *previous, 1)


CONTEXT_2 = context(C2, C1)
EPOCH_2 = epoch(E2, C2, (C1, E1))  # takes the keys over into the new context
EPOCH_3 = epoch(E3, C2, (C2, E2))  # new shares in the same context
END_OF_C1, END_OF_C2 = ContextDestroyed(C1), ContextDestroyed(C2)
END_OF_E1, END_OF_E2, END_OF_E3 = map(EpochDestroyed, (E1, E2, E3))


def line(*contents: Content) -> list[Entry]:
    """Return a line whose rows are the positions of their contents."""
    found = []
    for rid, content in enumerate(contents):
        order = content.order
        found.append(Entry(Queued(SimpleNamespace(rid=rid), due=True), order))  # type: ignore[arg-type]
    return found


def free(*contents: Content, busy: tuple[int, ...] = ()) -> list[int]:
    return [entry.rid for entry in free_to_begin(line(*contents), busy)]


@pytest.mark.parametrize(
    ("contents", "begin"),
    [
        ([CONTEXT_2, EPOCH_2, EPOCH_3], [0]),
        ([EPOCH_2, EPOCH_3], [0]),
        ([EPOCH_3, END_OF_E2], [0]),  # it is made of those shares
        ([EPOCH_2, END_OF_E1], [0, 1]),  # into another context: active means that every node has its shares
        ([EPOCH_2, END_OF_C1], [0, 1]),
        ([CONTEXT_2, END_OF_C1], [0, 1]),
        ([CONTEXT_2, context(C3, C2)], [0, 1]),
        ([END_OF_E1, END_OF_E2, EPOCH_3], [0, 1, 2]),  # what a Core cannot destroy holds up nobody
        ([END_OF_E1, EPOCH_2, END_OF_C1], [0, 1, 2]),
        ([EPOCH_2, epoch(E4, C3, (C2, E2))], [0, 1]),
    ],
)
def test_only_what_is_needed_is_waited_for(contents: list[Content], begin: list[int]) -> None:
    assert free(*contents) == begin
    assert ended(line(*contents)) == []


@pytest.mark.parametrize(
    ("contents", "over", "by"),
    [
        ([EPOCH_2, END_OF_E2], [0], E2),
        ([CONTEXT_2, EPOCH_2, EPOCH_3, END_OF_C2], [2, 1, 0], C2),
        ([CONTEXT_2, END_OF_C1, END_OF_C2], [0], C2),
        ([EPOCH_3, END_OF_E2, END_OF_E3], [0], E3),
    ],
)
def test_an_end_ends_what_makes_the_same_and_is_still_open(
    contents: list[Content], over: list[int], by: int
) -> None:
    assert [(entry.rid, identifier) for entry, identifier in ended(line(*contents))] == [
        (rid, by) for rid in over
    ]


def test_what_was_ended_is_not_begun_and_holds_up_nobody() -> None:
    """Seen with a real Core: an epoch that it cannot make, and every later destruction behind it."""
    assert free(EPOCH_3, END_OF_E2, END_OF_E3) == [1, 2]
    assert free(CONTEXT_2, EPOCH_2, END_OF_C1, END_OF_C2) == [2, 3]


def test_an_end_waits_for_the_pass_that_is_at_work_on_what_it_ends() -> None:
    """It would be made anew after it was destroyed."""
    assert free(EPOCH_2, END_OF_E2, END_OF_C1, busy=(0,)) == [2]
    assert free(CONTEXT_2, END_OF_C2, busy=(0,)) == []


def test_what_is_at_work_is_not_handed_out_and_holds_up_as_before() -> None:
    assert free(CONTEXT_2, EPOCH_2, END_OF_C1, busy=(0, 2)) == []


def test_an_end_wins_whatever_the_order_of_the_rows() -> None:
    """A creation that was recorded late, of a gap in the logs, must not give the Core back what was destroyed."""
    assert ended(line(END_OF_C2, CONTEXT_2, EPOCH_2)) == [
        (entry, C2) for entry in reversed(line(END_OF_C2, CONTEXT_2, EPOCH_2)[1:])
    ]
    assert free(END_OF_C2, CONTEXT_2) == [0]
    assert free(END_OF_C2, CONTEXT_2, busy=(1,)) == []


def test_other_requests_have_no_order() -> None:
    assert AbortKeygen(1).order == Order()
