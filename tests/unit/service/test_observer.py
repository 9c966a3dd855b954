"""What only the course of events tells: replies of another connector with this key."""

from __future__ import annotations

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import (
    CursorMoved,
    Event,
    ReplyLanded,
    ReplyReturned,
    ReplySigned,
    RequestAdmitted,
    RequestClosed,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.service.observer import MEMORY, Observer

PUBLIC = Kind.PUBLIC_DECRYPTION
BEGAN = CursorMoved(1, Address(bytes(20)), 90, 100)


def admitted(rid: int, block: int = 101) -> Event:
    return RequestAdmitted(rid, PUBLIC, rid, 1, block, bytes(32), 0)


def landed(rid: int, *, found: bool = True) -> Event:
    return ReplyLanded(rid, PUBLIC, 105, 1.0, found)


def causes(*events: Event, now: float = 0.0) -> list[tuple[str, str, int, bool]]:
    observer = Observer()
    for event in events:
        observer.note(event, 0.0)
    return [(one.dependency, one.cause, one.count, one.critical) for one in observer.alerts(now)]


ANOTHER = [("wallet", "used-by-another", 2, True)]


def test_two_replies_that_this_process_never_signed_are_anothers() -> None:
    assert causes(BEGAN, admitted(1), admitted(2), landed(1)) == []
    assert causes(BEGAN, admitted(1), admitted(2), landed(1), landed(2)) == ANOTHER


def test_two_replies_that_another_transaction_carried_are_anothers_although_this_process_signed_them() -> (
    None
):
    carried = [ReplyLanded(rid, PUBLIC, 105, 1.0, foreign=True) for rid in (1, 2)]
    signed = [ReplySigned(rid, PUBLIC, rid, bytes(32)) for rid in (1, 2)]
    assert causes(BEGAN, admitted(1), admitted(2), *signed, carried[0]) == []
    assert causes(BEGAN, admitted(1), admitted(2), *signed, *carried) == ANOTHER


def test_likewise_where_the_checks_find_them_answered() -> None:
    closed = [RequestClosed(rid, PUBLIC, State.REPLIED, "in the contract") for rid in (1, 2)]
    assert causes(BEGAN, admitted(1), admitted(2), *closed) == ANOTHER


def test_a_nonce_that_a_foreign_transaction_took_counts_where_the_reply_is_there() -> None:
    several: list[Event] = []
    for rid in (1, 2):
        several += [
            admitted(rid),
            ReplySigned(rid, PUBLIC, rid, bytes(32)),
            ReplyReturned(rid, PUBLIC, State.ANSWERED, "nonce 7 was used by another transaction"),
            landed(rid),
        ]
    assert causes(BEGAN, *several) == ANOTHER


@pytest.mark.parametrize(
    "events",
    [
        [BEGAN, admitted(1, 99), admitted(2, 100), landed(1), landed(2)],
        [admitted(1), admitted(2), landed(1), landed(2)],
        [BEGAN, *[e for r in (1, 2) for e in (admitted(r), ReplySigned(r, PUBLIC, r, bytes(32)), landed(r))]],
        [BEGAN, admitted(1), admitted(2), landed(1, found=False), landed(2, found=False)],
    ],
    ids=["older than this process", "before anything was read", "signed here", "sent here"],
)
def test_what_may_be_this_nodes_own_is_not_anothers(events: list[Event]) -> None:
    assert causes(*events) == []


def test_it_is_over_when_none_came_for_an_hour() -> None:
    events = (BEGAN, admitted(1), admitted(2), landed(1), landed(2))
    assert causes(*events, now=MEMORY) == ANOTHER
    assert causes(*events, now=MEMORY + 1) == []
