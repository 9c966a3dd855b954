"""A peer that is not there: a failure in CI, a skip that says how to get it elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.real import peers


@pytest.fixture(autouse=True)
def _forgetful() -> Iterator[None]:
    """Leave no trace of invented peers in this run's summary."""
    before = set(peers.missing)
    yield
    peers.missing.intersection_update(before)


def test_in_ci_a_missing_peer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make peers"):
        peers.need("a peer", None)


def test_elsewhere_it_is_skipped_and_remembered_for_the_loud_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make peers"):
        peers.need("a peer", None)
    assert "a peer" in peers.missing


def test_one_that_is_there_is_returned(tmp_path: Path) -> None:
    assert peers.need("a peer", tmp_path) == tmp_path
