"""Copies a whole journal into an empty one, of either database: all rows of all tables in one transaction, compared before it is committed.

Both are closed to everybody else meanwhile: a file by its lock, a database of PostgreSQL by the writers' lock, and only while no process is
a member. The source is not changed. Never knows what a request is.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack
from itertools import islice
from typing import Any, Final

import attrs

from kmsconn.errors import StartRefused
from kmsconn.journal.database import Driver, opening
from kmsconn.journal.postgres_schema import SCHEMA_KEY, VERSION
from kmsconn.journal.postgres_sql import storable

Progress = Callable[[str, int], None]

BATCH: Final = 500
"""Rows that are in memory at once; one of a request has some kilobytes."""

SILENCE: Final = 60
"""Seconds without a sign of life after which a member of a PostgreSQL journal counts as gone here: many times a usual lease."""


@attrs.frozen
class JournalTable:
    """A table that is copied: its columns, and how many of the first ones are its key, in whose order it is read."""

    name: str
    columns: tuple[str, ...]
    key: int = 1
    numbered: bool = False
    """The key is one number that the database gives out, and never gives out again."""

    @property
    def order(self) -> str:
        """The columns of the key."""
        return ", ".join(self.columns[: self.key])

    @property
    def own(self) -> str:
        """Which rows are copied: the version of the tables is each database's own."""
        return f"key <> '{SCHEMA_KEY}'" if self.name == "meta" else "true"

    @property
    def reading(self) -> str:
        """The statement that reads all rows."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.own} ORDER BY {self.order}"  # noqa: S608 - our own names

    @property
    def reading_part(self) -> str:
        """The statement that reads a batch behind a number."""
        return f"SELECT {', '.join(self.columns)} FROM {self.name} WHERE {self.order} > ? ORDER BY {self.order} LIMIT {BATCH}"  # noqa: S608

    @property
    def writing(self) -> str:
        """The statement that writes a row."""
        return f"INSERT INTO {self.name} ({', '.join(self.columns)}) VALUES ({', '.join('?' * len(self.columns))})"  # noqa: S608

    @property
    def emptying(self) -> str:
        """The statement that deletes all rows."""
        return f"DELETE FROM {self.name} WHERE {self.own}"  # noqa: S608

    @property
    def first(self) -> str:
        """The statement that finds out whether there is a row."""
        return f"SELECT 1 FROM {self.name} LIMIT 1"  # noqa: S608

    @property
    def sequence(self) -> str:
        """The name of PostgreSQL's sequence of a numbered table."""
        return f"{self.name}_{self.columns[0]}_seq"

    @property
    def last_number(self) -> str:
        """The statement that asks PostgreSQL for the last number that was given out."""
        return f"SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM {self.sequence}"  # noqa: S608


_REQUEST: Final = (
    "rid chain_id contract id digest kind state on_chain tick block log_index block_hash transaction_hash next_attempt max_wait deadline "
    "submitted deferred recorded_at answered_at nonce included_block reply_hash signer reason log calldata raw residue closed_at cleared "
    "history cause choice"
)
_OUTBOX: Final = "seq at rid kind id chain_id contract old_state state block transaction_hash nonce reply_hash included_block reason"
TABLES: Final = (
    JournalTable("request", tuple(_REQUEST.split()), numbered=True),
    JournalTable("cursor", ("chain_id", "contract", "block"), 2),
    JournalTable("checkpoint", ("chain_id", "contract", "block", "hash"), 3),
    JournalTable("low_water", ("chain_id", "contract", "kind", "id", "block"), 3),
    JournalTable("reread", ("chain_id", "contract", "from_block", "next_block", "to_block"), 2),
    JournalTable(
        "quarantined_log",
        (
            "chain_id",
            "block_hash",
            "log_index",
            "contract",
            "block",
            "transaction_hash",
            "log",
            "reason",
            "found_at",
        ),
        3,
    ),
    JournalTable("paused", ("kind", "since", "reason")),
    JournalTable("audit_outbox", tuple(_OUTBOX.split()), numbered=True),
    JournalTable("tally", ("kind", "state", "on_chain", "rows", "deferred", "deleted"), 3),
    JournalTable("meta", ("key", "value")),
)
"""What is copied, in this order: triggers count requests as they come, so that the counts come after them."""
LEFT_TABLES: Final = frozenset({"member", "presence", "lease"})
LEFT_COLUMNS: Final = frozenset({("request", "owner")})
"""What stays behind: it is of processes that are gone."""

