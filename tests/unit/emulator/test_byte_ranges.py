"""What a Range header asks of an object of ten bytes."""

from __future__ import annotations

import pytest

from kmsconn.emulator.buckets import asked_range


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("bytes=0-0", [0]),
        ("bytes=3-5", [3, 4, 5]),
        ("bytes=8-", [8, 9]),
        ("bytes=8-99", [8, 9]),
        ("bytes=-3", [7, 8, 9]),
        ("bytes=-99", list(range(10))),
        ("bytes=10-", []),
        ("bytes=99-", []),
        ("bytes=99-100", []),
        ("bytes=-0", []),
    ],
)
def test_one_range_is_understood(header: str, expected: list[int]) -> None:
    found = asked_range(header, 10)
    assert found is not None
    assert list(found) == expected


@pytest.mark.parametrize(
    "header", ["", "bytes=-", "bytes=5-3", "bytes=0-1,3-4", "items=0-1", "bytes= 0-1", "0-1"]
)
def test_anything_else_asks_for_the_whole(header: str) -> None:
    assert asked_range(header, 10) is None
