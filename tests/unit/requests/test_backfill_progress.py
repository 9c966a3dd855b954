"""When the progress of a back-fill is told."""

from __future__ import annotations

from functools import partial

from kmsconn.ethereum.addresses import Address
from kmsconn.model.events import BackfillProgressed
from kmsconn.requests.reader import BACKFILL_REPORT_INTERVAL, BackfillProgress

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
