"""What only the course of events tells: transactions of another connector with this key, and replies without agreement."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.connector.event_hook import MEMORY, ForeignTransactions
from kmsconn.connector.upkeep import AGREEMENT_INTERVAL, LONG, OpenAgreements, keep_looking
from kmsconn.ethereum.ids import id_name
from kmsconn.journal import moves
from kmsconn.model.alerts import Board
from kmsconn.model.events import (
    AlertCleared,
    AlertRaised,
    Event,
    ForeignTransaction,
    ReplyIncluded,
    ReplyReturned,
    RequestClosed,
)
from kmsconn.model.life import Answer, State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import GENERATION_BASE
from kmsconn.protocols.queries import mapping_slot
from tests.unit.journal.samples import keep
from tests.unit.requests.answers import Answers
from tests.unit.requests.bench import Bench, open_bench, wall
from tests.vectors import keys


def seen(nonce: int) -> ForeignTransaction:
    return ForeignTransaction("gateway", nonce, nonce.to_bytes(32), 100 + nonce)


def causes(*events: Event, now: float = 0.0) -> list[tuple[str, str, int, bool]]:
    foreign_transactions = ForeignTransactions()
    for event in events:
        foreign_transactions.note(event, 0.0)
    return [(one.dependency, one.cause, one.count, one.critical) for one in foreign_transactions.alerts(now)]


ANOTHER = [("wallet", "used-by-another", 2, True)]


def test_a_second_transaction_of_somebody_else_is_anothers() -> None:
    assert causes(seen(1)) == [], "one may be an operator's"
    assert causes(seen(1), seen(2)) == ANOTHER


@pytest.mark.parametrize(
    "event",
    [
        ReplyIncluded(1, Kind.PUBLIC_DECRYPTION, 105, 1.0, found=True),
        ReplyReturned(1, Kind.PUBLIC_DECRYPTION, State.ANSWERED, "whatever", nonce_taken=True),
        RequestClosed(1, Kind.PUBLIC_DECRYPTION, State.FINALIZED, "in the contract"),
    ],
)
def test_what_rests_on_a_missing_receipt_is_nobody_elses(event: Event) -> None:
    assert causes(event, event, event) == []


def test_it_is_over_when_none_came_for_an_hour() -> None:
    assert causes(seen(1), seen(2), now=MEMORY) == ANOTHER
    assert causes(seen(1), seen(2), now=MEMORY + 1) == []


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
        assert await self.bench.journal.run(keep, rid, Answer(b"reply", None), wall())
        assert await self.bench.journal.run(moves.move, "found_included", rid, block=1)
        assert await self.bench.journal.run(moves.move, "finalize", rid, block=1)

    @property
    def raised(self) -> list[tuple[str, str]]:
        return [(one.dependency, one.cause) for one in self.told if isinstance(one, AlertRaised)]


@pytest.fixture
async def watch(tmp_path: Path) -> AsyncIterator[Watch]:
    slots: dict[int, int] = {}
    chain, told = Answers({}, slots=slots), list[Event]()
    chain.chain_id = ETHEREUM
    async with open_bench(tmp_path) as bench, trio.open_nursery() as nursery:
        board = Board(told.append, trio.current_time)
        agreements = OpenAgreements(keys.PROFILE, bench.journal, {ETHEREUM: chain}, SENDER, wall, board)
        nursery.start_soon(keep_looking, agreements.look, AGREEMENT_INTERVAL)
        yield Watch(bench, slots, chain, told)
        nursery.cancel_scope.cancel()


async def test_a_reply_without_agreement_is_named_after_an_hour_and_once(watch: Watch) -> None:
    await watch.reply()
    await trio.sleep(LONG - AGREEMENT_INTERVAL)
    assert watch.told == []
    await trio.sleep(6 * AGREEMENT_INTERVAL)
    assert watch.raised == [(f"keygen {id_name(KEY)}", "not-agreed")]


async def test_the_agreement_clears_it(watch: Watch) -> None:
    await watch.reply()
    await trio.sleep(LONG + 2 * AGREEMENT_INTERVAL)
    watch.slots |= {OVER: 1, CONSENSUS: 1}
    await trio.sleep(2 * AGREEMENT_INTERVAL)
    assert [type(one) for one in watch.told] == [AlertRaised, AlertCleared]


@pytest.mark.parametrize(("name", "slots"), [(NAME, {OVER: 1}), ("context_2_new", dict[int, int]())])
async def test_what_was_aborted_or_needs_no_agreement_is_not_named(
    watch: Watch, name: str, slots: dict[int, int]
) -> None:
    watch.slots |= slots
    await watch.reply(name)
    await trio.sleep(LONG + 3 * AGREEMENT_INTERVAL)
    assert watch.told == []


async def test_a_chain_that_does_not_answer_changes_nothing(
    watch: Watch, monkeypatch: pytest.MonkeyPatch
) -> None:
    await watch.reply()
    await trio.sleep(LONG + 2 * AGREEMENT_INTERVAL)

    async def silent(_: Answers, calls: Any) -> list[RpcError]:
        await trio.lowlevel.checkpoint()
        return [RpcError(-32000, "header not found") for _ in calls]

    monkeypatch.setattr(Answers, "batch", silent)
    await trio.sleep(3 * AGREEMENT_INTERVAL)
    assert [type(one) for one in watch.told] == [AlertRaised]
