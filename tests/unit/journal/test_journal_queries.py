"""What is handed out, in which order, and when the next one comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path
from typing import Any

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.journal import moves, queries
from kmsconn.journal.book import Book
from kmsconn.journal.port import Counts, Due, Shards
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    arrival,
    bytes32,
    new_row,
    opened,
    row_of,
    signing,
    take,
    walk,
)

NOW = 1000.0


def due(
    book: Book,
    now: float = NOW,
    limit: int = 10,
    busy: tuple[int, ...] = (),
    kind: Kind = KIND,
    *,
    without: Collection[int] = (),
) -> Due:
    return queries.due_of_kinds(
        book, [kind], now, limit, busy=busy, without=Shards(book.shards, frozenset(without))
    )


def answered(book: Book, now: float = NOW, limit: int = 10) -> Due:
    return queries.answered(book, CHAIN, now, limit)


@pytest.fixture
def parted(path: Path) -> Iterator[Book]:
    """Open a book whose due rows are shared by three."""
    book = opened(path, shards=3)
    yield book
    book.close()


def rids(found: Due) -> list[int]:
    return [row.rid for row in found.rows]


def test_nothing_is_due_in_an_empty_journal(book: Book) -> None:
    assert (due(book), answered(book)) == (Due((), None), Due((), None))


@pytest.mark.parametrize("state", State)
def test_only_seen_rows_are_due_and_only_answered_ones_are_unsent(book: Book, state: State) -> None:
    rid = walk(book, new_row(book), WAYS[state])
    assert rids(due(book)) == [rid] * (state is State.PENDING)
    assert rids(answered(book)) == [rid] * (state is State.ANSWERED)


@pytest.mark.parametrize("state", [State.PENDING, State.ANSWERED])
def test_rows_off_chain_are_not_handed_out_and_nobody_waits_for_them(book: Book, state: State) -> None:
    walk(book, new_row(book), WAYS[state])
    take(book)
    assert (due(book), answered(book)) == (Due((), None), Due((), None))


def test_a_kind_does_not_see_the_rows_of_another(book: Book) -> None:
    new_row(book, kind=Kind.USER_DECRYPTION)
    assert due(book) == Due((), None)


def test_due_rows_come_by_next_try_then_block_then_log_index(book: Book) -> None:
    places = [(5, 12, 0), (5, 10, 1), (5, 10, 0), (4, 90, 0)]
    for number, (next_attempt, block, index) in enumerate(places, start=1):
        moves.defer(book, new_row(book, number, block, index=index), next_attempt, "", 60.0)
    assert rids(due(book)) == [4, 3, 2, 1]


def test_answered_rows_come_by_place(book: Book) -> None:
    for number, block in enumerate([12, 10, 11], start=1):
        walk(book, new_row(book, number, block), ["answer"])
    moves.defer(book, 2, 999.0, "", 60.0)
    assert rids(answered(book)) == [2, 3, 1]


def test_rows_of_shards_that_are_not_wanted_are_left_out(parted: Book) -> None:
    high = 1 << 248
    made = {number: new_row(parted, high + number, 10 + number) for number in range(6)}
    wanted = [made[number] for number in range(6) if (high + number) % 3 != 1]
    assert rids(due(parted, without=[1])) == wanted
    assert due(parted, without=[0, 1, 2]) == Due((), None)


def test_rows_of_all_shards_come_as_one_line(parted: Book) -> None:
    for identifier, block in ((1, 12), (2, 10), (3, 11), (4, 9)):
        new_row(parted, identifier, block)
    assert [row.id for row in due(parted).rows] == [4, 2, 3, 1]


def test_shards_of_another_number_are_refused(parted: Book) -> None:
    with pytest.raises(ValueError, match="opened for 3 shards, not 2"):
        queries.due_of_kinds(parted, [KIND], NOW, 1, without=Shards(2, frozenset({1})))


@pytest.mark.parametrize("count", [1, 2, 3, 13, 16, 17, 19])
def test_any_number_of_shards_is_told_apart(path: Path, count: int) -> None:
    book = opened(path)  # its two indices are made anew for another number
    high = 5 << 248
    made = {high + number: new_row(book, high + number, 10 + number) for number in range(20)}
    book.close()
    book = opened(path, shards=count)
    for shard in range(count):
        left = [rid for identifier, rid in made.items() if identifier % count != shard]
        assert rids(due(book, limit=20, without=[shard])) == left
    book.close()


def test_nobody_waits_for_a_row_of_a_shard_that_is_not_wanted(parted: Book) -> None:
    for identifier in (1, 2):
        moves.defer(parted, new_row(parted, identifier, 10 + identifier), NOW + identifier, "", 60.0)
    assert due(parted, without=[1]).next_due == NOW + 2


def test_busy_rows_are_left_out(book: Book) -> None:
    first, second = new_row(book, 1), new_row(book, 2)
    assert rids(due(book, busy=(first,))) == [second]
    assert due(book, busy=(first, second)) == Due((), None)


@pytest.mark.parametrize("way", [(), ("answer",)])
def test_the_limit_holds_and_more_are_announced_as_due(book: Book, way: tuple[str, ...]) -> None:
    for number in (1, 2, 3):
        walk(book, new_row(book, number, number), way)
    for limit in (0, 1, 2):
        found = (answered if way else due)(book, limit=limit)
        assert rids(found) == [1, 2][:limit]
        assert found.next_due is not None
        assert found.next_due <= NOW


@pytest.mark.parametrize("way", [(), ("answer",)])
def test_a_deferred_row_is_due_when_its_time_has_come(book: Book, way: tuple[str, ...]) -> None:
    rid = walk(book, new_row(book), way)
    moves.defer(book, rid, NOW + 30, "", 60.0)
    look = answered if way else due
    assert look(book) == Due((), NOW + 30)
    assert rids(look(book, now=NOW + 30)) == [rid]


@pytest.mark.parametrize("way", [(), ("answer",)])
def test_the_soonest_of_the_waiting_is_announced(book: Book, way: tuple[str, ...]) -> None:
    for number, wait in enumerate([50, 20, 40], start=1):
        moves.defer(book, walk(book, new_row(book, number), way), NOW + wait, "", 60.0)
    assert (answered if way else due)(book).next_due == NOW + 20


@pytest.mark.parametrize("way", [(), ("answer",)])
@pytest.mark.parametrize(
    ("max_wait", "wait", "expected"),
    [(60, 60, False), (60, 61, True), (3600, 3600, False), (3600, 3601, True)],
)
def test_a_row_that_waits_longer_than_it_may_is_due(
    book: Book, way: tuple[str, ...], max_wait: float, wait: float, expected: bool
) -> None:
    """The clock was set back."""
    rid = walk(book, new_row(book), way)
    moves.defer(book, rid, NOW + wait, "", max_wait)
    found = (answered if way else due)(book)
    assert (rids(found), found.next_due) == (([rid], None) if expected else ([], NOW + wait))


def test_a_clock_set_back_by_an_hour_strands_nothing(book: Book) -> None:
    """A row recorded by the old clock, never deferred."""
    rid = new_row(book)
    assert rids(due(book, now=NOW - 3600)) == [rid]


def test_rows_in_time_go_before_stranded_ones(book: Book) -> None:
    stranded, in_time = new_row(book, 1, 10), new_row(book, 2, 11)
    moves.defer(book, stranded, NOW + 999, "", 60.0)
    assert rids(due(book)) == [in_time, stranded]
    assert due(book, limit=1).next_due == NOW


def test_signed_rows_come_in_nonce_order_on_chain_or_not(book: Book) -> None:
    for number in (1, 2, 3):
        walk(book, new_row(book, number), ["answer"])
    for rid, nonce in ((1, 30), (2, 10), (3, 20)):
        moves.sign(book, signing(rid, nonce, b"", b""))
    take(book, arrival(2, 10))
    assert [row.rid for row in queries.signed(book, CHAIN)] == [2, 3, 1]
    assert queries.signed(book, CHAIN + 1) == ()


def test_included_rows_come_deepest_first_up_to_a_block_on_chain_or_not(book: Book) -> None:
    for number, block in enumerate([30, 10, 20], start=1):
        moves.move(book, "confirm", walk(book, new_row(book, number), ["answer", "sign"]), block=block)
    take(book)
    assert [row.rid for row in queries.included(book, CHAIN, 20, 10)] == [2, 3]
    assert [row.rid for row in queries.included(book, CHAIN, 20, 1)] == [2]
    assert queries.included(book, CHAIN + 1, 20, 10) == ()


def test_a_row_found_included_is_looked_at_again_at_its_block(book: Book) -> None:
    rid = new_row(book)
    moves.move(book, "found_included", rid, block=40)
    assert queries.included(book, CHAIN, 39, 10) == ()
    assert queries.included(book, CHAIN, 40, 10) == (row_of(book, rid),)


def test_a_sibling_is_other_content_under_the_same_id(book: Book) -> None:
    first = new_row(book, 1, 10, content="A")
    assert not queries.has_sibling(book, first)
    second = new_row(book, 1, 10, content="B")
    assert queries.has_sibling(book, first)
    assert queries.has_sibling(book, second)


@pytest.mark.parametrize("other", [{"chain_id": CHAIN + 1}, {"contract": Address(b"\x0f" * 20)}])
def test_content_of_another_contract_or_chain_is_no_sibling(book: Book, other: dict[str, Any]) -> None:
    first = new_row(book, 1, 10, content="A")
    take(book, arrival(1, 10, "B"), **other)
    assert not queries.has_sibling(book, first)


def test_a_row_that_is_not_there_is_none(book: Book) -> None:
    assert queries.row(book, 99) is None


def test_an_empty_journal_counts_nothing(book: Book) -> None:
    assert queries.counts(book, NOW) == Counts({}, {}, {}, 0, 0)


def test_rows_are_counted_by_kind_and_state(book: Book) -> None:
    for number, state in enumerate(State, start=1):
        walk(book, new_row(book, number, content=str(number)), WAYS[state])
    walk(book, new_row(book, 99, kind=Kind.USER_DECRYPTION), WAYS[State.FINALIZED])
    assert queries.counts(book, NOW).states == {
        **{(KIND, state): 1 for state in State},
        (Kind.USER_DECRYPTION, State.FINALIZED): 1,
    }


def test_the_age_is_that_of_the_oldest_open_row_on_chain(book: Book) -> None:
    for number, (since, way) in enumerate(
        [(100.0, ["expire"]), (300.0, []), (200.0, ["answer", "sign"])], start=1
    ):
        ((rid, _),) = take(book, arrival(number, number), blocks=(1, 0), now=since).new
        walk(book, rid, way)
    take(book, arrival(9, 50), blocks=(1, 0), now=50.0)
    take(book, blocks=(50, 50))
    found = queries.counts(book, NOW)
    assert (found.oldest, found.off_chain) == ({KIND: 800.0}, 1)


def test_deferred_rows_are_counted_until_they_move(book: Book) -> None:
    for number in (1, 2, 3):
        moves.defer(book, new_row(book, number), 5000.0, "", 60.0)
    walk(book, 1, ["answer"])
    assert queries.counts(book, NOW).deferred == {KIND: 2}


def test_hashes_come_back_as_they_were_stored(book: Book) -> None:
    rid = new_row(book, 1, 10, fork="'")
    assert row_of(book, rid).log.block_hash == bytes32("block 10'")


def doubted(book: Book, from_block: int = 0, limit: int = 10) -> tuple[int, ...]:
    return queries.doubted(book, CHAIN, CONTRACT, from_block, limit)


def test_a_block_is_doubted_while_an_open_request_of_it_is_off_chain(book: Book) -> None:
    new_row(book, 1, 10)
    assert doubted(book) == ()
    take(book, blocks=(10, 10))
    assert doubted(book) == (10,)
    take(book, arrival(1, 10), blocks=(10, 10))
    assert doubted(book) == ()


def test_doubted_blocks_come_newest_first_and_each_once(book: Book) -> None:
    for number, block in enumerate((10, 12, 12, 11, 5), start=1):
        new_row(book, number, block, index=number)
    take(book)
    assert doubted(book, from_block=10, limit=2) == (12, 11)


def test_nobody_doubts_the_block_of_a_closed_request(book: Book) -> None:
    walk(book, new_row(book, 1, 10), WAYS[State.FINALIZED])
    take(book, blocks=(10, 10))
    assert doubted(book) == ()


def places(book: Book, first: int, last: int, limit: int = 10) -> list[tuple[int, int]]:
    return [
        (one.id, one.block) for one in queries.places(book, (CHAIN, CONTRACT), KIND, (first, last), limit)
    ]


def test_places_come_in_the_order_of_their_ids(book: Book) -> None:
    for number, block in ((3, 10), (1 << 250, 11), (256, 12), (1, 13)):
        new_row(book, number, block)
    assert places(book, 1, 1 << 250) == [(1, 13), (3, 10), (256, 12), (1 << 250, 11)]
    assert places(book, 2, 256) == [(3, 10), (256, 12)]
    assert places(book, 1, 1 << 250, limit=2) == [(1, 13), (3, 10)]


def test_what_is_off_chain_has_no_place_and_what_is_closed_has_one(book: Book) -> None:
    walk(book, new_row(book, 1, 10), WAYS[State.REJECTED])
    new_row(book, 2, 11)
    take(book, blocks=(11, 11))
    assert places(book, 1, 9) == [(1, 10)]


def test_quarantined_logs_of_a_contract_are_given_as_they_were_read(book: Book) -> None:
    log = arrival(7, 12).log
    take(book, undecodable=[(log, "short")])
    assert queries.quarantined(book, CHAIN, CONTRACT) == (log,)
    assert queries.quarantined(book, CHAIN, Address(bytes(20))) == ()


GENERATION = (Kind.PREP_KEYGEN, Kind.KEYGEN)


def of_kinds(book: Book, now: float = NOW, limit: int = 10) -> Due:
    return queries.due_of_kinds(book, GENERATION, now, limit)


def test_several_kinds_are_handed_out_as_one_line(book: Book) -> None:
    for block, kind in ((12, Kind.PREP_KEYGEN), (10, Kind.KEYGEN), (11, Kind.PREP_KEYGEN), (9, KIND)):
        new_row(book, block, block, kind=kind)
    assert [row.id for row in of_kinds(book).rows] == [10, 11, 12]
    assert ([row.id for row in of_kinds(book, limit=2).rows], of_kinds(book, limit=2).next_due) == (
        [10, 11],
        NOW,
    )


def test_the_next_of_several_kinds_is_the_soonest(book: Book) -> None:
    for block, kind in ((10, Kind.PREP_KEYGEN), (11, Kind.KEYGEN)):
        moves.defer(book, new_row(book, block, block, kind=kind), NOW + block, "waits", 60.0)
    assert of_kinds(book) == Due((), NOW + 10)


def in_order(book: Book, now: float = NOW, limit: int = 10) -> list[tuple[int, bool]]:
    queued = queries.in_order(book, (Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH), now, limit)
    return [(one.row.rid, one.due) for one in queued]


def test_in_order_comes_what_is_open_as_the_chain_has_it_due_or_not(book: Book) -> None:
    later = new_row(book, 2, 20, kind=Kind.NEW_KMS_EPOCH)
    first = new_row(book, 1, 10, kind=Kind.NEW_KMS_CONTEXT)
    assert in_order(book) == [(first, True), (later, True)]
    assert in_order(book, limit=1) == [(first, True)]
    moves.defer(book, first, NOW + 5, "waits", 60.0)
    assert in_order(book) == [(first, False), (later, True)]
    moves.move(book, "finish", first, reason="done")
    assert in_order(book) == [(later, True)]


def test_in_order_a_row_is_due_when_the_clock_was_set_back(book: Book) -> None:
    first = new_row(book, 1, 10, kind=Kind.NEW_KMS_CONTEXT)
    moves.defer(book, first, NOW + 5, "waits", 60.0)
    assert in_order(book, now=NOW - 100) == [(first, True)]


def test_nothing_comes_first_in_an_empty_journal(book: Book) -> None:
    assert in_order(book) == []


STEPS = 100
"""Virtual machine instructions of SQLite between two calls of a progress handler."""


def cost(book: Book, look: Callable[[], object]) -> int:
    """Return how many hundreds of SQLite's instructions a look takes: the same on every machine."""
    ticks: list[None] = []
    connection = book._connection
    assert connection is not None
    connection.set_progress_handler(lambda: ticks.append(None), STEPS)
    look()
    connection.set_progress_handler(None, 0)
    return len(ticks)


