"""The forms of numbers on the command line, as types of argparse. Reads nothing."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final

PROFILES: Final = ("fhevm-0.14", "httpz-rc7")
"""The generations that can be emulated, by name."""


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Describe which generation is emulated."""
    parser.add_argument(
        "--profile", choices=PROFILES, default=PROFILES[0], help=f"the generation ({PROFILES[0]})"
    )


def not_negative(text: str) -> float:
    """Read a finite number that is not below zero. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number that is not below zero, not {text!r}")
    return number


def positive(text: str) -> float:
    """Read a finite number above zero. Raises ArgumentTypeError."""
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError("must be above zero")
    return number


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``minimum`` on, which raises ArgumentTypeError."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}")
        return number

    return read
