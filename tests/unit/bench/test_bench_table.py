"""Figures follow from the moments of requests alone, and the table says them in columns."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.__main__ import HIGHEST_RATES, columns_of_cases, parse, told_of
from bench.figures import (
    GIVEN,
    SENT,
    STARTED,
    VISIBLE,
    Moments,
    between,
    outcome,
    percentile,
    rate_of,
    spread,
)
from bench.offering import Busiest, Case, Usage, usage
from bench.proc import Sample
from bench.table import (
    Column,
    columns,
    columns_of_the_highest,
    compared,
    conclusion,
    heading,
    idle,
    legend,
    milliseconds,
    row,
    size,
)


def rows(count: int, rate: float, latency: float, *, answer_rate: float | None = None) -> list[Moments]:
    """Return requests at a rate, each answered after this time and not faster than ``answer_rate``."""
    spacing = 1 / (answer_rate or rate)
    return [
        (n / rate, n / rate + 0.01, n / rate + 0.02, n / rate + 0.05, max(n / rate, n * spacing) + latency)
        for n in range(count)
    ]


def test_own_times_are_from_the_event_to_the_start_and_from_the_answer_to_the_sending() -> None:
    found = outcome(rows(100, 10, 0.5), 100, 10)
    assert found.hearing.p50 == pytest.approx(10)
    assert found.sending.p50 == pytest.approx(30)
    assert found.whole.p50 == pytest.approx(500)


def test_a_load_is_sustained_if_all_of_it_is_answered_at_its_rate() -> None:
    well = outcome(rows(100, 10, 0.5), 100, 10)
    assert (well.sustained, round(well.rate, 6)) == (True, 10)
    late = outcome(rows(100, 10, 0.5, answer_rate=9), 100, 10)
    assert (late.sustained, round(late.rate, 6)) == (False, 9)
    *answered, last = rows(100, 10, 0.5)
    one_open = outcome([*answered, (*last[:4], None)], 100, 10)
    assert (one_open.sustained, one_open.answered) == (False, 99)
    invisible = outcome(rows(99, 10, 0.5), 100, 10)
    assert (invisible.sustained, invisible.visible, invisible.offered) == (False, 99, 100)


@pytest.mark.parametrize(
    ("visible", "answered", "rate"),
    [
        pytest.param(
            [0.0, 1.0, 2.0], [5.0, 5.0, 5.0], 1.0, id="a backlog in one block is no faster than its requests"
        ),
        pytest.param([1.0, 1.0], [2.0, 2.0], math.inf, id="one block of requests in one block"),
        *(([0.0, 1.0], few, 0.0) for few in ([], [1.0], [None, 1.0])),
    ],
)
def test_the_rate_of_replies(visible: list[float], answered: list[float | None], rate: float) -> None:
    assert rate_of(visible, answered) == rate


def test_a_row_without_one_of_the_moments_is_left_out() -> None:
    assert between([(0.0, None, None, None, None), (1.0, 1.5, None, None, None)], VISIBLE, STARTED) == [0.5]
    assert between([(0.0, 1.0, None, 2.0, 3.0)], GIVEN, SENT) == []


def test_the_nearest_rank_is_a_value_that_occurred_and_of_nothing_there_is_none() -> None:
    ordered = [float(n) for n in range(1, 101)]
    assert [percentile(ordered, share) for share in (0.5, 0.99, 1.0)] == [50, 99, 100]
    assert (spread([]).p50, spread([]).most, spread([]).count) == (None, None, 0)


@given(st.lists(st.floats(0, 1e6), min_size=1), st.floats(0, 1))
def test_a_percentile_has_its_share_of_values_at_or_below(values: list[float], share: float) -> None:
    ordered = sorted(values)
    found = percentile(ordered, share)
    assert found is not None
    below = sum(value <= found for value in ordered)
    assert below >= share * len(ordered) - 1e-9


@given(st.lists(st.floats(0, 1e6), min_size=1))
def test_spreads_are_ordered(values: list[float]) -> None:
    found = spread(values)
    assert found.p50 is not None
    assert found.p99 is not None
    assert found.most is not None
    assert found.p50 <= found.p99 <= found.most == 1000 * max(values)


ROWS = [(n / 10, n / 10 + 0.012, n / 10 + 0.02, n / 10 + 0.025, n / 10 + 0.25) for n in range(50)]
USED = Usage(cpu=0.5, share=0.1, resident=64 << 20, descriptors=31)
OURS, ALL = attrs.evolve(USED, share=0.25), attrs.evolve(USED, share=0.5)
CASE = Case(65536, outcome(ROWS, 50, 10), 10.0, USED, OURS, ALL, 4 << 20, machine_ms=4.0)
FULL = attrs.evolve(
    CASE,
    busiest=Busiest("emulator", 0.97),
    machine=attrs.evolve(USED, share=1.876),
    database=attrs.evolve(USED, cpu=0.25),
)
LOAD, HIGHEST = columns(), columns_of_the_highest(2)


def cells(case: Case, wanted: tuple[Column, ...] = LOAD) -> dict[str, str]:
    """Return the first cell under each heading."""
    found: dict[str, str] = {}
    for column in wanted:
        found.setdefault(column.heading, column.cell(case))
    return found


@pytest.mark.parametrize("wanted", [LOAD, HIGHEST])
def test_every_heading_has_a_column(wanted: tuple[Column, ...]) -> None:
    assert len(heading(wanted)) == len(row(wanted, FULL))
    assert row(wanted, FULL).split() == "  ".join(column.cell(FULL) for column in wanted).split()


def test_a_case_in_words() -> None:
    assert cells(CASE) == {
        "size": "64 KiB", "offered": "10/s", "included/s": "10.0", "kept up": "yes", "hear p50": "12.0", "p99": "12.0",
        "send p50": "5.0", "whole p50": "250", "connector ms": "10.00", "db ms": "-", "emulator ms": "10.00", "ratio": "1.00",
        "machine ms": "4.00", "relative": "2.50", "busy": "10%", "emulator": "25%", "others": "15%",
        "memory": "64 MB", "fds": "31", "journal": "4 MiB",
    }  # fmt: skip


def test_the_highest_rate_in_words() -> None:
    """It says who was full."""
    assert cells(FULL, HIGHEST) == {
        "offered": "10/s", "included/s": "10.0", "kept up": "yes", "connector ms": "10.00", "db ms": "5.00", "emulator ms": "10.00",
        "machine ms": "4.00", "busiest process": "emulator 97%", "cores": "1.88/2", "send p50": "5.0", "p99": "5.0", "whole p50": "250",
    }  # fmt: skip
    assert cells(CASE, HIGHEST)["busiest process"] == "-"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--highest"], (HIGHEST_RATES, 15.0, (205,), True)),
        (["--highest", "--rates", "30", "--seconds", "4"], ([30.0], 4.0, (205,), True)),
    ],
)
def test_highest_stands_for_rates_of_a_small_size_alone(words: list[str], expected: Any) -> None:
    found = parse(words)
    assert (found.rates, found.seconds, found.sizes, found.loads_only) == expected


@pytest.mark.parametrize(("words", "heading"), [(["--highest"], "busiest process"), ([], "memory")])
def test_which_table_is_printed(words: list[str], heading: str) -> None:
    assert heading in {column.heading for column in columns_of_cases(parse(words))}


def test_another_connector_is_said_to_be_measured_without_websockets() -> None:
    assert "without websockets" in told_of(parse(["--connector", "kmsconn run -c {config}"]))[0]
    assert not told_of(parse([]))


def test_a_database_is_counted_beside_the_connector_and_not_among_others() -> None:
    with_database = attrs.evolve(CASE, database=attrs.evolve(USED, cpu=0.25, share=0.05))
    told = cells(with_database)
    assert (told["connector ms"], told["db ms"], told["ratio"], told["others"]) == (
        "10.00",
        "5.00",
        "1.50",
        "10%",
    )
    assert told["relative"] == "3.75"


def test_the_legend_says_of_which_commit_the_emulator_is() -> None:
    assert legend("0123abcd").startswith("emulator of 0123abcd;")


def test_two_sides_are_compared_by_medians_with_their_spread() -> None:
    """A round on a machine that stood still does not count; a figure that nobody has is not made up."""
    rounds = [attrs.evolve(CASE, cpu_ms=ms) for ms in (2.0, 4.0, 3.0)]
    other = [attrs.evolve(CASE, cpu_ms=ms, stalled=still) for ms, still in ((6.0, 0.0), (90.0, 9.0))]
    lines = dict(line.split(": ") for line in compared(rounds, other))
    assert lines["  64 KiB    10/s connector ms"] == "3.00 (2.00 to 4.00) against 6.00 (6.00 to 6.00), 0.50"
    assert lines["  64 KiB    10/s        db ms"] == "-"


def test_what_was_not_sustained_is_loud_and_nothing_is_made_up() -> None:
    lost = attrs.evolve(CASE, outcome=attrs.evolve(CASE.outcome, sustained=False))
    assert cells(lost)["kept up"] == "NO"
    assert cells(attrs.evolve(CASE, stalled=20.0))["kept up"] == "still"
    nothing = cells(attrs.evolve(CASE, outcome=outcome([], 50, 10), cpu_ms=None))
    assert [nothing[name] for name in ("connector ms", "emulator ms", "relative", "whole p50")] == ["-"] * 4


@pytest.mark.parametrize(
    ("count", "text"), [(205, "205 B"), (1024, "1 KiB"), (65536, "64 KiB"), (1 << 20, "1 MiB")]
)
def test_bytes(count: int, text: str) -> None:
    assert size(count) == text


@pytest.mark.parametrize(("value", "text"), [(None, "-"), (3.14159, "3.1"), (99.94, "99.9"), (250.4, "250")])
def test_times(value: float | None, text: str) -> None:
    assert milliseconds(value) == text


def test_usage_is_the_difference_of_cpu_and_the_last_of_the_rest() -> None:
    found = usage(Sample(10.0, 1.0, 100, 5), Sample(14.0, 2.0, 200, 6))
    assert found == Usage(cpu=1.0, share=0.25, resident=200, descriptors=6)


def test_what_is_used_while_nothing_is_offered() -> None:
    said = idle(65536, {"connector": USED, "emulator": OURS, "machine": ALL})
    assert said.split("  ")[-1] == "idle: connector 10.0%, emulator 25.0%"


def failed(side: str, share: float, machine: float) -> Case:
    """Return a case of 50 a second that was not sustained, with the busiest process and the shares of a core."""
    lost = attrs.evolve(CASE.outcome, offered_rate=50.0, sustained=False)
    return attrs.evolve(
        CASE, outcome=lost, busiest=Busiest(side, share), machine=attrs.evolve(USED, share=machine)
    )


def test_a_machine_that_stood_still_explains_everything() -> None:
    assert conclusion([CASE], 2) == "kept up with 10/s"
    still = attrs.evolve(failed("emulator", 1.0, 1.0), stalled=9.0)
    assert conclusion([still], 2) == "kept up with none of these loads; at 50/s the machine stood still"


@pytest.mark.parametrize(
    ("side", "share", "machine", "words"),
    [
        ("emulator", 0.99, 1.5, "a process of the emulator was the limit"),
        ("connector", 0.95, 1.9, "a process of the connector was the limit; all cores were busy, others had 1.5 of them"),
        ("connector", 0.6, 2.0, "all cores were busy, others had 1.6 of them"),
        ("connector", 0.3, 0.7, "neither a process nor the machine was busy: it waited"),
    ],
)  # fmt: skip
def test_what_was_at_its_end_is_named(side: str, share: float, machine: float, words: str) -> None:
    assert conclusion([CASE, failed(side, share, machine)], 2) == f"kept up with 10/s; at 50/s {words}"
