"""Numbers on the command line are checked where they are read."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import pytest

from kmsconn.emulator.commands.arguments import at_least, not_negative, positive


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
