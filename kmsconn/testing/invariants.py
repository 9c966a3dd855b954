"""Watches a world from outside and says which invariants were broken. Never helps the connector and never repairs anything.

It reads the journal's file as another process would, the chain as it truly is, and the events that the connector tells.
The numbers are those of the invariants in docs/testing.md.
"""

from __future__ import annotations

import sqlite3
from collections import Counter
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.chain.fork import LAGGING
from kmsconn.emulator.blocks import Block, Branch, Mined
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.evm import NodeView
from kmsconn.model import events as told
from kmsconn.model.life import CLOSED, State
from kmsconn.model.requests import DECRYPTION_KINDS, NO_BLOCK, Kind
from kmsconn.replies.view import FINDING_LIFETIME
from kmsconn.testing.ground_truth import SignedReplies, is_request, name_of, replies_of, reply_to, requests_of


@attrs.frozen
class Kept:
    """A row of the journal's file, as much as is looked at."""

    rid: int
    kind: Kind
    id: int
    digest: bytes
    state: State
    on_chain: bool
    answered: bool
    nonce: int | None
    reply_hash: bytes | None
    reason: str
    block: int

    @property
    def over_http(self) -> bool:
        """Whether it came over HTTP and not from a chain."""
        return self.block == NO_BLOCK


_DIGEST = "SELECT digest FROM request WHERE rid = ?"
_KEPT = "SELECT rid, kind, id, digest, state, on_chain, calldata IS NOT NULL, nonce, reply_hash, reason, block FROM request"


def kept_in(journal: Path) -> list[Kept]:
    """Read the committed rows of a journal; none where there is no file."""
    if not journal.exists():
        return []
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        try:
            rows = connection.execute(_KEPT).fetchall()
        except sqlite3.OperationalError:  # killed before the tables were there
            return []
    return [_kept(*row) for row in rows]


def digest_in(journal: Path, rid: int) -> bytes:
    """Return the digest of a committed row's content."""
    with closing(sqlite3.connect(f"file:{journal}?mode=ro", uri=True)) as connection:
        (digest,) = connection.execute(_DIGEST, (rid,)).fetchone()
    assert isinstance(digest, bytes)
    return digest


def _kept(rid: int, kind: str, identifier: bytes, digest: bytes, state: str, *rest: Any) -> Kept:
    on_chain, answered, *others = rest
    where = (rid, Kind(kind), int.from_bytes(identifier), digest, State(state), bool(on_chain))
    return Kept(*where, bool(answered), *others)


GRACE = 15.0  # seconds beside the reorg window, or the settle_time with a low head, in which a reorganisation may not be noticed yet
QUICK_FINALITY = (
    0.75  # of the reorg window: block timestamps are whole seconds, and the pace of blocks is an estimate
)


@attrs.define(eq=False)
class ChainChanges:
    """What was taken away and shown so far, by the names of requests."""

    dependencies: EmulatedDependencies
    reorg_window: float
    _gone_requests: dict[int, float] = attrs.field(factory=dict)
    """When requests left the chain with their blocks, by their names."""
    _gone_final_replies: dict[int, float] = attrs.field(factory=dict)
    """When replies went with blocks that the chain had called final: what is said of those is put right once that is found."""
    _shown_old: dict[int, float] = attrs.field(factory=dict)
    """When the chain, or a node, last showed replies that are old enough to be final under its head, as far as that was noted."""

    def note_gone(self, requests: Iterable[int], final_replies: Iterable[int]) -> None:
        """Note what left the chain with its blocks just now."""
        now = trio.current_time()
        self._gone_requests.update(dict.fromkeys(requests, now))
        self._gone_final_replies.update(dict.fromkeys(final_replies, now))

    def request_must_be_missed(self, name: int) -> bool:
        """Say whether the connector must know by now that a request is gone: it did not go with a block lately."""
        return self._must_be_missed(self._gone_requests, name)

    def reply_must_be_missed(self, name: int) -> bool:
        """Say likewise of a reply that the chain had called final."""
        return self._must_be_missed(self._gone_final_replies, name)

    def note_shown(self) -> None:
        """Note which replies are old where the chain, or a node, shows them now: to be called before a head is taken away."""
        for view in self._views():
            replies = replies_of(self.dependencies, view)
            old = (name for name, one in replies if one.outcome.took_effect and self._is_old(one, view.head))
            self._shown_old.update(dict.fromkeys(old, trio.current_time()))

    def was_shown_old(self, identifier: int) -> bool:
        """Say whether the chain, or a node, shows a reply that is old enough, or did so within an answer's lifetime."""
        self.note_shown()
        since = trio.current_time() - self._shown_old.get(identifier, float("-inf"))
        return since <= FINDING_LIFETIME

    def _views(self) -> list[NodeView]:
        """Return the chain, and the branches that nodes show instead: on any other node nothing is older than on the chain."""
        nodes = [node.view() for node in self.dependencies.clusters["gateway"].nodes]
        return [self.dependencies.gateway.view(), *(view for view in nodes if view.branch is not None)]

    def _is_old(self, mined: Mined, head: Block) -> bool:
        """Say whether a reply may be final where this is the head."""
        deep = head.number - mined.block_number > 2 * self.reorg_window
        return deep or head.timestamp - mined.timestamp >= self.reorg_window * QUICK_FINALITY

    def _must_be_missed(self, gone: dict[int, float], name: int) -> bool:
        since = gone.get(name, float("-inf"))
        return trio.current_time() - since > max(self.reorg_window, LAGGING) + GRACE


