"""What tests show of gRPC, as data: which behaviour, with which peers; docs/grpc.md is compared with it.

``@shows`` makes a test run once with each real peer that it names, so that the table says what runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from types import ModuleType
from typing import Any, TypeVar

import attrs
import pytest

REAL = ("grpcio", "grpclib", "emulated")
SCRIPTED = "scripted"
"""Frames that a test writes itself, over memory: what no server can be made to do."""

PEERS = (*REAL, SCRIPTED)

F = TypeVar("F", bound=Callable[..., Any])


@attrs.frozen
class Shown:
    """One behaviour, the peers that show it, and the name of the test."""

    behaviour: str
    peers: tuple[str, ...]
    test: str


def shows(behaviour: str, *peers: str) -> Callable[[F], F]:
    """Say what a test shows, and with which peers; real ones become the parameter ``library``."""

    def mark(test: F) -> F:
        before: list[Shown] = getattr(test, "shown", [])
        test.shown = [Shown(behaviour, peers, test.__name__), *before]  # type: ignore[attr-defined]
        if before or peers == (SCRIPTED,):
            return test
        marked: F = pytest.mark.parametrize("library", peers, indirect=True, scope="module")(test)
        return marked

    return mark


def shown_by(modules: Iterable[ModuleType]) -> list[Shown]:
    """Return what the tests of these modules show, in their order."""
    tests = [test for module in modules for test in vars(module).values()]
    return [shown for test in tests for shown in getattr(test, "shown", [])]


def table(shown: Iterable[Shown]) -> str:
    """Return the table of behaviours and peers, as Markdown."""
    peers: dict[str, set[str]] = {}
    for one in shown:
        peers.setdefault(one.behaviour, set()).update(one.peers)
    head = ["| behaviour | " + " | ".join(PEERS) + " |", "|---" * (len(PEERS) + 1) + "|"]
    rows = [
        f"| {behaviour} | " + " | ".join("✓" if peer in those else "" for peer in PEERS) + " |"
        for behaviour, those in peers.items()
    ]
    return "\n".join([*head, *rows])