_KEPT_EMPTY: Final = frozenset({"tally", "meta"})
"""Tables that a journal without requests may have rows in; those of the source replace them."""


@attrs.frozen
class CopiedTable:
    """A table that was copied: how many rows, and the digest of all of them, which both journals have."""

    rows: int
    digest: str


class CopyFailed(StartRefused):
    """The copy could not be made, or is not what the original is; it was not kept."""


def copy_journal(
    source: Driver, target: Driver, progress: Progress = lambda _table, _rows: None
) -> Mapping[str, CopiedTable]:
    """Copy all of one journal into another one, which may not be there yet, and return what was copied by the names of the tables.

    ``progress`` is told of each batch. Raises StartRefused where one of them cannot be opened or is in use, where the source has what this
    version does not know, and where the target is not empty; CopyFailed where they differ in the end, or a database failed. Then the target
    is as empty as it was.
    Repeating: only after the target was emptied.
    """
    with ExitStack() as stack:
        for driver, make in ((source, False), (target, True)):
            stack.callback(driver.close)
            with opening(driver):
                driver.open(make=make)
                driver.begin()
                stack.callback(driver.roll_back)
                _claim(driver)
        try:
            _check_known(source)
            _check_empty(target)
            copied = _copy_all(source, target, progress)
            _check_same(target, copied)
            target.commit()
        except (source.error, target.error) as error:
            raise CopyFailed(f"the copy failed, and nothing was kept: {error}") from error
        return copied


def _copy_all(source: Driver, target: Driver, progress: Progress) -> dict[str, CopiedTable]:
    _prepare(target)
    copied: dict[str, CopiedTable] = {}
    for table in TABLES:
        if table.name in _KEPT_EMPTY:
            target.execute(table.emptying)
        reader = _Digest(_portable(_rows_of(source, table)))
        while batch := list(islice(reader, BATCH)):
            for row in batch:
                target.execute(table.writing, row)
            _settle(target)
            progress(table.name, reader.rows)
        if table.numbered:
            _number_from(target, table, _last_number(source, table))
        copied[table.name] = reader.result()
    _finish(target)
    return copied


def _check_same(target: Driver, copied: Mapping[str, CopiedTable]) -> None:
    """Compare what stands in the target with what was read. Raises CopyFailed."""
    for table in TABLES:
        there = _Digest(_rows_of(target, table))
        for _ in there:
            pass
        if (found := there.result()) != copied[table.name]:
            raise CopyFailed(
                f"the copy of the table {table.name} differs: {found.rows} rows, of which {copied[table.name].rows} were read; "
                "nothing was kept"
            )
    counted, said = ((_counts(target, question)) for question in (_COUNTED, _TOLD))
    if counted != said:
        raise CopyFailed(
            "the numbers of requests by state are not those that the journal keeps; nothing was kept"
        )


_COUNTED: Final = "SELECT kind, state, on_chain, count(*) FROM request GROUP BY kind, state, on_chain"
_TOLD: Final = "SELECT kind, state, on_chain, rows FROM tally WHERE rows <> 0"


def _counts(driver: Driver, question: str) -> dict[tuple[Any, ...], int]:
    return {tuple(key): int(rows) for *key, rows in driver.execute(question).fetchall()}


_COLUMNS: Final = (
    "SELECT relname, attname FROM pg_class JOIN pg_attribute ON attrelid = pg_class.oid "
    "WHERE relnamespace = current_schema()::regnamespace AND relkind IN ('r', 'p') AND attnum > 0 AND NOT attisdropped"
)


def _check_known(source: Driver) -> None:
    """Raise StartRefused where a newer version has added what a copy would leave out. Of a file no newer one is opened."""
    if not source.is_remote:
        return
    ((written,),) = source.execute("SELECT value FROM meta WHERE key = ?", (SCHEMA_KEY,)).fetchall()
    if int(written.split()[0]) <= VERSION:
        return
    if unknown := _unknown({(table, column) for table, column in source.execute(_COLUMNS).fetchall()}):
        raise StartRefused(
            f"the journal {source.where} has what a newer version has added, and a copy by this one would lack it: {', '.join(unknown)}; "
            "copy it with the newest version that has worked on it"
        )


