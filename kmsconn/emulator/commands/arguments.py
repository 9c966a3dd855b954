"""What several commands take: forms of numbers as types of argparse, the generation, the kinds of requests. Reads nothing."""

from __future__ import annotations

import argparse
import math
from collections.abc import Callable
from typing import Final

from kmsconn.config.places import core_endpoints
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.model.requests import PROFILE_ALIASES, PROFILES

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


def not_negative(text: str) -> float:
    """Read a finite number that is not below zero. Raises ArgumentTypeError."""
    try:
        number = float(text)
    except ValueError:
        number = math.nan
    if not 0 <= number < math.inf:
        raise argparse.ArgumentTypeError(f"must be a number of at least zero, not {text!r}")
    return number


def positive(text: str) -> float:
    """Read a finite number above zero. Raises ArgumentTypeError."""
    number = not_negative(text)
    if not number:
        raise argparse.ArgumentTypeError("must be above zero")
    return number


def committee_size(text: str) -> int:
    """Read the number of nodes of a committee, 3t + 1 as the Cores demand. Raises ArgumentTypeError."""
    number = at_least(1)(text)
    if number % _NODES_PER_FAULT != 1:
        raise argparse.ArgumentTypeError(f"must be 1, 4, 7, 10 and so on (3t + 1), not {number}")
    return number


def core_url(text: str) -> str:
    """Read the address of a Core, as a connector takes it. Raises ArgumentTypeError."""
    try:
        return core_endpoints([text])[0]
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def address(text: str) -> Address:
    """Read an address of Ethereum. Raises ArgumentTypeError."""
    try:
        return parse_address(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def at_least(minimum: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from ``minimum`` on, which raises ArgumentTypeError."""

    def read(text: str) -> int:
        try:
            number = int(text)
        except ValueError:
            raise argparse.ArgumentTypeError(f"must be a whole number, not {text!r}") from None
        if number < minimum:
            raise argparse.ArgumentTypeError(f"must be at least {minimum}, not {number}")
        return number

    return read
