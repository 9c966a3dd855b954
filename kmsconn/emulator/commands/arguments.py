"""What several commands take: forms of numbers as types of argparse, the generation, the kinds of requests. Reads nothing."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from kmsconn.config import forms
from kmsconn.config.places import core_endpoints
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import parse_address
from kmsconn.model.requests import PROFILE_ALIASES, PROFILES

T = TypeVar("T")

_NODES_PER_FAULT: Final = 3
KINDS: Final = ("decryptions", "all")


def add_profile(parser: argparse.ArgumentParser) -> None:
    """Describe which generation is emulated."""
    parser.add_argument(
        "--profile",
        type=_profile,
        choices=PROFILES,
        default=PROFILES[0],
        help=f"the generation ({PROFILES[0]})",
    )


def _profile(text: str) -> str:
    return PROFILE_ALIASES.get(text, text)


def add_kinds(parser: argparse.ArgumentParser) -> None:
    """Describe which kinds of requests there are."""
    words = "decryptions, or all: also a key lifecycle of fhevm (decryptions)"
    parser.add_argument("--kinds", choices=KINDS, default=KINDS[0], help=words)


def wants_keys(arguments: argparse.Namespace) -> bool:
    """Tell whether a life of keys is wanted. Raises ConfigError for a generation that has none here."""
    wanted: bool = arguments.kinds == KINDS[1]
    if wanted and arguments.profile != PROFILES[0]:
        raise ConfigError(
            (
                Fault(
                    "--kinds",
                    f"{arguments.profile} has no emulated key lifecycle: use --kinds decryptions",
                    "leave it out",
                ),
            )
        )
    return wanted


def read_by(read: Callable[[str], T]) -> Callable[[str], T]:
    """Return a reader that says in the words of ``read`` what is wrong with a text. Raises ArgumentTypeError."""

    def taken(text: str) -> T:
        try:
            return read(text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return taken


def _number(text: str) -> float:
    number = float(text)
    if not 0 <= number < math.inf:
        raise ValueError(f"must be a number of at least zero, not {text!r}")
    return number


def _positive(text: str) -> float:
    if not (number := _number(text)):
        raise ValueError("must be above zero")
    return number


def committee_size(number: int) -> int:
    """Judge the number of nodes of a committee, 3t + 1 as the Cores demand. Raises ValueError."""
    if number % _NODES_PER_FAULT != 1:
        raise ValueError(f"must be 1, 4, 7, 10 and so on (3t + 1), not {number}")
    return number


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``minimum`` on, which raises ArgumentTypeError."""
    return read_by(partial(forms.at_least, minimum))


not_negative = read_by(_number)
positive = read_by(_positive)
members = read_by(lambda text: committee_size(forms.at_least(1, text)))
core_url = read_by(lambda text: core_endpoints([text])[0])
address = read_by(parse_address)
