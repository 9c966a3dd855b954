"""What is believed only once other nodes say so too: the account's nonce, a reply that is never taken; and what is paid without a reply."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.looking import ChainView
from kmsconn.chain.port import Call, RpcError
from kmsconn.chain.witness import BEHIND_ONE_URL, WITNESSES
from kmsconn.errors import Retryable, Unreachable
from kmsconn.ethereum.hexes import quantity
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import AlertRaised, ReplyReturned, RequestClosed, RequestDeferred
from kmsconn.model.life import State
from kmsconn.replies.attesting import NonceAttesting
from kmsconn.replies.fees import Price
from kmsconn.replies.manager import Rounds
from kmsconn.replies.sending import ReplyMoves, Sender
from kmsconn.replies.state import COIN_SECONDS, Purse, TxState
from kmsconn.replies.view import FILLS, Found
from tests.unit.replies.world import REORG_WINDOW, World

SILENT = Unreachable("no second connection is answered")


@attrs.define
class Other:
    """A witness: what it answers, or why not, and what it was asked."""

    says: Any
    asked: list[Call] = attrs.field(factory=list)
    chain_id: int = 0

    async def call(self, method: str, *params: Any) -> Any:
        [answer] = await self.batch([Call(method, params)])
        return answer

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.asked += calls
        if isinstance(self.says, Retryable):
            raise self.says
        return [self.says for _ in calls]


@attrs.define
class Attested:
    """A transaction manager beside witnesses, which say these nonces."""

    witnesses: list[Other]
    attesting: NonceAttesting
    left: list[str]

    @classmethod
    def by(cls, *says: int | Retryable) -> Attested:
        others = [Other(one if isinstance(one, Retryable) else quantity(one)) for one in says]
        left: list[str] = []
        state = TxState.of(World().manager(witnesses=others, leave=left.append))
        return cls(others, NonceAttesting(state), left)

    def say(self, *says: int | Retryable) -> None:
        for other, one in zip(self.witnesses, says, strict=True):
            other.says = one if isinstance(one, Retryable) else quantity(one)

    async def believes(self, nonce: int) -> bool:
        """Say whether a look with this nonce is believed."""
        at = trio.current_time()
        try:
            await self.attesting.attest(
                ChainView(10, 100, None, nonce, True, 1, final=1, balance=None, at=at)
            )
        except Unreachable:
            return False
        return True

    def went_to(self, nonce: int) -> None:
        """Let the account have come so far."""
        self.attesting.state.nonces.high, self.attesting.state.nonces.first_block = nonce, 1

    @property
    def asked(self) -> list[int]:
        return [len(one.asked) for one in self.witnesses]


# --- the account's nonce


@pytest.mark.parametrize("others", [(5, 5), (5, 6), (7, 9)])
async def test_a_nonce_that_others_have_seen_used_too_is_believed(others: tuple[int, int]) -> None:
    account = Attested.by(*others)
    assert await account.believes(5)
    assert account.asked == [1, 1]


async def test_of_what_this_process_knows_of_nobody_else_is_asked() -> None:
    account = Attested.by(0, 0)
    account.went_to(5)
    assert await account.believes(5)
    assert await account.believes(3)
    assert account.asked == [0, 0]


async def test_the_first_look_is_attested_whatever_it_says() -> None:
    account = Attested.by(0, 0)
    assert await account.believes(0)
    assert account.asked == [1, 1]


async def test_behind_one_url_two_witnesses_are_asked_of_a_nonce() -> None:
    account = Attested.by(*[5] * BEHIND_ONE_URL)
    assert await account.believes(5)
    assert sum(account.asked) == WITNESSES


async def test_where_no_other_node_is_to_be_had_by_configuration_a_look_counts() -> None:
    assert await Attested.by().believes(5)


@pytest.mark.parametrize("others", [(5, 0), (0, 5), (4, 9)])
async def test_one_witness_that_contradicts_lets_a_nonce_wait_and_no_node_is_left(
    others: tuple[int, int],
) -> None:
    """Who lies may as well be the witness."""
    account = Attested.by(*others)
    for _ in range(20):
        assert not await account.believes(5)
        await trio.sleep(1.0)
    assert account.left == []


async def test_a_node_that_says_for_a_while_what_no_other_says_is_left() -> None:
    account = Attested.by(1, 2)
    assert not await account.believes(5)
    assert account.left == []
    await trio.sleep(CONFIRMING)
    assert not await account.believes(5)
    assert account.left == ["one node says that the next nonce is 5, another 1"]


async def test_a_node_that_was_right_in_between_is_not_left_for_two_odd_looks() -> None:
    account = Attested.by(1, 1)
    assert not await account.believes(5)
    account.say(5, 5)
    assert await account.believes(5)
    await trio.sleep(CONFIRMING)
    account.say(1, 1)
    assert not await account.believes(5)
    assert account.left == []


async def test_without_a_word_of_others_a_nonce_is_believed_after_the_reorg_window() -> None:
    account = Attested.by(SILENT, SILENT)
    assert not await account.believes(5)
    await trio.sleep(REORG_WINDOW - 0.1)
    assert not await account.believes(5)
    await trio.sleep(0.1)
    assert await account.believes(5)
    assert account.left == []


async def test_a_word_of_others_ends_the_wait_for_one() -> None:
    account = Attested.by(SILENT, SILENT)
    assert not await account.believes(5)
    account.say(1, 1)
    assert not await account.believes(5)
    await trio.sleep(REORG_WINDOW)
    account.say(SILENT, SILENT)
    assert not await account.believes(5)


async def test_one_silent_witness_of_two_is_no_word() -> None:
    account = Attested.by(5, SILENT)
    assert not await account.believes(5)


async def test_a_rise_above_the_purse_waits_for_a_reorg_window_of_looks_though_others_say_so() -> None:
    wild = 5 + FILLS + 1
    account = Attested.by(wild, wild)
    account.went_to(5)
    assert not await account.believes(wild)
    await trio.sleep(REORG_WINDOW)
    assert await account.believes(wild)
    assert await account.believes(5)
    assert not await account.believes(wild)


# --- what is never taken


@pytest.mark.parametrize(
    ("others", "is_ended"),
    [
        ([b"wrong: other content", b"stranger: not a node"], True),
        ([b"wrong: other content", b"not pending"], True),
        ([b"wrong: other content", b"notrequested"], False),
        ([b"wrong: other content", "takes it"], False),
        ([b"wrong: other content", SILENT], False),
        ([SILENT, b"wrong: other content"], False),
        ([b"wrong: other content"] * 5 + ["takes it"], False),
        ([], True),
    ],
    ids=["all say so", "a state tells more", "not now", "takes it", "silence", "silence first", "the last of six", "alone"],
)  # fmt: skip
async def test_a_reply_is_ended_once_every_witness_says_too_that_it_is_never_taken(
    others: list[Any], is_ended: bool
) -> None:
    says = [
        RpcError(3, "reverted", one) if isinstance(one, bytes) else quantity(50_000) if one == "takes it" else one
        for one in others
    ]  # fmt: skip
    world = World()
    world.request(1)
    moves = ReplyMoves(TxState.of(world.manager(witnesses=[Other(one) for one in says])))
    track = moves.state.tracks.note(world.journal.rows[1])
    await moves.close("reject", track, Found("wrong: other content()"))
    state = State.REJECTED if is_ended else State.ANSWERED
    assert world.journal.rows[1].state is state
    assert [len(world.said(RequestClosed)), len(world.said(RequestDeferred))] == [is_ended, not is_ended]
    assert not world.said(ReplyReturned)


# --- the purse


def test_a_purse_pays_so_many_at_once_and_one_more_each_minute() -> None:
    purse, paid = Purse(at=100.0), []
    for now in (100.0, 100.0, 100.0 + COIN_SECONDS - 1, 100.0 + COIN_SECONDS, 100.0 + 4 * COIN_SECONDS, 1e9):
        room = purse.room(now)
        purse.coins -= room
        paid.append(room)
    assert paid == [FILLS, 0, 0, 1, 3, FILLS]


@attrs.define
class Filling:
    """A sender that is asked to use nonces up."""

    world: World
    sender: Sender

    @classmethod
    def made(cls) -> Filling:
        world = World(pool="geth")
        rounds = Rounds.of(world.manager())
        assert isinstance(rounds.moves, Sender)
        rounds.state.market.price = Price(10_000)
        return cls(world, rounds.moves)

    async def fill(self, gaps: Sequence[int]) -> None:
        async with trio.open_nursery() as nursery:
            await self.sender.fill(gaps, nursery)

    @property
    def filled(self) -> list[int]:
        return sorted(set(self.world.arrived()))


async def test_no_more_nonces_are_used_up_than_the_purse_pays_for_and_that_is_told() -> None:
    at = Filling.made()
    await at.fill(range(10))
    assert at.filled == [*range(10)]
    assert not at.world.said(AlertRaised)
    await at.fill(range(FILLS + 2))
    assert at.filled == [*range(FILLS)]
    [alert] = at.world.said(AlertRaised)
    assert (alert.cause, alert.critical) == ("nonce-gaps", True)
    for minute in (1, 2):
        await trio.sleep(COIN_SECONDS)
        await at.fill(range(FILLS + 2))
        assert at.filled == [*range(FILLS + minute)]


async def test_bytes_that_go_out_again_are_paid_for_once() -> None:
    at = Filling.made()
    await at.fill(range(10))
    await trio.sleep(COIN_SECONDS - 1)
    await at.fill(range(10))
    assert [call.method for call in at.world.node.calls].count("eth_sendRawTransaction") == 20
    await at.fill(range(FILLS + 10))
    assert at.filled == [*range(FILLS)]
