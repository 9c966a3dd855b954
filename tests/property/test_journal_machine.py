"""The journal against a model of a few lines, over any history of reads, moves, commits and crashes."""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

import attrs
import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmsconn.chain.fork import Checkpoint
from kmsconn.errors import NonceTaken
from kmsconn.journal import moves, queries, recording, retention
from kmsconn.journal.queries import Due
from kmsconn.journal.recording import Arrival, Read, Recorded
from kmsconn.journal.rows import Row
from kmsconn.model.life import CLOSED, TRANSITIONS, WAITING, State
from kmsconn.model.requests import Kind
from tests.sampling import examples
from tests.unit.journal.samples import (
    ANSWER,
    CHAIN,
    CONTRACT,
    arrival,
    bytes32,
    keep,
    opened,
    read_of,
    rewind,
    signing,
    wall,
)

KINDS = list(Kind)
ids = st.integers(1, 4)
rids = st.integers(1, 6)  # some of them are never there
blocks = st.integers(1, 8)
contents = st.sampled_from("ABC")
walls = st.integers(0, 4000).map(float)
nonces = st.integers(0, 3)

HEAD = bytes32("head")


@attrs.define
class Shadow:
    """What the model knows of a row."""

    id: int
    content: bytes
    kind: Kind
    place: tuple[int, bytes, int]
    next_attempt: float
    moved_at: int
    state: State = State.PENDING
    on_chain: bool = True
    max_wait: float = 60.0
    deferred: int = 0
    answer: bool = False
    nonce: int | None = None
    included_block: int | None = None
    submitted: bool = False

    def is_due(self, now: float) -> bool:
        return self.on_chain and self.next_attempt <= now


def place(seen: Arrival) -> tuple[int, bytes, int]:
    return seen.log.block_number, seen.log.block_hash, seen.log.log_index


