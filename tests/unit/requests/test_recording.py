"""Logs are decoded once, and the progress of a back-fill is told."""

from __future__ import annotations

from functools import partial
from typing import Any

import attrs
import pytest

from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import BackfillProgressed
from kmsconn.requests import recorder
from kmsconn.requests.reader import BACKFILL_REPORT_INTERVAL, BackfillProgress
from kmsconn.requests.recorder import DecodeCache
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


def test_a_log_that_comes_again_is_not_decoded_again() -> None:
    profile = Counting()
    cache = DecodeCache(profile)  # type: ignore[arg-type]
    assert cache.decode([LOG]) == cache.decode([LOG])
    assert profile.times == 1


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


def test_what_is_remembered_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(recorder, "REMEMBERED_LOGS", 2)
    profile = Counting()
    cache = DecodeCache(profile)  # type: ignore[arg-type]
    cache.decode(attrs.evolve(LOG, log_index=index) for index in range(3))
    cache.decode([attrs.evolve(LOG, log_index=2)])
    assert profile.times == 3
    cache.decode([attrs.evolve(LOG, log_index=0)])
    assert profile.times == 4


event = partial(BackfillProgressed, 1, Address(bytes(20)))


def test_a_short_backfill_is_not_told() -> None:
    progress = BackfillProgress(event, 100, 0.0)
    assert progress.after(199, 199, 1.0) is None


def test_a_long_one_is_told_at_its_interval_and_at_its_end() -> None:
    progress = BackfillProgress(event, 100, 0.0)
    assert progress.after(119, 199, BACKFILL_REPORT_INTERVAL - 1) is None
    assert progress.after(139, 199, BACKFILL_REPORT_INTERVAL) == event(40, 100)
    assert progress.after(159, 199, BACKFILL_REPORT_INTERVAL + 1) is None
    assert progress.after(199, 199, BACKFILL_REPORT_INTERVAL + 2) == event(100, 100)


def test_more_than_all_is_never_told() -> None:
    """The end may have been seen before the last range was read."""
    progress = BackfillProgress(event, 100, 0.0)
    assert progress.after(250, 199, BACKFILL_REPORT_INTERVAL) == event(100, 100)
