"""One law of delays: they double, stay inside their bounds and end at the cap; what is held back is let go."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from kmsconn.transport.waiting import Backoff, Hold


@given(failures=st.integers(0, 10_000), random=st.floats(0, 1), least=st.floats(0, 1))
def test_a_delay_lies_between_its_least_share_and_the_whole_of_its_step(
    failures: int, random: float, least: float
) -> None:
    step = min(60.0, 0.5 * 2 ** min(failures, 20))
    delay = Backoff(0.5, 60.0, least).seconds(failures, random)
    assert step * least - 1e-9 <= delay <= step + 1e-9


def test_delays_double_up_to_the_cap_with_half_of_them_drawn() -> None:
    backoff = Backoff(first=0.5, cap=3.0)
    assert [backoff.seconds(n) for n in range(4)] == [0.5, 1.0, 2.0, 3.0]
    assert backoff.seconds(10**9, 0.0) == 1.5


def test_a_backoff_holds_longer_with_each_failure_and_lets_go() -> None:
    backoff = Hold(Backoff(first=1.0, cap=60.0), lambda: 1.0)
    assert not backoff.holds(0.0)
    backoff.failed(0.0)
    assert backoff.holds(0.9)
    assert not backoff.holds(1.0)
    backoff.failed(1.0)
    assert backoff.holds(2.9)
    backoff.worked()
    assert not backoff.holds(1.0)
