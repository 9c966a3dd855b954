"""Values for the journal's tests: a chain in miniature, whose logs say who they are."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import attrs

from kmsconn.chain.fork import Rewound
from kmsconn.chain.logs import BlockHead
from kmsconn.config.description import PostgresAddress
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import moves, queries, retention
from kmsconn.journal.database import Binding, Database, QueryResult, counted
from kmsconn.journal.journal import driver_of
from kmsconn.journal.moves import Signing
from kmsconn.journal.recording import Arrival, Read, Recorded, generation, record
from kmsconn.journal.rows import Row
from kmsconn.model.life import Answer, State
from kmsconn.model.requests import Kind

CHAIN = 31337
CONTRACT = Address(b"\xdc" * 20)
SIGNER = Address(b"\x51" * 20)
BINDING = Binding("fhevm", CHAIN, 1, CONTRACT, Address(b"\x5e" * 20))
KIND = Kind.PUBLIC_DECRYPTION
ANSWER = Answer(b"calldata", SIGNER)


def bytes32(text: str) -> bytes:
    """Return a readable stand-in for a hash."""
    return text.encode().rjust(32, b"\0")[-32:]


def arrival(
    id_: int,
    block: int,
    content: str = "A",
    *,
    index: int = 0,
    fork: str = "",
    kind: Kind = KIND,
    whole: bool = True,
) -> Arrival:
    """Return a request as a read shows it; ``fork`` tells blocks of one number apart."""
    log = Log(
        CONTRACT,
        (b"\x01" * 32,),
        content.encode(),
        block,
        bytes32(f"block {block}{fork}"),
        bytes32("tx"),
        index,
    )
    return Arrival(id_, kind, bytes32(content), log, whole=whole)


def read_of(*arrivals: Arrival, blocks: tuple[int, int] = (0, 100), **others: Any) -> Read:
    """Return a read of a range that holds these arrivals and nothing else."""
    return attrs.evolve(
        Read(CHAIN, CONTRACT, blocks, arrivals, (), blocks[1] + 1, None, 1000.0, 500.0, 86_400.0), **others
    )


def wall() -> float:
    """Return the time at which the rows of these databases end."""
    return 2000.0


Place = Path | PostgresAddress
"""Where a journal of a test stands: these suites are run over both databases."""


class AutocommitDatabase(Database):
    """A database for tests without a journal: outside of a transaction it keeps each statement, or undoes it alone, as SQLite does.

    It keeps them at the next begin, or at the close.
    """

    _is_implicit = False

    def open(self, binding: Binding | None) -> None:
        super().open(binding)
        self.execute, self.close = self._execute, self._keep_and_close

    def begin(self) -> None:
        if self._is_implicit and self.driver.is_begun:
            self.commit()
        self._is_implicit = False
        super().begin()

    def _keep_and_close(self) -> None:
        if self._is_implicit and self.driver.is_begun:
            self.commit()
        self.driver.close()

    def _execute(self, statement: str, values: Any = ()) -> QueryResult:
        if not self.driver.is_begun:
            super().begin()
            self._is_implicit = True
        return self._alone(statement, values) if self._is_implicit else self.driver.execute(statement, values)

    def _alone(self, statement: str, values: Any) -> QueryResult:
        execute = self.driver.execute
        if "SAVEPOINT" in statement:
            return execute(statement)
        execute("SAVEPOINT alone")
        result = execute(statement, values)
        try:
            _ = result.rowcount
        except self.driver.error:
            execute("ROLLBACK TO SAVEPOINT alone")
            raise
        finally:
            execute("RELEASE SAVEPOINT alone")
        return result


def opened(path: Place, binding: Binding = BINDING, *, shards: int = 1) -> Database:
    """Open a database that gives durability up for speed, as a connector whose chains have answered."""
    kind = Database if isinstance(path, Path) else AutocommitDatabase
    db = kind(driver_of(path, shards, "OFF"), wall)
    try:
        db.open(binding)
        db.begin()
        db.bind(binding.as_text())
        db.commit()
    except KmsconnError:
        db.close()
        raise
    return db


def take(db: Database, *arrivals: Arrival, **others: Any) -> Recorded:
    """Record a read, with the headers of a chain that has what it shows and nothing else; return what both commits have changed."""
    read = read_of(*arrivals, **others)
    first = record(db, read)
    shown = {one.log.block_number: one.log.block_hash for one in arrivals}
    headers = {number: shown.get(number, bytes32(f"another {number}")) for number in first.doubtful}
    second = record(db, attrs.evolve(read, headers=headers)) if headers else Recorded()
    return Recorded(
        first.new + second.new, first.moved + second.moved, first.gone + second.gone, first.back + second.back,
        first.quarantined,
    )  # fmt: skip


def rewind(db: Database, fork: int) -> Rewound:
    """Go back to a fork that the head of another branch proved, in whatever generation."""
    head = BlockHead(90, 700, bytes32("head"))
    return retention.rewind(db, CHAIN, generation(db, CHAIN), fork, head)


def new_row(db: Database, id_: int = 1, block: int = 10, **others: Any) -> int:
    """Record one request beside what is there, and return its row."""
    return take(db, arrival(id_, block, **others), blocks=(block, block - 1)).new[0][0]


def signing(rid: int, nonce: int = 0, raw: bytes = b"raw", reply_hash: bytes = b"hash") -> Signing:
    """Return signed bytes for a row's reply."""
    return Signing(rid, nonce, raw, reply_hash)


def row_of(db: Database, rid: int) -> Row:
    """Return a row that must be there."""
    found = queries.row(db, rid)
    assert found is not None
    return found


def walk(db: Database, rid: int, steps: Iterable[str]) -> int:
    """Take a row through transitions that must all succeed."""
    for step in steps:
        assert move(db, step, rid), step
    return rid


@counted
def keep(
    db: Database, rid: int, kept: Answer = ANSWER, now: float = 1000.0, transition: str = "answer"
) -> bool:
    """Keep an answer as a worker does."""
    return moves.move(db, transition, rid, calldata=kept.calldata, signer=kept.signer, now=now)


def move(db: Database, transition: str, rid: int) -> bool:
    """Apply a transition with values of no importance."""
    if transition in {"answer", "deliver"}:
        return keep(db, rid, transition=transition)
    if transition == "repeat":
        return moves.move(db, transition, rid, now=1000.0, deadline=2000.0, log=b"")
    if transition == "sign":
        return moves.sign(db, signing(rid, rid)) is True
    return moves.move(db, transition, rid, reason="because", block=20, next_attempt=1000.0)


# One way into each state.
WAYS = {
    State.PENDING: (),
    State.ANSWERED: ("answer",),
    State.SIGNED: ("answer", "sign"),
    State.INCLUDED: ("answer", "sign", "confirm"),
    State.FINALIZED: ("answer", "sign", "confirm", "finalize"),
    State.EXPIRED: ("expire",),
    State.REJECTED: ("reject",),
    State.QUARANTINED: ("quarantine",),
    State.DONE: ("finish",),
    State.ABORTED: ("abort",),
}


def dump(db: Database) -> list[tuple[Any, ...]]:
    """Return all requests as stored."""
    return db.execute("SELECT * FROM request ORDER BY rid").fetchall()


def raw_connection(path: Path) -> sqlite3.Connection:
    """Open a file beside the journal's own means."""
    return sqlite3.connect(path, isolation_level=None)
