"""Takes a request that comes over HTTP: one operation inserts it, finds it in work or ended, or lets it begin again. Never asks a chain.

A content is one row for ever: its id is the hash of all that it says. So whoever posts it, and however often, is told of the same work.
"""

from __future__ import annotations

import attrs

from kmsconn.errors import KmsconnError
from kmsconn.journal.damage import read_one
from kmsconn.journal.database import Database
from kmsconn.journal.moves import move
from kmsconn.journal.new_requests import NewRequest, insert
from kmsconn.journal.rows import pack_id, pack_log
from kmsconn.journal.values import Row

_KNOWN = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND digest = ?"
_PENDING = "SELECT coalesce(sum(rows), 0) FROM tally WHERE kind = ? AND state = 'pending'"

MOST_PENDING = 10_000
"""Requests of a kind that are in work or wait for it: clients that leave give up their turn, and not their work."""


class TooManyPosts(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """So many requests over HTTP are in work that none more is taken."""


@attrs.frozen
class Taken:
    """The row of a posted request (None: it cannot be read), and whether it begins now, for the first time or again."""

    row: Row | None
    begins: bool


def take(db: Database, post: NewRequest) -> Taken:
    """Insert a request that is new, let one begin again that may, and return its row in any case. All or nothing.

    Raises TooManyPosts where it would begin beside ``MOST_PENDING`` others. Repeating: finds the row that the first time made.
    """
    with db.savepoint():
        identity = (post.chain_id, post.contract, pack_id(post.id), post.digest)
        found = db.execute(_KNOWN, identity).fetchone()
        if found is None:
            rid, begins = insert(db, post), True
        else:
            rid, begins = found[0], _repeat(db, found[0], post)
        db.driver.tally.write(db.execute)
        if begins and db.execute(_PENDING, (post.kind.value,)).fetchone()[0] > MOST_PENDING:
            raise TooManyPosts(f"{MOST_PENDING} requests of this kind are in work")
        return Taken(read_one(db, rid), begins)


def _repeat(db: Database, rid: int, post: NewRequest) -> bool:
    return move(
        db,
        "repeat",
        rid,
        reason="asked for again",
        now=post.now,
        deadline=post.deadline,
        log=pack_log(post.log),
    )
