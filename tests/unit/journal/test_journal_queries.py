"""What is dispatched, in which order, and when the next one comes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from pathlib import Path

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.journal import inspecting, moves, queries
from kmsconn.journal.database import Database
from kmsconn.journal.queries import Counts, Due
from kmsconn.journal.sqlite import SqliteDriver
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    KIND,
    WAYS,
    arrival,
    keep,
    new_row,
    opened,
    row_of,
    signing,
    take,
    walk,
)

NOW = 1000.0


def due(
    db: Database,
    now: float = NOW,
    limit: int = 10,
    busy: tuple[int, ...] = (),
    kind: Kind = KIND,
    *,
    without: Collection[int] = (),
) -> Due:
    return queries.due(db, [kind], now, limit, frozenset(busy), without=frozenset(without))


def answered(db: Database, now: float = NOW, limit: int = 10) -> Due:
    return queries.answered(db, CHAIN, now, limit)


@pytest.fixture
def parted(path: Path) -> Iterator[Database]:
    """Open a database whose due rows are shared by three."""
    db = opened(path, shards=3)
    yield db
    db.close()


def rids(found: Due) -> list[int]:
    return [row.rid for row in found.rows]


def test_an_empty_journal_has_nothing(db: Database) -> None:
    assert (due(db), answered(db)) == (Due((), None), Due((), None))
    assert queries.row(db, 99) is None
    assert queries.counts(db, NOW) == Counts({}, {}, {}, 0, 0)
    assert in_order(db) == []


@pytest.mark.parametrize("state", State)
def test_only_seen_rows_are_due_and_only_answered_ones_are_unsent(db: Database, state: State) -> None:
    rid = walk(db, new_row(db), WAYS[state])
    assert rids(due(db)) == [rid] * (state is State.PENDING)
    assert rids(answered(db)) == [rid] * (state is State.ANSWERED)


@pytest.mark.parametrize("state", [State.PENDING, State.ANSWERED])
def test_rows_off_chain_are_not_handed_out_and_nobody_waits_for_them(db: Database, state: State) -> None:
    walk(db, new_row(db), WAYS[state])
    take(db)
    assert (due(db), answered(db)) == (Due((), None), Due((), None))


def test_due_rows_come_by_next_try_then_block_then_log_index(db: Database) -> None:
    places = [(5, 12, 0), (5, 10, 1), (5, 10, 0), (4, 90, 0)]
    for number, (next_attempt, block, index) in enumerate(places, start=1):
        moves.defer(db, new_row(db, number, block, index=index), next_attempt, "")
    assert rids(due(db)) == [4, 3, 2, 1]


def test_answered_rows_come_by_place(db: Database) -> None:
    for number, block in enumerate([12, 10, 11], start=1):
        walk(db, new_row(db, number, block), ["answer"])
    moves.defer(db, 2, 999.0, "")
    assert rids(answered(db)) == [2, 3, 1]


def test_rows_of_shards_that_are_not_wanted_are_left_out_and_the_others_come_as_one_line(
    parted: Database,
) -> None:
    high = 1 << 248
    made = {number: new_row(parted, high + number, 20 - number) for number in range(6)}
    assert rids(due(parted)) == list(reversed(made.values()))
    wanted = [number for number in range(6) if (high + number) % 3 != 1]
    assert rids(due(parted, without=[1])) == [made[number] for number in reversed(wanted)]
    assert due(parted, without=[0, 1, 2]) == Due((), None)
    for number, rid in made.items():
        moves.defer(parted, rid, NOW + 1 + number, "")
    assert due(parted, without=[(high + 0) % 3]).next_due == NOW + 2, "nobody waits for what is not wanted"


@pytest.mark.parametrize("count", [1, 2, 13, 16, 42])
def test_any_number_of_shards_is_told_apart(path: Path, count: int) -> None:
    db = opened(path)  # its index is made anew for another number
    high = 5 << 248
    made = {high + number: new_row(db, high + number, 10 + number) for number in range(20)}
    db.close()
    db = opened(path, shards=count)
    for shard in range(count):
        left = [rid for identifier, rid in made.items() if identifier % count != shard]
        assert rids(due(db, limit=20, without=[shard])) == left
    db.close()


def test_busy_rows_are_left_out(db: Database) -> None:
    first, second = new_row(db, 1), new_row(db, 2)
    assert rids(due(db, busy=(first,))) == [second]
    assert due(db, busy=(first, second)) == Due((), None)


@pytest.mark.parametrize("way", [(), ("answer",)])
def test_the_limit_holds_and_more_are_announced_as_due(db: Database, way: tuple[str, ...]) -> None:
    for number in (1, 2, 3):
        walk(db, new_row(db, number, number), way)
    for limit in (0, 1, 2):
        found = (answered if way else due)(db, limit=limit)
        assert rids(found) == [1, 2][:limit]
        assert found.next_due is not None
        assert found.next_due <= NOW


@pytest.mark.parametrize("way", [(), ("answer",)])
def test_a_deferred_row_is_due_when_its_time_has_come_and_the_soonest_is_announced(
    db: Database, way: tuple[str, ...]
) -> None:
    for number, wait in enumerate([50, 20, 40], start=1):
        moves.defer(db, walk(db, new_row(db, number), way), NOW + wait, "")
    look = answered if way else due
    assert look(db) == Due((), NOW + 20)
    assert rids(look(db, now=NOW + 20)) == [2]


@pytest.mark.parametrize("way", [(), ("answer",)])
@pytest.mark.parametrize(
    ("max_wait", "wait", "expected"),
    [(60, 60, False), (60, 61, True), (3600, 3600, False), (3600, 3601, True)],
)
def test_a_row_that_waits_longer_than_it_may_is_due_once_that_is_healed(
    db: Database, way: tuple[str, ...], max_wait: float, wait: float, expected: bool
) -> None:
    """The clock was set back."""
    rid = walk(db, new_row(db), way)
    moves.defer(db, rid, db.wall() + wait, "", max_wait=max_wait)
    moves.heal(db)
    found = (answered if way else due)(db, now=db.wall())
    assert (rids(found), found.next_due) == (([rid], None) if expected else ([], db.wall() + wait))


def test_signed_rows_come_in_nonce_order_on_chain_or_not(db: Database) -> None:
    for number in (1, 2, 3):
        walk(db, new_row(db, number), ["answer"])
    for rid, nonce in ((1, 30), (2, 10), (3, 20)):
        moves.sign(db, signing(rid, nonce, b"", b""))
    take(db, arrival(2, 10))
    assert [row.rid for row in queries.signed(db, CHAIN)] == [2, 3, 1]
    assert queries.signed(db, CHAIN + 1) == ()


def test_included_rows_come_deepest_first_up_to_a_block_on_chain_or_not(db: Database) -> None:
    for number, block in enumerate([30, 10, 20], start=1):
        moves.move(db, "confirm", walk(db, new_row(db, number), ["answer", "sign"]), block=block)
    take(db)
    assert [row.rid for row in queries.included(db, CHAIN, 20, 10)] == [2, 3]
    assert [row.rid for row in queries.included(db, CHAIN, 20, 1)] == [2]
    assert queries.included(db, CHAIN + 1, 20, 10) == ()


def test_a_row_found_included_is_looked_at_again_at_its_block(db: Database) -> None:
    rid = new_row(db)
    moves.move(db, "found_included", rid, block=40)
    assert queries.included(db, CHAIN, 39, 10) == ()
    assert queries.included(db, CHAIN, 40, 10) == (row_of(db, rid),)


def test_a_sibling_is_other_content_under_the_same_id_of_one_contract(db: Database) -> None:
    first = new_row(db, 1, 10, content="A")
    take(db, arrival(1, 10, "B"), chain_id=CHAIN + 1)
    take(db, arrival(1, 10, "B"), contract=Address(b"\x0f" * 20))
    assert not queries.has_sibling(db, first)
    second = new_row(db, 1, 10, content="B")
    assert queries.has_sibling(db, first)
    assert queries.has_sibling(db, second)


def test_rows_are_counted_by_kind_and_state(db: Database) -> None:
    for number, state in enumerate(State, start=1):
        walk(db, new_row(db, number, content=str(number)), WAYS[state])
    walk(db, new_row(db, 99, kind=Kind.USER_DECRYPTION), WAYS[State.FINALIZED])
    assert queries.counts(db, NOW).states == {
        **{(KIND, state): 1 for state in State},
        (Kind.USER_DECRYPTION, State.FINALIZED): 1,
    }


def test_the_age_is_that_of_the_oldest_open_row_on_chain(db: Database) -> None:
    for number, (since, way) in enumerate(
        [(100.0, ["expire"]), (300.0, []), (200.0, ["answer", "sign"])], start=1
    ):
        ((rid, _),) = take(db, arrival(number, number), blocks=(1, 0), now=since).new
        walk(db, rid, way)
    take(db, arrival(9, 50), blocks=(1, 0), now=50.0)
    take(db, blocks=(50, 50))
    found = queries.counts(db, NOW)
    assert (found.oldest, found.off_chain) == ({KIND: 800.0}, 1)


def test_the_oldest_answerable_row_names_no_chain_that_is_not_served(db: Database) -> None:
    causes = (RowCause.REFUSED_BY_CORE, RowCause.CHAIN_NOT_SERVED, RowCause.NONE)
    for number, (since, cause) in enumerate(zip((100.0, 200.0, 300.0), causes, strict=True), start=1):
        ((rid, _),) = take(db, arrival(number, number), blocks=(1, 0), now=since).new
        assert moves.defer(db, rid, NOW + 60, "it waits", cause=cause)
    found = queries.counts(db, NOW)
    assert (found.oldest, found.answerable) == ({KIND: 800.0}, {KIND: 700.0})


def test_deferred_rows_are_counted_until_they_move(db: Database) -> None:
    for number in (1, 2, 3):
        moves.defer(db, new_row(db, number), 5000.0, "")
    walk(db, 1, ["answer"])
    assert queries.counts(db, NOW).deferred == {KIND: 2}


def places(db: Database, first: int, last: int, limit: int = 10) -> list[tuple[int, int]]:
    return [
        (one.id, one.block) for one in queries.places(db, CHAIN, CONTRACT, KIND, (first, last), limit=limit)
    ]


def test_places_come_in_the_order_of_their_ids(db: Database) -> None:
    for number, block in ((3, 10), (1 << 250, 11), (256, 12), (1, 13)):
        new_row(db, number, block)
    assert places(db, 1, 1 << 250) == [(1, 13), (3, 10), (256, 12), (1 << 250, 11)]
    assert places(db, 2, 256) == [(3, 10), (256, 12)]
    assert places(db, 1, 1 << 250, limit=2) == [(1, 13), (3, 10)]


def test_what_is_off_chain_has_no_place_and_what_is_closed_has_one(db: Database) -> None:
    walk(db, new_row(db, 1, 10), WAYS[State.REJECTED])
    new_row(db, 2, 11)
    take(db, blocks=(11, 11))
    assert places(db, 1, 9) == [(1, 10)]


def test_quarantined_logs_of_a_contract_are_given_as_they_were_read(db: Database) -> None:
    log = arrival(7, 12).log
    take(db, undecodable=[(log, "short")])
    assert [one.log for one in inspecting.undecodable_logs(db, CHAIN, CONTRACT)] == [log]
    assert inspecting.undecodable_logs(db, CHAIN, Address(bytes(20))) == ()


GENERATION = (Kind.PREP_KEYGEN, Kind.KEYGEN)


def of_kinds(db: Database, now: float = NOW, limit: int = 10) -> Due:
    return queries.due(db, GENERATION, now, limit)


def test_several_kinds_are_dispatched_as_one_line_and_the_next_is_the_soonest(db: Database) -> None:
    for block, kind in ((12, Kind.PREP_KEYGEN), (10, Kind.KEYGEN), (11, Kind.PREP_KEYGEN), (9, KIND)):
        new_row(db, block, block, kind=kind)
    assert [row.id for row in of_kinds(db).rows] == [10, 11, 12]
    some = of_kinds(db, limit=2)
    assert ([row.id for row in some.rows], some.next_due) == ([10, 11], NOW)
    for row in of_kinds(db).rows:
        moves.defer(db, row.rid, NOW + row.id, "waits")
    assert of_kinds(db) == Due((), NOW + 10)


def in_order(db: Database, limit: int = 10) -> list[int]:
    return [row.rid for row in queries.in_order(db, (Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH), limit)]


def test_in_order_comes_what_is_open_as_the_chain_has_it_due_or_not(db: Database) -> None:
    later = new_row(db, 2, 20, kind=Kind.NEW_KMS_EPOCH)
    first = new_row(db, 1, 10, kind=Kind.NEW_KMS_CONTEXT)
    assert in_order(db) == [first, later]
    assert in_order(db, limit=1) == [first]
    moves.defer(db, first, NOW + 5, "waits")
    assert in_order(db) == [first, later]
    moves.move(db, "finish", first, reason="done")
    assert in_order(db) == [later]


STEPS = 100
"""Virtual machine instructions of SQLite between two calls of a progress handler."""


def cost(db: Database, look: Callable[[], object]) -> int:
    """Return how many hundreds of SQLite's instructions a look takes: the same on every machine."""
    ticks: list[None] = []
    assert isinstance(db.driver, SqliteDriver)
    connection = db.driver._connection
    assert connection is not None
    connection.set_progress_handler(lambda: ticks.append(None), STEPS)
    look()
    connection.set_progress_handler(None, 0)
    return len(ticks)


