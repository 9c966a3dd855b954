"""What only the course of events tells: replies of another connector with this key."""

from __future__ import annotations

import pytest

from kmsconn.connector.event_hook import MEMORY, ForeignReplies
from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import (
    CursorMoved,
    Event,
    ReplyIncluded,
    ReplyReturned,
    ReplySigned,
    RequestClosed,
    RequestRecorded,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind

PUBLIC = Kind.PUBLIC_DECRYPTION
BEGAN = CursorMoved(1, Address(bytes(20)), 90, 100)


def recorded(rid: int, block: int = 101) -> Event:
    return RequestRecorded(rid, PUBLIC, rid, 1, block, bytes(32), 0)


def included(rid: int, *, found: bool = True) -> Event:
    return ReplyIncluded(rid, PUBLIC, 105, 1.0, found)


def causes(*events: Event, now: float = 0.0) -> list[tuple[str, str, int, bool]]:
    foreign_replies = ForeignReplies()
    for event in events:
        foreign_replies.note(event, 0.0)
    return [(one.dependency, one.cause, one.count, one.critical) for one in foreign_replies.alerts(now)]


ANOTHER = [("wallet", "used-by-another", 2, True)]


def test_two_replies_that_this_process_never_signed_are_anothers() -> None:
    assert causes(BEGAN, recorded(1), recorded(2), included(1)) == []
    assert causes(BEGAN, recorded(1), recorded(2), included(1), included(2)) == ANOTHER


def test_two_replies_that_another_transaction_carried_are_anothers_although_this_process_signed_them() -> (
    None
):
    carried = [ReplyIncluded(rid, PUBLIC, 105, 1.0, foreign=True) for rid in (1, 2)]
    signed = [ReplySigned(rid, PUBLIC, rid, bytes(32)) for rid in (1, 2)]
    assert causes(BEGAN, recorded(1), recorded(2), *signed, carried[0]) == []
    assert causes(BEGAN, recorded(1), recorded(2), *signed, *carried) == ANOTHER


def test_likewise_where_the_checks_find_them_answered() -> None:
    closed = [RequestClosed(rid, PUBLIC, State.FINALIZED, "in the contract") for rid in (1, 2)]
    assert causes(BEGAN, recorded(1), recorded(2), *closed) == ANOTHER


def test_a_nonce_that_a_foreign_transaction_took_counts_where_the_reply_is_there() -> None:
    several: list[Event] = []
    for rid in (1, 2):
        several += [
            recorded(rid),
            ReplySigned(rid, PUBLIC, rid, bytes(32)),
            ReplyReturned(rid, PUBLIC, State.ANSWERED, "whatever", nonce_taken=True),
            included(rid),
        ]
    assert causes(BEGAN, *several) == ANOTHER


def test_a_reply_whose_own_block_went_and_came_back_is_not_anothers() -> None:
    several: list[Event] = []
    for rid in (1, 2):
        several += [
            recorded(rid),
            ReplySigned(rid, PUBLIC, rid, bytes(32)),
            ReplyReturned(rid, PUBLIC, State.ANSWERED, "its nonce is open again"),
            included(rid),
        ]
    assert causes(BEGAN, *several) == []


@pytest.mark.parametrize(
    "events",
    [
        [BEGAN, recorded(1, 99), recorded(2, 100), included(1), included(2)],
        [recorded(1), recorded(2), included(1), included(2)],
        [
            BEGAN,
            *[e for r in (1, 2) for e in (recorded(r), ReplySigned(r, PUBLIC, r, bytes(32)), included(r))],
        ],
        [BEGAN, recorded(1), recorded(2), included(1, found=False), included(2, found=False)],
    ],
    ids=["older than this process", "before anything was read", "signed here", "sent here"],
)
def test_what_may_be_this_nodes_own_is_not_anothers(events: list[Event]) -> None:
    assert causes(*events) == []


def test_it_is_over_when_none_came_for_an_hour() -> None:
    events = (BEGAN, recorded(1), recorded(2), included(1), included(2))
    assert causes(*events, now=MEMORY) == ANOTHER
    assert causes(*events, now=MEMORY + 1) == []
