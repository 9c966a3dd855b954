"""The rules of leases against a model: several processes with clocks of their own, stopped, cut off and killed, over one database.

The model knows everything: the database's clock is the true one. What must hold at every moment: who considers itself valid is a member;
who is gone is found within two leases by anybody who is there; and an outage of the database alone costs nobody its place.
"""

from __future__ import annotations

from typing import Any

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from kmsconn.connector.members import MARGIN, LeaseClock

LEASE = 5.0
PROCESSES = 3
SKEW = MARGIN / 2
"""By how much a clock may run faster or slower than the true one."""
MOMENTS = st.floats(0.0, 3.0)


@attrs.define
class Process:
    """A process with its own clock; what it sent and the database has not answered yet."""

    rate: float
    clock: LeaseClock
    token: int | None = None
    sent: float | None = None
    """By its own clock, when the renewal was sent that is under way."""
    is_cut: bool = False


class Leases(RuleBasedStateMachine):
    """Random lives of processes."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self.rows: dict[int, float] = {}
        """Members with the times of their renewals, as the database has them."""
        self.tokens = 0
        self.is_down = False
        self.processes = [
            Process(1.0 + SKEW * (place - 1), LeaseClock(LEASE, 0.0)) for place in range(PROCESSES)
        ]
        for process in self.processes:
            self.join(process)

    def local(self, process: Process) -> float:
        return self.now * process.rate

    def reaches(self, process: Process) -> bool:
        return not (self.is_down or process.is_cut)

    def join(self, process: Process) -> None:
        self.tokens += 1
        process.token, process.sent = self.tokens, None
        self.rows[self.tokens] = self.now
        process.clock = LeaseClock(LEASE, self.local(process))

    @rule(seconds=MOMENTS)
    def time_passes(self, seconds: float) -> None:
        self.now += seconds

    @rule(place=st.integers(0, PROCESSES - 1))
    def send_renewal(self, place: int) -> None:
        """A renewal leaves; what happens to it shows later: the process may be stopped meanwhile."""
        process = self.processes[place]
        process.sent = self.local(process)

    @rule(place=st.integers(0, PROCESSES - 1))
    def renewal_arrives(self, place: int) -> None:
        """The database notes the renewal; the process hears of it at once, or is fenced and begins anew."""
        process = self.processes[place]
        if process.sent is None or not self.reaches(process):
            return
        if process.token in self.rows:
            self.rows[process.token] = self.now
            process.clock.renewed(process.sent)
            process.sent = None
        else:
            self.join(process)

    @rule(place=st.integers(0, PROCESSES - 1))
    def judge(self, place: int) -> None:
        """A process deletes those that were silent for a lease by the database's clock."""
        process = self.processes[place]
        if process.token not in self.rows or not self.reaches(process):
            return
        if process.clock.may_judge(self.local(process)):
            self.rows = {
                token: at
                for token, at in self.rows.items()
                if token == process.token or self.now - at <= LEASE
            }

    @rule(place=st.integers(0, PROCESSES - 1), cut=st.booleans())
    def cut(self, place: int, cut: bool) -> None:
        self.processes[place].is_cut = cut

    @rule(down=st.booleans())
    def database(self, down: bool) -> None:
        self.is_down = down

    @rule(place=st.integers(0, PROCESSES - 1))
    def restart(self, place: int) -> None:
        """A process is killed, and another one begins in its place; the row of the first stays."""
        if self.reaches(self.processes[place]):
            self.join(self.processes[place])

    @precondition(lambda self: not self.is_down and any(self.reaches(one) for one in self.processes))
    @rule()
    def two_leases_in_touch(self) -> None:
        """Who is there for two leases, renewing and judging in time, finds everybody who is gone."""
        there = [place for place, one in enumerate(self.processes) if self.reaches(one)]
        steps = 2 * 8 + 1
        for _ in range(steps):
            for place in there:
                self.send_renewal(place)
                self.renewal_arrives(place)
            for place in there:
                self.judge(place)
            self.now += LEASE / 8
        living = {self.processes[place].token for place in there}
        assert set(self.rows) <= living | self.silent_for_less(LEASE * 1.2)

    def silent_for_less(self, seconds: float) -> set[int]:
        return {token for token, at in self.rows.items() if self.now - at < seconds}

    @precondition(lambda self: all(one.token in self.rows for one in self.processes))
    @rule(seconds=st.floats(6.0, 100.0), order=st.permutations(range(PROCESSES)))
    def an_outage_for_all(self, seconds: float, order: list[int]) -> None:
        """All lose the database, and come back one after the other: nobody declares anybody gone."""
        for process in self.processes:
            process.is_cut = False
        self.is_down = False
        before = [process.token for process in self.processes]
        self.now += seconds
        for place in order:
            self.send_renewal(place)
            self.renewal_arrives(place)
            self.judge(place)
            self.now += LEASE / 8
        assert [process.token for process in self.processes] == before

    @invariant()
    def who_is_valid_is_a_member(self) -> None:
        for process in self.processes:
            if process.clock.is_valid(self.local(process)):
                assert process.token in self.rows


TestLeases: Any = Leases.TestCase
TestLeases.settings = settings(stateful_step_count=40, max_examples=150, deadline=None)


def test_a_lease_less_its_margin_is_counted_from_the_question() -> None:
    """Not from the answer, which may come late: the process may have been stopped between."""
    clock = LeaseClock(LEASE, 100.0)
    clock.renewed(101.0)
    assert clock.is_valid(104.9)
    assert not clock.is_valid(105.0)


def test_an_older_answer_takes_nothing_back() -> None:
    clock = LeaseClock(LEASE, 100.0)
    clock.renewed(103.0)
    clock.renewed(101.0)
    assert clock.is_valid(106.9)


def test_a_process_that_has_just_begun_judges_at_once() -> None:
    clock = LeaseClock(LEASE, 100.0)
    assert clock.may_judge(100.0)


def test_who_was_out_of_touch_judges_a_lease_after_its_return() -> None:
    clock = LeaseClock(LEASE, 100.0)
    clock.renewed(110.0)
    assert not clock.may_judge(110.0)
    clock.renewed(114.0)
    assert not clock.may_judge(114.9)
    clock.renewed(115.0)
    assert clock.may_judge(115.0)
