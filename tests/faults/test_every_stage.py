"""Each stage alone, against the whole dependencies: run twice it gives the same, cancelled anywhere it leaves nothing behind."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.logs import read_logs
from kmsconn.ciphertexts.budget import Lease
from kmsconn.ciphertexts.registry import Registry
from kmsconn.connector.wiring import open_components
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import queries, recording
from kmsconn.journal.recording import Arrival, Read
from kmsconn.journal.rows import Row
from kmsconn.model.events import ignore
from kmsconn.model.life import Answer, Answered, Checked, Gathered, Seen, State, Submitted
from kmsconn.model.requests import Request
from kmsconn.replies.manager import run_txmanager
from kmsconn.replies.state import TxEndpoint, TxManager
from kmsconn.replies.wallet import Wallet
from kmsconn.requests.components import Components
from kmsconn.requests.http_decryption import HttpWaiters
from kmsconn.requests.rows import request_of
from kmsconn.testing.endings import cancel_everywhere
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.transport.ports import Ports, offload_inline
from tests.faults.scene import BEGIN, Scene, open_scene
from tests.unit.journal.samples import keep

pytestmark = pytest.mark.sampled

FORMS = ["public", "direct", "delegated", "unified", "unified_delegated", "wallet"]


@attrs.frozen
class Line:
    """One request before its first stage, and what its stages need."""

    components: Components
    scene: Scene
    row: Row
    request: Request

    async def checked(self) -> Checked:
        return await self.components.pipeline.stages.check(Seen(self.request))

    async def gathered(self) -> Gathered:
        checked = await self.checked()
        with Lease(self.components.pipeline.budgets[0]) as lease:
            return await self.components.pipeline.stages.gather(checked, lease)

    async def submitted(self) -> Submitted:
        return await self.components.pipeline.stages.submit(await self.gathered())

    async def answered(self) -> Answered:
        return await self.components.pipeline.stages.answer(await self.submitted())

    async def answer(self) -> Answer:
        answer = (await self.answered()).answer
        assert answer is not None
        return answer

    @property
    def stages(self) -> dict[str, Callable[[], Awaitable[object]]]:
        """Each stage with all that come before it."""
        return {
            "check": self.checked,
            "gather": self.gathered,
            "submit": self.submitted,
            "answer": self.answered,
        }


@asynccontextmanager
async def open_line(folder: Path, form: str) -> AsyncIterator[Line]:
    """Ask for one decryption and record it by hand; no task of a connector runs."""
    async with open_scene(folder) as scene:
        await scene.ask(form)
        settings = scene.dependencies.settings(folder / "j.db")
        ports = Ports(scene.network, offload_inline, lambda: BEGIN + trio.current_time(), Random(0).random)
        async with open_components(settings, ports, ignore, HttpWaiters()) as components:
            assert isinstance(components.directory, Registry)
            await components.directory.load()
            head = scene.dependencies.gateway.head
            components.gateway.head.note(head.number, head.timestamp)
            row = await recorded(components)
            yield Line(components, scene, row, request_of(components.profile, row))


async def recorded(components: Components) -> Row:
    """Read the one log there is and make a row of it."""
    subscription, *_ = components.profile.subscriptions()
    found = await read_logs(components.gateway.endpoint, subscription.contract, subscription.topics, 0, None)
    [log] = found.logs
    content = components.profile.decode(log)
    assert content is not None
    arrival = Arrival(content.id, content.kind, components.profile.digest(log), log)
    read = Read(
        subscription.chain_id, subscription.contract, (found.from_block, found.to_block), (arrival,), (),
        found.to_block + 1, None, components.ports.wall(), float(found.head.timestamp), 86_400.0,
    )  # fmt: skip
    [(rid, _)] = (await components.journal.run(recording.record, read)).new
    row = await components.journal.run(queries.row, rid)
    assert row is not None
    return row


@pytest.mark.parametrize("stage", ["check", "gather", "submit", "answer"])
@pytest.mark.parametrize("form", FORMS)
async def test_a_stage_run_twice_gives_the_same(form: str, stage: str, tmp_path: Path) -> None:
    """From Submitted on the Core says ALREADY_EXISTS, which is success."""
    async with open_line(tmp_path, form) as line:
        run = line.stages[stage]
        assert await run() == await run()


async def test_the_core_was_really_asked_twice(tmp_path: Path) -> None:
    async with open_line(tmp_path, "public") as line:
        await line.submitted()
        await line.submitted()
        assert line.scene.dependencies.cores[0].counts["PublicDecrypt", "ALREADY_EXISTS"] == 1


async def test_an_answer_is_kept_once(tmp_path: Path) -> None:
    async with open_line(tmp_path, "public") as line:
        answer, journal = await line.answer(), line.components.journal
        assert await journal.run(keep, line.row.rid, answer, 1.0)
        assert not await journal.run(keep, line.row.rid, answer, 2.0)
        other = attrs.evolve(answer, signer=Address(bytes(20)))
        assert not await journal.run(keep, line.row.rid, other, 3.0)
        row = await journal.run(queries.row, line.row.rid)
        assert row is not None
        assert (row.answer, row.times.answered) == (answer, 1.0)


async def test_a_read_recorded_twice_makes_one_row(tmp_path: Path) -> None:
    async with open_line(tmp_path, "public") as line:
        with pytest.raises(ValueError, match="not enough values"):
            await recorded(line.components)  # nothing new


@pytest.mark.parametrize("stage", ["check", "gather", "submit", "answer"])
@pytest.mark.parametrize("form", ["public", "direct", "unified"])
async def test_a_stage_cancelled_anywhere_leaves_nothing_behind_and_can_be_repeated(
    form: str, stage: str, tmp_path: Path
) -> None:
    async with open_line(tmp_path, form) as line:
        run = line.stages[stage]
        expected = await run()

        async def look() -> None:
            assert line.components.pipeline.budgets[0].used == 0
            with trio.fail_after(2):
                assert await run() == expected

        assert (
            await cancel_everywhere(run, look) >= 1
        )  # a check waits for one chain; the other's answer is there


async def test_a_chain_asked_and_cancelled_anywhere_answers_the_next_question(tmp_path: Path) -> None:
    """Half a frame on the wire, or an answer taken for another's, would show here."""
    async with open_line(tmp_path, "public") as line:
        gateway, sender = line.components.gateway.endpoint, line.components.tx_sender

        async def ask() -> list[Any]:
            return [
                await gateway.call("eth_chainId"),
                await gateway.call("eth_getTransactionCount", to_hex(sender), "latest"),
            ]

        async def look() -> None:
            with trio.fail_after(2):
                assert await ask() == [hex(gateway.chain_id), "0x0"]

        assert await cancel_everywhere(ask, look) >= 2


