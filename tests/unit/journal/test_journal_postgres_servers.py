"""Which servers a fail-over left behind, which are left to connect to, and what differs between the SQL of SQLite and PostgreSQL."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from typing import Any

import attrs
import psycopg
import pytest
import trio

from kmsconn.config.description import PostgresAddress
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import postgres_servers
from kmsconn.journal.postgres_servers import HELD, Timeline, behind, servers_of, serves_by_transaction
from kmsconn.journal.postgres_session import call_of, prepare
from kmsconn.journal.postgres_side import LOOK_AROUND, watch_servers


@pytest.fixture(autouse=True)
def met(monkeypatch: pytest.MonkeyPatch) -> set[Timeline]:
    made = {("one", 2)}
    monkeypatch.setattr(postgres_servers, "MET", made)
    return made


@pytest.mark.parametrize(("number", "is_behind"), [(1, True), (2, False), (3, False)])
def test_a_server_is_behind_whose_timeline_is_lower_than_one_that_was_met(
    number: int, *, is_behind: bool
) -> None:
    assert (behind(("one", number)) != "") is is_behind


def test_an_older_timeline_that_is_met_later_changes_nothing(met: set[Timeline]) -> None:
    met.add(("one", 1))
    assert behind(("one", 1))


def test_what_is_no_copy_is_not_compared() -> None:
    assert behind(("two", 1)) == ""


def test_the_words_name_both_timelines_and_the_remedy() -> None:
    said = behind(("one", 1))
    assert "its timeline is 1, and timeline 2 was met already; stop it, or make it a standby" in said


async def test_a_look_that_fails_takes_nothing_back(autojump_clock: Any) -> None:
    """Whoever was left behind stays told, as long as nobody has seen that it is gone."""
    looks, told = iter(["left behind", psycopg.OperationalError("no password"), ""]), list[str]()

    async def look(use: str, work: Callable[[], Any]) -> Any:
        if isinstance(found := next(looks), psycopg.Error):
            raise found
        return found

    with trio.move_on_after(3.5 * LOOK_AROUND):
        await watch_servers(PostgresAddress("k"), "servers", look, told.append)
    assert told == ["left behind", ""]


LISTED = {"host": "a,b,c", "port": "1,2,3", "dbname": "k"}


def test_each_of_several_servers_is_named_alone() -> None:
    found = servers_of(LISTED)
    assert found == [{**LISTED, "host": host, "port": port} for host, port in ("a1", "b2", "c3")]
    assert servers_of({**LISTED, "port": "2"}) == [{**LISTED, "host": host, "port": "2"} for host in "abc"]
    assert servers_of({"dbname": "k"}) == [{"dbname": "k"}]


@attrs.define
class Pool:
    """The server's processes behind a pooler: those that are idle, the next one first. ``takes_last``: the one that was used last."""

    idle: deque[int]
    takes_last: bool
    made: int = 100

    def hold(self) -> int:
        if self.idle:
            return self.idle.popleft()
        self.made += 1
        return self.made

    def ask(self) -> int:
        served = self.hold()
        if self.takes_last:
            self.idle.appendleft(served)
        else:
            self.idle.append(served)
        return served


@pytest.mark.parametrize("takes_last", [True, False])
@pytest.mark.parametrize("idle", range(8))
def test_a_pool_of_transactions_is_found(idle: int, *, takes_last: bool) -> None:
    pool = Pool(deque(range(1, idle + 1)), takes_last)
    assert serves_by_transaction(pool.ask, pool.hold)


def test_a_pool_of_one_is_found_before_somebody_would_wait() -> None:
    """All it has is held by then: to ask again would take as long as that."""
    asked = iter([1])
    assert serves_by_transaction(lambda: next(asked), lambda: 1)


def test_what_serves_one_connection_alone_is_no_such_pool() -> None:
    held = iter(range(2, 2 + HELD))
    assert not serves_by_transaction(lambda: 1, lambda: next(held))
    assert [*held] == []


@pytest.mark.parametrize(
    ("statement", "expected", "names"),
    [
        ("SELECT a FROM t WHERE b = ? AND c = ?", "SELECT a FROM t WHERE b = $1 AND c = $2", None),
        ("SET a = :x, b = :y, c = :x", "SET a = $1, b = $2, c = $1", ("x", "y")),
        ("SELECT a FROM t INDEXED BY t_a WHERE b = 1", "SELECT a FROM t WHERE b = 1", None),
        ("r IN (SELECT value FROM json_each(:busy))", "r IN (SELECT value FROM json_each($1))", ("busy",)),
        ("SELECT '?:a''?' || ?, b::text", "SELECT '?:a''?' || $1, b::text", None),
    ],
)
def test_a_statement_is_told_as_postgresql_takes_it(
    statement: str, expected: str, names: tuple[str, ...] | None
) -> None:
    prepared = prepare(statement)
    assert (prepared.text.decode(), prepared.names) == (expected, names)


def test_named_values_go_in_the_order_of_their_names() -> None:
    call = call_of("SET a = :x, b = :y WHERE c = :x", {"y": 2, "x": 1, "other": 3})
    assert call.dumped == [b"1", b"2"]


def test_a_value_that_is_missing_is_told_before_anything_is_sent() -> None:
    with pytest.raises(KeyError, match="x"):
        call_of("SET a = :x", {})


class Word(StrEnum):
    ONE = "one"


@pytest.mark.parametrize(
    ("value", "encoded", "form"),
    [
        (1, b"1", 0),
        (-(2**63), b"-9223372036854775808", 0),
        (True, b"1", 0),
        (False, b"0", 0),
        (None, None, 0),
        (0.1, b"0.1", 0),
        (math.inf, b"inf", 0),
        ("täglich", "täglich".encode(), 0),
        ("a\0b", "a�b".encode(), 0),
        (Word.ONE, b"one", 0),
        (b"\0\xff", b"\0\xff", 1),
        (Address(bytes(20)), bytes(20), 1),
    ],
)
def test_a_value_goes_in_the_form_that_its_column_reads(value: Any, encoded: bytes | None, form: int) -> None:
    call = call_of("SELECT ?", (value,))
    assert (call.dumped, call.binary) == ([encoded], [form])


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (2**63, OverflowError),
        (-(2**63) - 1, OverflowError),
        ("\udc00", UnicodeEncodeError),
        (object(), TypeError),
    ],
)
def test_a_value_that_no_column_holds_is_refused(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        call_of("SELECT ?", (value,))