@attrs.define(eq=False)
class Invariants:
    """What was seen so far. ``sometimes`` counts the rare things that worlds exist for."""

    dependencies: EmulatedDependencies
    journal: Path
    reorg_window: float
    replies: SignedReplies = attrs.field(init=False)
    violations: list[str] = attrs.field(factory=list)
    sometimes: Counter[str] = attrs.field(factory=Counter)
    _ids: dict[int, int] = attrs.field(factory=dict)
    _others: set[int] = attrs.field(factory=set)
    """Rows of key management, which stand on another chain and are judged by its ground truth alone."""
    _flying: dict[int, int | None] = attrs.field(factory=dict)
    _kept: set[int] = attrs.field(factory=set)
    _signed: set[bytes] = attrs.field(factory=set)
    _changes: ChainChanges = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._changes = ChainChanges(self.dependencies, self.reorg_window)
        self.replies = SignedReplies(self.dependencies.gateway, self.dependencies.sender.address)

    # --- the life of a process

    def born(self) -> None:
        """A process begins: all that it knows is the file."""
        kept = kept_in(self.journal)
        rows = [row for row in kept if self._is_decryption(row.kind)]
        self._others = {row.rid for row in kept} - {row.rid for row in rows}
        self._ids = {row.rid: self.dependencies.generation_events.name(row.kind, row.id) for row in rows}
        self._flying = {row.rid: row.nonce for row in rows if row.state is State.SIGNED}
        self._kept = {row.rid for row in rows if row.answered}

    def killed(self) -> None:
        """A process died: say in the middle of what."""
        rows = [row for row in kept_in(self.journal) if self._is_decryption(row.kind)]
        states = Counter(row.state for row in rows)
        for row in rows:  # it may have died before it could say that it had signed
            if row.reply_hash is not None and row.nonce is not None:
                self._signed.add(row.reply_hash)
                self.replies.note(row.reply_hash, row.digest, row.nonce)
        for state in (State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED):
            self.sometimes[f"killed while something is {state}"] += bool(states[state])

    def reorganised(self, branch: Branch) -> None:
        """Blocks were replaced."""
        mined = [one for block in branch.blocks for one in block.mined]
        replies = {
            found
            for one in mined
            if one.outcome.took_effect and (found := reply_to(self.dependencies, one)) is not None
        }
        generation_events = self.dependencies.generation_events
        logs = (log for one in mined for log in one.logs)
        requests = {name_of(generation_events, log) for log in logs if is_request(generation_events, log)}
        final = len(branch.blocks) > self.dependencies.gateway.finality.depth
        self._changes.note_gone(requests, replies if final else ())
        self.sometimes["a reorganisation took an included reply"] += bool(replies - requests)
        self.sometimes["a reorganisation took an answered request"] += bool(replies & requests)
        self.sometimes["a reorganisation took an open request"] += bool(requests - replies)

    def note_shown(self) -> None:
        """Note which replies are old where the chain, or a node, shows them now: to be called before a head is taken away."""
        self._changes.note_shown()

    # --- what the connector tells

    def hear(self, event: told.Event) -> None:
        """Compare what the connector says with what is true."""
        if isinstance(event, told.RequestRecorded) and not self._is_decryption(event.kind):
            self._others.add(event.rid)
        if getattr(event, "rid", None) in self._others:
            return
        match event:
            case told.RequestRecorded():
                self._ids[event.rid] = self.dependencies.generation_events.name(event.kind, event.id)
            case told.AnswerKept():
                self._expect(event.rid not in self._kept, f"S5: a second answer for row {event.rid}")
                self._kept.add(event.rid)
            case told.ReplySigned():
                self._sign(event)
            case told.ReplyIncluded() | told.ReplyReturned() | told.RequestClosed():
                self._flying.pop(event.rid, None)
            case told.ReplyFinalized():
                self._finalize(event.rid)
            case _:
                pass
        count_rare(self.sometimes, event)

    def _is_decryption(self, kind: Kind) -> bool:
        return kind in DECRYPTION_KINDS or kind in self.dependencies.generation_events.requests.values()

    def _sign(self, event: told.ReplySigned) -> None:
        self._signed.add(event.transaction_hash)
        anew = self.replies.note(event.transaction_hash, digest_in(self.journal, event.rid), event.nonce)
        self.sometimes["a reply was signed anew under another nonce"] += anew
        if event.rid not in self._flying:
            late = self._changes.request_must_be_missed(self._ids.get(event.rid, -1))
            gone = self._ids.get(event.rid) not in {
                name_of(self.dependencies.generation_events, log) for log in requests_of(self.dependencies)
            }
            self._expect(not (gone and late), f"S3: signed for row {event.rid}, which is not on chain")
        others = [rid for rid, nonce in self._flying.items() if nonce == event.nonce and rid != event.rid]
        self._expect(not others, f"S7: rows {event.rid} and {others} hold the nonce {event.nonce}")
        self._flying[event.rid] = event.nonce

    def _finalize(self, rid: int) -> None:
        identifier, head = self._ids.get(rid, -1), self.dependencies.gateway.head
        included = [m for i, m in replies_of(self.dependencies) if i == identifier and m.outcome.took_effect]
        if not included:
            found = self._changes.reply_must_be_missed(identifier)
            self._expect(not found, f"S15: finalized row {rid}, which the contract does not have")
            return
        self._expect(
            self._changes.was_shown_old(identifier),
            f"S15: finalized row {rid} after {head.timestamp - included[0].timestamp} s",
        )

    def _expect(self, holds: bool, text: str) -> None:
        if not holds:
            self.violations.append(f"{trio.current_time():.3f}: {text}")

    # --- the end

    def knows_the_chain(self) -> bool:
        """Say whether the journal holds for on chain what is, and nothing else."""
        rows = [row for row in kept_in(self.journal) if not row.over_http]
        kept = {row.digest for row in rows if row.on_chain and self._is_decryption(row.kind)}
        generation_events = self.dependencies.generation_events
        return kept == {generation_events.content_digest(log) for log in requests_of(self.dependencies)}

    def owed(self) -> list[str]:
        """Say what the connector has not brought to its end yet (S1, S7, S8, L1)."""
        rows = {row.digest: row for row in kept_in(self.journal)}
        owed = []
        for log in requests_of(self.dependencies):
            name = hex(name_of(self.dependencies.generation_events, log))
            row = rows.get(self.dependencies.generation_events.content_digest(log))
            if row is None:
                owed.append(f"S1: {name} is not in the journal")
            elif not row.on_chain:
                owed.append(f"S1: {name} is held for off chain in state {row.state}")
            elif row.state not in CLOSED:
                owed.append(f"L1: {name} is still {row.state} ({row.reason})")
            elif row.state is not State.FINALIZED:
                owed.append(f"S8: {name} ended as {row.state} ({row.reason})")
        owed += [f"S7: row {row.rid} is still signed" for row in rows.values() if row.state is State.SIGNED]
        return owed

    def strangers(self) -> list[str]:
        """Say which included replies were never durable before (S6)."""
        return [
            f"S6: a reply to {hex(identifier)} was sent that was never durable"
            for identifier, mined in replies_of(self.dependencies)
            if mined.transaction.hash not in self._signed
        ]


def count_rare(sometimes: Counter[str], event: told.Event) -> None:
    """Count an event that is one of the rare things that worlds exist for."""
    match event:
        case told.LogQuarantined():
            sometimes["a log was quarantined"] += 1
        case told.RequestClosed(state=State.QUARANTINED):
            sometimes["a request was quarantined"] += 1
        case told.ReplyReturned():
            sometimes[f"a reply went back: {event.reason.split(':')[0][:40]}"] += 1
        case told.ReplyIncluded(found=True):
            sometimes["a reply was found included"] += 1
        case told.RequestsMoved():
            sometimes["a request moved"] += bool(event.moved)
            sometimes["a request left the chain"] += bool(event.gone)
            sometimes["a request came back"] += bool(event.back)
        case _:
            pass
