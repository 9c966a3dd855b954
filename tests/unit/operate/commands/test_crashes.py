"""The report of a crash: whoever reads it sees every error and where it was raised, and no key."""

from __future__ import annotations

import trio

from kmsconn.operate.commands.command import LONGEST_LINE, crash_report


async def raise_deep(depth: int) -> None:
    if depth == 0:
        raise ValueError("the leaf")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(raise_deep, depth - 1)


def crash(depth: int) -> BaseException:
    try:
        trio.run(raise_deep, depth)
    except BaseExceptionGroup as group:
        return group
    raise AssertionError


def raised(error: Exception) -> Exception:
    try:
        raise error
    except type(error) as found:
        return found


def test_an_error_within_forty_groups_is_shown_with_its_place() -> None:
    """Python's own report says "max_group_depth is 10"; the tree of a connector is deeper than that."""
    report = crash_report(crash(40))
    assert "ValueError: the leaf" in report
    assert "in raise_deep" in report
    assert 'raise ValueError("the leaf")' in report


def test_every_error_is_shown() -> None:
    leaves = [raised(ValueError(f"number {number}")) for number in range(20)]
    report = crash_report(ExceptionGroup("a", [ExceptionGroup("b", leaves), raised(KeyError("other"))]))
    assert "crashed: 21 errors" in report
    assert all(f"number {number}" in report for number in range(20))
    assert "KeyError: 'other'" in report


def test_alike_errors_are_shown_once_with_their_number() -> None:
    leaves = [raised(ValueError("again")) for _ in range(3)]
    report = crash_report(ExceptionGroup("a", leaves))
    assert report.count("ValueError: again") == 1
    assert "error 1, 3 times" in report


def test_a_cause_within_groups_is_shown_too() -> None:
    try:
        raise KeyError("outcome") from crash(40)
    except KeyError as error:
        report = crash_report(error)
    assert "ValueError: the leaf" in report
    assert "KeyError: 'outcome'" in report


def test_no_key_of_a_url_is_shown() -> None:
    url = "wss://user:hunter2@node.example:8443/v2/sesame?token=swordfish"
    report = crash_report(ExceptionGroup("a", [raised(OSError(f"cannot reach {url}: refused"))]))
    assert "cannot reach wss://node.example:8443: refused" in report
    assert not any(secret in report for secret in ("hunter2", "sesame", "swordfish"))


def test_a_line_is_cut() -> None:
    report = crash_report(raised(ValueError("x" * 1_000_000)))
    assert max(map(len, report.splitlines())) == LONGEST_LINE
