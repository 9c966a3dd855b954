"""The membership of a process that is alone with its journal: it has every lease, at once."""

from __future__ import annotations

import trio

from kmsconn.journal.values import NO_SHARDS
from kmsconn.model.requests import Kind
from kmsconn.requests.membership import LOOK_AGAIN, SoleMember
from tests.unit.requests.bench import Bench, wall
from tests.unit.requests.test_pools import rows_of


async def test_a_component_runs_at_once_and_nothing_meanwhile(bench: Bench) -> None:
    ran: list[str] = []

    async def note(what: str) -> None:
        ran.append(what)

    await SoleMember(bench.journal).hold("reads", lambda: note("component"), lambda: note("meanwhile"))
    assert ran == ["component"]


async def test_nothing_begins_after_waiting_was_stopped(bench: Bench) -> None:
    ran: list[str] = []

    async def note() -> None:
        ran.append("component")

    member = SoleMember(bench.journal)
    member.stop_waiting()
    await member.hold("sends", note)
    assert ran == []


async def test_what_is_due_is_picked_without_what_is_busy(bench: Bench) -> None:
    first, second = await rows_of(bench, 2)
    member = SoleMember(bench.journal)
    due = await member.pick([Kind.PUBLIC_DECRYPTION], wall(), 10, frozenset({first.rid}), without=NO_SHARDS)
    assert [row.rid for row in due.rows] == [second.rid]


async def test_it_is_always_valid_and_leaves_its_work_to_nobody(bench: Bench) -> None:
    member = SoleMember(bench.journal)
    await trio.sleep(10_000)
    await member.give_rows_back()
    assert member.is_valid()
    assert not member.has_successor
    assert member.look_again == LOOK_AGAIN
