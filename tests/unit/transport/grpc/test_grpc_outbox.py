"""Messages take turns, as far as the windows go."""

from __future__ import annotations

import pytest

from kmsconn.transport.grpc.frames import (
    DATA,
    END_STREAM,
    LARGEST_WINDOW,
    Allowance,
    Claim,
    Credit,
    Cutter,
    Window,
)
from kmsconn.transport.grpc.outbox import Message, Outbox


def out(outbox: Outbox, budget: int = 1_000_000) -> list[tuple[int, int, bytes]]:
    """Return stream, flags and data of the next frames."""
    frames = list(Cutter(100_000).cut(b"".join(outbox.fill(budget))))
    assert all(kind == DATA for kind, *_ in frames)
    return [(stream, flags, bytes(data)) for _, flags, stream, data in frames]


def sizes(outbox: Outbox, budget: int = 1_000_000) -> list[tuple[int, int]]:
    return [(stream, len(data)) for stream, _, data in out(outbox, budget)]


def message(stream: int, *parts: bytes, window: int = 1_000_000) -> Message:
    return Message.of(stream, window, parts)


def test_pieces_share_a_frame_and_the_last_frame_ends_the_stream() -> None:
    outbox = Outbox()
    outbox.add(message(1, b"a", b"", b"bc"))
    assert out(outbox) == [(1, END_STREAM, b"abc")]
    assert out(outbox) == []


def test_a_frame_is_no_larger_than_the_peer_takes() -> None:
    outbox = Outbox()
    outbox.add(message(1, bytes(40_000)))
    assert [(flags, len(data)) for _, flags, data in out(outbox)] == [(0, 16_384), (0, 16_384), (1, 7232)]


def test_the_bytes_wait_as_views_of_the_caller_s_pieces() -> None:
    outbox, part = Outbox(), bytes(range(256)) * 100
    outbox.add(message(1, part))
    views = [piece for piece in outbox.fill(1_000_000) if isinstance(piece, memoryview)]
    assert all(view.obj is part for view in views)
    assert b"".join(views) == part


def test_messages_take_turns() -> None:
    outbox = Outbox()
    outbox.add(message(1, bytes(30_000)))
    outbox.add(message(3, bytes(30_000)))
    assert [stream for stream, _ in sizes(outbox, 16_384)] == [1]
    assert [stream for stream, _ in sizes(outbox)] == [3, 1]
    assert [stream for stream, _ in sizes(outbox)] == [3]


def test_the_budget_ends_a_burst_at_the_next_frame() -> None:
    outbox = Outbox()
    outbox.add(message(1, bytes(60_000)))
    assert sizes(outbox, 20_000) == [(1, 16_384), (1, 16_384)]


def test_the_connection_s_window_is_kept_over_all_messages() -> None:
    outbox = Outbox()
    outbox.window.left = 10
    outbox.add(message(1, b"1234567"))
    outbox.add(message(3, b"1234567"))
    assert sizes(outbox) == [(1, 7), (3, 3)]
    assert outbox.window.left == 0
    assert outbox.window.widen(100)
    assert sizes(outbox) == [(3, 4)]


def test_a_message_whose_window_is_shut_lets_others_pass() -> None:
    outbox = Outbox()
    outbox.add(message(1, b"wait", window=0))
    outbox.add(message(3, b"go"))
    assert sizes(outbox) == [(3, 2)]


def test_a_negative_window_is_shut() -> None:
    outbox, waiting = Outbox(), message(1, b"wait", window=-5)
    outbox.add(waiting)
    assert sizes(outbox) == []
    assert waiting.window.widen(7)
    assert sizes(outbox) == [(1, 2)]


def test_a_dropped_message_is_sent_no_further() -> None:
    outbox, large = Outbox(), message(1, bytes(60_000))
    outbox.add(large)
    outbox.fill(1)
    outbox.drop(large)
    assert sizes(outbox) == []


def test_of_what_was_dropped_nothing_is_kept_while_the_window_is_closed() -> None:
    """A peer that grants nothing and answers pings: call after call is given up."""
    outbox = Outbox()
    outbox.window.left = 0
    for stream in range(1, 200, 2):
        given_up = message(stream, b"x")
        outbox.add(given_up)
        outbox.drop(given_up)
        outbox.drop(given_up)
    assert len(outbox._turns) == 0


@pytest.mark.parametrize(("taken", "granted"), [([49], 0), ([30, 20], 50), ([100], 100)])
def test_credit_is_granted_again_once_half_of_it_is_used_up(taken: list[int], granted: int) -> None:
    credit = Credit(100)
    assert [credit.take(size) for size in taken] == [True] * len(taken)
    assert credit.grant() == granted
    assert credit.left == 100 - sum(taken) + granted


def test_a_byte_more_than_the_credit_is_too_much() -> None:
    assert not Credit(100).take(101)


def test_a_window_may_become_negative_and_is_never_larger_than_31_bits() -> None:
    window = Window(10)
    assert window.widen(-30)
    assert window.left == -20
    assert Window(0).widen(LARGEST_WINDOW)
    assert not Window(1).widen(LARGEST_WINDOW)


@pytest.mark.parametrize(
    ("asked", "at_once", "given_back", "then", "used"),
    [
        pytest.param([60, 40], [0, 1], 0, [], 40, id="what fits is let in"),
        pytest.param([60, 50], [0], 0, [1], 50, id="what does not waits for room"),
        pytest.param([60, 90, 10], [0], 0, [1, 2], 100, id="nobody overtakes who asked before"),
        pytest.param([60, 90, 40], [0], 1, [2], 100, id="who leaves while waiting lets the next one pass"),
        pytest.param([500, 1], [0], 0, [1], 1, id="one alone may be larger than all there is"),
    ],
)
def test_who_may_come_in_and_who_waits(
    asked: list[int], at_once: list[int], given_back: int, then: list[int], used: int
) -> None:
    allowance, let_in, claims = Allowance(100), list[int](), list[Claim]()
    for name, size in enumerate(asked):
        claims.append(allowance.ask(size, lambda name=name: let_in.append(name)))  # type: ignore[misc]
    assert let_in == at_once
    assert allowance.used == sum(asked[name] for name in at_once)
    allowance.give_back(claims[given_back])
    assert let_in == [*at_once, *then]
    assert allowance.used == used


def test_all_is_free_once_all_is_given_back() -> None:
    allowance = Allowance(100)
    for claim in [allowance.ask(30 + number, lambda: None) for number in range(20)]:
        allowance.give_back(claim)
    assert allowance.used == 0
    assert not allowance._waiting
