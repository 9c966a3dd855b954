"""Keeps the journal small for years: deletes what is not needed any more, a little at a time. Decides only how old that is."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Never

import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.ids import tag_of
from kmsconn.journal import inspecting, retention
from kmsconn.journal.journal import until_kept
from kmsconn.journal.retention import Position, RetentionStep
from kmsconn.protocols.profile import Profile
from kmsconn.requests.components import Components
from kmsconn.requests.range_reader import WatchedContract, watched_contracts

RETENTION_INTERVAL = 600.0  # seconds between rounds
REST = (
    20.0  # times as long as a step took the next one waits: retention has a twentieth of the writer at most
)
RETENTION_STEP_DELAY = 0.05  # seconds between steps at least
SETTLED = 3600.0  # seconds of blocks below the head, and below the finalized block where one is known, that nothing replaces


def final_block(head: HeadTracker, finalized: HeadTracker | None = None) -> int | None:
    """Return the last block that no reorganisation replaces any more, by a wide margin; None before a head is known."""
    if head.number is None:
        return None
    deep = head.number - head.blocks_in(SETTLED)
    return deep if finalized is None or finalized.number is None else min(deep, finalized.number)


async def retain(components: Components) -> Never:
    """Drop what is old for ever. Cancellation: at any time. Repeating: a round begins at the oldest rows again."""
    while True:
        plan = _plan(components)
        position: Position | None = Position()
        while position is not None:
            began, at = trio.current_time(), position
            position = await until_kept(lambda: components.journal.run(retention.step, plan, at))  # noqa: B023 - called at once
            await trio.sleep(max(RETENTION_STEP_DELAY, REST * (trio.current_time() - began)))
        for contract in watched_contracts(components):
            await _forget_logs(contract, plan)
        await trio.sleep(RETENTION_INTERVAL)


async def _forget_logs(contract: WatchedContract, plan: RetentionStep) -> None:
    """Delete the undecodable logs of a contract that are old and final, and whose ids the proof of completeness has passed."""
    if (before := plan.delete_before) is None:
        return
    of, profile = contract.subscription, contract.components.profile
    logs, last = await contract.run(inspecting.undecodable_logs), plan.final.get(of.chain_id, -1)
    final = [one for one in logs if one.place[0] <= last and one.found < before]
    if not final:
        return
    found = [(one.tag, await contract.run(retention.low_water, one.kind)) for one in profile.numberings(of)]
    marks = [(tag, -1 if mark is None else mark.id) for tag, mark in found]
    readable = (one for one in final if one.log is not None and not _is_counted(profile, one.log, marks))
    passed = [{"log": one} for one in readable]
    await until_kept(lambda: contract.components.journal.run_each(inspecting.drop_log, passed))


def _is_counted(profile: Profile, log: Log, marks: Iterable[tuple[int, int]]) -> bool:
    """Say whether the proof of completeness may look for the id of a log: it is above the low-water mark of its numbering."""
    found = profile.id_of(log)
    return found is not None and any(tag_of(found) == tag and found > mark for tag, mark in marks)


def _plan(components: Components) -> RetentionStep:
    profile, wanted, now = components.profile, components.settings.storage.retention, components.ports.wall()
    contexts = components.chain_contexts.items()
    blocks = {chain: final_block(one.head, one.finalized) for chain, one in contexts}
    numbered = {one.kind for of in profile.subscriptions() for one in profile.numberings(of)}
    return RetentionStep(
        clear_before=now - wanted.contents if wanted.contents else None,
        delete_before=now - wanted.rows if wanted.rows else None,
        final={chain: block for chain, block in blocks.items() if block is not None},
        numbered=frozenset(numbered),
    )
