"""What the connector does against each fault, switched off one at a time: patches that must turn a world red. Never used elsewhere.

Each mutation names the promise that it breaks; ``tests/faults/test_mutations.py`` holds the world that notices it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import SimpleNamespace
from typing import Any

import attrs
import trio

from kmsconn.chain.follower import Follower, HeadTracker
from kmsconn.chain.logs import read_logs
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.core import statuses
from kmsconn.errors import Broken, Denied, Refused, Rejected, RejectedByCore, Unreachable
from kmsconn.ethereum.ids import make_id
from kmsconn.journal import moves, recording, retention, schema
from kmsconn.journal.queries import JournalPlace, ReadUpTo
from kmsconn.model.life import Gathered
from kmsconn.observe import server as monitoring
from kmsconn.operate.control import server
from kmsconn.protocols.fhevm import contexts, decryptions, operations
from kmsconn.protocols.fhevm.contracts import GatewayViews
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Meaning, Verdict
from kmsconn.replies import asking, table
from kmsconn.replies import plan as nonces
from kmsconn.replies.answers import Accepts, Question
from kmsconn.replies.asking import read_finding
from kmsconn.replies.state import Tracks
from kmsconn.requests import components, decoding, dispatcher, failures, range_reader, reader, stage_runner
from kmsconn.requests.checker import Checker
from kmsconn.requests.completeness import Completeness
from kmsconn.requests.contexts import Contexts, Destruction, Shared
from kmsconn.requests.cursor import Cursor, plan
from kmsconn.requests.decoding import DecodeCache
from kmsconn.requests.failures import RULES, SOON, Rule, Waits
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.range_reader import WatchedContract
from kmsconn.requests.reader import first_head
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.stages import Stages
from kmsconn.serving import wire
from kmsconn.transport.grpc.framing import Status

Patch = Callable[[Any], None]


def no_reorg_window(monkeypatch: Any) -> None:
    """The reader never reads a block twice."""
    honest = plan
    monkeypatch.setattr(reader, "plan", lambda cursor, head, _again=None: honest(cursor, head))
    ids_not_counted(monkeypatch)


def ids_not_counted(monkeypatch: Any) -> None:
    """Nobody compares the ids that are known with the contract's counters: the net beneath the reading again."""

    async def sleep(_proof: Completeness) -> None:
        await trio.sleep_forever()

    monkeypatch.setattr(Completeness, "run", sleep)


def absence_is_believed(monkeypatch: Any) -> None:
    """What a read leaves out is off chain, without a look at its header."""
    honest = recording._record

    def believe(db: Any, read: Any) -> Any:
        place = (read.chain_id, read.contract, *read.blocks)
        stood = {tuple(one): rid for rid, *one in db.execute(recording._IN_RANGE, place)}
        shown = {recording._standing(one) for one in read.arrivals}
        recorded = honest(db, read)
        recording._drop(db, [rid for one, rid in stood.items() if one not in shown], recorded)
        return recorded

    monkeypatch.setattr(recording, "_record", believe)


def settled_by_the_clock(monkeypatch: Any) -> None:
    """What is older than the reorg window is settled, whether or not anybody read it again."""

    def settled(ranges: range_reader.RangeReader) -> int:
        head, window = ranges.contract.head, ranges.contract.reorg_window
        return max(ranges.progress.settled, (head.number or 0) - math.ceil(window / head.block_time))

    monkeypatch.setattr(range_reader.RangeReader, "settled", property(settled))
    ids_not_counted(monkeypatch)


def identity_without_content(monkeypatch: Any) -> None:
    """A request is its id, whatever it asks for."""
    monkeypatch.setattr(Fhevm, "digest", lambda _self, log: log.topics[1])


def absence_ignored(monkeypatch: Any) -> None:
    """No request ever leaves the chain for the journal, so nothing keeps one from being handed out and signed."""
    monkeypatch.setattr(recording, "_drop", lambda *_: None)
    monkeypatch.setattr(retention, "_OFF", "UPDATE request SET on_chain = on_chain WHERE rid < 0")


def a_move_begins_anew(monkeypatch: Any) -> None:
    """Known content at another place is worked on again."""
    monkeypatch.setattr(
        recording,
        "_HERE",
        recording._HERE.replace("on_chain = 1,", "on_chain = 1, state = 'pending', next_attempt = 0,"),
    )


def restart_at_the_head(monkeypatch: Any) -> None:
    """A start reads from the head on, not from where the last process ended."""

    async def at_head(contract: WatchedContract) -> Any:
        await contract.chain_context.follower.load()
        head = await first_head(contract)
        now = ReadUpTo(head.number, head.number - 1, head.number - 1, float(head.timestamp))
        return Cursor(head.number, size=100, origin=head.number), now

    async def nothing(_ranges: range_reader.RangeReader) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(reader, "begin_reading", at_head)
    monkeypatch.setattr(reader, "read_once_more", nothing)
    ids_not_counted(monkeypatch)


