"""The files of an audit log: appended, repaired, rotated."""

from __future__ import annotations

import errno
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest

from kmsconn.journal.audit import End, rotated, verify
from tests.unit.journal.audit.samples import audit_file, happened, make_log


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "audit.jsonl"


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def types(path: Path) -> list[str]:
    return [line["type"] for line in lines(path)]


def test_a_new_log_begins_with_its_genesis(path: Path) -> None:
    make_log(path, 1, 2)
    assert types(path) == ["genesis", "started", "transition", "transition"]
    assert lines(path)[0]["sender"] == "0x01"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_the_next_process_goes_on_with_the_chain_and_writes_no_transition_twice(path: Path) -> None:
    make_log(path, 1, 2)
    make_log(path, 2, 3)
    assert [line["seq"] for line in lines(path) if line["type"] == "transition"] == [1, 2, 3]
    assert types(path)[4] == "started"
    assert verify([path]).broken == ""


@pytest.mark.parametrize(
    "torn", [b'{"number":5,"ty', b"\0" * 200, b'{"number":5,"type":"transition"}', b"\n\n{"]
)
def test_a_torn_last_line_is_cut_off_noted_and_told(path: Path, torn: bytes) -> None:
    make_log(path, 1, 2)
    with path.open("ab") as file:
        file.write(torn)
    reopened = audit_file(path)
    [warning] = reopened.open(None)
    reopened.append([happened(3)])
    assert types(path)[-3:] == ["repaired", "started", "transition"]
    assert lines(path)[-3]["bytes"] == len(torn)
    assert "incomplete" in warning
    assert verify([path]).broken == ""


@pytest.mark.parametrize("kept", range(1, 40, 3))
def test_a_log_that_was_torn_anywhere_is_whole_after_the_next_start(path: Path, kept: int) -> None:
    """A process that dies in the first line leaves a log that begins again."""
    make_log(path, *range(1, 4))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) * kept // 40])
    file = audit_file(path)
    file.open(None)
    file.append([happened(seq) for seq in range(1, 6)])
    assert verify([path]).broken == ""
    assert [line["seq"] for line in lines(path) if line["type"] == "transition"] == [1, 2, 3, 4, 5]


def test_a_long_file_is_rotated_and_the_chain_goes_on(path: Path) -> None:
    file = audit_file(path, rotated_size=2000)
    file.open(None)
    for seq in range(1, 20):
        file.append([happened(seq)])
    before = rotated(path)
    assert [one.name for one in before][:2] == ["audit.jsonl.000001", "audit.jsonl.000002"]
    assert types(path)[0] == "continued"
    verdict = verify([*before, path])
    assert (verdict.broken, verdict.head) == ("", file.end.line_hash)


def test_a_process_that_died_between_two_files_goes_on_with_the_chain(path: Path) -> None:
    make_log(path, 1, 2)
    path.rename(path.with_name("audit.jsonl.000001"))
    make_log(path, 2, 3)
    assert types(path) == ["continued", "started", "transition"]
    assert verify([path.with_name("audit.jsonl.000001"), path]).broken == ""


def test_a_file_that_somebody_moved_away_is_followed_by_the_next_one(path: Path, tmp_path: Path) -> None:
    file = audit_file(path)
    file.open(None)
    file.append([happened(1)])
    path.rename(tmp_path / "elsewhere")
    file.append([happened(2)])
    assert types(path) == ["continued", "transition"]
    assert verify([tmp_path / "elsewhere", path]).broken == ""


def test_lines_that_the_journal_knows_and_the_log_lacks_are_a_gap(path: Path) -> None:
    make_log(path, 1, 2)
    reopened = audit_file(path)
    [warning] = reopened.open(End(line_hash="ab" * 32, seq=5))
    assert "lacks transitions 3 to 5" in warning
    gap = lines(path)[-2]
    assert (gap["type"], gap["first"], gap["last"], gap["lost_head"]) == ("gap", 3, 5, "ab" * 32)
    reopened.append([happened(seq) for seq in (4, 5, 6)])
    assert [line["seq"] for line in lines(path) if line["type"] == "transition"] == [1, 2, 6]


def test_a_full_disk_leaves_no_half_of_a_line(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = audit_file(path)
    file.open(None)
    file.append([happened(1)])
    before, write = path.read_bytes(), os.write

    def full(descriptor: int, data: Any) -> int:
        write(descriptor, bytes(data)[:100])
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "write", full)
        with pytest.raises(OSError, match="No space"):
            file.append([happened(2)])
    assert path.read_bytes() == before
    file.append([happened(2)])
    assert verify([path]).broken == ""


def test_lines_are_on_the_disk_before_append_returns(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = audit_file(path)
    file.open(None)
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", lambda _: synced.append(path.stat().st_size))
    file.append([happened(1), happened(2)])
    assert synced == [path.stat().st_size]


def test_two_processes_cannot_write_one_log(path: Path) -> None:
    file = audit_file(path)
    file.open(None)
    with pytest.raises(BlockingIOError, match="another process writes it"):
        audit_file(path).open(None)
