"""The open journal as operations see it: statements, savepoints, the tick of the last row that moved, and what is not written yet.

A ``Database`` is used by one thread at a time: the journal sees to that. What differs between databases stands in a driver
(``journal.sqlite``); operations use SQL that SQLite and PostgreSQL both speak, with these conventions:

- Values are named (``:rid``) or counted (``?``). Numbers of a list are JSON text, read with ``SELECT value FROM json_each(:list)``.
- ``INDEXED BY name`` names the index that a query must use; a driver whose database has no such clause leaves it out.

An operation is a function over an open database, declared once. ``await journal.run(operation, ...)`` has it applied: whole or not at all,
in the order of the calls, several in one commit. When the call returns, what the operation did is durable, or seen by all that is asked
later and durable with them (``rides``): where a process that dies has not done it, it is found and done again. An operation that changes
several rows, or one row with several statements, stands in ``Database.savepoint``. One that moves a request returns whether it moved: False
means that the row was no longer in a state that allows it, and that nothing was changed.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias, TypeVar

import attrs
import msgspec

from kmsconn.config.settings import Settings
from kmsconn.errors import JournalWentBack, OutcomeUnknown, StartRefused
from kmsconn.ethereum.addresses import Address, checksum

if TYPE_CHECKING:
    from sqlite3 import Cursor

    from kmsconn.journal.postgres import BatchResult, PostgresDriver
    from kmsconn.journal.sqlite import SqliteDriver

AnyOperation = TypeVar("AnyOperation", bound=Callable[..., Any])

LONG: Final[dict[Callable[..., Any], Callable[..., bool]]] = {}
"""Operations that may take milliseconds, which the loop does not have: applied in a thread where this says so of their arguments."""
RIDES: Final[dict[Callable[..., Any], Callable[..., float]]] = {}
"""Operations whose commit, in a file, may be a later group's: within how many seconds, by value and arguments. Else it is at once."""
RIDE: Final = 2.0  # seconds at most
COUNTED: Final[set[Callable[..., Any]]] = set()
"""Operations that are one statement, and return whether that changed a row: they can be sent together with others."""
READING: Final[set[Callable[..., Any]]] = set()
"""Operations that change nothing, whatever their arguments are: they need no turn where reading has connections of its own."""


def _marking(note: Callable[[Any], object]) -> Callable[[AnyOperation], AnyOperation]:
    def mark(operation: AnyOperation) -> AnyOperation:
        note(operation)
        return operation

    return mark


def _saying(
    marked: dict[Any, Any], says: Callable[..., Any] = lambda *_, **__: True
) -> Callable[[AnyOperation], AnyOperation]:
    return _marking(lambda operation: marked.update({operation: says}))


counted, reads = _marking(COUNTED.add), _marking(READING.add)
off_loop, rides = partial(_saying, LONG), partial(_saying, RIDES)


@attrs.frozen
class Binding:
    """What a journal belongs to for ever: rows of one network or sender mean nothing to another.

    What only a chain can confirm, a wrong address among it, is written once that chain has answered as what it is.
    """

    profile: str
    gateway_chain_id: int
    ethereum_chain_id: int
    decryption_contract: Address
    sender: Address

    @classmethod
    def of(cls, settings: Settings, tx_sender: Address) -> Binding:
        """Return to whom a journal with these settings belongs."""
        return cls(
            settings.protocol.profile,
            settings.chains.gateway.chain_id,
            settings.chains.ethereum.chain_id,
            settings.protocol.decryption_contract.address,
            tx_sender,
        )

    def confirmed_by(self, chain_id: int) -> dict[str, str]:
        """Return what is right once this chain has answered, and its contracts are those that are meant."""
        told = {}
        if chain_id == self.gateway_chain_id:
            contract = checksum(self.decryption_contract)
            told = {"gateway chain id": str(chain_id), "decryption contract": contract}
        return told if chain_id != self.ethereum_chain_id else {**told, "ethereum chain id": str(chain_id)}

    def own(self) -> dict[str, str]:
        """Return what no chain needs to confirm."""
        return {"profile": self.profile, "tx sender": checksum(self.sender)}

    def as_text(self) -> dict[str, str]:
        """Return the fields under the names that the journal stores and that messages use."""
        chains = self.gateway_chain_id, self.ethereum_chain_id
        return self.own() | self.confirmed_by(chains[0]) | self.confirmed_by(chains[1])


