"""What a Core remembers (kms-core-grpc.md, 5.5)."""

from __future__ import annotations

import math

import pytest

from kmsconn.emulator.core_requests import Job, read_public
from kmsconn.emulator.core_table import CoreTable, CoreTableEntry, Full, Known
from tests.unit.emulator.core_worlds import PLAINTEXTS, public_id, public_request


def job(number: int) -> Job:
    return read_public(bytes(public_request(number)), PLAINTEXTS)


def table(*ready_at: float, capacity: int = 4, kept: int = 2) -> CoreTable:
    """A table whose entries 1, 2, … are ready at these times."""
    made = CoreTable(capacity, kept)
    for number, moment in enumerate(ready_at, start=1):
        made.add(CoreTableEntry(job(number), moment), 0)
    return made


def test_an_id_is_found_again() -> None:
    found = table(1).get(public_id(1))
    assert found is not None
    assert found.ready_at == 1


def test_an_unknown_id_is_not_found() -> None:
    assert table(1).get(public_id(2)) is None


def test_an_id_is_taken_once() -> None:
    with pytest.raises(Known):
        table(1).add(CoreTableEntry(job(1), 2), 0)


def test_pending_jobs_are_counted_as_time_goes_on() -> None:
    made = table(1, 2, math.inf)
    assert [made.pending(now) for now in (0, 1, 2, 1e9)] == [3, 2, 1, 1]


def test_a_full_table_forgets_its_oldest_finished_entry() -> None:
    made = table(9, 1, 1, 1)
    made.add(CoreTableEntry(job(5), 9), 5)
    assert made.get(public_id(1)) is not None
    assert made.get(public_id(2)) is None
    assert len(made) == 4


def test_a_full_table_with_too_few_finished_entries_refuses() -> None:
    made = table(1, 1, 9, 9)
    with pytest.raises(Full):
        made.add(CoreTableEntry(job(5), 9), 5)
    assert len(made) == 4


def test_a_known_id_is_known_in_a_full_table_too() -> None:
    with pytest.raises(Known):
        table(9, 9, 9, 9).check(public_id(4), 5)


def test_the_defaults_are_those_of_the_core() -> None:
    assert (CoreTable().capacity, CoreTable().kept) == (10_000, 6_000)
