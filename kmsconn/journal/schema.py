"""The tables of the SQLite journal as data: one list of statements per version. Never opens a database.

A migration that was released is never edited: a change is a further entry of ``MIGRATIONS``. That is why state names stand here as
literals and not as values of ``model.life``; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.journal.rows import RESIDUES

APPLICATION_ID = 0x6B6D7363  # "kmsc": tells a journal from any other SQLite file

_CLOSED_AT_BEFORE = "coalesce(closed_at, answered_at, admitted_at)"
CLOSED_AT = "coalesce(closed_at, answered_at, recorded_at)"
"""When a closed row ended, in wall time."""

# Long values stand last, so that the guards and indices of a row are read without its overflow pages.
_REQUEST = """
CREATE TABLE request (
    rid INTEGER PRIMARY KEY AUTOINCREMENT,
    chain_id INTEGER NOT NULL,
    contract BLOB NOT NULL,
    id BLOB NOT NULL,
    digest BLOB NOT NULL,
    kind TEXT NOT NULL,
    state TEXT NOT NULL,
    on_chain INTEGER NOT NULL,
    tick INTEGER NOT NULL,
    block INTEGER NOT NULL,
    log_index INTEGER NOT NULL,
    block_hash BLOB NOT NULL,
    transaction_hash BLOB NOT NULL,
    next_try REAL NOT NULL,
    max_wait REAL NOT NULL,
    deadline REAL NOT NULL,
    submitted INTEGER NOT NULL DEFAULT 0,
    parked INTEGER NOT NULL DEFAULT 0,
    admitted_at REAL NOT NULL,
    answered_at REAL,
    nonce INTEGER,
    landed_block INTEGER,
    reply_hash BLOB,
    signer BLOB,
    reason TEXT NOT NULL DEFAULT '',
    log BLOB NOT NULL,
    calldata BLOB,
    raw BLOB
) STRICT
"""

_FIRST = (
    f"PRAGMA application_id = {APPLICATION_ID}",
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT, WITHOUT ROWID",
    """
    CREATE TABLE cursor (
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        block INTEGER NOT NULL,
        PRIMARY KEY (chain_id, contract)
    ) STRICT, WITHOUT ROWID
    """,
    _REQUEST,
    "CREATE UNIQUE INDEX request_identity ON request (chain_id, contract, id, digest)",
    "CREATE INDEX request_place ON request (chain_id, contract, block) WHERE on_chain = 1",
    # What is handed out. The second one finds rows that wait longer than they may: the clock was set back.
    "CREATE INDEX request_due ON request (kind, next_try, block, log_index) WHERE state = 'seen' AND on_chain = 1",
    "CREATE INDEX request_stranded ON request (kind, next_try - max_wait) WHERE state = 'seen' AND on_chain = 1",
    """
    CREATE INDEX request_unsent ON request (chain_id, block, log_index, next_try, max_wait)
    WHERE state = 'answered' AND on_chain = 1
    """,
    "CREATE UNIQUE INDEX request_nonce ON request (chain_id, nonce) WHERE state = 'signed'",
    "CREATE INDEX request_landed ON request (chain_id, landed_block) WHERE state = 'landed'",
    """
    CREATE INDEX request_open ON request (kind, state, on_chain, parked, admitted_at)
    WHERE state IN ('seen', 'answered', 'signed', 'landed')
    """,
    # Requests that a read did not hold: their blocks are looked at again for a while.
    """
    CREATE INDEX request_doubted ON request (chain_id, contract, block)
    WHERE on_chain = 0 AND state IN ('seen', 'answered', 'signed', 'landed')
    """,
    # Closed rows are counted as they close, so that nobody ever walks over them.
    """
    CREATE TABLE closed (kind TEXT NOT NULL, state TEXT NOT NULL, rows INTEGER NOT NULL, PRIMARY KEY (kind, state))
    STRICT, WITHOUT ROWID
    """,
    """
    CREATE TRIGGER request_closes AFTER UPDATE OF state ON request
    WHEN new.state IN ('replied', 'expired', 'rejected', 'quarantined')
    BEGIN
        INSERT INTO closed VALUES (new.kind, new.state, 1) ON CONFLICT DO UPDATE SET rows = rows + 1;
    END
    """,
    """
    CREATE TRIGGER request_reopens AFTER UPDATE OF state ON request
    WHEN old.state IN ('replied', 'expired', 'rejected', 'quarantined')
    BEGIN
        UPDATE closed SET rows = rows - 1 WHERE kind = old.kind AND state = old.state;
    END
    """,
    """
    CREATE TABLE quarantined_log (
        chain_id INTEGER NOT NULL,
        block_hash BLOB NOT NULL,
        log_index INTEGER NOT NULL,
        contract BLOB NOT NULL,
        block INTEGER NOT NULL,
        transaction_hash BLOB NOT NULL,
        log BLOB NOT NULL,
        reason TEXT NOT NULL,
        found_at REAL NOT NULL,
        PRIMARY KEY (chain_id, block_hash, log_index)
    ) STRICT
    """,
)

# Two more ways to end: what the Core did without a reply, and what was aborted.
_MORE_ENDS = (
    "DROP TRIGGER request_closes",
    "DROP TRIGGER request_reopens",
    """
    CREATE TRIGGER request_closes AFTER UPDATE OF state ON request
    WHEN new.state IN ('replied', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    BEGIN
        INSERT INTO closed VALUES (new.kind, new.state, 1) ON CONFLICT DO UPDATE SET rows = rows + 1;
    END
    """,
    """
    CREATE TRIGGER request_reopens AFTER UPDATE OF state ON request
    WHEN old.state IN ('replied', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    BEGIN
        UPDATE closed SET rows = rows - 1 WHERE kind = old.kind AND state = old.state;
    END
    """,
)

# While a shard of the Core is full, the walk to the due rows of the others passes over all of its own, on every look: what tells the
# shard stands in the index, as a number (``rows.RESIDUES``).
_SHARDS = (
    "ALTER TABLE request ADD COLUMN residue INTEGER NOT NULL DEFAULT 0",
    "UPDATE request SET residue = shard(id, 720720)",
    "DROP INDEX request_due",
    """
    CREATE INDEX request_due ON request (kind, next_try, block, log_index, residue) WHERE state = 'seen' AND on_chain = 1
    """,
)

# For years and for many rows: what is counted stands in a table that triggers keep, what is due stands in one index for each shard
# (``shard_indices``), and closed rows are found by the time of their end, the ones with their long values apart from the others.
# Rows that an earlier version closed have no ``closed_at``: their answer, or their record, tells of it well enough.
_FOR_YEARS = (
    "DROP TRIGGER request_closes",
    "DROP TRIGGER request_reopens",
    "DROP TABLE closed",
    "DROP INDEX request_open",
    "DROP INDEX request_due",
    "DROP INDEX request_stranded",
    "ALTER TABLE request ADD COLUMN closed_at REAL",
    "ALTER TABLE request ADD COLUMN cleared INTEGER NOT NULL DEFAULT 0",
    """
    CREATE TABLE tally (
        kind TEXT NOT NULL,
        state TEXT NOT NULL,
        on_chain INTEGER NOT NULL,
        rows INTEGER NOT NULL,
        parked INTEGER NOT NULL,
        deleted INTEGER NOT NULL DEFAULT 0,
        PRIMARY KEY (kind, state, on_chain)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT INTO tally (kind, state, on_chain, rows, parked)
    SELECT kind, state, on_chain, count(*), sum(parked > 0) FROM request GROUP BY kind, state, on_chain
    """,
    """
    CREATE TRIGGER request_appears AFTER INSERT ON request
    BEGIN
        INSERT INTO tally VALUES (new.kind, new.state, new.on_chain, 1, new.parked > 0, 0)
        ON CONFLICT DO UPDATE SET rows = rows + 1, parked = parked + excluded.parked;
    END
    """,
    """
    CREATE TRIGGER request_moves AFTER UPDATE OF kind, state, on_chain, parked ON request
    WHEN (old.kind, old.state, old.on_chain, old.parked > 0) <> (new.kind, new.state, new.on_chain, new.parked > 0)
    BEGIN
        UPDATE tally SET rows = rows - 1, parked = parked - (old.parked > 0)
        WHERE kind = old.kind AND state = old.state AND on_chain = old.on_chain;
        INSERT INTO tally VALUES (new.kind, new.state, new.on_chain, 1, new.parked > 0, 0)
        ON CONFLICT DO UPDATE SET rows = rows + 1, parked = parked + excluded.parked;
    END
    """,
    """
    CREATE TRIGGER request_goes AFTER DELETE ON request
    BEGIN
        UPDATE tally SET rows = rows - 1, parked = parked - (old.parked > 0), deleted = deleted + 1
        WHERE kind = old.kind AND state = old.state AND on_chain = old.on_chain;
    END
    """,
    """
    CREATE INDEX request_oldest ON request (kind, admitted_at)
    WHERE on_chain = 1 AND state IN ('seen', 'answered', 'signed', 'landed')
    """,
    f"""
    CREATE INDEX request_whole ON request ({_CLOSED_AT_BEFORE})
    WHERE cleared = 0 AND state IN ('replied', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    f"""
    CREATE INDEX request_cleared ON request ({_CLOSED_AT_BEFORE})
    WHERE cleared = 1 AND state IN ('replied', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    # Empty in a sound file: rows in a state that is none.
    """
    CREATE INDEX request_odd ON request (kind)
    WHERE state NOT IN ('seen', 'answered', 'signed', 'landed', 'replied', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    # Up to which id all requests of a kind are known: older rows may be deleted, and nobody asks for them again.
    """
    CREATE TABLE low_water (
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        kind TEXT NOT NULL,
        id BLOB NOT NULL,
        block INTEGER NOT NULL,
        PRIMARY KEY (chain_id, contract, kind)
    ) STRICT, WITHOUT ROWID
    """,
)

# Block hashes by which a reorganisation of any depth is found. A journal of before begins with the blocks where its last requests stand.
# What is final is found by the block of its reply, and what is read once more from an earlier block is remembered.
_CHECKPOINTS = (
    """
    CREATE TABLE checkpoint (
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        block INTEGER NOT NULL,
        hash BLOB NOT NULL,
        PRIMARY KEY (chain_id, contract, block)
    ) STRICT, WITHOUT ROWID
    """,
    """
    INSERT OR IGNORE INTO checkpoint
    SELECT chain_id, contract, block, block_hash FROM request WHERE on_chain = 1 ORDER BY rid DESC LIMIT 1000
    """,
    "CREATE INDEX request_final ON request (chain_id, contract, landed_block) WHERE state = 'replied'",
    """
    CREATE TABLE reread (
        chain_id INTEGER NOT NULL,
        contract BLOB NOT NULL,
        from_block INTEGER NOT NULL,
        next_block INTEGER NOT NULL,
        to_block INTEGER NOT NULL,
        PRIMARY KEY (chain_id, contract)
    ) STRICT, WITHOUT ROWID
    """,
)

# What left the chain and never came back is found by its age.
_GONE = (
    """
    CREATE INDEX request_gone ON request (admitted_at) WHERE on_chain = 0 AND state IN ('seen', 'answered')
    """,
)

# How key management ended is read from its rows; there are few of them among millions of decryptions.
_KEY_MANAGEMENT = (
    """
    CREATE INDEX request_key_management ON request (kind, block, log_index)
    WHERE on_chain = 1 AND kind NOT IN ('public_decryption', 'user_decryption')
    """,
)

# The words of block explorers and job queues. SQLite carries renamed columns into triggers and indices, but not the values of ``state``.
_RENAMED = (("seen", "pending"), ("landed", "included"), ("replied", "finalized"))
_WORDS = (
    "ALTER TABLE request RENAME COLUMN next_try TO next_attempt",
    "ALTER TABLE request RENAME COLUMN parked TO deferred",
    "ALTER TABLE request RENAME COLUMN admitted_at TO recorded_at",
    "ALTER TABLE request RENAME COLUMN landed_block TO included_block",
    "ALTER TABLE tally RENAME COLUMN parked TO deferred",
    "DROP TRIGGER request_moves",
    "DROP INDEX request_landed",
    "DROP INDEX request_doubted",
    "DROP INDEX request_oldest",
    "DROP INDEX request_whole",
    "DROP INDEX request_cleared",
    "DROP INDEX request_odd",
    "DROP INDEX request_final",
    "DROP INDEX request_gone",
    *(f"UPDATE request SET state = '{new}' WHERE state = '{old}'" for old, new in _RENAMED),  # noqa: S608 - our own literals
    *(f"UPDATE tally SET state = '{new}' WHERE state = '{old}'" for old, new in _RENAMED),  # noqa: S608
    """
    CREATE TRIGGER request_moves AFTER UPDATE OF kind, state, on_chain, deferred ON request
    WHEN (old.kind, old.state, old.on_chain, old.deferred > 0) <> (new.kind, new.state, new.on_chain, new.deferred > 0)
    BEGIN
        UPDATE tally SET rows = rows - 1, deferred = deferred - (old.deferred > 0)
        WHERE kind = old.kind AND state = old.state AND on_chain = old.on_chain;
        INSERT INTO tally VALUES (new.kind, new.state, new.on_chain, 1, new.deferred > 0, 0)
        ON CONFLICT DO UPDATE SET rows = rows + 1, deferred = deferred + excluded.deferred;
    END
    """,
    "CREATE INDEX request_included ON request (chain_id, included_block) WHERE state = 'included'",
    """
    CREATE INDEX request_suspect ON request (chain_id, contract, block)
    WHERE on_chain = 0 AND state IN ('pending', 'answered', 'signed', 'included')
    """,
    """
    CREATE INDEX request_oldest ON request (kind, recorded_at)
    WHERE on_chain = 1 AND state IN ('pending', 'answered', 'signed', 'included')
    """,
    f"""
    CREATE INDEX request_whole ON request ({CLOSED_AT})
    WHERE cleared = 0 AND state IN ('finalized', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    f"""
    CREATE INDEX request_cleared ON request ({CLOSED_AT})
    WHERE cleared = 1 AND state IN ('finalized', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    # Empty in a sound file: rows in a state that is none.
    """
    CREATE INDEX request_odd ON request (kind) WHERE state NOT IN
    ('pending', 'answered', 'signed', 'included', 'finalized', 'expired', 'rejected', 'quarantined', 'done', 'aborted')
    """,
    "CREATE INDEX request_final ON request (chain_id, contract, included_block) WHERE state = 'finalized'",
    "CREATE INDEX request_gone ON request (recorded_at) WHERE on_chain = 0 AND state IN ('pending', 'answered')",
)

# Answers that wait stand by when they may be signed, as what is handed out does: a look walks over none that must wait longer.
_UNSENT = (
    "DROP INDEX request_unsent",
    """
    CREATE INDEX request_unsent ON request (chain_id, block, log_index) WHERE state = 'answered' AND on_chain = 1
    """,
    """
    CREATE INDEX request_to_sign ON request (chain_id, next_attempt, block, log_index, max_wait)
    WHERE state = 'answered' AND on_chain = 1
    """,
    """
    CREATE INDEX request_to_sign_stranded ON request (chain_id, next_attempt - max_wait, next_attempt, block, log_index)
    WHERE state = 'answered' AND on_chain = 1
    """,
)

# What a row has been through, as text that each transition writes with itself; and the kinds that an operator has paused.
_HISTORY = (
    "ALTER TABLE request ADD COLUMN history TEXT NOT NULL DEFAULT ''",
    "CREATE TABLE paused (kind TEXT PRIMARY KEY, since REAL NOT NULL, reason TEXT NOT NULL) STRICT, WITHOUT ROWID",
)

# What decides about a row stands beside its reason, in bits (``model.life.RowCause``); before, it was read from the reason's text.
_CAUSES = (
    (1, "reason = 'its block is not known since the chain was reorganised'"),
    (2, "substr(reason, 1, 15) = 'second chance: '"),
    (4, "instr(reason, 'ALREADY_EXISTS, and no result yet: ') > 0"),
    (8, "instr(reason, 'destroyed') > 0 AND state IN ('rejected', 'quarantined')"),
    (16, "substr(reason, 1, 24) = 'skipped by an operator: '"),
)
_CAUSE = (
    "ALTER TABLE request ADD COLUMN cause INTEGER NOT NULL DEFAULT 0",
    *(f"UPDATE request SET cause = cause | {bit} WHERE {where}" for bit, where in _CAUSES),  # noqa: S608 - our own literals
)

# One profile for all releases of fhevm since 0.14; before, its name had the release.
_ONE_FHEVM = ("UPDATE meta SET value = 'fhevm' WHERE key = 'profile' AND value = 'fhevm-0.14'",)

# What an operation chose when it first started a request (``protocols.choosing``).
_CHOICE = ("ALTER TABLE request ADD COLUMN choice TEXT NOT NULL DEFAULT ''",)

# Requests over HTTP are decryptions too, and many.
_OVER_HTTP = (
    "DROP INDEX request_key_management",
    """
    CREATE INDEX request_key_management ON request (kind, block, log_index)
    WHERE on_chain = 1 AND kind NOT IN ('public_decryption', 'user_decryption', 'http_public_decryption', 'http_user_decryption')
    """,
)

MIGRATIONS: tuple[tuple[str, ...], ...] = (
    _FIRST,
    _MORE_ENDS,
    _SHARDS,
    _FOR_YEARS,
    _CHECKPOINTS,
    _GONE,
    _KEY_MANAGEMENT,
    _WORDS,
    _UNSENT,
    _HISTORY,
    _CAUSE,
    _ONE_FHEVM,
    _CHOICE,
    _OVER_HTTP,
)
VERSION = len(MIGRATIONS)


# The outbox of the audit log (``journal.outbox``), which is made when it is first wanted.
_OUTBOX: Final = """
CREATE TABLE IF NOT EXISTS audit_outbox (
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
    reason TEXT NOT NULL
) STRICT
"""
_AUDITED: Final = "rid, kind, id, chain_id, contract, state, block, transaction_hash, nonce, reply_hash, included_block, reason"
_NEW_ROW: Final = ", ".join(f"new.{field}" for field in _AUDITED.split(", "))
_WRITE_OUT: Final = (
    f"INSERT INTO audit_outbox (at, old_state, {_AUDITED}) VALUES ((julianday('now') - 2440587.5) * 86400.0, "  # noqa: S608 - our own names
)
_AUDIT_TRIGGERS: Final = {
    "audit_records": f"AFTER INSERT ON request BEGIN {_WRITE_OUT} NULL, {_NEW_ROW}); END",
    "audit_moves": f"AFTER UPDATE OF state ON request BEGIN {_WRITE_OUT} old.state, {_NEW_ROW}); END",
}
CAPTURE: Final = (
    _OUTBOX,
    *(
        statement
        for name, body in _AUDIT_TRIGGERS.items()
        for statement in (f"DROP TRIGGER IF EXISTS {name}", f"CREATE TRIGGER {name} {body}")
    ),
)
"""What lets every transition go into the outbox of the audit log from now on."""

STOP_CAPTURING: Final = tuple(f"DROP TRIGGER IF EXISTS {name}" for name in _AUDIT_TRIGGERS)


def shard_of(shards: int) -> str:
    """Return the SQL that tells which of so many shards has a row: a remainder of its residue, else of its id by a function."""
    return f"shard(id, {shards})" if RESIDUES % shards else f"residue % {shards}"


def shard_indices(shards: int) -> Mapping[str, str]:
    """Return the indices of what is handed out, by their names: each shard's rows stand together, so that a full one costs nothing.

    They are made when the journal is opened for so many shards. The second one finds rows that wait longer than they may.
    """
    pending = "WHERE state = 'pending' AND on_chain = 1"
    shard = shard_of(shards)
    due, stranded = f"request_due_{shards}", f"request_stranded_{shards}"
    return {
        due: f"CREATE INDEX {due} ON request (kind, {shard}, next_attempt, block, log_index, max_wait) {pending}",
        stranded: (
            f"CREATE INDEX {stranded} ON request (kind, {shard}, next_attempt - max_wait, next_attempt, block, log_index) {pending}"
        ),
    }