def differences(stored: Mapping[str, str], ours: Mapping[str, str]) -> tuple[str, ...]:
    """Say for each field in which a stored binding is another one what stands there and what was configured; one not stored fits all."""
    return tuple(
        f"{name} {stored[name]} there, {value} configured"
        for name, value in ours.items()
        if stored.get(name, value) != value
    )


_TICK = "tick"


Driver: TypeAlias = "SqliteDriver | PostgresDriver"
"""What differs between databases: opening, parameters, types, transactions and errors. Never knows what a request is.

``shards``: among how many parts due rows are shared by their ids. ``is_remote``: statements wait for a server, so that a whole group of
them is run in a thread (``journal.groups``). ``capture`` are the statements that let every transition go into the outbox of the audit
log, ``stop_capturing`` those that end that. ``refusal`` says why the journal cannot be opened, and what to do: JournalUnreachable where
that may pass by itself; ``warnings`` are what an operator should know about an open one. ``error`` is the class of all errors of the
database, ``conflict`` of those where a unique index refuses a row. ``tally`` are the numbers of rows that this transaction has changed
and not written yet; ``changes`` how many rows were changed so far.
"""

QueryResult: TypeAlias = "Cursor | BatchResult"
"""What a statement returned, or how many rows it changed; a cursor of PEP 249."""


class NotWritten(Exception):  # noqa: N818 - says what happened to a transaction
    """A transaction cannot be kept, though no statement of its end failed."""


@contextmanager
def opening(driver: Driver) -> Generator[None]:
    """Turn what the database says while it is opened into a start that is refused, or tried again."""
    try:
        yield
    except (driver.error, OutcomeUnknown, OSError) as error:
        raise driver.refusal(error) from error


_NUMBER = 4  # columns: kind, state, on_chain, deferred
_ADD = (
    "INSERT INTO tally (kind, state, on_chain, rows, deferred, deleted) VALUES (?, ?, ?, ?, ?, ?) ON CONFLICT DO UPDATE SET "
    "rows = rows + excluded.rows, deferred = deferred + excluded.deferred, deleted = deleted + excluded.deleted"
)


@attrs.define
class Tally:
    """Rows that came and went, those of them that were deferred, and those that were deleted, by kind, state and whether on chain.

    Triggers that wrote ``tally`` at each move took a fifth of the time for a request. PostgreSQL, where several processes write, has such
    triggers still, and nothing is counted here.
    """

    _moved: Counter[tuple[Any, ...]] = attrs.field(factory=Counter)

    def count(self, *row: Any) -> None:
        """Note what a row was, and is: kind, state, whether on chain and deferred; nothing where it came or went. A function of SQL."""
        self._moved[row] += 1

    def write(self, execute: Callable[..., Any]) -> None:
        """Write what has changed. Repeating: nothing is left to write."""
        moved, self._moved = self._moved, Counter()
        for row, times in moved.items():
            (*was, waited), (*now, waits) = row[:_NUMBER], row[_NUMBER:]
            gone = times if now[0] is None else 0
            if was[0] is not None:
                execute(_ADD, (*was, -times, -times * waited, gone))
            if not gone:
                execute(_ADD, (*now, times, times * waits, 0))

    def forget(self) -> None:
        """Write nothing of what was counted: it is undone."""
        self._moved.clear()


def listed(values: Collection[Any]) -> str:
    """Return what a statement reads as a list."""
    return msgspec.json.encode(list(values)).decode()


@attrs.define
class DatabaseTransaction:
    """What has begun. ``is_whole``: it is undone as a whole where anything in it fails, so that it needs no savepoints.

    ``changes``: the driver's before it; ``until``: when it is to be durable.
    """

    is_whole: bool = False
    changes: int = 0
    until: float = math.inf


