"""A part that does not come around stands still; what it finds when it does is nobody's business here."""

from __future__ import annotations

from kmsconn.requests.heartbeats import STALLED_AFTER, Heartbeats


def test_a_part_stands_still_after_the_limit_and_not_before() -> None:
    now = [0.0]
    heartbeats = Heartbeats(lambda: now[0])
    beat = heartbeats.part("reader of 0x01", "gateway")
    now[0] = STALLED_AFTER
    assert heartbeats.stalled() == ()
    now[0] += 1
    [found] = heartbeats.stalled()
    assert (found.part, found.dependency, found.seconds) == ("reader of 0x01", "gateway", STALLED_AFTER + 1)
    beat()
    assert heartbeats.stalled() == ()


def test_each_part_stands_for_itself() -> None:
    now = [0.0]
    heartbeats = Heartbeats(lambda: now[0])
    heartbeats.part("journal", "journal")
    beat = heartbeats.part("txmanager gateway", "gateway")
    now[0] = STALLED_AFTER + 1
    beat()
    assert [one.part for one in heartbeats.stalled()] == ["journal"]
