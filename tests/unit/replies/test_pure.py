"""Nonces, broadcasts and pauses: examples."""

from __future__ import annotations

import math
from contextlib import nullcontext
from types import SimpleNamespace
from typing import Any

import pytest

from kmsconn.config.description import Secret
from kmsconn.errors import Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.transactions import Transaction, decode_transaction
from kmsconn.model.debounce import Debounce
from kmsconn.replies.answers import (
    AGAIN_AFTER,
    LONGEST_RETRY,
    REFUSED_BACKOFF,
    REPLACE_AFTER,
    Broadcast,
    Sent,
)
from kmsconn.replies.plan import plan
from kmsconn.replies.view import FILLS, NonceTracker, ReplyHistory, Track, gaps
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


@pytest.mark.parametrize(
    ("flying", "seen", "ripe", "kept", "expected"),
    [
        pytest.param(set(), 0, (), [None, None], ((5, 6), ()), id="from the chain's on"),
        pytest.param({5, 6, 9}, 0, (), [None], ((10,), ()), id="beyond what flies"),
        pytest.param(set(), 8, (), [None], ((8,), ()), id="beyond what was seen used, though a node lags"),
        pytest.param({5, 7}, 8, (6,), [None, None], ((6, 8), ()), id="a ripe hole first"),
        pytest.param({7}, 0, (5, 6), [None], ((5,), (6,)), id="a hole that nothing new fills, below what flies"),
        pytest.param({5}, 8, (6, 7), [], ((), ()), id="no hole above everything"),
        pytest.param({6}, 0, (5,), [None, 7], ((5, 7), ()), id="that of earlier bytes, while it is open"),
    ],
)  # fmt: skip
def test_which_nonces_are_taken(
    flying: set[int], seen: int, ripe: tuple[int, ...], kept: list[int | None], expected: object
) -> None:
    assert plan(5, flying, seen, ripe, kept) == expected


def test_holes_are_what_nobody_holds_below_the_top_in_the_window_only() -> None:
    """A node once said a nonce of its dreams."""
    assert gaps(5, {6, 8}, 11, 100) == (5, 7, 9, 10)
    assert gaps(5, {6}, 1 << 64, 4) == (5, 7, 8)


def test_accepted_bytes_are_due_again_later_and_later() -> None:
    broadcast = sent(Sent.FAILED, Sent.ACCEPTED)
    assert not broadcast.is_due(AGAIN_AFTER - 0.1, 0.25)
    assert broadcast.is_due(AGAIN_AFTER, 0.25)
    broadcast.tell(Sent.KNOWN, AGAIN_AFTER)
    assert not broadcast.is_due(2.9 * AGAIN_AFTER, 0.25)
    assert broadcast.is_due(3 * AGAIN_AFTER, 0.25)


def test_a_slow_chain_gets_more_time() -> None:
    assert not sent(Sent.ACCEPTED).is_due(30.0, 12.0)


@pytest.mark.parametrize(
    ("said", "after"),
    [
        *(([one], 0.0) for one in (Sent.FAILED, Sent.FUNDS)),
        *(([one], REFUSED_BACKOFF.first) for one in (Sent.GAP, Sent.REFUSED, Sent.UNDERPRICED, Sent.CAPPED)),
        ([Sent.REFUSED] * 20, LONGEST_RETRY),
    ],
)
def test_bytes_that_failed_for_all_are_due_at_once_and_refused_ones_ever_more_rarely(
    said: list[Sent], after: float
) -> None:
    broadcast = sent(*said)
    assert not broadcast.is_due(after - 0.01, 0.25) or not after
    assert broadcast.is_due(after, 0.25)


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
    broadcast = sent(*[Sent.FAILED] * 9)
    broadcast.goes_out(1.0)
    broadcast.tell(Sent.ACCEPTED, 2.0)
    assert not is_stuck(broadcast, 10 * REPLACE_AFTER)
    broadcast.tell(Sent.KNOWN, 10.0)
    assert not is_stuck(broadcast, REPLACE_AFTER + 0.9)
    assert is_stuck(broadcast, REPLACE_AFTER + 1.0)


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


async def test_a_wallet_signs_as_its_address_always_the_same() -> None:
    wallet = Wallet.from_hex(Secret(SECRET))
    transaction = Transaction(7, 4, 1, 9, 21_000, Address(bytes(20)), 0, b"x")
    [(raw, transaction_hash)] = await wallet.sign([transaction])
    signed = decode_transaction(raw)
    assert (signed.transaction, signed.sender, signed.hash) == (transaction, KEY.address, transaction_hash)
    assert wallet.address == KEY.address
    assert await wallet.sign([transaction]) == [(raw, transaction_hash)]


def test_a_wallet_hides_its_key_and_what_is_none() -> None:
    assert SECRET not in repr(Wallet.from_hex(Secret(SECRET)))
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


def test_a_nonce_that_jumps_is_believed_once_all_looks_of_some_seconds_have_said_so() -> None:
    nonces, wild = NonceTracker(Debounce(5.0)), 2**53 - 1
    for at, nonce, believed in (
        (0.0, 3, True), (1.0, wild, False), (3.0, 5, True), (5.0, wild, False), (9.0, wild - 1, False), (10.0, wild, True)
    ):  # fmt: skip
        look: Any = SimpleNamespace(nonce=nonce, at=at, number=10, fresh=True)
        with nullcontext() if believed else pytest.raises(Unreachable, match="expected"):
            nonces.look(look, {5}, 64)
        assert (nonces.high == nonce) is believed


HOLE, NO_HOLE = {FILLS + 4}, {0}
"""What is in flight: above more free nonces than are paid for, above none."""


@pytest.mark.parametrize(
    ("looks", "beyond"),
    [
        ([(0.0, 0, True, HOLE)], math.inf),
        ([(0.0, 0, True, HOLE), (5.0, 0, True, HOLE)], FILLS + 4),
        ([(0.0, 0, True, HOLE), (3.0, 0, False, HOLE), (6.0, 0, True, HOLE)], math.inf),
        ([(0.0, 0, True, HOLE), (3.0, 0, True, NO_HOLE), (6.0, 0, True, HOLE)], math.inf),
        ([(0.0, 0, True, HOLE), (5.0, 0, True, HOLE), (6.0, 4, True, HOLE)], math.inf),
    ],
    ids=["one look", "for a window", "of a node that lags", "that was filled in between", "that others fill"],
)
def test_a_hole_that_is_too_wide_to_be_paid_for_is_left_after_a_window(
    looks: list[tuple[float, int, bool, set[int]]], beyond: float
) -> None:
    nonces = NonceTracker(Debounce(5.0))
    for at, nonce, fresh, in_flight in looks:
        look: Any = SimpleNamespace(nonce=nonce, at=at, number=10, fresh=fresh)
        nonces.look(look, in_flight, 64)
    assert nonces.beyond == beyond
