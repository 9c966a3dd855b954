"""A reply that is final for long while the nodes have not agreed is an alert, until they have or the request is over."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.connector.open_agreements import INTERVAL, LONG, OpenAgreements
from kmsconn.connector.upkeep import keep_looking
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import moves
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event
from kmsconn.model.steps import Answer
from kmsconn.protocols.fhevm.key_views import GENERATION_BASE
from kmsconn.protocols.queries import mapping_slot
from tests.unit.requests.answers import Answers
from tests.unit.requests.bench import Bench, open_bench, wall
from tests.vectors import keys

ETHEREUM = keys.SETTINGS.chains.ethereum.chain_id
NAME = "keygen_default"
KEY = keys.content(NAME).id
OVER, CONSENSUS = (mapping_slot(GENERATION_BASE + offset, KEY) for offset in (1, 3))
SENDER = keys.SETTINGS.protocol.decryption_contract.address  # any


@attrs.define
class Watch:
    bench: Bench
    slots: dict[int, int]
    chain: Answers
    told: list[Event]

    async def reply(self, name: str = NAME) -> None:
        """Let this node's reply be final."""
        rid = (await self.bench.record_key_request(name)).rid
        assert await self.bench.journal.run(moves.answer, rid, Answer(b"reply", None), wall())
        assert await self.bench.journal.run(moves.found_included, rid, 1)
        assert await self.bench.journal.run(moves.finalize, (rid, 1))

    @property
    def raised(self) -> list[tuple[str, str]]:
        return [(one.dependency, one.cause) for one in self.told if isinstance(one, AlertRaised)]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    slots: dict[int, int] = {}
    chain, told = Answers({}, slots=slots), list[Event]()
    chain.chain_id = ETHEREUM
    async with open_bench(tmp_path) as bench, trio.open_nursery() as nursery:
        agreements = OpenAgreements(
            keys.PROFILE,
            bench.journal,
            {ETHEREUM: chain},
            SENDER,
            wall,
            Board(told.append, trio.current_time),
        )
        nursery.start_soon(keep_looking, agreements.look, INTERVAL)
        yield Watch(bench, slots, chain, told)
        nursery.cancel_scope.cancel()


async def test_a_reply_without_agreement_is_named_after_an_hour_and_once(watch: Watch) -> None:
    await watch.reply()
    await trio.sleep(LONG - INTERVAL)
    assert watch.told == []
    await trio.sleep(6 * INTERVAL)
    assert watch.raised == [(f"keygen {id_name(KEY)}", "not-agreed")]


async def test_the_agreement_clears_it(watch: Watch) -> None:
    await watch.reply()
    await trio.sleep(LONG + 2 * INTERVAL)
    watch.slots |= {OVER: 1, CONSENSUS: 1}
    await trio.sleep(2 * INTERVAL)
    assert [type(one) for one in watch.told] == [AlertRaised, AlertCleared]


async def test_what_was_aborted_is_over(watch: Watch) -> None:
    watch.slots |= {OVER: 1}
    await watch.reply()
    await trio.sleep(LONG + 3 * INTERVAL)
    assert watch.told == []


async def test_a_context_is_no_agreement_that_could_be_open(watch: Watch) -> None:
    await watch.reply("context_2_new")
    await trio.sleep(LONG + 3 * INTERVAL)
    assert watch.told == []


async def test_a_chain_that_does_not_answer_changes_nothing(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch.reply()
    await trio.sleep(LONG + 2 * INTERVAL)

    async def silent(_: Answers, calls: Any) -> list[RpcError]:
        await trio.lowlevel.checkpoint()
        return [RpcError(-32000, "header not found") for _ in calls]

    monkeypatch.setattr(Answers, "batch", silent)
    await trio.sleep(3 * INTERVAL)
    assert [type(one) for one in watch.told] == [AlertRaised]