def _unknown(there: Collection[tuple[str, str]]) -> list[str]:
    """Name the tables that no copy has, and of the others the columns."""
    known = {(table.name, column) for table in TABLES for column in table.columns} | LEFT_COLUMNS
    tables = {table for table, _ in known} | LEFT_TABLES
    named = {
        f"column {table}.{column}" if table in tables else f"table {table}"
        for table, column in {*there} - known
        if table not in LEFT_TABLES
    }
    return sorted(named)


def _check_empty(target: Driver) -> None:
    """Raise StartRefused where the target has rows that a copy would stand beside."""
    for table in TABLES:
        if table.name not in _KEPT_EMPTY and target.execute(table.first).fetchone() is not None:
            raise StartRefused(
                f"the journal {target.where} is not empty: it has rows of the table {table.name}; name a journal that is not there yet"
            )


def _rows_of(driver: Driver, table: JournalTable) -> Iterator[tuple[Any, ...]]:
    """Yield the rows in the order of the key; those of a numbered table by parts, for there may be millions."""
    if not table.numbered:
        yield from driver.execute(table.reading).fetchall()
        return
    last = 0
    while rows := driver.execute(table.reading_part, (last,)).fetchall():
        yield from rows
        last = rows[-1][0]


def _portable(rows: Iterator[tuple[Any, ...]]) -> Iterator[tuple[Any, ...]]:
    """Yield rows as every database takes them."""
    for row in rows:
        yield tuple(storable(value) if isinstance(value, str) else value for value in row)


class _Digest:
    """Rows that pass by, counted and hashed."""

    def __init__(self, rows: Iterator[tuple[Any, ...]]) -> None:
        self.rows = 0
        self._source, self._hash = rows, hashlib.sha256()

    def __iter__(self) -> Iterator[tuple[Any, ...]]:
        return self

    def __next__(self) -> tuple[Any, ...]:
        row = next(self._source)
        self.rows += 1
        self._hash.update(repr(tuple(row)).encode("utf-8", "surrogatepass"))
        return row

    def result(self) -> CopiedTable:
        return CopiedTable(self.rows, self._hash.hexdigest())


# --- what differs between the databases


_MEMBERS: Final = (
    "SELECT name FROM member JOIN presence USING (token) "
    "WHERE renewed_at > clock_timestamp() - make_interval(secs => ?::float8) ORDER BY token"
)


def _claim(driver: Driver) -> None:
    """Keep everybody else out until the transaction ends, however long that takes. Raises StartRefused while processes use it."""
    if not driver.is_remote:
        for statement in (
            *driver.capture,
            *driver.stop_capturing,
        ):  # an outbox is made when it is first needed
            driver.execute(statement)
        return
    for setting in ("statement_timeout", "idle_in_transaction_session_timeout"):
        driver.execute(f"SET LOCAL {setting} = 0")
    driver.execute("LOCK TABLE member, request IN SHARE ROW EXCLUSIVE MODE")
    members = driver.execute(_MEMBERS, (SILENCE,)).fetchall()
    if members:
        named = ", ".join(name or "a process without a name" for (name,) in members)
        raise StartRefused(
            f"the journal {driver.where} is in use by {named}; stop it (one that was killed counts as gone after {SILENCE} s)"
        )


def _prepare(target: Driver) -> None:
    """Let nothing be counted and told as rows come: the counts come with them. SQLite's counting cannot be stopped, and is replaced."""
    if target.is_remote:
        target.execute("ALTER TABLE request DISABLE TRIGGER USER")


def _finish(target: Driver) -> None:
    if target.is_remote:
        target.execute("ALTER TABLE request ENABLE TRIGGER USER")


def _settle(target: Driver) -> None:
    """Have what was queued done now, so that a batch's rows are not kept."""
    target.execute("SELECT 1").fetchone()


def _last_number(driver: Driver, table: JournalTable) -> int:
    """Return the last number that the key of a table was given; deleted rows count."""
    if driver.is_remote:
        found = driver.execute(table.last_number).fetchone()
    else:
        found = driver.execute("SELECT seq FROM sqlite_sequence WHERE name = ?", (table.name,)).fetchone()
    return int(found[0]) if found is not None else 0


def _number_from(driver: Driver, table: JournalTable, last: int) -> None:
    """Let numbers go on from the last one."""
    if driver.is_remote:
        driver.execute(f"SELECT setval('{table.sequence}', ?, ?)", (max(last, 1), last > 0))
    else:
        driver.execute("DELETE FROM sqlite_sequence WHERE name = ?", (table.name,))
        driver.execute("INSERT INTO sqlite_sequence (name, seq) VALUES (?, ?)", (table.name, last))