@pytest.mark.slow
@pytest.mark.parametrize("shards", [1, 4])
@pytest.mark.parametrize(
    ("name", "now", "without"),
    [("in time", NOW + 100, ()), ("nothing due yet", NOW - 1, ()), ("a full shard", NOW + 100, (0,))],
)
@pytest.mark.sqlite
def test_a_look_costs_the_same_however_many_rows_wait(
    path: Path, shards: int, name: str, now: float, without: tuple[int, ...]
) -> None:
    db = opened(path, shards=shards)
    db.begin()
    costs = []
    for first, last in ((0, 200), (200, 4000)):
        many = [arrival(shards * number, number) for number in range(first, last)]  # all of one shard
        take(db, *many, blocks=(first, last), now=NOW)
        for identifier in range(first + 1, first + 4):
            new_row(db, shards * (last + identifier) + 1, last + identifier)
        costs.append(cost(db, lambda: due(db, now=now, limit=8, without=without)))
    few, more = costs
    assert more <= 1.5 * few + 3, f"{name}: {few} hundred instructions with 200 rows, {more} with 4,000"
    db.close()


@pytest.mark.slow
@pytest.mark.sqlite
def test_a_look_for_what_to_sign_costs_the_same_however_many_answers_wait(db: Database) -> None:
    db.begin()
    costs = []
    for first, last in ((0, 200), (200, 4000)):
        take(db, *(arrival(number, number) for number in range(first, last)), blocks=(first, last))
        for rid in range(first + 1, last + 1):
            walk(db, rid, ["answer"])
            moves.defer(db, rid, NOW + 30, "")
        costs.append(cost(db, lambda: answered(db, limit=8)))
    few, more = costs
    assert more <= 1.5 * few + 3, f"{few} hundred instructions with 200 rows, {more} with 4,000"


