"""What was done to an audit log is seen, and the first line that does not hold is named."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from kmsconn.journal.audit import verify
from tests.unit.journal.audit.samples import make_log

Lines = list[bytes]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "audit.jsonl"
    make_log(made, 1, 2, 3, 4, 5)
    return made


def changed(lines: Lines) -> Lines:
    return [*lines[:3], lines[3].replace(b'"answered"', b'"rejected"'), *lines[4:]]


def removed(lines: Lines) -> Lines:
    return [*lines[:3], *lines[4:]]


def swapped(lines: Lines) -> Lines:
    return [*lines[:3], lines[4], lines[3], *lines[5:]]


def inserted(lines: Lines) -> Lines:
    return [*lines[:4], lines[3], *lines[4:]]


def beheaded(lines: Lines) -> Lines:
    return lines[1:]


def torn(lines: Lines) -> Lines:
    return [*lines[:-1], lines[-1][:40]]


def no_json(lines: Lines) -> Lines:
    return [*lines[:3], b"hello\n", *lines[3:]]


@pytest.mark.parametrize(
    ("tampering", "line"),
    [(changed, 5), (removed, 4), (swapped, 4), (inserted, 5), (beheaded, 1), (torn, 7), (no_json, 4)],
)
def test_tampering_is_seen_and_the_first_line_that_does_not_hold_is_named(
    path: Path, tampering: Callable[[Lines], Lines], line: int
) -> None:
    path.write_bytes(b"".join(tampering(path.read_bytes().splitlines(keepends=True))))
    assert verify([path]).broken.startswith(f"{path}:{line} ")


def test_a_changed_last_line_is_seen_against_its_hash(path: Path) -> None:
    head = verify([path]).head
    lines = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(b"".join([*lines[:-1], lines[-1].replace(b'"answered"', b'"rejected"')]))
    assert verify([path]).broken == ""
    assert "no line with the hash" in verify([path], head).broken


def test_a_removed_last_line_is_seen_against_its_hash(path: Path) -> None:
    head = verify([path]).head
    path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-1]))
    assert "no line with the hash" in verify([path], head).broken


def test_a_hash_from_the_middle_of_a_longer_log_is_found(path: Path) -> None:
    head = verify([path]).head
    make_log(path, 6, 7)
    assert verify([path], head).broken == ""


def test_a_log_that_nobody_touched_holds(path: Path) -> None:
    verdict = verify([path])
    assert (verdict.lines, verdict.broken, verdict.gaps) == (7, "", ())


def test_an_empty_file_is_no_log(tmp_path: Path) -> None:
    (tmp_path / "empty").write_bytes(b"")
    assert verify([tmp_path / "empty"]).broken == "the log is empty"


def test_a_later_file_alone_asks_for_the_earlier_one(path: Path) -> None:
    path.rename(path.with_name("audit.jsonl.000001"))
    make_log(path, 6)
    assert "name that one before it" in verify([path]).broken
