"""What commands say of latencies and of a life of keys, in words and for machines."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from kmsconn.emulator.commands.arguments import (
    at_least,
    in_milliseconds,
    keys_as_json,
    keys_as_text,
    milliseconds,
    not_negative,
    positive,
)
from kmsconn.emulator.key_life import KeyResult, KeyVerdict


@pytest.mark.parametrize(
    ("seconds", "text", "number"), [(None, "-", None), (0.25, "250 ms", 250.0), (1.23456, "1235 ms", 1234.6)]
)
def test_a_latency_is_a_text_and_a_number(seconds: float | None, text: str, number: float | None) -> None:
    assert (milliseconds(seconds), in_milliseconds(seconds)) == (text, number)


@pytest.mark.parametrize(("doubled", "words"), [(0, "none twice"), (2, "2 transactions too many")])
def test_a_life_of_keys_says_its_steps_and_what_was_doubled(doubled: int, words: str) -> None:
    keys = KeyResult(KeyVerdict((), (), frozenset(), doubled), ("key", "CRS"), 3)
    assert list(keys_as_text(keys)) == [
        "keys: 2 of 3 steps (key, CRS)",
        f"      0 replies included on Ethereum, 0 open, 0 aborted, {words}",
    ]


def test_a_life_of_keys_for_machines_says_whether_it_was_well() -> None:
    keys = KeyResult(KeyVerdict((), (), frozenset(), 0), ("key",), 1)
    assert keys_as_json(keys) == {
        "steps": ["key"],
        "included": 0,
        "open": 0,
        "aborted": 0,
        "doubled": 0,
        "well": True,
    }


@pytest.mark.parametrize(
    ("read", "text", "expected"),
    [(not_negative, "0", 0.0), (not_negative, "1.5", 1.5), (positive, "1e3", 1000.0), (at_least(2), "2", 2)],
)
def test_a_good_number_is_read(read: Callable[[str], Any], text: str, expected: float) -> None:
    assert read(text) == expected


@pytest.mark.parametrize(
    ("read", "text"),
    [
        *[(not_negative, text) for text in ("-1", "nan", "inf", "x", "")],
        *[(positive, text) for text in ("0", "-0.0", "-2", "nan")],
        *[(at_least(2), text) for text in ("1", "-3", "2.5", "x")],
    ],
)
def test_a_bad_number_is_refused(read: Callable[[str], Any], text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        read(text)