def deaf_without_pushes(monkeypatch: Any) -> None:
    """Nobody reads unless a push notifies."""

    async def follow(self: reader.LogReader) -> None:
        while True:
            await self._round()
            await self.wake_up.wait()

    monkeypatch.setattr(reader.LogReader, "_follow", follow)


def one_bad_log_stops_everything(monkeypatch: Any) -> None:
    """The reader stands still before a log that cannot be read."""
    honest = DecodeCache.decode

    def decode(self: DecodeCache, logs: Any) -> Any:
        decoded = honest(self, logs)
        for _, reason in decoded.undecodable:
            raise Unreachable(reason)
        return decoded

    monkeypatch.setattr(DecodeCache, "decode", decode)


def removed_logs_are_an_answer(monkeypatch: Any) -> None:
    """A node that shows logs of blocks it has left is believed about the blocks that it has."""
    honest = read_logs

    async def trusting(*arguments: Any, **named: Any) -> Any:
        return attrs.evolve(await honest(*arguments, **named), trusted=True)

    monkeypatch.setattr(range_reader, "read_logs", trusting)
    ids_not_counted(monkeypatch)


def forks_not_found(monkeypatch: Any) -> None:
    """Nobody compares kept block hashes with the chain's."""

    async def trusting(_follower: Follower, *_arguments: Any) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    monkeypatch.setattr(Follower, "judge", trusting)


def the_proof_of_a_fork_forgotten(monkeypatch: Any) -> None:
    """The head that proved a fork is not kept: until another one is read, a node that stayed on the old branch passes for the same."""
    monkeypatch.setattr(retention, "CHECKPOINT", "SELECT ?, ?, ?")


def headers_not_compared(monkeypatch: Any) -> None:
    """Nobody compares what nodes show of a block, or showed of it, with its header."""

    async def agree(*_: Any) -> bool:
        await trio.lowlevel.checkpoint()
        return True

    monkeypatch.setattr(reader.LogReader, "_agree", agree)
    monkeypatch.setattr(recording, "_true", lambda read, _changes: iter(read.arrivals))
    monkeypatch.setattr(recording, "REPLACED", f"{recording.REPLACED} AND rid < 0")


def final_whatever_becomes_of_the_block(monkeypatch: Any) -> None:
    """A reply that was final once stays so when its block goes."""
    monkeypatch.setattr(
        retention, "_REPLIED", "SELECT rid, kind, id FROM request WHERE :chain = :contract AND :fork = 0"
    )


def the_window_waits_for_its_turn(monkeypatch: Any) -> None:
    """Neither the first round nor the one after a new subscription reads the reorg window again."""
    honest = reader.LogReader.of

    def make(*arguments: Any) -> reader.LogReader:
        made = honest(*arguments)
        made.ranges.read_again_at = trio.current_time() + made.contract.reorg_window / 4
        return made

    monkeypatch.setattr(reader.LogReader, "_take_push", lambda self, _push: self.wake_up.notify())
    monkeypatch.setattr(reader.LogReader, "of", make)


def who_came_back_wakes_nobody(monkeypatch: Any) -> None:
    """A request that is on chain again waits for the dispatcher's next look."""
    honest = decoding.tell_recorded

    def tell(components: Any, chain_id: int, recorded: Any) -> None:
        honest(components, chain_id, attrs.evolve(recorded, back=()))

    monkeypatch.setattr(range_reader, "tell_recorded", tell)


def the_arrived_answer_is_not_shielded(monkeypatch: Any) -> None:
    """A drain ends the keeping of an answer that has arrived."""

    @contextmanager
    def unshielded(**how: Any) -> Iterator[Any]:
        with trio.CancelScope(**how):
            yield SimpleNamespace(shield=False, deadline=math.inf)

    monkeypatch.setattr(stage_runner, "trio", _Other(trio, CancelScope=unshielded))


