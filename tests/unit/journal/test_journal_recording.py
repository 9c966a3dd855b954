"""What one read means: new, moved, gone, back, quarantined; and the cursor."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import inspecting, queries
from kmsconn.journal.database import Database
from kmsconn.journal.queries import ReadUpTo
from kmsconn.journal.recording import (
    LARGEST_UNDECODABLE,
    LONGEST_REASON,
    UNDECODABLE_BYTES,
    Arrival,
    Recorded,
    begin,
    record,
    settle,
)
from kmsconn.journal.sqlite import SqliteDriver
from kmsconn.model.life import CLOSED, OPEN, State
from kmsconn.model.requests import Kind
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    WAYS,
    arrival,
    bytes32,
    dump,
    new_row,
    read_of,
    row_of,
    take,
    walk,
)


def on_chain(db: Database) -> dict[bytes, bool]:
    """Say for each content whether it is on chain."""
    found = db.execute("SELECT digest, on_chain FROM request").fetchall()
    return {digest.lstrip(b"\0"): bool(flag) for digest, flag in found}


def test_a_new_request_is_a_row_due_at_once(db: Database) -> None:
    seen = arrival(2**255 + 1, 10, index=3)
    recorded = take(db, seen, now=1000.0, chain_time=500.0, expiry=60.0)
    ((rid, told),) = recorded.new
    row = row_of(db, rid)
    assert (told, recorded) == (seen, Recorded(new=((rid, seen),)))
    assert (row.id, row.event.log, row.event.digest, row.state, row.on_chain) == (
        2**255 + 1,
        seen.log,
        seen.digest,
        State.PENDING,
        True,
    )
    assert (row.progress.next_attempt, row.progress.deadline, row.times.recorded) == (1000.0, 560.0, 1000.0)
    assert (
        row.progress.submitted,
        row.progress.deferred,
        row.answer,
        row.reply.nonce,
        row.reply.included_block,
    ) == (False, 0, None, None, None)


def test_the_same_read_again_changes_nothing(db: Database) -> None:
    bad = (arrival(9, 11).log, "no")
    read = read_of(arrival(1, 10), arrival(2, 11), undecodable=(bad,))
    record(db, read)
    before = dump(db)
    assert record(db, read) == Recorded()
    assert dump(db) == before


@pytest.mark.sqlite
def test_what_stands_where_it_stood_is_not_looked_up_one_by_one(db: Database) -> None:
    """The reorg window is read again and again, with all its logs."""
    known = [arrival(id_, id_) for id_ in range(1, 50)]
    take(db, *known)
    db.driver.tally.write(db.execute)
    counts = [len(statements_of(db, *known[:size])) for size in (1, 49)]
    assert counts[0] == counts[1]


def statements_of(db: Database, *arrivals: Arrival) -> list[str]:
    statements: list[str] = []
    assert isinstance(db.driver, SqliteDriver)
    connection = db.driver._connection
    assert connection is not None
    connection.set_trace_callback(statements.append)
    take(db, *arrivals, blocks=(1, len(arrivals)))
    connection.set_trace_callback(None)
    return statements


def test_known_content_elsewhere_is_moved_and_not_run_again(db: Database) -> None:
    rid = walk(db, new_row(db, 1, 10), ["answer"])
    elsewhere = arrival(1, 12, fork="'", index=4)
    assert take(db, elsewhere) == Recorded(moved=1)
    row = row_of(db, rid)
    assert (row.event.log, row.state, row.answer) == (elsewhere.log, State.ANSWERED, ANSWER)


@pytest.mark.parametrize("state", State)
def test_row_of_a_block_that_was_replaced_is_off_chain_whatever_its_state(db: Database, state: State) -> None:
    rid = walk(db, new_row(db, 1, 10), WAYS[state])
    assert take(db) == Recorded(gone=1)
    assert (row_of(db, rid).on_chain, row_of(db, rid).state) == (False, state)


def test_a_row_that_the_read_leaves_out_stays_until_the_header_of_its_block_is_known(db: Database) -> None:
    new_row(db, 1, 10)
    assert record(db, read_of()) == Recorded(doubtful=frozenset({10}), clean=False)
    same = {10: arrival(1, 10).log.block_hash}
    assert record(db, read_of(headers=same)) == Recorded(clean=False)
    assert on_chain(db) == {b"A": True}


@pytest.mark.parametrize(
    "shown", [arrival(1, 12), arrival(1, 10, "B", fork="'"), arrival(1, 10, fork="'")],
    ids=["elsewhere", "other content", "another hash"],
)  # fmt: skip
def test_what_contradicts_what_is_known_is_taken_once_its_header_says_so(
    db: Database, shown: Arrival
) -> None:
    new_row(db, 1, 10)
    before = dump(db)
    doubtful = frozenset({10, shown.log.block_number})
    assert record(db, read_of(shown, cursor=0)).doubtful == doubtful
    assert dump(db) == before
    false = dict.fromkeys(doubtful, arrival(1, 10).log.block_hash)
    assert record(db, read_of(shown, headers=false)) == Recorded(clean=False)
    assert on_chain(db) == {b"A": True}


@pytest.mark.parametrize(
    ("passed", "shown", "clean"),
    [
        (20, [], True),
        (20, [arrival(1, 21)], True),
        (20, [arrival(1, 20)], False),
        (20, [arrival(1, 5)], False),
    ],
)
def test_a_read_is_clean_that_shows_nothing_new_of_what_was_read_before(
    db: Database, passed: int, shown: list[Arrival], clean: bool
) -> None:
    begin(db, CHAIN, CONTRACT, ReadUpTo(21, 0, passed, 100.0), None)
    assert record(db, read_of(*shown, chain_time=500.0)).clean is clean
    assert queries.progress(db, CHAIN, CONTRACT) == ReadUpTo(101, 0, passed, 100.0 if clean else 500.0)


def test_what_is_settled_in_another_generation_is_not(db: Database) -> None:
    begin(db, CHAIN, CONTRACT, ReadUpTo(21, 0, 20, 100.0), None)
    assert not settle(db, CHAIN, CONTRACT, 1, ReadUpTo(0, 20, 20, 200.0))
    assert settle(db, CHAIN, CONTRACT, 0, ReadUpTo(0, 15, 18, 200.0))
    assert queries.progress(db, CHAIN, CONTRACT) == ReadUpTo(21, 15, 18, 200.0)


def test_a_read_of_another_generation_changes_nothing(db: Database) -> None:
    before = dump(db)
    assert record(db, read_of(arrival(1, 10), generation=1)) == Recorded(outdated=True)
    assert dump(db) == before


def test_what_leaves_the_chain_and_comes_back_changes_which_replies_can_be_signed(db: Database) -> None:
    walk(db, new_row(db, 1, 10), ["answer"])
    before = db.answers_tick
    take(db, arrival(1, 10), arrival(2, 11))
    assert db.answers_tick == before < db.tick
    take(db, arrival(2, 11))
    assert before < db.answers_tick == db.tick
    gone = db.tick
    take(db, arrival(1, 10), arrival(2, 11))
    assert gone < db.answers_tick == db.tick


@pytest.mark.parametrize(
    ("read", "gone"),
    [
        *(({"blocks": blocks}, 0) for blocks in ((0, 9), (11, 20))),
        *(({"blocks": blocks}, 1) for blocks in ((10, 10), (0, 10), (10, 20))),
        ({"chain_id": CHAIN + 1}, 0),
        ({"contract": Address(b"\x0f" * 20)}, 0),
    ],
)
def test_rows_of_the_contract_and_of_the_range_with_both_its_ends_are_judged(
    db: Database, read: dict[str, Any], gone: int
) -> None:
    new_row(db, 1, 10)
    assert take(db, **read) == Recorded(gone=gone)


def test_one_id_under_two_contracts_is_two_requests(db: Database) -> None:
    new_row(db, 1, 10)
    other = take(db, arrival(1, 10, "B"), contract=Address(b"\x0f" * 20))
    assert (len(other.new), other.gone) == (1, 0)


@pytest.mark.parametrize("state", State)
def test_a_row_that_is_seen_again_is_back_and_told_while_it_is_open(db: Database, state: State) -> None:
    assert (state in OPEN) != (state in CLOSED)
    rid = walk(db, new_row(db, 1, 10), WAYS[state])
    take(db)
    assert take(db, arrival(1, 10)) == Recorded(back=((rid, arrival(1, 10)),) if state in OPEN else ())
    assert (row_of(db, rid).on_chain, row_of(db, rid).state) == (True, state)


def test_coming_back_gives_no_new_deadline(db: Database) -> None:
    rid = new_row(db, 1, 10)
    before = row_of(db, rid).progress.deadline
    take(db)
    take(db, arrival(1, 12), chain_time=9999.0)
    assert row_of(db, rid).progress.deadline == before


@pytest.mark.parametrize(("block", "reach"), [(10, {}), (50, {"blocks": (50, 60)})])
def test_other_content_under_the_id_is_another_request_and_the_old_one_is_off_chain(
    db: Database, block: int, reach: dict[str, Any]
) -> None:
    """Even where the read does not reach."""
    new_row(db, 1, 10, content="A")
    recorded = take(db, arrival(1, block, "B", fork="'"), **reach)
    assert (len(recorded.new), recorded.gone) == (1, 1)
    assert on_chain(db) == {b"A": False, b"B": True}


def test_a_b_a(db: Database) -> None:
    """The first content comes back after another one had its id."""
    first = new_row(db, 1, 10, content="A")
    take(db, arrival(1, 10, "B", fork="'"))
    assert take(db, arrival(1, 10, "A")) == Recorded(gone=1, back=((first, arrival(1, 10, "A")),))
    assert on_chain(db) == {b"A": True, b"B": False}


def cursor(db: Database, contract: Address = CONTRACT) -> int | None:
    found = queries.progress(db, CHAIN, contract)
    return None if found is None else found.next_block


def test_the_cursor_only_grows_and_each_contract_has_its_own(db: Database) -> None:
    other = Address(b"\x0f" * 20)
    assert cursor(db) is None
    for read_to, expected in ((5, 5), (9, 9), (5, 9), (9, 9)):
        take(db, cursor=read_to)
        assert (cursor(db), cursor(db, other)) == (expected, None)
    take(db, cursor=7, contract=other)
    assert (cursor(db), cursor(db, other)) == (9, 7)


def test_an_undecodable_log_is_kept_whole_and_counted_once(db: Database) -> None:
    log = Log(CONTRACT, (b"\x02" * 32,), b"odd", 10, bytes32("block"), bytes32("tx"), 1)
    read = read_of(undecodable=((log, "too short"),))
    assert [record(db, read).quarantined for _ in range(2)] == [((log, "too short"),), ()]
    assert queries.counts(db, 0.0).quarantined_logs == 1
    assert db.execute("SELECT block, log_index, reason FROM quarantined_log").fetchall() == [
        (10, 1, "too short")
    ]


@pytest.mark.parametrize("size", [0, LARGEST_UNDECODABLE // 2, 2 * LARGEST_UNDECODABLE])
def test_undecodable_logs_are_kept_within_bounds_each_and_together(db: Database, size: int) -> None:
    """Reproduced: 200 logs that only look like requests made the journal 346 MB."""
    count = 3 * UNDECODABLE_BYTES // LARGEST_UNDECODABLE
    for index in range(count):
        log = Log(CONTRACT, (b"\x02" * 32,) * 9, b"\x07" * size, 10, bytes32("block"), bytes32("tx"), index)
        assert len(record(db, read_of(undecodable=((log, "odd" * 9999),))).quarantined) == 1
    sizes = [size for (size,) in db.execute("SELECT length(log) + length(reason) FROM quarantined_log")]
    assert (len(sizes), max(sizes) <= LARGEST_UNDECODABLE) == (count, True)
    assert sum(sizes) < UNDECODABLE_BYTES + 2 * count * LONGEST_REASON
    kept = inspecting.undecodable_logs(db, CHAIN, CONTRACT)[0].log
    assert kept is not None
    assert kept.data == b"\x07" * (0 if not size else 33)


def test_undecodable_logs_of_one_block_and_of_two_forks_are_told_apart(db: Database) -> None:
    logs = [arrival(1, 10, index=1).log, arrival(1, 10, index=2).log, arrival(1, 10, index=1, fork="'").log]
    assert len(take(db, undecodable=[(log, "no") for log in logs]).quarantined) == 3


def test_a_log_without_topics_or_data_is_kept_as_it_is(db: Database) -> None:
    seen = arrival(1, 10)
    bare = attrs.evolve(seen, log=attrs.evolve(seen.log, topics=(), data=b""))
    ((rid, _),) = take(db, bare).new
    assert row_of(db, rid).event.log == bare.log


def test_an_abort_has_the_id_of_what_it_aborts_and_takes_its_place_from_nobody(db: Database) -> None:
    asked = arrival(3, 10, "E1", kind=Kind.PREP_KEYGEN)
    abort = arrival(3, 11, "E4", kind=Kind.ABORT_KEYGEN)
    assert [one.kind for _, one in take(db, asked, abort).new] == [Kind.PREP_KEYGEN, Kind.ABORT_KEYGEN]
    assert [row_of(db, rid).on_chain for rid in (1, 2)] == [True, True]
    assert not queries.has_sibling(db, 1)


def test_what_does_not_expire_has_no_deadline(db: Database) -> None:
    take(db, attrs.evolve(arrival(3, 10, kind=Kind.KEYGEN), expires=False))
    assert row_of(db, 1).progress.deadline == math.inf


# Two forms of one request.


@pytest.mark.parametrize("whole_at", [0, 1])
def test_of_two_forms_of_a_request_the_whole_one_is_kept_in_whatever_order_they_stand(
    whole_at: int, db: Database
) -> None:
    forms = [arrival(1, 10, index=index, whole=index == whole_at) for index in (0, 1)]
    recorded = take(db, *forms)
    assert [one for _, one in recorded.new] == [forms[whole_at]]
    assert row_of(db, recorded.new[0][0]).event.log.log_index == whole_at
    assert take(db, *forms) == Recorded()


def test_a_later_form_alone_is_a_request(db: Database) -> None:
    assert len(take(db, arrival(1, 10, whole=False)).new) == 1


def test_a_later_form_in_a_later_block_is_the_same_request_moved(db: Database) -> None:
    rid = new_row(db, 1, 10)
    assert take(db, arrival(1, 12, index=1, whole=False)) == Recorded(moved=1)
    assert row_of(db, rid).event.log.block_number == 12


def test_other_content_in_a_later_block_counts_whole_or_not(db: Database) -> None:
    recorded = take(db, arrival(1, 10, "A"), arrival(1, 12, "B", whole=False))
    assert [one.digest for _, one in recorded.new] == [arrival(1, 12, "B").digest]
