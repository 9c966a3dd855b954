"""The tables of the journal as data, in SQLite's words; ``postgres_schema`` says them in PostgreSQL's. Never opens a database.

A version that was released is never edited: a change is a further entry of ``MIGRATIONS``. That is why state names stand here as
literals and not as values of ``model.life``; a test compares the two.
"""

from __future__ import annotations

from typing import Final

import attrs

APPLICATION_ID = 0x6B6D736A  # "kmsj": tells a journal from any other SQLite file, one of before the first release among them
FORMER_ID: Final = 0x6B6D7363  # "kmsc": the journals of before the first release
EARLIER: Final = "of before 0.1.0 was released (its --version may say 0.1.0 too)"
"""Which kmsconn wrote a journal that no migration leads on from."""
BEGIN_AGAIN: Final = (
    "and set decryption_from_block_number to a block before the oldest open request: "
    "what it held is read again from the chain"
)
"""What to do where a journal is given up, after where the new one is made."""


@attrs.frozen
class Table:
    """A table: its columns with their types, and how many of the first ones are its key.

    ``numbered``: the key is one number that the database gives out, and never gives out again.
    """

    name: str
    definitions: str
    key: int = 1
    numbered: bool = False

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the columns."""
        return tuple(one.split()[0] for one in self.definitions.split(","))

    @property
    def order(self) -> str:
        """The columns of the key."""
        return ", ".join(self.columns[: self.key])

    @property
    def making(self) -> str:
        """The statement that makes it."""
        if self.numbered:
            return f"CREATE TABLE {self.name} ({self.definitions}) STRICT"
        return (
            f"CREATE TABLE {self.name} ({self.definitions}, PRIMARY KEY ({self.order})) STRICT, WITHOUT ROWID"
        )


TABLES: Final = (
    # Long values stand last, so that the guards and indices of a row are read without its overflow pages. ``residue`` tells the shard
    # (``rows.RESIDUES``), ``cause`` in bits what decides about a row beside its reason (``model.life.RowCause``), ``choice`` what its
    # operation chose when it first started it, ``history`` what the row has been through.
    Table(
        "request",
        """
        rid INTEGER PRIMARY KEY AUTOINCREMENT,
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        id BLOB NOT NULL,
        digest BLOB NOT NULL,
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        on_chain INTEGER NOT NULL,
        block INTEGER NOT NULL,
        log_index INTEGER NOT NULL,
        block_hash BLOB NOT NULL,
        transaction_hash BLOB NOT NULL,
        next_attempt REAL NOT NULL,
        max_wait REAL NOT NULL,
        deadline REAL NOT NULL,
        submitted INTEGER NOT NULL DEFAULT 0,
        deferred INTEGER NOT NULL DEFAULT 0,
        residue INTEGER NOT NULL DEFAULT 0,
        cause INTEGER NOT NULL DEFAULT 0,
        cleared INTEGER NOT NULL DEFAULT 0,
        recorded_at REAL NOT NULL,
        answered_at REAL,
        closed_at REAL,
        nonce INTEGER,
        included_block INTEGER,
        reply_hash BLOB,
        signer BLOB,
        choice TEXT NOT NULL DEFAULT '',
        reason TEXT NOT NULL DEFAULT '',
        log BLOB NOT NULL,
        calldata BLOB,
        raw BLOB,
        history TEXT NOT NULL DEFAULT ''""",
        numbered=True,
    ),
    # How far a contract is read (``queries.ReadUpTo``).
    Table(
        "cursor",
        """
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        block INTEGER NOT NULL,
        settled INTEGER NOT NULL,
        passed INTEGER NOT NULL,
        since REAL NOT NULL""",
        2,
    ),
    # How often a chain was found to have forked, and since when (wall time) it seems to have once more.
    Table("follower", "chain_id INTEGER NOT NULL, generation INTEGER NOT NULL, doubted_since REAL"),
    # Block hashes by which a reorganisation of any depth is found.
    Table("checkpoint", "chain_id INTEGER NOT NULL, block INTEGER NOT NULL, hash BLOB NOT NULL", 2),
    # Up to which id all requests of a kind are known: older rows may be deleted, and nobody asks for them again.
    Table(
        "low_water",
        "chain_id INTEGER NOT NULL, contract BLOB NOT NULL, kind TEXT NOT NULL, id BLOB NOT NULL, block INTEGER NOT NULL",
        3,
    ),
    # What is read once more from an earlier block.
    Table(
        "reread",
        """
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        from_block INTEGER NOT NULL,
        next_block INTEGER NOT NULL,
        to_block INTEGER NOT NULL""",
        2,
    ),
    Table(
        "quarantined_log",
        """
        chain_id INTEGER NOT NULL,
        block_hash BLOB NOT NULL,
        log_index INTEGER NOT NULL,
        contract BLOB NOT NULL,
        block INTEGER NOT NULL,
        transaction_hash BLOB NOT NULL,
        log BLOB NOT NULL,
        reason TEXT NOT NULL,
        found_at REAL NOT NULL""",
        3,
    ),
    # The kinds that an operator has paused.
    Table("paused", "kind TEXT NOT NULL, since REAL NOT NULL, reason TEXT NOT NULL"),
    # The outbox of the audit log (``journal.audit``).
    Table(
        "audit_outbox",
        """
        seq INTEGER PRIMARY KEY AUTOINCREMENT,
        at REAL NOT NULL,
        rid INTEGER NOT NULL,
        kind TEXT NOT NULL,
        id BLOB NOT NULL,
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        old_state TEXT,
        state TEXT NOT NULL,
        block INTEGER NOT NULL,
        transaction_hash BLOB NOT NULL,
        nonce INTEGER,
        reply_hash BLOB,
        included_block INTEGER,
        reason TEXT NOT NULL""",
        numbered=True,
    ),
    # How many requests there are, so that nobody ever walks over them.
    Table(
        "tally",
        """
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        on_chain INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        deferred INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0""",
        3,
    ),
    Table("meta", "key TEXT NOT NULL, value TEXT NOT NULL"),
)
"""All tables that both databases have, in the order of a copy: triggers count requests as they come, so that the counts come after."""

# Both databases look at an index where an UPDATE sets one of its columns, those of its condition among them. Every move sets ``state``, so
# only the indices of what is handed out and signed name it; that a row is open or closed stands in ``closed_at``, which a move between two
# open states leaves alone. Beside each stands the query that needs it, and how often that runs.
INDICES: Final = (
    # recording._KNOWN, queries._PLACES: for each event that is read, and each round of the proof
    "CREATE UNIQUE INDEX request_identity ON request (chain_id, contract, id, digest)",
    # recording._IN_RANGE, queries._STANDING: with each read
    "CREATE INDEX request_place ON request (chain_id, contract, block) WHERE on_chain = 1",
    # queries._SIGNED: at each start of a transaction manager; keeps two replies off one nonce
    "CREATE UNIQUE INDEX request_nonce ON request (chain_id, nonce) WHERE state = 'signed'",
    # queries._INCLUDED: at each look of a transaction manager; retention._REPLIED: at each fork
    "CREATE INDEX request_included ON request (chain_id, (closed_at IS NULL), included_block) WHERE included_block IS NOT NULL",
    # queries._OLDEST_OPEN_ROW: each second; queries._WAITING: at each command
    "CREATE INDEX request_oldest ON request (kind, recorded_at) WHERE closed_at IS NULL",
    # retention: every ten minutes; those with their long values apart from the others
    "CREATE INDEX request_closed ON request (cleared, closed_at, rid) WHERE closed_at IS NOT NULL",
    # retention: every ten minutes
    "CREATE INDEX request_off ON request (chain_id, contract, block) WHERE on_chain = 0",
    # queries._UNSENT, queries._BEHIND: at each look of a transaction manager
    "CREATE INDEX request_to_sign ON request (chain_id, next_attempt, block, log_index) WHERE state = 'answered' AND on_chain = 1",
    # queries._ENDINGS: each minute; there are few of these rows among millions of decryptions
    """
    CREATE INDEX request_key_management ON request (kind, block, log_index)
    WHERE on_chain = 1 AND kind NOT IN ('public_decryption', 'user_decryption', 'http_public_decryption', 'http_user_decryption')
    """,
)

_WAS, _IS = (f"{row}.kind, {row}.state, {row}.on_chain, {row}.deferred > 0" for row in ("old", "new"))
COUNTING: Final = tuple(
    f"CREATE TEMP TRIGGER {name} AFTER {event} BEGIN SELECT count_row({_WAS}, {now}); END"
    for name, event, now in (
        ("moves", f"UPDATE OF kind, state, on_chain, deferred ON main.request WHEN ({_WAS}) <> ({_IS})", _IS),
        ("goes", "DELETE ON main.request", "NULL, NULL, NULL, NULL"),
    )
)
"""What tells a function of the connection of each row that moves or goes; of new ones ``moves`` does, in less time.

