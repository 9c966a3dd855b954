"""The transitions of one request as guarded updates, generated from ``model.life``. Never decides which one is due.

Each statement names the states it may leave, so a late or doubled call changes nothing and says so.

What comes over HTTP is one row for ever: its id is the hash of all that it says. So whoever posts it, and however often, is told of the
same work: one operation inserts it, finds it in work or ended, or lets it begin again.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from itertools import groupby
from operator import itemgetter
from typing import TYPE_CHECKING, Any, cast

from kmsconn.errors import KmsconnError, NonceTaken
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.frozen import frozen
from kmsconn.journal.database import Database, counted, listed, off_loop, rides
from kmsconn.journal.queries import LONG_LIST, row
from kmsconn.journal.rows import RESIDUES, Row, appended, line_of, pack_id, pack_log, place_of, signing_detail
from kmsconn.model.life import CLOSED, TRANSITIONS, WAITING, RowCause, State
from kmsconn.model.requests import NO_BLOCK, Kind

if TYPE_CHECKING:
    from sqlite3 import Cursor

LONGEST_WAIT = 60.0  # seconds; the cap of a row that was not deferred with another one
FIRST = -86_400.0  # seconds from now: due before all that was answered today

# What goes back keeps its nonce and bytes: a process that dies before it signs again must know what may still be included.
_UNSIGNED = "nonce = NULL, raw = NULL, reply_hash = NULL"

_AS_NEW = (
    "calldata = NULL, signer = NULL, answered_at = NULL, submitted = 0, cleared = 0, next_attempt = :now, recorded_at = :now, "
    "deadline = :deadline, "
)

# What each transition writes beside state, reason, cause, and the end of any deferral.
_SETS = {
    "answer": "calldata = :calldata, signer = :signer, answered_at = :now, next_attempt = :now, ",
    "deliver": "calldata = :calldata, signer = :signer, answered_at = :now, ",
    "found_finalized": "included_block = :block, ",
    "found_included": "included_block = :block, reply_hash = :reply_hash, ",
    "sign": "nonce = :nonce, raw = :raw, reply_hash = :reply_hash, ",
    "release": "next_attempt = :next_attempt, ",
    "confirm": "included_block = :block, ",
    "finalize": "included_block = :block, ",
    "reoffer": "included_block = NULL, next_attempt = :next_attempt, ",
    "rejudge": f"{_UNSIGNED}, included_block = NULL, next_attempt = :next_attempt, ",
    "resend": "included_block = NULL, next_attempt = :next_attempt, ",
    "restart": f"{_UNSIGNED}, included_block = NULL, next_attempt = :next_attempt, ",
    "reopen": f"{_UNSIGNED}, included_block = NULL, next_attempt = :next_attempt, ",
    "retry": f"{_UNSIGNED}, included_block = NULL, {_AS_NEW}",
    "repeat": f"{_AS_NEW}log = :log, ",
}

_NOT_SKIPPED = f"(cause & {RowCause.SKIPPED.value}) = 0"

# What the state alone does not say: nobody signs for a request that left the chain; without an answer there is nothing to send again;
# without its event, which retention may have cleared, nothing begins again; and what an operator has ended no block begins again.
# What comes over HTTP is repeated by who asks again: where it ended for what may be over, or its answer was cleared.
_ALSO = {
    "sign": "(state = 'signed' OR on_chain = 1)",
    "resend": "calldata IS NOT NULL",
    "reoffer": f"calldata IS NOT NULL AND {_NOT_SKIPPED}",
    "rejudge": f"calldata IS NULL AND {_NOT_SKIPPED}",
    "restart": "state = 'included' AND length(log) > 0",
    "reopen": "length(log) > 0",
    "repeat": (
        f"block = {NO_BLOCK} "
        f"AND ((cause & {RowCause.REPEATABLE.value}) <> 0 OR (state = 'done' AND calldata IS NULL))"
    ),
}

_HURRY = (
    "UPDATE request SET next_attempt = :now WHERE kind = :kind AND residue % {shards} = :shard AND state = 'pending' AND on_chain = 1 "  # noqa: S608 - of our own literals
    f"AND next_attempt > :now AND (cause & {RowCause.REFUSED_BY_CORE.value}) <> 0"
)

_HEAL = (
    "UPDATE request INDEXED BY request_oldest SET next_attempt = :now "
    "WHERE closed_at IS NULL AND next_attempt - max_wait > :now AND state IN ({states})"
)


def _states(states: Iterable[State]) -> str:
    return ", ".join(sorted(f"'{state.value}'" for state in states))


def _guarded(transition: str, of: str = "", rows: str = "= :rid") -> str:
    sources, target = TRANSITIONS[of or transition]
    closes = (
        "closed_at = :closed_at, " if target in CLOSED else "closed_at = NULL, " if sources & CLOSED else ""
    )
    return (
        f"UPDATE request SET state = '{target.value}', deferred = 0, max_wait = {LONGEST_WAIT}, {closes}"  # noqa: S608 - of our own literals
        f"{_SETS.get(transition, '')}reason = :reason, cause = :cause, history = {appended()} "
        f"WHERE rid {rows} AND state IN ({_states(sources)}) AND {_ALSO.get(transition, 'TRUE')}"
    )


# An operator's retry is a restart; ``inspecting.retry`` says of what.
STATEMENTS = {one: _guarded(one) for one in TRANSITIONS} | {"retry": _guarded("retry", "restart")}

_LISTED = "IN (SELECT value FROM json_each(:rids))"
_OF_A_BLOCK = {one: f"{_guarded(one, rows=_LISTED)} RETURNING rid" for one in ("confirm", "finalize")}

OF_ANSWERS = {one for one, (of, to) in TRANSITIONS.items() if State.ANSWERED in {*of, to} and one != "sign"}
"""What changes which replies can be signed, beside signing them."""

_DEFER = (
    "UPDATE request SET next_attempt = :next_attempt, max_wait = :max_wait, reason = :reason, cause = :cause, "  # noqa: S608 - of our own literals
    "deferred = deferred * :again + 1, "
    f"history = CASE WHEN deferred > 0 AND reason = :reason THEN history ELSE {appended()} END, "
    f"submitted = coalesce(:submitted, submitted) WHERE rid = :rid AND state IN ({_states(WAITING)})"
)


RIDING = {"answer": 0.1, "confirm": 0.5, "finalize": 0.5}
"""Within how many seconds transitions are durable that the Core and the chain would tell again. Most are so with the next signature."""


@counted
@rides(lambda _, transition, *__, **___: RIDING.get(transition, 0.0))
def move(
    db: Database,
    /,
    transition: str,
    rid: int,
    *,
    reason: str = "",
    cause: RowCause = RowCause.NONE,
    **values: object,
) -> bool:
    """Apply a transition of ``model.life`` and say whether the row was in a state that allows it.

    ``values`` are what the transition writes beside reason and cause (``_SETS``). A ``block`` that comes with ``found_included`` or
    ``found_finalized`` is the head when a reply was found, which is not below its block; a reorganisation below has it looked for again.
    With ``found_included`` comes a ``reply_hash`` as well, if it is known which transaction carried the reply.
    That of ``finalize`` is not below its reply's either: a fork of before may have lowered the one that is noted.
    """
    now = db.wall()
    db.notes.pop(rid, None)  # nobody asks the Core any more, or all begins anew
    line = line_of(now, transition, reason or _came_with(values), db.stage_times.pop(rid, None))
    values.setdefault("reply_hash", None)
    values.update(rid=rid, closed_at=now, line=line, reason=reason, cause=cause.value)
    moved = db.execute(STATEMENTS[transition], values).rowcount == 1
    db.tick += moved
    if moved and transition in OF_ANSWERS:
        db.answers_tick = db.tick
    return moved


def _came_with(values: Mapping[str, object]) -> str:
    if "nonce" in values:
        return signing_detail(cast("int", values["nonce"]), cast("bytes", values["reply_hash"]))
    return f"block {values['block']}" if values.get("block") is not None else ""


@rides(lambda _, transition, __: RIDING[transition])
@off_loop(lambda _, blocks: len(blocks) > LONG_LIST)
def move_all(db: Database, transition: str, blocks: Collection[tuple[int, int]]) -> set[int]:
    """Confirm or finalize replies by their blocks and rows, as ``move`` does; return the rows that moved."""
    moved, now = set[int](), db.wall()
    with db.savepoint():
        for block, standing in groupby(sorted(blocks), itemgetter(0)):
            line, rids = line_of(now, transition, f"block {block}"), listed([rid for _, rid in standing])
            said = {"block": block, "rids": rids, "closed_at": now, "line": line, "reason": "", "cause": 0}
            moved |= {rid for (rid,) in db.execute(_OF_A_BLOCK[transition], said).fetchall()}
    db.tick += len(moved)
    return moved


@frozen
class Signing:
    """Signed bytes for the reply of a row, with their nonce and hash."""

    rid: int
    nonce: int
    raw: bytes
    reply_hash: bytes


@counted
def sign(db: Database, signing: Signing) -> bool | NonceTaken:
    """ANSWERED and on chain → SIGNED with a nonce ③, or other bytes (and perhaps another nonce) for a SIGNED row.

    NonceTaken stands for a nonce that another SIGNED row of the chain holds.
    """
    try:
        return move(
            db, "sign", signing.rid, nonce=signing.nonce, raw=signing.raw, reply_hash=signing.reply_hash
        )
    except db.driver.conflict:
        return NonceTaken(f"nonce {signing.nonce} belongs to another signed reply")


@counted
def defer(
    db: Database,
    rid: int,
    next_attempt: float,
    reason: str,
    *,
    max_wait: float = LONGEST_WAIT,
    again: bool = True,
    stage: str = "",
    cause: RowCause = RowCause.NONE,
) -> bool:
    """Keep a PENDING or ANSWERED row for later; ``max_wait`` caps the wait of this row. Not ``again``: ``deferred`` begins anew.

    ``stage``: the one that did not pass, for the row's history, which has one line for all deferrals in a row with the same reason.

    No transition, so reads that were asked before still judge it. What was noted of the Core (``note_submitted``) is written with it.
    """
    values = {
        "rid": rid,
        "next_attempt": next_attempt,
        "reason": reason,
        "cause": cause.value,
        "max_wait": max_wait,
        "submitted": db.notes.pop(rid, None),
        "again": again,
        "line": line_of(db.wall(), f"defer {stage}".strip(), reason, db.stage_times.pop(rid, None)),
    }
    return db.execute(_DEFER, values).rowcount == 1


def note_submitted(db: Database, rid: int) -> None:
    """Write down that the Core has a request whose first result may take minutes. Repeating: no effect."""
    db.execute("UPDATE request SET submitted = ? WHERE rid = ?", (True, rid))


def note_mined(db: Database, rid: int, reply_hash: bytes) -> None:
    """Write down which transaction of a SIGNED row is in a block. Repeating: no effect."""
    db.execute("UPDATE request SET reply_hash = ? WHERE rid = ? AND state = 'signed'", (reply_hash, rid))


def heal(db: Database) -> None:
    """Let be due what would wait for longer than it may: the clock was set back. Walks over all open rows. Repeating: no effect."""
    db.execute(_HEAL.format(states=_states(WAITING)), {"now": db.wall()})


def hurry(db: Database, kinds: Collection[Kind], shard: int, shards: int) -> bool:
    """Let what one of so many Cores has refused be due now: it is another one, or another process. Repeating: no effect."""
    statement, now = _HURRY.format(shards=shards), db.wall()
    of_kinds = ({"kind": kind.value, "shard": shard, "now": now} for kind in kinds)
    return sum(db.execute(statement, values).rowcount for values in of_kinds) > 0


_KEEP = (
    "UPDATE request SET choice = CASE WHEN choice = '' THEN ? ELSE choice END WHERE rid = ? RETURNING choice"
)


def keep_choice(db: Database, rid: int, choice: str) -> str:
    """Keep the choice for a row, and return the one that holds: the first one that was kept. Repeating: changes nothing."""
    found = db.execute(_KEEP, (choice, rid)).fetchone()
    return choice if found is None else str(found[0])


_NEW = (
    "INSERT INTO request (chain_id, contract, id, digest, kind, state, on_chain, block, block_hash, transaction_hash, log_index, "
    "next_attempt, max_wait, deadline, recorded_at, log, residue) "
    "VALUES (?, ?, ?, ?, ?, 'pending', 1, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
)
_RETURNING = f"{_NEW} RETURNING rid"


@frozen
class NewRequest:
    """A request with its identity, its content as a log, and until when (chain time) its answer is of use. ``now`` is the wall time."""

    chain_id: int
    contract: Address
    id: int
    kind: Kind
    digest: bytes
    log: Log
    deadline: float
    now: float


def insert(db: Database, requests: Iterable[NewRequest]) -> list[int]:
    """Insert requests as pending and on chain, due at once, and return their rows in the same order."""
    if db.driver.is_remote:
        return [rid for ((rid,),) in db.fetch_each(_RETURNING, (_values(db, new) for new in requests))]
    rids: list[int] = []
    for new in requests:
        rids.append(cast("Cursor", db.execute(_NEW, _values(db, new))).lastrowid or 0)
        db.driver.tally.count(None, None, None, None, new.kind.value, "pending", 1, 0)
    return rids


def _values(db: Database, new: NewRequest) -> tuple[Any, ...]:
    db.tick += 1
    identity = (new.chain_id, new.contract, pack_id(new.id), new.digest, new.kind.value)
    times = (new.now, LONGEST_WAIT, new.deadline, new.now)
    return (*identity, *place_of(new.log), *times, pack_log(new.log), new.id % RESIDUES)


_SAME = "SELECT rid FROM request WHERE chain_id = ? AND contract = ? AND id = ? AND digest = ?"
_PENDING = "SELECT coalesce(sum(rows), 0) FROM tally WHERE kind = ? AND state = 'pending'"

MOST_PENDING = 10_000
"""Requests of a kind that are in work or wait for it: clients that leave give up their turn, and not their work."""


class TooManyPosts(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """So many requests over HTTP are in work that none more is taken."""


def take(db: Database, post: NewRequest) -> tuple[Row | None, bool]:
    """Insert a request that is new, or let one begin again that may. All or nothing.

    Return its row (None: it cannot be read), and whether it begins now, for the first time or again.
    Raises TooManyPosts where it would begin beside ``MOST_PENDING`` others. Repeating: finds the row that the first time made.
    """
    with db.savepoint():
        identity = (post.chain_id, post.contract, pack_id(post.id), post.digest)
        found = db.execute(_SAME, identity).fetchone()
        if found is None:
            [rid], begins = insert(db, [post]), True
        else:
            rid, log, why = found[0], pack_log(post.log), "asked for again"
            begins = move(db, "repeat", rid, reason=why, now=post.now, deadline=post.deadline, log=log)
        db.driver.tally.write(db.execute)
        if begins and db.execute(_PENDING, (post.kind.value,)).fetchone()[0] > MOST_PENDING:
            raise TooManyPosts(f"{MOST_PENDING} requests of this kind are in work")
        return row(db, rid), begins