class Database:
    """One open journal. ``wall`` is the time at which rows end.

    ``answers_tick``: that of the last move, perhaps not durable, that may have changed which replies can be signed.
    ``damaged`` are rows that could not be read, with the reasons; ``notes`` say of which rows the Core has the request, ``stage_times``
    how many seconds each stage of the present pass of a row took: both until the row's next move or deferral. ``roll_back`` undoes
    everything since ``begin``, ``close`` gives the lock back, too; where there is nothing to do they do nothing.
    """

    def __init__(self, driver: Driver, wall: Callable[[], float]) -> None:
        self.driver = driver
        self.execute: Callable[..., QueryResult] = driver.execute
        self.roll_back, self.close = driver.roll_back, driver.close
        self.wall = wall
        self.tick = self.answers_tick = 0
        self.damaged: dict[int, str] = {}
        self.notes: dict[int, bool] = {}
        self.stage_times: dict[int, dict[str, float]] = {}
        self.transaction = DatabaseTransaction()
        self._kept_tick = 0

    def open(self, binding: Binding | None) -> None:
        """Open the journal and bind it to its owner, as far as no chain must confirm it; ``close`` is to be called in any case.

        Without a binding it is not made, and may belong to anybody.

        Raises StartRefused when it is in use, foreign, newer than this program, or cannot be opened; JournalUnreachable
        where that may pass by itself.
        """
        with opening(self.driver):
            self.driver.open(make=binding is not None)
            # an open driver's may be the database's own: a call less for each statement
            self.execute = self.driver.execute
            self.begin()
            own, ours = ({}, {}) if binding is None else ({**binding.own(), _TICK: "0"}, binding.as_text())
            stored = self.bind(own, ours)
            self.driver.commit()
        self.tick = self._kept_tick = int(stored[_TICK])

    def begin(self) -> None:
        """Begin a transaction; one that a failure left open is rolled back before.

        Raises JournalWentBack when the database lacks what was committed.
        """
        if self.driver.is_begun:
            self.roll_back()
        tick, self.transaction.changes = self.driver.begin(), self.driver.changes
        if tick is None:
            return
        if tick < self._kept_tick:
            self.roll_back()
            lost = f"its tick is {tick}, and was {self._kept_tick}"
            raise JournalWentBack(f"the journal {self.driver.where} has lost commits: {lost}")
        # another process moved something, or what failed moved nothing
        if tick != self._kept_tick or self.answers_tick > tick:
            self.answers_tick = tick
        self.tick = self._kept_tick = tick

    def fetch_each(
        self, statement: str, each: Iterable[Mapping[str, Any] | Sequence[Any]]
    ) -> list[list[Any]]:
        """Run a statement for each of some values, and return the rows of each; a server is asked for all of them at once."""
        results = (self.execute(statement, values) for values in each)
        # sqlite3 compiles a statement anew that is run while rows of it are still to be read
        asked = list(results) if self.driver.is_remote else results
        return [result.fetchall() for result in asked]

    @contextmanager
    def savepoint(self) -> Generator[None]:
        """Undo all that the body changed when it raises."""
        if self.transaction.is_whole:
            yield
            return
        self.driver.tally.write(self.execute)
        self.execute("SAVEPOINT body")
        try:
            yield
        except BaseException:
            if self.driver.is_begun:
                try:
                    self.execute("ROLLBACK TO SAVEPOINT body")
                    self.execute("RELEASE SAVEPOINT body")
                except self.driver.error:  # then all of the transaction, rather than a half of the body
                    self.roll_back()
                self.driver.tally.forget()
            raise
        self.execute("RELEASE SAVEPOINT body")

    def commit(self) -> None:
        """Make everything since ``begin`` durable, the tick included that others find.

        Raises OutcomeUnknown when nobody can tell, NotWritten where the file is not where it was: what is written to a file without a name
        is gone with the process.
        """
        if misplaced := self.driver.misplaced():
            raise NotWritten(misplaced)
        if self.driver.is_remote and self.tick != self._kept_tick:
            self.execute("UPDATE meta SET value = ? WHERE key = ?", (str(self.tick), _TICK))
        self.driver.commit()
        self._kept_tick = self.tick

    def bind(self, named: Mapping[str, str], ours: Mapping[str, str] | None = None) -> dict[str, str]:
        """Note ``named`` where the journal does not say it yet, and return all that is noted then.

        Raises StartRefused where anything of ``ours``, by default of ``named``, is noted as something else. Repeating: harmless.
        """
        for key, value in named.items():
            self.execute("INSERT INTO meta VALUES (?, ?) ON CONFLICT DO NOTHING", (key, value))
        stored = dict(self.execute("SELECT key, value FROM meta").fetchall())
        if others := differences(stored, named if ours is None else ours):
            owner = f"belongs to another connector ({'; '.join(others)})"
            raise StartRefused(f"the journal {self.driver.where} {owner}; name another journal path")
        return stored