async def test_a_whole_line_cancelled_anywhere_still_ends_with_one_answer(tmp_path: Path) -> None:
    async with open_line(tmp_path, "unified") as line:
        work, journal = line.components.pipeline.run, line.components.journal

        async def look() -> None:
            row = await journal.run(queries.row, line.row.rid)
            assert row is not None
            assert line.components.pipeline.budgets[0].used == 0

        await cancel_everywhere(lambda: work(line.row), look)
        row = await journal.run(queries.row, line.row.rid)
        assert row is not None
        assert row.answer == (await line.answered()).answer


async def test_a_transaction_manager_cancelled_anywhere_sends_each_reply_once(tmp_path: Path) -> None:
    """What a transaction manager remembers is a cache: the next one goes on from journal and chain."""
    async with open_line(tmp_path, "public") as line:
        components = line.components
        await components.journal.run(keep, line.row.rid, await line.answer(), components.ports.wall())
        wallet = components.sender
        assert isinstance(wallet, Wallet)
        manager = TxManager(
            endpoint=TxEndpoint(components.gateway.endpoint, components.gateway.follower), journal=components.journal,
            wallet=wallet, profile=components.profile, wake=components.gateway.wake_up,
            settings=components.settings, ports=components.ports, on_event=ignore,
        )  # fmt: skip
        states: list[State] = []

        async def look() -> None:
            row = await components.journal.run(queries.row, line.row.rid)
            assert row is not None
            states.append(row.state)
            await trio.sleep(0.3)  # blocks come meanwhile

        async def a_moment() -> None:
            with trio.move_on_after(0.4):
                await run_txmanager(manager)

        await cancel_everywhere(a_moment, look)
        with trio.move_on_after(3 * components.settings.reading.reorg_window):
            await run_txmanager(manager)
        row = await components.journal.run(queries.row, line.row.rid)
        assert row is not None
        assert row.state is State.FINALIZED
        assert read_ground_truth(line.scene.dependencies).doubled == ()
    assert states[0] is State.ANSWERED
    order = [State.ANSWERED, State.SIGNED, State.INCLUDED, State.FINALIZED]
    assert states == sorted(states, key=order.index)