@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    ("name", "now", "without"),
    [
        ("in time", NOW + 100, ()),
        ("the clock set back a day", NOW - 86_400, ()),
        ("nothing due yet", NOW - 1, ()),
        ("a full shard", NOW + 100, (0,)),
    ],
)
def test_a_look_costs_the_same_however_many_rows_wait(
    path: Path, shards: int, name: str, now: float, without: tuple[int, ...]
) -> None:
    book = opened(path, shards=shards)
    book.begin()
    costs = []
    for first, last in ((0, 200), (200, 4000)):
        many = [arrival(shards * number, number) for number in range(first, last)]  # all of one shard
        take(book, *many, blocks=(first, last), now=NOW)
        for identifier in range(first + 1, first + 4):
            new_row(book, shards * (last + identifier) + 1, last + identifier)
        costs.append(cost(book, lambda: due(book, now=now, limit=8, without=without)))
    few, more = costs
    assert more <= 1.5 * few + 3, f"{name}: {few} hundred instructions with 200 rows, {more} with 4,000"
    book.close()


def test_counting_costs_the_same_however_many_rows_there_are(book: Book) -> None:
    book.begin()
    costs = []
    for first, last in ((0, 200), (200, 4000)):
        take(book, *(arrival(number, number) for number in range(first, last)), blocks=(first, last))
        for rid in range(first + 1, first + 101):
            walk(book, rid, WAYS[State.FINALIZED])
        costs.append(cost(book, lambda: queries.counts(book, NOW)))
    few, more = costs
    assert more <= 1.5 * few + 3
    assert queries.counts(book, NOW).states == {(KIND, State.FINALIZED): 200, (KIND, State.PENDING): 3800}


def test_deferrals_are_counted_from_the_first_that_is_not_again(book: Book) -> None:
    row = new_row(book, 1, 10)
    for again, deferred in ((True, 1), (True, 2), (False, 1), (True, 2)):
        moves.defer(book, row, NOW + 5, "waits", 60.0, again=again)
        found = queries.row(book, row)
        assert found is not None
        assert found.deferred == deferred


def test_answered_rows_come_in_pages_due_or_not(book: Book) -> None:
    rows = [new_row(book, number, 10 + number) for number in range(5)]
    for rid in rows[:4]:
        moves.answer(book, rid, ANSWER, NOW)
    moves.defer(book, rows[1], NOW + 1000, "waits", 2000.0)
    first = queries.answered_after(book, CHAIN, (-1, -1), 3)
    assert rids(Due(first, None)) == rows[:3]
    last = first[-1].log
    assert (
        rids(Due(queries.answered_after(book, CHAIN, (last.block_number, last.log_index), 3), None))
        == rows[3:4]
    )
