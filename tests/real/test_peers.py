"""A peer that is not there: a failure in CI, a skip that says how to get it elsewhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real import peers


def test_in_ci_a_missing_peer_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="make peers"):
        peers.need("a peer", None)


def test_elsewhere_it_is_skipped_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    """The end of the run tells it loudly (tests/conftest.py)."""
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="make peers"):
        peers.need("a peer", None)


def test_one_that_is_there_is_returned(tmp_path: Path) -> None:
    assert peers.need("a peer", tmp_path) == tmp_path
