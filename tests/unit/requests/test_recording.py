"""Logs are decoded once, and the progress of a back-fill is told."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.abi import Log
from kmsconn.requests import decoding
from kmsconn.requests.decoding import DecodeCache
from tests.unit.requests.bench import PROFILE
from tests.vectors import log_of, request

LOG = log_of(request("public_one_v0"))
OTHER = log_of(request("public_three_v0"))


@attrs.define
class Counting:
    """The profile, with a count of what it was asked to decode."""

    times: int = 0
    operations: Any = PROFILE.operations

    def decode(self, log: Log) -> Any:
        self.times += 1
        return PROFILE.decode(log)

    def digest(self, log: Log) -> bytes:
        return PROFILE.digest(log)


def test_a_log_that_comes_again_is_not_decoded_again_and_what_is_remembered_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(decoding, "REMEMBERED_LOGS", 2)
    profile = Counting()
    cache = DecodeCache(profile)  # type: ignore[arg-type]
    for index, times in ((0, 1), (0, 1), (1, 2), (2, 3), (2, 3), (0, 4)):
        cache.decode([attrs.evolve(LOG, log_index=index)])
        assert profile.times == times
    assert cache.decode([LOG]) == cache.decode([LOG])


def test_another_log_in_its_place_is_decoded() -> None:
    cache = DecodeCache(PROFILE)
    [first] = cache.decode([LOG]).arrivals
    other = attrs.evolve(OTHER, block_hash=LOG.block_hash, log_index=LOG.log_index)
    [second] = cache.decode([other]).arrivals
    assert first.id != second.id


def test_a_log_that_cannot_be_decoded_comes_with_the_reason_and_the_others_are_decoded() -> None:
    broken = attrs.evolve(OTHER, data=b"")
    found = DecodeCache(PROFILE).decode([broken, LOG])
    assert [arrival.log for arrival in found.arrivals] == [LOG]
    [(log, reason)] = found.undecodable
    assert log is broken
    assert reason
