"""What a group of errors amounts to."""

from __future__ import annotations

from kmsconn.cli.endings import refusals_of
from kmsconn.errors import StartRefused


def test_a_group_of_refusals_is_a_refusal() -> None:
    one, two = StartRefused("a"), StartRefused("b")
    assert refusals_of(ExceptionGroup("", [one, ExceptionGroup("", [two])])) == (one, two)


def test_a_group_with_anything_else_is_a_crash() -> None:
    assert refusals_of(ExceptionGroup("", [StartRefused("a"), ValueError("b")])) == ()


def test_a_group_without_a_refusal_is_a_crash() -> None:
    assert refusals_of(ExceptionGroup("", [ValueError("b")])) == ()
