"""Credit that we give, windows that we are given."""

from __future__ import annotations

from kmsconn.transport.grpc.flow import Credit, Window
from kmsconn.transport.grpc.frames import LARGEST_WINDOW


def test_nothing_is_granted_while_more_than_half_is_left() -> None:
    credit = Credit(100)
    assert credit.take(49)
    assert credit.grant() == 0


def test_half_used_up_is_granted_again() -> None:
    credit = Credit(100)
    assert credit.take(30)
    assert credit.take(20)
    assert credit.grant() == 50
    assert credit.left == 100


def test_all_of_it_may_be_used() -> None:
    assert Credit(100).take(100)


def test_a_byte_more_is_too_much() -> None:
    assert not Credit(100).take(101)


def test_a_window_may_become_negative() -> None:
    window = Window(10)
    assert window.widen(-30)
    assert window.left == -20


def test_a_window_is_never_larger_than_31_bits() -> None:
    assert Window(0).widen(LARGEST_WINDOW)
    assert not Window(1).widen(LARGEST_WINDOW)