The numbers of a transaction are written to ``tally`` at its end.
"""

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (f"PRAGMA application_id = {APPLICATION_ID}", *(table.making for table in TABLES), *INDICES),
)
VERSION = len(MIGRATIONS)

AUDITED: Final = "rid, kind, id, chain_id, contract, state, block, transaction_hash, nonce, reply_hash, included_block, reason"
NEW_ROW: Final = ", ".join(f"new.{field}" for field in AUDITED.split(", "))
_WRITE_OUT: Final = (
    f"INSERT INTO audit_outbox (at, old_state, {AUDITED}) VALUES ((julianday('now') - 2440587.5) * 86400.0, "  # noqa: S608 - our own names
)
_AUDIT_TRIGGERS: Final = {
    "audit_records": f"AFTER INSERT ON request BEGIN {_WRITE_OUT} NULL, {NEW_ROW}); END",
    "audit_moves": f"AFTER UPDATE OF state ON request BEGIN {_WRITE_OUT} old.state, {NEW_ROW}); END",
}
STOP_CAPTURING: Final = tuple(f"DROP TRIGGER IF EXISTS {name}" for name in _AUDIT_TRIGGERS)
CAPTURE: Final = (
    *STOP_CAPTURING,
    *(f"CREATE TRIGGER {name} {body}" for name, body in _AUDIT_TRIGGERS.items()),
)
"""What lets every transition go into the outbox of the audit log from now on."""


def shard_index(shards: int) -> tuple[str, str]:
    """Return the name of the index of what is handed out, and what makes it, when the journal is opened for so many shards.

    Each shard's rows stand together, so that a full one costs nothing.
    """
    name, row = f"request_due_{shards}", f"(kind, (residue % {shards}), next_attempt, block, log_index)"
    return name, f"CREATE INDEX {name} ON request {row} WHERE state = 'pending' AND on_chain = 1"
