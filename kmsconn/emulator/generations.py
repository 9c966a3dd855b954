"""The generations that are emulated, by the name of their profile: how their dependencies and users are made. Makes none by itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from random import Random
from typing import Any, Final, Protocol

import attrs

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.httpz.dependencies import HttpzDependencies
from kmsconn.emulator.httpz.traffic import FirstTraffic
from kmsconn.emulator.traffic import Traffic
from kmsconn.emulator.users import Users
from kmsconn.model.profiles import FHEVM, HTTPZ_RC7


class Settle(Protocol):
    """Makes users and their dependencies; ``size`` in bytes for each ciphertext, the options of ``FhevmDependencies.make`` for the rest."""

    def __call__(
        self, clock: Callable[[], float], random: Random, *, size: int = ..., **options: Any
    ) -> Users[EmulatedDependencies]:
        """Make them."""
        ...


@attrs.frozen
class EmulatedGeneration:
    """One generation: its dependencies in a few words, the forms of its requests, and what makes them all."""

    words: str
    forms: tuple[str, ...]
    settle: Settle


def _fhevm(
    clock: Callable[[], float], random: Random, *, size: int = 64, **options: Any
) -> Users[EmulatedDependencies]:
    return Traffic(FhevmDependencies.make(clock, **options), random, size=size)


def _httpz_rc7(
    clock: Callable[[], float], random: Random, *, size: int = 64, **options: Any
) -> Users[EmulatedDependencies]:
    return FirstTraffic(HttpzDependencies.make(clock, **options), random, size=size)


GENERATIONS: Final[Mapping[str, EmulatedGeneration]] = {
    FHEVM: EmulatedGeneration(
        "three chains, a KMS Core and two buckets",
        ("public", "direct", "delegated", "unified", "unified_delegated", "wallet"),
        _fhevm,
    ),
    HTTPZ_RC7: EmulatedGeneration(
        "one gateway, a KMS Core and two buckets", ("public", "user", "delegated"), _httpz_rc7
    ),
}