@attrs.define
class Model:
    """The port's promises, said once more without a database."""

    rows: dict[int, Shadow] = attrs.Factory(dict)
    clock: int = 0
    cursor: int | None = None
    quarantined: dict[tuple[bytes, int], int] = attrs.Factory(dict)
    """The blocks of logs that could not be decoded."""
    kept: dict[int, bytes] = attrs.Factory(dict)

    def touch(self, row: Shadow) -> None:
        self.clock += 1
        row.moved_at = self.clock

    def record(self, read: Read) -> tuple[set[int], int, set[int], set[int]]:
        """Return new rows, how many moved, and which ones went and came back."""
        before = {rid: row.on_chain for rid, row in self.rows.items()}
        shown = [
            one for one in read.arrivals if read.headers.get(place(one)[0], place(one)[1]) == place(one)[1]
        ]
        seen = {each.id: each for each in sorted(shown, key=lambda seen: place(seen)[::2])}
        seen = {id_: each for id_, each in seen.items() if not self.is_doubtful(each, read)}
        found = {self.find(each, read) for each in seen.values()}
        again = {rid for rid in found if self.is_judged_anew(self.rows[rid], seen[self.rows[rid].id])}
        moved = sum(self.put(self.rows[rid], seen[self.rows[rid].id]) for rid in found)
        for rid in again:
            if not self.move("reoffer", rid, next_attempt=read.now, included_block=None):
                self.move("rejudge", rid, next_attempt=read.now, included_block=None, nonce=None)
        for rid, row in self.rows.items():
            other = rid not in found and row.id in seen
            if row.on_chain and (other or read.headers.get(row.place[0], row.place[1]) != row.place[1]):
                row.on_chain = False
                self.touch(row)
        self.cursor = max(self.cursor or 0, read.cursor)
        self.kept |= {} if read.head is None else {read.head.number: read.head.hash}
        new = found - before.keys()
        gone = {rid for rid, flag in before.items() if flag and not self.rows[rid].on_chain}
        back = {rid for rid, flag in before.items() if not flag and self.rows[rid].on_chain}
        return new, moved, gone, {rid for rid in back if self.rows[rid].state not in CLOSED} | again

    def is_doubtful(self, seen: Arrival, read: Read) -> bool:
        """Say whether the header is wanted: the id is known, and does not stand there."""
        known = [row for row in self.rows.values() if row.id == seen.id]
        stands = any(row.on_chain and (row.content, row.place) == (seen.digest, place(seen)) for row in known)
        in_range = read.blocks[0] <= place(seen)[0] <= read.blocks[1]
        return bool(known) and not (stands and in_range) and place(seen)[0] not in read.headers

    def is_judged_anew(self, row: Shadow, seen: Arrival) -> bool:
        return row.state in {State.REJECTED, State.DONE} and row.place[:2] != place(seen)[:2]

    def rewind(self, fork: int, due: float) -> tuple[int, int]:
        """Return how many replies went back, and how many requests left the chain."""
        if self.cursor is None:  # a chain of which nothing was read
            self.kept = {number: hash_ for number, hash_ in self.kept.items() if number <= fork} | {90: HEAD}
            return 0, 0
        self.cursor = min(self.cursor, fork + 1)
        self.kept = {number: hash_ for number, hash_ in self.kept.items() if number <= fork} | {90: HEAD}
        self.quarantined = {key: block for key, block in self.quarantined.items() if block <= fork}
        returned = sum(
            self.move("resend", rid, next_attempt=due, included_block=None)
            or self.move("restart", rid, next_attempt=due, included_block=None, nonce=None)
            or self.move("reopen", rid, next_attempt=due, included_block=None, nonce=None)
            for rid, row in self.rows.items()
            if (row.state in {State.INCLUDED, State.FINALIZED} and (row.included_block or 0) > fork)
            or (row.state is State.FINALIZED and row.on_chain and row.place[0] > fork)
        )
        gone = [row for row in self.rows.values() if row.on_chain and row.place[0] > fork]
        for row in gone:
            row.on_chain = False
            self.touch(row)
        return returned, len(gone)

    def find(self, seen: Arrival, read: Read) -> int:
        for rid, row in self.rows.items():
            if (row.id, row.content) == (seen.id, seen.digest):
                return rid
        rid = len(self.rows) + 1
        self.rows[rid] = Shadow(seen.id, seen.digest, seen.kind, place(seen), read.now, 0)
        self.touch(self.rows[rid])
        return rid

    def put(self, row: Shadow, seen: Arrival) -> bool:
        moved = row.place != place(seen)
        if moved or not row.on_chain:
            row.place, row.on_chain = place(seen), True
            self.touch(row)
        return moved

    def may(self, transition: str, rid: int) -> bool:
        row = self.rows.get(rid)
        if row is None or row.state not in TRANSITIONS[transition][0]:
            return False
        if transition == "sign":
            return row.state is State.SIGNED or row.on_chain
        if transition in {"resend", "reoffer"}:
            return row.answer
        if transition == "rejudge":
            return not row.answer
        return transition != "restart" or row.state is State.INCLUDED

    def move(self, transition: str, rid: int, **values: object) -> bool:
        if not self.may(transition, rid):
            return False
        row = self.rows[rid]
        row.state, row.deferred, row.max_wait = TRANSITIONS[transition][1], 0, 60.0
        for name, value in values.items():
            setattr(row, name, value)
        self.touch(row)
        return True

    def signed_with(self, nonce: int) -> int | None:
        return next(
            (rid for rid, row in self.rows.items() if row.state is State.SIGNED and row.nonce == nonce), None
        )


def shadow_of(row: Row, moved_at: int) -> Shadow:
    return Shadow(
        row.id,
        row.event.digest,
        row.kind,
        (row.event.log.block_number, row.event.log.block_hash, row.event.log.log_index),
        row.progress.next_attempt,
        moved_at,
        row.state,
        row.on_chain,
        0.0,
        row.progress.deferred,
        row.answer is not None,
        row.reply.nonce,
        row.reply.included_block,
        row.progress.submitted,
    )


CLOSINGS = ("expire", "reject", "quarantine", "found_finalized", "finish", "abort")


