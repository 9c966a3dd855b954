"""``kmsconn audit``: what it prints, and its statuses."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import pytest

from kmsconn.operate.commands.main import main
from tests.unit.journal.audit.samples import audit_file, happened


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


def test_a_file_that_is_not_there_ends_with_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "verify", str(tmp_path / "no")]) == 2
    assert "cannot be read" in capsys.readouterr().err


def exported(log: Path, capsys: pytest.CaptureFixture[str], *options: str) -> list[int]:
    assert main(["audit", "export", str(log), *options]) == 0
    return [json.loads(line)["seq"] for line in capsys.readouterr().out.splitlines()]


def test_transitions_are_exported_as_json(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert exported(log, capsys) == exported(log, capsys, "--json") == [1, 2, 3]


def test_an_export_can_be_limited_to_a_kind_and_a_time(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
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


def test_a_time_that_is_none_is_wrong_usage(log: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["audit", "export", str(log), "--since", "yesterday"])
    assert ended.value.code == 2
    assert "must be a time" in capsys.readouterr().err
