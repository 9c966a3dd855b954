"""Nonces, broadcasts and pauses: examples."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from kmsconn.config.values import Secret
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import Eip1559Transaction, decode_transaction
from kmsconn.model.debounce import Debounce
from kmsconn.replies.answers import (
    AGAIN_AFTER,
    LONGEST_RETRY,
    REFUSED_BACKOFF,
    REPLACE_AFTER,
    Broadcast,
    Sent,
)
from kmsconn.replies.plan import NoncePlan, plan
from kmsconn.replies.view import NonceTracker, ReplyHistory, Track, gaps
from kmsconn.replies.wallet import Wallet
from tests.unit.replies.world import KEY, SECRET, World


def sent(*said: Sent) -> Broadcast:
    """Return what became of bytes of which nodes said this at once, one after the other."""
    broadcast = Broadcast(0.0, 0.0)
    for one in said:
        broadcast.tell(one, 0.0)
    return broadcast


def is_stuck(broadcast: Broadcast, now: float) -> bool:
    return broadcast.is_stuck(now, 0.25, REPLACE_AFTER)


def test_new_replies_take_the_nonces_from_the_chains_on() -> None:
    assert plan(5, (), 0, (), [None, None]) == NoncePlan((5, 6), ())


def test_new_replies_go_beyond_what_flies() -> None:
    assert plan(5, {5, 6, 9}, 0, (), [None]) == NoncePlan((10,), ())


def test_a_nonce_that_was_seen_used_is_not_used_again_because_a_node_lags() -> None:
    assert plan(5, (), 8, (), [None]) == NoncePlan((8,), ())


def test_a_ripe_hole_is_filled_first() -> None:
    assert plan(5, {5, 7}, 8, (6,), [None, None]) == NoncePlan((6, 8), ())


def test_a_ripe_hole_that_nothing_new_fills_is_named_when_something_flies_above_it() -> None:
    assert plan(5, {7}, 0, (5, 6), [None]) == NoncePlan((5,), (6,))


def test_a_ripe_hole_above_everything_needs_no_filling() -> None:
    assert plan(5, {5}, 8, (6, 7), []) == NoncePlan((), ())


def test_a_reply_with_earlier_bytes_takes_its_nonce_again_while_that_is_open() -> None:
    assert plan(5, {6}, 0, (5,), [None, 7]) == NoncePlan((5, 7), ())


@pytest.mark.parametrize("kept", [4, 6])
def test_a_nonce_that_is_used_or_flies_is_not_taken_again(kept: int) -> None:
    assert plan(5, {6}, 0, (), [kept]) == NoncePlan((7,), ())


def test_holes_are_what_nobody_holds_below_the_top() -> None:
    assert gaps(5, {6, 8}, 11, 100) == (5, 7, 9, 10)


def test_holes_are_looked_for_in_the_window_only() -> None:
    """A node once said a nonce of its dreams."""
    assert gaps(5, {6}, 1 << 64, 4) == (5, 7, 8)


def test_accepted_bytes_are_due_again_later_and_later() -> None:
    broadcast = sent(Sent.ACCEPTED)
    assert not broadcast.is_due(AGAIN_AFTER - 0.1, 0.25)
    assert broadcast.is_due(AGAIN_AFTER, 0.25)
    broadcast.tell(Sent.KNOWN, AGAIN_AFTER)
    assert not broadcast.is_due(2.9 * AGAIN_AFTER, 0.25)
    assert broadcast.is_due(3 * AGAIN_AFTER, 0.25)


def test_a_slow_chain_gets_more_time() -> None:
    assert not sent(Sent.ACCEPTED).is_due(30.0, 12.0)


@pytest.mark.parametrize("said", [Sent.FAILED, Sent.FUNDS])
def test_bytes_that_failed_for_all_are_due_at_once(said: Sent) -> None:
    assert sent(said).is_due(0.0, 0.25)


@pytest.mark.parametrize("said", [Sent.GAP, Sent.REFUSED, Sent.UNDERPRICED, Sent.CAPPED])
def test_bytes_that_a_node_refused_are_due_after_a_pause(said: Sent) -> None:
    broadcast = sent(said)
    assert not broadcast.is_due(REFUSED_BACKOFF.first - 0.01, 0.25)
    assert broadcast.is_due(REFUSED_BACKOFF.first, 0.25)


def test_bytes_that_are_refused_again_and_again_are_due_ever_more_rarely() -> None:
    broadcast = sent(*[Sent.REFUSED] * 20)
    assert not broadcast.is_due(LONGEST_RETRY - 0.1, 0.25)
    assert broadcast.is_due(LONGEST_RETRY, 0.25)


def test_a_node_s_word_that_a_nonce_is_used_counts_for_a_while() -> None:
    used = sent(Sent.USED)
    assert used.says_used(AGAIN_AFTER - 0.1, 0.25)
    assert not used.says_used(AGAIN_AFTER, 0.25)


def test_bytes_on_their_way_are_neither_due_nor_stuck() -> None:
    broadcast = sent(Sent.UNDERPRICED)
    broadcast.goes_out(1.0)
    assert not broadcast.is_due(1e6, 0.25)
    assert not is_stuck(broadcast, 1e6)


def test_only_the_first_taking_of_bytes_is_news() -> None:
    broadcast = sent()
    assert not broadcast.tell(Sent.FAILED, 0.0)
    assert broadcast.tell(Sent.ACCEPTED, 1.0)
    assert not broadcast.tell(Sent.KNOWN, 2.0)


def test_bytes_are_stuck_only_after_they_were_sent_again() -> None:
    broadcast = sent(Sent.ACCEPTED)
    assert not is_stuck(broadcast, 10 * REPLACE_AFTER)
    broadcast.tell(Sent.KNOWN, 10.0)
    assert not is_stuck(broadcast, REPLACE_AFTER - 0.1)
    assert is_stuck(broadcast, REPLACE_AFTER)


def test_bytes_that_pay_too_little_are_stuck_at_once_and_used_nonces_never() -> None:
    assert is_stuck(sent(Sent.UNDERPRICED), 0.0)
    assert not is_stuck(sent(Sent.USED, Sent.USED), 1e6)


async def test_what_became_of_bytes_says_nothing_about_others_of_the_same_reply() -> None:
    world = World()
    world.request(1)
    row = world.journal.rows[1]
    track = Track(row, ReplyHistory(), broadcast=sent(Sent.ACCEPTED))
    track.moved(row)
    assert track.broadcast is None


async def test_a_wallet_signs_as_its_address() -> None:
    wallet = Wallet.from_hex(Secret(SECRET))
    transaction = Eip1559Transaction(7, 4, 1, 9, 21_000, Address(bytes(20)), 0, b"x")
    [(raw, transaction_hash)] = await wallet.sign([transaction])
    signed = decode_transaction(raw)
    assert (signed.transaction, signed.sender, signed.hash) == (transaction, KEY.address, transaction_hash)
    assert wallet.address == KEY.address


async def test_the_same_transaction_gets_the_same_bytes() -> None:
    wallet = Wallet.from_hex(Secret(SECRET))
    transaction = Eip1559Transaction(7, 4, 1, 9, 21_000, Address(bytes(20)), 0, b"x")
    assert await wallet.sign([transaction]) == await wallet.sign([transaction])


def test_a_wallet_hides_its_key() -> None:
    assert SECRET not in repr(Wallet.from_hex(Secret(SECRET)))


def test_a_key_that_is_none_is_refused_without_its_text() -> None:
    with pytest.raises(ValueError, match=r"64 hex digits|32 bytes") as refused:
        Wallet.from_hex(Secret("secret text"))
    assert "secret text" not in str(refused.value)


def test_a_gap_is_ripe_once_a_later_look_still_finds_it() -> None:
    nonces, ripe = NonceTracker(Debounce(5.0)), []
    for at, number in ((0.0, 10), (1.0, 10), (1.5, 11)):
        look: Any = SimpleNamespace(nonce=3, at=at, number=number, fresh=True)
        nonces.look(look, {5}, 64)
        ripe.append(nonces.ripe)
    assert ripe == [frozenset(), frozenset(), {3, 4}]