class _Other:
    """A module with some names replaced."""

    def __init__(self, module: Any, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def signed_whatever_the_estimate_says(monkeypatch: Any) -> None:
    """A nonce is burnt on a reply that the contract would not take."""
    monkeypatch.setattr(
        asking,
        "read_finding",
        lambda profile, track, question, result: (
            Accepts(500_000)
            if question is Question.ESTIMATE
            else read_finding(profile, track, question, result)
        ),
    )


def nonces_from_the_chain_alone(monkeypatch: Any) -> None:
    """The next nonce is the chain's, whoever flies on it."""
    lenient = tuple(
        tuple(text.replace("UNIQUE INDEX request_nonce", "INDEX request_nonce") for text in migration)
        for migration in schema.MIGRATIONS
    )
    monkeypatch.setattr("kmsconn.journal.sqlite.MIGRATIONS", lenient)
    honest = nonces.plan
    monkeypatch.setattr(nonces, "plan", lambda chain, _in_flight, _high, *rest: honest(chain, (), 0, *rest))
    monkeypatch.setattr(Tracks, "nonces", frozenset())


def done_is_a_failure(monkeypatch: Any) -> None:
    """The contract's "already signed" is a revert like any other."""
    monkeypatch.setattr(table, "is_done", lambda _: False)


def deadline_by_the_wall(monkeypatch: Any) -> None:
    """A request expires by this machine's clock."""
    honest = Pipeline.run

    async def run(self: Pipeline, row: Any) -> None:
        if self.outcomes.wall() > row.progress.deadline:
            await self.outcomes.close(row, "expire", "by the wall clock")
        else:
            await honest(self, row)

    monkeypatch.setattr(Pipeline, "run", run)


def stranded_by_the_clock(monkeypatch: Any) -> None:
    """A row whose next try lies hours away waits for hours."""
    monkeypatch.setattr(moves, "_HEAL", moves._HEAL.replace("next_attempt - max_wait > :now", "FALSE"))


def already_exists_is_a_failure(monkeypatch: Any) -> None:
    """The Core's "I have that already" rejects the request."""
    monkeypatch.setattr(statuses, "START", {**statuses.START, Status.ALREADY_EXISTS: Rejected})


def unavailable_is_a_failure(monkeypatch: Any) -> None:
    """A Core that is not there rejects the request."""
    monkeypatch.setattr(statuses, "START", {**statuses.START, Status.UNAVAILABLE: Rejected})
    monkeypatch.setattr(statuses, "UNSPOKEN", dict.fromkeys(Status, Rejected))


def the_core_is_believed(monkeypatch: Any) -> None:
    """What the Core says of a decryption ends it."""
    for error in (RejectedByCore, Refused, Broken):
        monkeypatch.setitem(RULES, error, Rule("reject"))


def waiting_holds_the_worker(monkeypatch: Any) -> None:
    """A deferred request keeps its place in the pool until its next try."""
    honest = RowOutcomes._defer

    async def defer(self: RowOutcomes, row: Any, error: Any, wait: Waits) -> None:
        await trio.sleep(wait.seconds)
        await honest(self, row, error, attrs.evolve(wait, seconds=0.0))

    monkeypatch.setattr(RowOutcomes, "_defer", defer)


def any_bytes_taken(monkeypatch: Any) -> None:
    """A ciphertext is what the bucket gives, whatever digest the chain names."""
    monkeypatch.setattr(Fetcher, "_refuse", lambda *_: None)


def some_ciphertexts_are_enough(monkeypatch: Any) -> None:
    """What could be fetched is sent, the rest left out."""

    async def gather(self: Stages, checked: Any, lease: Any) -> Gathered:
        found = []
        for material in checked.request.content.references:
            with suppress(Unreachable):
                found.append(await self.fetcher.fetch(material, lease))
        return Gathered(checked.request, checked.context_id, checked.epoch_id, tuple(found))

    monkeypatch.setattr(Stages, "gather", gather)


def no_version_byte(monkeypatch: Any) -> None:
    """Extra data of one zero byte and none at all are taken for different things."""
    monkeypatch.setattr(decryptions, "normalise_extra_data", lambda extra_data: extra_data)


def answered_is_not_asked(monkeypatch: Any) -> None:
    """After a lost journal nobody asks whether this node has answered."""

    async def pass_by(_self: Checker, _request: Any) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Checker, "_not_answered", pass_by)


# --- waiting that ends, questions that are not asked in vain; ``tests/faults/test_waiting_mutations.py`` plays these


def denied_like_any_wait(monkeypatch: Any) -> None:
    """A host chain's "no" is asked again every minute."""
    monkeypatch.setitem(RULES, Denied, Rule(SOON))


def each_asks_for_itself(monkeypatch: Any) -> None:
    """What one request was told about its context says nothing to the others."""
    monkeypatch.setattr(Shared, "recall", lambda *_: None)


def kept_answers_are_sent(monkeypatch: Any) -> None:
    """A destruction ends no answer that is kept already."""

    async def nothing(*_: Any) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Destruction, "_end_answered", nothing)


def checked_once(monkeypatch: Any) -> None:
    """Nobody looks at a context again once the Core has the request."""

    async def nothing(*_: Any) -> None:
        await trio.lowlevel.checkpoint()

    monkeypatch.setattr(Checker, "recheck", nothing)
    monkeypatch.setattr(Contexts, "refuse_destroyed", lambda *_: None)