@pytest.mark.sqlite
def test_counting_costs_the_same_however_many_rows_there_are(db: Database) -> None:
    db.begin()
    costs = []
    for first, last in ((0, 200), (200, 4000)):
        take(db, *(arrival(number, number) for number in range(first, last)), blocks=(first, last))
        for rid in range(first + 1, first + 101):
            walk(db, rid, WAYS[State.FINALIZED])
        costs.append(cost(db, lambda: queries.counts(db, NOW)))
    few, more = costs
    assert more <= 1.5 * few + 3
    assert queries.counts(db, NOW).states == {(KIND, State.FINALIZED): 200, (KIND, State.PENDING): 3800}


def test_deferrals_are_counted_from_the_first_that_is_not_again(db: Database) -> None:
    row = new_row(db, 1, 10)
    for again, deferred in ((True, 1), (True, 2), (False, 1), (True, 2)):
        moves.defer(db, row, NOW + 5, "waits", again=again)
        found = queries.row(db, row)
        assert found is not None
        assert found.progress.deferred == deferred


def test_answered_rows_come_in_pages_due_or_not(db: Database) -> None:
    rows = [new_row(db, number, 10 + number) for number in range(5)]
    for rid in rows[:4]:
        keep(db, rid, ANSWER, NOW)
    moves.defer(db, rows[1], NOW + 1000, "waits", max_wait=2000.0)
    first = queries.answered_after(db, CHAIN, (-1, -1), 3)
    assert rids(Due(first, None)) == rows[:3]
    last = first[-1].event.log
    assert (
        rids(Due(queries.answered_after(db, CHAIN, (last.block_number, last.log_index), 3), None))
        == rows[3:4]
    )