class JournalMachine(RuleBasedStateMachine):
    """Each rule does the same to the journal and to the model; after each the two must agree."""

    def __init__(self) -> None:
        super().__init__()
        self.folder = tempfile.TemporaryDirectory()
        self.path = Path(self.folder.name) / "journal.db"
        self.db = opened(self.path, shards=3)
        self.db.begin()
        self.model = Model()
        self.durable = copy.deepcopy(self.model)

    def teardown(self) -> None:
        self.db.close()
        self.folder.cleanup()

    # --- intake

    @rule(
        data=st.data(),
        first=blocks,
        span=st.integers(-1, 8),
        now=walls,
        cursor=st.integers(0, 20),
        headers=st.dictionaries(blocks, st.sampled_from(["", "'"])),
    )
    def record(  # noqa: PLR0917
        self, data: st.DataObject, first: int, span: int, now: float, cursor: int, headers: dict[int, str]
    ) -> None:
        arrivals = [self.draw_arrival(data) for _ in range(data.draw(st.integers(0, 5)))]
        hashes = {number: bytes32(f"block {number}{fork}") for number, fork in headers.items()}
        read = read_of(*arrivals, blocks=(first, first + span), now=now, cursor=cursor, headers=hashes)
        self.agree(recording.record(self.db, read), *self.model.record(read))

    @rule(keep=blocks, forget=st.sets(blocks), fork=st.sampled_from("AB"))
    def keep_hashes(self, keep: int, forget: set[int], fork: str) -> None:
        read = read_of(blocks=(1, 0), cursor=0, head=Checkpoint(keep, bytes32(f"{keep}{fork}")))
        recording.record(self.db, read)
        self.model.record(read)
        retention.forget(self.db, CHAIN, sorted(forget))
        self.model.kept = {number: hash_ for number, hash_ in self.model.kept.items() if number not in forget}

    @rule(fork=st.integers(0, 8))
    def rewind(self, fork: int) -> None:
        done = rewind(self.db, fork)
        assert (len(done.returned), done.gone) == self.model.rewind(fork, self.db.wall() + moves.FIRST)
        again = rewind(self.db, fork)
        assert (len(again.returned), again.gone) == (0, 0)
        self.model.rewind(fork, self.db.wall() + moves.FIRST)

    @rule(data=st.data(), block=blocks)
    def a_read_that_cannot_be_kept(self, data: st.DataObject, block: int) -> None:
        """One id does not fit: nothing of the whole read stays, as ``the_two_agree`` sees."""
        arrivals = [self.draw_arrival(data) for _ in range(data.draw(st.integers(0, 3)))]
        read = read_of(*arrivals, arrival(2**256, block), blocks=(1, 8), cursor=99)
        with pytest.raises(OverflowError):
            recording.record(self.db, read)

    def draw_arrival(self, data: st.DataObject) -> Arrival:
        id_, content, block = data.draw(ids), data.draw(contents), data.draw(blocks)
        fork, index = data.draw(st.sampled_from(["", "'"])), data.draw(st.integers(0, 2))
        return arrival(id_, block, content, fork=fork, index=index, kind=KINDS[id_ % 2])

    def agree(self, said: Recorded, new: set[int], moved: int, gone: set[int], back: set[int]) -> None:
        assert ({rid for rid, _ in said.new}, said.moved, said.gone) == (new, moved, len(gone))
        assert {rid for rid, _ in said.back} == back

    @rule(block=blocks, index=st.integers(0, 2))
    def quarantine_log(self, block: int, index: int) -> None:
        log = arrival(1, block, index=index).log
        key = (log.block_hash, log.log_index)
        read = read_of(blocks=(1, 0), cursor=0, undecodable=((log, "no"),))
        assert len(recording.record(self.db, read).quarantined) == (key not in self.model.quarantined)
        self.model.record(read)
        self.model.quarantined.setdefault(key, block)

    # --- moves

    @rule(rid=rids, now=walls)
    def answer(self, rid: int, now: float) -> None:
        assert keep(self.db, rid, ANSWER, now) == self.model.move(
            "answer", rid, answer=True, next_attempt=now
        )

    @rule(rid=rids, nonce=nonces)
    def sign(self, rid: int, nonce: int) -> None:
        holder = self.model.signed_with(nonce)
        taken = holder not in {None, rid} and self.model.may("sign", rid)
        signed = moves.sign(self.db, signing(rid, nonce))
        assert isinstance(signed, NonceTaken) == taken
        if not taken:
            assert signed == self.model.move("sign", rid, nonce=nonce)

    @rule(rid=rids, now=walls)
    def release(self, rid: int, now: float) -> None:
        moved = moves.move(self.db, "release", rid, next_attempt=now, reason="")
        assert moved == self.model.move("release", rid, next_attempt=now)

    @rule(rid=rids, transition=st.sampled_from(["confirm", "found_included", "finalize"]), block=blocks)
    def confirm(self, rid: int, transition: str, block: int) -> None:
        moved = moves.move(self.db, transition, rid, block=block)
        assert moved == self.model.move(transition, rid, included_block=block)

    @rule(rid=rids, transition=st.sampled_from(["resend", "restart", "rejudge"]), now=walls)
    def unland(self, rid: int, transition: str, now: float) -> None:
        moved = moves.move(self.db, transition, rid, next_attempt=now, reason="")
        kept = {} if transition == "resend" else {"nonce": None}
        assert moved == self.model.move(transition, rid, next_attempt=now, included_block=None, **kept)

    @rule(rid=rids, transition=st.sampled_from(sorted(CLOSINGS)))
    def end(self, rid: int, transition: str) -> None:
        block = 1 if transition == "reopen" else None
        found = {"included_block": block} if transition in {"found_finalized", "reopen"} else {}
        moved = moves.move(self.db, transition, rid, reason="", block=block)
        assert moved == self.model.move(transition, rid, **found)

    @rule(
        rid=rids,
        next_attempt=walls,
        max_wait=st.sampled_from([60.0, 3600.0]),
        noted=st.sampled_from([None, True, False]),
    )
    def defer(self, rid: int, next_attempt: float, max_wait: float, noted: bool | None) -> None:
        row = self.model.rows.get(rid)
        waits = row is not None and row.state in WAITING
        if noted is not None:
            self.db.notes[rid] = noted
        assert moves.defer(self.db, rid, next_attempt, "later", max_wait=max_wait) == waits
        if row is not None and waits:
            row.next_attempt, row.max_wait, row.deferred = next_attempt, max_wait, row.deferred + 1
            row.submitted = row.submitted if noted is None else noted

    @rule(now=walls)
    def heal(self, now: float) -> None:
        self.db.wall = lambda: now
        moves.heal(self.db)
        self.db.wall = wall
        for row in self.model.rows.values():
            if row.state in WAITING and row.next_attempt - row.max_wait > now:
                row.next_attempt = now

    # --- questions

    @rule(
        kind=st.sampled_from(KINDS),
        now=walls,
        limit=st.integers(0, 4),
        busy=st.sets(rids, max_size=3),
        without=st.sets(st.integers(0, 2)),
    )
    def due(self, kind: Kind, now: float, limit: int, busy: set[int], without: set[int]) -> None:
        found = queries.due(self.db, [kind], now, limit, frozenset(busy), without=frozenset(without))
        open_ = [
            (rid, row)
            for rid, row in self.of(State.PENDING)
            if row.kind is kind and rid not in busy and row.id % 3 not in without
        ]
        by_time = sorted(open_, key=lambda each: (each[1].next_attempt, each[1].place[::2]))
        order = [rid for rid, row in by_time if row.is_due(now)]
        self.agree_on_due(
            found, order, now, limit, {row.next_attempt for _, row in open_ if not row.is_due(now)}
        )

    @rule(now=walls, limit=st.integers(0, 4))
    def answered(self, now: float, limit: int) -> None:
        found = queries.answered(self.db, CHAIN, now, limit)
        open_ = self.of(State.ANSWERED)
        order = [rid for rid, row in sorted(open_, key=lambda each: each[1].place[::2]) if row.is_due(now)]
        self.agree_on_due(
            found, order, now, limit, {row.next_attempt for _, row in open_ if not row.is_due(now)}
        )

    def of(self, state: State) -> list[tuple[int, Shadow]]:
        return [(rid, row) for rid, row in self.model.rows.items() if row.state is state and row.on_chain]

    def agree_on_due(
        self, found: Due, order: list[int], now: float, limit: int, later: Iterable[float]
    ) -> None:
        places = {rid: self.model.rows[rid].place[::2] for rid in order}
        given = [row.rid for row in found.rows]
        assert [places[rid] for rid in given] == [
            places[rid] for rid in order[:limit]
        ]  # rows of one place in any order
        assert len(set(given)) == len(given)
        if len(order) > limit:
            assert found.next_due is not None
            assert found.next_due <= now
        else:
            assert found.next_due == min(later, default=None)

    @rule(up_to=blocks)
    def manage(self, up_to: int) -> None:
        flying = {row.nonce: rid for rid, row in self.model.rows.items() if row.state is State.SIGNED}
        assert [row.rid for row in queries.signed(self.db, CHAIN)] == [
            flying[nonce] for nonce in sorted(flying, key=str)
        ]
        deep = {
            rid
            for rid, row in self.model.rows.items()
            if row.state is State.INCLUDED and (row.included_block or 0) <= up_to
        }
        assert {row.rid for row in queries.included(self.db, CHAIN, up_to, 99)} == deep

    @rule(now=walls)
    def counts(self, now: float) -> None:
        said = queries.counts(self.db, now)
        rows = list(self.model.rows.values())
        assert said.states == {
            (kind, state): n
            for kind in Kind
            for state in State
            if (n := sum((r.kind, r.state) == (kind, state) for r in rows))
        }
        assert said.off_chain == sum(not row.on_chain and row.state not in CLOSED for row in rows)
        assert said.quarantined_logs == len(self.model.quarantined)

    @rule(rid=rids)
    def sibling(self, rid: int) -> None:
        ours = self.model.rows.get(rid)
        expected = ours is not None and sum(row.id == ours.id for row in self.model.rows.values()) > 1
        assert queries.has_sibling(self.db, rid) == expected

    # --- the disk

    @rule()
    def commit(self) -> None:
        self.db.commit()
        self.db.begin()
        self.durable = copy.deepcopy(self.model)

    @precondition(lambda self: self.model != self.durable)
    @rule()
    def crash(self) -> None:
        """Lose what was not committed, and the questions that were under way."""
        self.db.close()
        self.db = opened(self.path, shards=3)
        self.db.begin()
        self.model = copy.deepcopy(self.durable)

    @rule(rid=rids)
    def an_operation_that_raises(self, rid: int) -> None:
        with suppress(LookupError), self.db.savepoint():
            keep(self.db, rid, ANSWER, 1.0)
            raise LookupError

    # --- always

    @invariant()
    def the_two_agree(self) -> None:
        for rid, shadow in self.model.rows.items():
            row = queries.row(self.db, rid)
            assert row is not None
            assert shadow_of(row, shadow.moved_at) == attrs.evolve(shadow, max_wait=0.0)
        assert self.db.execute("SELECT count(*) FROM request").fetchone() == (len(self.model.rows),)
        known = queries.progress(self.db, CHAIN, CONTRACT)
        assert (None if known is None else known.next_block) == self.model.cursor
        kept = queries.followed(self.db, CHAIN).kept
        assert kept == tuple(Checkpoint(*one) for one in sorted(self.model.kept.items()))

    @invariant()
    def an_id_stands_once_in_a_chain(self) -> None:
        twice = (
            "SELECT id FROM request WHERE on_chain = 1 GROUP BY chain_id, contract, id HAVING count(*) > 1"
        )
        assert self.db.execute(twice).fetchall() == []

    @invariant()
    def bytes_and_nonce_belong_together(self) -> None:
        odd = "SELECT rid FROM request WHERE (nonce IS NULL) <> (raw IS NULL) OR (state = 'signed' AND raw IS NULL)"
        assert self.db.execute(odd).fetchall() == []


JournalMachine.TestCase.settings = settings(max_examples=examples(60), stateful_step_count=40, deadline=None)
TestJournalMachine = JournalMachine.TestCase
