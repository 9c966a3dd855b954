"""The fixed piece of work stays the same."""

from __future__ import annotations

from bench.yardstick import machine_ms, work


def test_the_work_is_the_same_in_every_version() -> None:
    assert work() == "8204a8d712d5b14c29b9681bc7db64e927d1ea5c3f192a3b7b84e86f4e5e197f"


def test_the_work_takes_cpu() -> None:
    assert machine_ms() > 0