def invalid_context_is_waited_for(monkeypatch: Any) -> None:
    """What the Gateway says of a destroyed context is taken for a node that lags."""

    def lagging(_contexts: GatewayViews, _context_id: int) -> Any:
        yield from ()
        return Verdict.RETRY

    monkeypatch.setattr(GatewayViews, "after_invalid", lagging)


def strictly_in_order(monkeypatch: Any) -> None:
    """While the first of contexts and epochs waits, so do those behind it."""
    monkeypatch.setattr(
        dispatcher, "free_to_begin", lambda line, busy: [one for one in line[:1] if one.rid not in busy]
    )


def an_end_ends_nothing(monkeypatch: Any) -> None:
    """What is made goes on being made after its destruction."""
    monkeypatch.setattr(dispatcher, "ended", lambda _: [])


def a_refused_end_is_given_up(monkeypatch: Any) -> None:
    """What a Core says to a destruction counts as it does for any start."""
    for status_name in ("INTERNAL", "FAILED_PRECONDITION"):
        monkeypatch.delitem(contexts.UNTIL_DONE, status_name)


def nothing_destroyed_is_a_wait(monkeypatch: Any) -> None:
    """A Core that has nothing of what is to be destroyed is asked again."""
    monkeypatch.setitem(contexts.UNTIL_DONE, "NOT_FOUND", Meaning.WAIT)


def taken_ids_are_silence(monkeypatch: Any) -> None:
    """Nobody minds an id that the Core says to have."""
    honest = failures.reason_of

    def silent(*args: Any, taken: bool, **named: Any) -> Any:
        return None if taken else honest(*args, taken=False, **named)

    monkeypatch.setattr(stage_runner, "reason_of", silent)


# --- the two ports, ids, and the mark of the proof; ``tests/faults/test_waiting_mutations.py`` plays these


def ids_without_leading_zeros(monkeypatch: Any) -> None:
    """An id goes to the Core as a number is written, not as 64 digits."""
    monkeypatch.setattr(operations, "id_hex", lambda identifier: f"{identifier:x}")
    monkeypatch.setattr(
        operations, "request_id", operations.request_id.__wrapped__
    )  # what was written once is kept


def probes_may_take_for_ever(monkeypatch: Any) -> None:
    """A client of the monitoring port may ask as slowly as it likes."""
    bounds = attrs.evolve(monitoring.BOUNDS, idle=math.inf, request=math.inf)
    monkeypatch.setattr(monitoring, "BOUNDS", bounds)


def metrics_may_be_left_unread(monkeypatch: Any) -> None:
    """A client of the monitoring port may take its answer as slowly as it likes."""
    monkeypatch.setattr(monitoring, "BOUNDS", attrs.evolve(monitoring.BOUNDS, answer=math.inf))


def probes_of_any_size(monkeypatch: Any) -> None:
    """The head of a request to a port has no limit."""
    monkeypatch.setattr(wire, "HEAD_BYTES", 1 << 30)


def commands_may_take_for_ever(monkeypatch: Any) -> None:
    """A client of the control socket may ask as slowly as it likes."""
    monkeypatch.setattr(server, "READING", math.inf)


def results_may_be_left_unread(monkeypatch: Any) -> None:
    """A client of the control socket may take its answer as slowly as it likes."""
    monkeypatch.setattr(server, "WRITING", math.inf)


def commands_of_any_size(monkeypatch: Any) -> None:
    """A request to the control socket has no limit."""
    monkeypatch.setattr(server, "REQUEST_BYTES", 1 << 30)


def the_mark_of_the_proof_ignored(monkeypatch: Any) -> None:
    """The proof of completeness counts from the first id, whatever the journal says to be complete."""

    async def from_the_first(ids: Completeness, kind: Any, _newest: int) -> JournalPlace:
        await trio.lowlevel.checkpoint()
        numbering = ids._numberings[kind]
        return JournalPlace(make_id(numbering.tag, numbering.before_first), 0)

    monkeypatch.setattr(Completeness, "_low_water", from_the_first)


def nobody_else_is_asked(monkeypatch: Any) -> None:
    """What cannot be undone is done on the word of the node in use."""
    monkeypatch.setattr(components, "witnesses", lambda *_args: ())


def expired_by_the_chain_alone(monkeypatch: Any) -> None:
    """A deadline is what one head gave, and the chain's clock alone ends a request."""

    def is_over(self: Pipeline, _row: Any, request: Any) -> bool:
        now = self.heads[request.chain_id].settled_timestamp
        return now is not None and now > request.deadline

    monkeypatch.setattr(Pipeline, "_is_over", is_over)
    monkeypatch.setattr(HeadTracker, "sure", lambda _self, timestamp: timestamp)
