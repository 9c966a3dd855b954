"""``kmsconn journal copy``: what it prints, and what it refuses before it opens anything."""

from __future__ import annotations

import csv
import io
import json
import sys
from pathlib import Path

import pytest

from kmsconn.extras import EXTRAS
from kmsconn.journal.database import Database
from kmsconn.operate.commands.main import main
from tests.unit.journal.audit.samples import audit_file, happened
from tests.unit.journal.samples import new_row, opened, row_of


@pytest.fixture
def original(tmp_path: Path) -> Path:
    """A journal with two requests."""
    path = tmp_path / "original.db"
    db = opened(path)
    db.begin()
    new_row(db, 1)
    new_row(db, 2)
    db.commit()
    db.close()
    return path


def copy(*arguments: object) -> int:
    return main(["journal", "copy", *map(str, arguments)])


def test_a_journal_is_copied_and_the_rows_are_counted(
    original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "copy.db"
    assert copy(f"sqlite:///{original}", f"sqlite:///{target}") == 0
    first, *_, summary, what_now = capsys.readouterr().out.splitlines()
    assert first.split() == ["request", "2"]
    assert summary.startswith(f"copied {original} to {target} in ")
    assert "start no connector on the old one" in what_now
    db: Database = opened(target)
    assert row_of(db, 2).id == 2
    db.close()


@pytest.mark.parametrize(
    ("arguments", "told"),
    [
        (
            ["kmsconn.db", "postgresql://u:hunter2@db"],
            ["FROM: must be sqlite:///PATH", "TO: names no database"],
        ),
        (["sqlite:///one", "sqlite:///one"], ["TO: is the same journal as FROM"]),
        (
            ["sqlite:///one", "sqlite:///two", "--from-password-file", "password"],
            ["--from-password-file: is of no use: FROM is a file"],
        ),
        (
            ["sqlite:///one", "postgresql://u:hunter2@db/k", "--to-password-file", "password"],
            ["--to-password-file: names a second password"],
        ),
    ],
    ids=["both addresses at once", "to itself", "a password file for a file", "two passwords"],
)
def test_what_cannot_be_copied_is_told_without_a_secret(
    original: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], told: list[str]
) -> None:
    password = original.with_name("password")
    password.write_text("hunter2\n")
    here = {"sqlite:///one": f"sqlite:///{original}", "password": str(password)}
    assert copy(*(here.get(one, one) for one in arguments)) == 2
    said = capsys.readouterr().err
    assert [one for one in told if one not in said] == []
    assert "hunter2" not in said


def test_a_second_copy_is_refused(original: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = (f"sqlite:///{original}", f"sqlite:///{tmp_path}/copy.db")
    copy(*arguments)
    capsys.readouterr()
    assert copy(*arguments) == 3
    assert "copy.db is not empty: it has rows of the table request" in capsys.readouterr().err


def test_without_the_extra_it_says_what_to_install(
    original: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for package in EXTRAS["postgres"]:
        monkeypatch.setitem(sys.modules, package, None)
    assert copy(f"sqlite:///{original}", "postgresql://db/k") == 3
    assert "pip install 'kmsconn[postgres]'" in capsys.readouterr().err


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "audit.jsonl"
    file = audit_file(path)
    file.open(None)
    file.append([happened(1), happened(2, kind="user_decryption"), happened(3)])
    file.close()
    return path


def test_a_log_that_holds_is_told_with_its_head(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(log)]) == 0
    said = capsys.readouterr().out
    assert said.startswith("the chain holds: 5 lines, head ")
    assert main(["audit", "verify", str(log), "--head", said.split()[-1]]) == 0


def test_a_broken_log_ends_with_1_and_names_the_line(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log.write_bytes(log.read_bytes().replace(b"user_decryption", b"user_decryptiom"))
    assert main(["audit", "verify", str(log)]) == 1
    assert capsys.readouterr().out.startswith(f"broken: {log}:5 does not follow the line before it")


def test_what_cannot_be_read_is_wrong_usage(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(log.with_name("no"))]) == 2
    assert "cannot be read" in capsys.readouterr().err
    with pytest.raises(SystemExit) as ended:
        main(["audit", "export", str(log), "--since", "yesterday"])
    assert ended.value.code == 2
    assert "must be a time" in capsys.readouterr().err


def exported(log: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[int]:
    assert main(["audit", "export", str(log), *options]) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


def test_an_export_can_be_limited_to_a_kind_and_a_time(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(log, capsys) == exported(log, capsys, "--json") == [1, 2, 3]
    assert exported(log, capsys, "--kind", "user_decryption") == [2]
    assert exported(log, capsys, "--since", "1970-01-01T00:16:42") == [2, 3]
    assert exported(log, capsys, "--until", "1970-01-01T00:16:42Z") == [1]


def test_csv_has_headings(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "export", str(log), "--csv"]) == 0
    rows = list(csv.DictReader(io.StringIO(capsys.readouterr().out)))
    assert [(row["seq"], row["kind"], row["to"]) for row in rows] == [
        ("1", "public_decryption", "answered"),
        ("2", "user_decryption", "answered"),
        ("3", "public_decryption", "answered"),
    ]
