"""``explain``: the timeline of one request: each step with its time, what it waited for and for how long, and what comes next.

The status page finds requests of the journal by it; what that page shows is ``status.live``, for ``kmsconn top``.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any, Final

import attrs
import trio

from kmsconn.ethereum.addresses import checksum
from kmsconn.journal import inspecting
from kmsconn.journal.inspecting import PausedKind, paused_kinds
from kmsconn.journal.members import gathering
from kmsconn.journal.rows import HistoryEntry, Row
from kmsconn.model.life import CLOSED, RowCause, State
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.status import status_of
from kmsconn.operate.control.commands import (
    REQUEST,
    Arguments,
    Command,
    CommandError,
    Commands,
    Context,
    named_rows,
)
from kmsconn.operate.control.status import as_json, place_as_json
from kmsconn.requests.components import Components

WORDS: Final[Mapping[str, str]] = {
    "answer": "the Core's answer is kept",
    "expire": "expired",
    "reject": "rejected",
    "skip": "skipped by an operator",
    "found_finalized": "the contract has had this node's reply for long",
    "quarantine": "quarantined",
    "deliver": "answered over HTTP: the answer is kept for whoever asks",
    "finish": "done: no reply is needed",
    "abort": "aborted",
    "found_included": "the contract has this node's reply already",
    "sign": "the reply is signed",
    "release": "the reply goes back",
    "confirm": "a block includes the reply",
    "finalize": "the reply is final",
    "rejudge": "judged anew in another block",
    "reoffer": "offered anew in another block",
    "resend": "the reply left the chain: it is sent again",
    "restart": "begins again",
    "reopen": "begins again: the reply is not final any more",
    "repeat": "asked for again over HTTP",
    "retry": "an operator has retried it",
    "moved": "the chain has it in another block",
    "gone": "the chain does not have it any more",
}
"""Each step of a history in words; a test says that no transition is missing."""


@attrs.frozen
class Situation:
    """What a timeline is told from, beside the row: the time, its history, who works on it in words, whether its kind is paused."""

    now: float
    entries: Sequence[HistoryEntry]
    at_work: str = ""
    paused: PausedKind | None = None
    running: bool = True


async def explain_request(context: Context, arguments: Arguments) -> Any:
    """Explain what became of a request and what comes next: ``request``, its row number or its on-chain id with 0x."""
    rows = await named_rows(context, arguments["request"])
    running = context.running is not None or bool((await context.journal.run(gathering)).members)
    paused = {one.kind: one for one in await context.journal.run(paused_kinds)}
    told = [(row, await _situation(context, row, paused.get(row.kind), running=running)) for row in rows]
    return {"running": running, "requests": [explanation(*one) for one in told]}


async def _situation(context: Context, row: Row, paused: PausedKind | None, *, running: bool) -> Situation:
    """``running``: this connector runs, or another process over its journal does."""
    entries = await context.journal.run(inspecting.history, row.rid)
    at_work = "" if context.running is None else _at_work(context.running.components, row.rid)
    return Situation(context.wall(), entries, at_work, paused, running)


def _at_work(components: Components, rid: int) -> str:
    """Say which worker has a row, and in which stage; nothing where none has it."""
    pool = next((one for one in components.pools.values() if rid in one.busy), None)
    if pool is None:
        return ""
    stage, since = components.pipeline.runner.running.get(rid, ("", 0.0))
    where = stage and f", in {stage} for {trio.current_time() - since:.1f} s"
    return f"a worker of {pool.name} has it{where}"


def explanation(row: Row, situation: Situation) -> dict[str, Any]:
    """Return a row with its timeline, what happens to it now, and what comes next."""
    return {
        **as_json(row),
        "chain_id": row.event.chain_id,
        "contract": checksum(row.event.contract),
        **place_as_json(row),
        "deadline": None if math.isinf(row.progress.deadline) else row.progress.deadline,
        "timeline": timeline(row, situation),
        "now": _present(row, situation),
        "next": _next(row, situation),
    }


def timeline(row: Row, situation: Situation) -> list[dict[str, Any]]:
    """Return the steps of a row in their order; ``seconds`` is how long it was until the next one, and None after a last one."""
    steps = [*_beginning(row, situation.entries), *_steps(row, situation.entries)]
    lengths = [max(0.0, later["at"] - earlier["at"]) for earlier, later in pairwise(steps)]
    last = None if row.state in CLOSED or not steps else max(0.0, situation.now - steps[-1]["at"])
    lasted = zip(steps, [*lengths, last][: len(steps)], strict=True)
    return [{**step, "seconds": seconds} for step, seconds in lasted]


def _beginning(row: Row, entries: Sequence[HistoryEntry]) -> Iterator[dict[str, Any]]:
    """Yield when the request was recorded; beginning again has given it another time, which its history tells."""
    if not any(entry.step in _AGAIN for entry in entries):
        where = "over HTTP" if row.over_http else f"block {row.event.log.block_number}"
        yield _step(row.times.recorded, "recorded", where)


def _steps(row: Row, entries: Sequence[HistoryEntry]) -> Iterator[dict[str, Any]]:
    if entries:
        yield from (_step(entry.at, _in_words(entry.step), entry.detail, entry.stages) for entry in entries)
        return
    if row.times.answered is not None:  # the row is older than its history, or retention has cleared it
        yield _step(row.times.answered, WORDS["answer"])
    if row.times.closed is not None:
        yield _step(row.times.closed, row.state.value, row.progress.reason)


def _step(
    at: float, what: str, detail: str = "", stages: Mapping[str, float] | None = None
) -> dict[str, Any]:
    return {"at": at, "what": what, "detail": detail, "stages": dict(stages or {})}


def _in_words(step: str) -> str:
    name, _, stage = step.partition(" ")
    if name == "defer":
        return f"waits in {stage}" if stage else "waits"
    return WORDS.get(name, name)


def _present(row: Row, situation: Situation) -> str:
    """Return what happens to a row at this moment."""
    if situation.at_work:
        return situation.at_work
    if row.state in CLOSED or row.state is State.INCLUDED:
        return row.state.value
    wait = row.progress.next_attempt - situation.now
    until = f" for another {wait:.1f} s" if wait > 0 else ""
    return f"{row.state.value}, waits{until}{': ' if row.progress.reason else ''}{row.progress.reason}"


def _next(row: Row, situation: Situation) -> str:
    said = _NEXT[row.state](row, situation)
    return said if situation.running or row.state in CLOSED else f"once the connector runs again: {said}"


def _after_pending(row: Row, situation: Situation) -> str:
    if not row.on_chain:
        return "the chain has to have it again: until then it waits undispatched"
    if situation.at_work:
        return "its stages go on, and the Core's answer is kept; what fails is tried again"
    if situation.paused is not None:
        return f"an operator has paused {row.kind}: it is dispatched after `kmsconn resume {row.kind}`"
    stages = "the Core is asked for its result" if row.progress.submitted else "check, gather, submit, answer"
    return f"a worker takes it: {stages}"


def _after_answered(row: Row, situation: Situation) -> str:  # noqa: ARG001 - one of a table
    if not row.on_chain:
        return "the chain has to have it again: until then its reply is not signed"
    return "the transaction manager signs its reply with the next nonce and broadcasts it"


def _after_signed(row: Row, situation: Situation) -> str:  # noqa: ARG001
    return f"a block includes nonce {row.reply.nonce}; without a receipt it is broadcast again, later with a higher fee"


def _after_included(row: Row, situation: Situation) -> str:  # noqa: ARG001
    block = "its block" if row.reply.included_block is None else f"block {row.reply.included_block}"
    return f"{block} becomes final, and the contract is asked once more"


def _after_rejected(row: Row, situation: Situation) -> str:  # noqa: ARG001
    if RowCause.REPEATABLE in row.progress.cause:
        return "nothing, until its client asks again"
    if RowCause.SKIPPED in row.progress.cause or row.over_http:
        return "nothing; `kmsconn requests retry` would begin it again"
    return f"nothing, unless a reorganisation moves it to another block; {_BY_RETRY}"


_AGAIN: Final = frozenset({"retry", "repeat"})
_BY_RETRY: Final = "`kmsconn requests retry` begins it again"
_RETRY: Final = f"nothing; {_BY_RETRY}"
_OF_HTTP: Final = "nothing: its answer is kept for whoever asks over HTTP"
_NEXT: Final[Mapping[State, Callable[[Row, Situation], str]]] = {
    State.PENDING: _after_pending,
    State.ANSWERED: _after_answered,
    State.SIGNED: _after_signed,
    State.INCLUDED: _after_included,
    State.FINALIZED: lambda _row, _situation: "nothing: it is answered for good",
    State.EXPIRED: lambda _row, _situation: _RETRY,
    State.REJECTED: _after_rejected,
    State.QUARANTINED: lambda _row, _situation: (
        "nothing; `kmsconn quarantine retry` begins it again, `kmsconn quarantine drop` ends it"
    ),
    State.DONE: lambda row, _situation: _OF_HTTP if row.over_http else "nothing: it needs no reply",
    State.ABORTED: lambda _row, _situation: "nothing: the chain asked for its abort",
}

COMMANDS: Final[Commands] = {"explain": Command(explain_request, REQUEST)}


# --- what the status page shows

NEWEST_IN_TERMINAL: Final = 100
"""Requests in the list of the newest ones: more than a high terminal shows."""


def live_commands(monitor: Monitor, service: str, version: str) -> Commands:
    """Return the command for a connector that this monitor watches."""

    async def live(_context: Context, _arguments: Arguments) -> Any:
        return {"service": service, "version": version, **status_of(monitor, NEWEST_IN_TERMINAL)}

    return {"status.live": Command(live)}


async def find_timeline(context: Context, name: str) -> Mapping[str, Any] | None:
    """Return a request of the journal for the status page, explained; None where there is none. Raises JournalFailed."""
    try:
        [found, *_] = (await explain_request(context, {"request": name}))["requests"]
    except CommandError:
        return None
    return dict(found)
