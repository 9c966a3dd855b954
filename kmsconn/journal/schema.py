"""The tables of the SQLite journal as data: one list of statements per version. Never opens a database.

A migration that was released is never edited: a change is a further entry of ``MIGRATIONS``. That is why state names stand here as
literals and not as values of ``model.life``; a test compares the two.
"""

from __future__ import annotations

APPLICATION_ID = 0x6B6D7363  # "kmsc": tells a journal from any other SQLite file

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

MIGRATIONS: tuple[tuple[str, ...], ...] = (_FIRST, _MORE_ENDS, _SHARDS)
VERSION = len(MIGRATIONS)
