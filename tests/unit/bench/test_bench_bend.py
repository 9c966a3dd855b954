"""The table of the highest rates says who was full."""

from __future__ import annotations

import attrs
import pytest

from bench import bend
from bench.__main__ import lines_of, parse
from bench.offering import Busiest
from tests.unit.bench.test_bench_table import CASE, USED

FULL = attrs.evolve(
    CASE,
    busiest=Busiest("emulator", 0.97),
    machine=attrs.evolve(USED, share=1.876),
    database=attrs.evolve(USED, cpu=0.25),
)


def cells(row: str) -> list[str]:
    """Return the cells of a row."""
    found, start = [], 0
    for width in bend.WIDTHS:
        found.append(row[start : start + width].strip())
        start += width + 2
    return found


def test_every_heading_has_a_column() -> None:
    assert len(bend.heading()) == len(bend.row(FULL, 2))


def test_a_rate_in_words() -> None:
    assert cells(bend.row(FULL, 2)) == [
        "10/s", "10.0", "yes", "10.00", "5.00", "10.00", "4.00", "emulator 97%", "1.88/2", "5.0", "5.0", "250", "250",
    ]  # fmt: skip


def test_without_a_process_none_is_named() -> None:
    assert cells(bend.row(CASE, 2))[7] == "-"


def test_highest_stands_for_rates_of_a_small_size_alone() -> None:
    found = parse(["--highest"])
    assert (found.rates, found.seconds, found.sizes) == (bend.RATES, 15.0, (205,))
    assert found.loads_only


def test_rates_that_are_given_count_beside_highest() -> None:
    found = parse(["--highest", "--rates", "30", "--seconds", "4"])
    assert (found.rates, found.seconds, found.sizes) == ([30.0], 4.0, (205,))


@pytest.mark.parametrize(("words", "column"), [(["--highest"], "busiest process"), ([], "memory")])
def test_which_table_is_printed(words: list[str], column: str) -> None:
    heading, _ = lines_of(parse(words))
    assert column in heading
