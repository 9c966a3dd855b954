"""What a group of errors amounts to."""

from __future__ import annotations

from kmsconn.errors import ConfigError, Fault, StartRefused
from kmsconn.operate.commands.command import only


def test_a_group_of_refusals_is_a_refusal() -> None:
    one, two = StartRefused("a"), StartRefused("b")
    assert only(StartRefused, ExceptionGroup("", [one, ExceptionGroup("", [two])])) == (one, two)


def test_a_group_of_configuration_errors_is_one() -> None:
    error = ConfigError((Fault("k.toml", "is foreign"),))
    assert only(ConfigError, ExceptionGroup("", [error])) == (error,)


def test_a_group_with_anything_else_is_a_crash() -> None:
    assert only(StartRefused, ExceptionGroup("", [StartRefused("a"), ValueError("b")])) == ()


def test_a_group_without_a_refusal_is_a_crash() -> None:
    assert only(StartRefused, ExceptionGroup("", [ValueError("b")])) == ()
