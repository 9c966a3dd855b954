"""What was done to an audit log is seen, and the first line that does not hold is named."""

from __future__ import annotations

import json
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import pytest

from kmsconn.journal.audit import GENESIS, NO_LINE, End, end_of, read_line, transitions, verify
from kmsconn.model.requests import NO_BLOCK
from tests.unit.journal.audit.samples import ORIGIN, happened, make_log

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


def test_the_first_line_has_no_line_before_it() -> None:
    line = json.loads(End().line(GENESIS, 1.5, ORIGIN))
    assert line == {
        "number": 1, "type": "genesis", "at": "1970-01-01T00:00:01.500Z", "seq": 0, **ORIGIN, "previous": NO_LINE,
    }  # fmt: skip


def test_each_line_has_the_hash_of_the_bytes_before_it() -> None:
    lines, _ = transitions(End(), [happened(1), happened(2)])
    assert json.loads(lines[1])["previous"] == sha256(lines[0]).hexdigest()


def test_a_transition_says_what_moved_where() -> None:
    one = happened(7, state="signed", nonce=9, reply=b"\x01" * 32)
    [line], _ = transitions(End(), [one])
    assert json.loads(line) == {
        "number": 1, "type": "transition", "at": "1970-01-01T00:16:47.000Z", "seq": 7, "row": 7,
        "kind": "public_decryption", "id": f"0x{7:064x}", "chain": 10901, "contract": "0x" + "05" * 20,
        "from": "pending", "to": "signed", "block": 55, "transaction": "0x" + "03" * 32, "nonce": 9,
        "reply": "0x" + "01" * 32, "previous": NO_LINE,
    }  # fmt: skip


def test_a_transition_that_the_chain_holds_is_not_written_again() -> None:
    _, end = transitions(End(), [happened(1), happened(2)])
    lines, after = transitions(end, [happened(2), happened(3)])
    assert ([json.loads(line)["seq"] for line in lines], after.seq) == ([3], 3)


def test_a_reason_is_cut_and_shows_no_secret_of_a_url() -> None:
    [line], _ = transitions(
        End(), [happened(1, reason="asked https://me:hidden@node/p?key=hidden " + "x" * 9000)]
    )
    assert b"hidden" not in line
    assert len(line) < 1500


def test_the_end_of_a_chain_is_read_from_its_last_line() -> None:
    [line], end = transitions(End(), [happened(4)])
    assert end_of(line) == end


def test_what_is_no_line_is_none() -> None:
    assert [read_line(text) for text in (b"", b"\0\0", b'{"number":1', b"[1]")] == [None] * 4
    assert end_of(b"{}") is None


def test_a_request_over_http_stands_in_no_block() -> None:
    one = happened(7, state="done", kind="http_public_decryption")
    [line], _ = transitions(End(), [{**one, "block": NO_BLOCK, "transaction": b""}])
    assert json.loads(line).keys().isdisjoint({"block", "transaction"})
