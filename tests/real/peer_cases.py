"""Which tests run against which software that is not ours: read from their fixtures and parameters, so that nobody keeps a list."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

import pytest

from tests.real import peers

PEERS = (
    "anvil", "node-tkms", "node-tkms-rc6", "radosgw", "moto", "grpcio", "grpclib", "promtool", "kustomize",
    "chromium", "postgresql", "pgbouncer",
)  # fmt: skip
_IN_FIXTURES = {peer.replace("-", "_"): peer for peer in PEERS} | {"postgresql_programs": "postgresql"}
HEADING = "against software that is not ours: "
PROPERTY = "peer"


def peers_of(item: pytest.Item) -> frozenset[str]:
    """Return the peers that a test meets."""
    function = getattr(item, "originalname", None) or item.name
    parameters = getattr(item, "callspec", None)
    chosen = [value for value in parameters.params.values() if isinstance(value, str)] if parameters else []
    known = {*getattr(item, "fixturenames", ()), *chosen, *_named_by(function)}
    return frozenset(peer for name, peer in _IN_FIXTURES.items() if name in known)


def _named_by(function: str) -> set[str]:
    """Return the libraries that the name of a test begins with: those are used without a fixture."""
    return set(re.findall(r"^test_(grpcio|grpclib|moto)_", function))


def count(items: Iterable[pytest.Item]) -> Counter[str]:
    """Return how many tests meet each peer."""
    return Counter(peer for item in items for peer in peers_of(item))


def note(items: Iterable[pytest.Item]) -> None:
    """Let the reports of tests say whom they met, on whichever process they run."""
    for item in items:
        item.user_properties += [(PROPERTY, peer) for peer in sorted(peers_of(item))]


def leave_out(items: Iterable[pytest.Item], missing: frozenset[str]) -> None:
    """Mark the tests that meet a missing peer: decided before any fixture of theirs is made."""
    for item in items:
        if absent := peers_of(item) & missing:
            item.add_marker(pytest.mark.skip(reason=peers.reason(absent)))


def met(reports: Iterable[pytest.TestReport]) -> Counter[str]:
    """Return how many of these tests met each peer."""
    return Counter(
        str(value) for report in reports for name, value in report.user_properties if name == PROPERTY
    )


def line(counts: Counter[str]) -> str:
    """Return the numbers in one line."""
    return HEADING + ", ".join(f"{peer} {counts[peer]}" for peer in PEERS if counts[peer])
