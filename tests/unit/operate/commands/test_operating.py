"""What the commands of operators print of an answer; who answers is for the tests of ``control`` and of real processes."""

from __future__ import annotations

import argparse
import csv
import io
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from kmsconn.extras import EXTRAS
from kmsconn.journal.database import Database
from kmsconn.operate.commands import checking, operators
from kmsconn.operate.commands.command import duration_text
from kmsconn.operate.commands.main import main
from kmsconn.operate.commands.operators import COMMANDS
from tests.unit.config.test_httpz_config import LEAST, write
from tests.unit.journal.audit.samples import audit_file, happened
from tests.unit.journal.samples import new_row, opened, row_of

REQUEST = {"row": 7, "kind": "keygen", "id": "0x07"}
STOPPED: dict[str, Any] = {
    "running": False, "profile": "fhevm", "version": "1.0", "uptime": None, "requests": {"keygen": {"pending": 2, "done": 1}},
    "oldest": {}, "deferred": {}, "off_chain": 0, "undecodable_logs": 3, "damaged_rows": 0,
    "oldest_request": {**REQUEST, "seconds": 90.0, "reason": "core[0] is down"},
    "paused": [{"kind": "keygen", "since": 0.0, "reason": "upgrade"}],
    "cursors": [{"chain_id": 1, "contract": "0xAb", "next_block": 99}],
}  # fmt: skip
RUNNING: dict[str, Any] = STOPPED | {
    "running": True, "uptime": 5.0, "ready": True, "draining": False, "healthy": False, "details": "core[0]: down", "missing_requests": 0,
    "alerts": [{"dependency": "core[0]", "cause": "unreachable", "severity": "critical", "text": "down", "remedy": "start it"}],
    "workers": {"keygen": {"busy": 1, "places": 4}},
    "cores": {f"core[{n}]": {"serving": s, "text": "down"} for n, s in enumerate((False, True, None))},
    "chains": {"gateway": {"chain_id": 1, "head": 120, "head_time": 1.0, "head_age": 2.0, "finalized_age": None, "reconnects": 1,
                           "endpoint": "wss://node"}},
    "buckets": {"b": {"asked": 2, "failed": 1}}, "stalled": [], "journal_free": 5,
    "transactions": {"gateway": {"balance": "1500000000000000000", "next_nonce": 4, "in_flight": 1, "waiting": 2, "included": 3,
                                 "replies_left": 12}},
}  # fmt: skip


def told(command: str, answer: dict[str, Any]) -> list[str]:
    """Return the lines that tell the answer to a command of the control socket."""
    return [*COMMANDS[command.partition(".")[0]].shown[command](answer)]


def test_the_status_of_a_stopped_connector_is_what_its_journal_knows() -> None:
    assert [*operators.status_lines(STOPPED)] == [
        "fhevm          kmsconn 1.0, stopped; this is what its journal knows",
        "keygen         2 pending, 1 done",
        "oldest open    row 7, keygen 0x07, for 1.5 min: core[0] is down",
        "undecodable    3",
        "PAUSED         keygen since 1970-01-01T00:00:00+00:00: upgrade",
        "contract       0xAb of chain 1, read below block 99",
    ]


PROCESSES = [
    {"name": "a@one", "roles": ["hear", "send", "work"], "uptime": 90.0, "silent": 0.5,
     "leases": ["orders keygen", "reads 1 0xAb", "reads 1 0xCd", "sends 1 0xEf", "upkeep"]},
    {"name": "b@two", "roles": ["work"], "uptime": 9.0, "silent": 30.0, "leases": []},
]  # fmt: skip


def test_the_processes_over_a_journal_are_told_with_what_they_hold() -> None:
    assert [*operators.status_lines(STOPPED | {"processes": PROCESSES})][::6] == [
        "fhevm          kmsconn 1.0, 2 processes at work; this is what their journal knows",
        "process        a@one, up for 1.5 min: orders keygen, reads 2 contracts, sends 1 account, upkeep",
    ]
    assert [*operators.status_lines(RUNNING | {"processes": PROCESSES})][7] == (
        "process        b@two, up for 9.00 s, work only, SILENT for 30.0 s: no lease"
    )


def test_a_role_that_nobody_has_and_settings_that_differ_are_told() -> None:
    found = [{"option": "lease", "text": "5s at a@one (member 1); 9s at b@two (member 2)"}]
    answer = STOPPED | {"processes": PROCESSES[1:], "different_settings": found}
    assert [*operators.status_lines(answer)][-3:] == [
        "NOBODY         has the role hear: requests wait until a process with it is started",
        "NOBODY         has the role send: requests wait until a process with it is started",
        "DIFFERENT      lease: 5s at a@one (member 1); 9s at b@two (member 2); set it alike in all processes",
    ]


def test_the_status_of_a_running_connector_fits_a_screen() -> None:
    lines = [*operators.status_lines(RUNNING)]
    assert lines[0] == "fhevm          kmsconn 1.0, up for 5.00 s, ready, not healthy"
    assert lines[5:] == [
        "contract       0xAb of chain 1, read below block 99, 22 blocks behind the head",
        "workers        keygen 1/4",
        "gateway        wss://node, head 120, 2.00 s ago, 1 reconnects",
        "core[0]        down",
        "core[1]        serves",
        "core[2]        not asked yet",
        "bucket         b: asked 2 times, failed 1",
        "sends gateway  next nonce 4, 2 waiting, 1 in flight, 3 included, balance 1.5 ether (12 replies)",
        "CRITICAL       core[0]: down",
        "               → start it",
    ]


def test_a_timeline_has_a_line_for_each_step() -> None:
    steps = [
        {"at": 0.0, "what": "recorded", "detail": "block 9", "stages": {}, "seconds": 0.25},
        {"at": 0.25, "what": "waits in submit", "detail": "down", "stages": {"check": 0.1}, "seconds": None},
    ]
    one = {**REQUEST, "state": "pending", "on_chain": False, "timeline": steps}
    one |= {"now": "waits", "next": "a worker", "transaction": None}
    assert [line.strip() for line in told("explain", {"requests": [one]})] == [
        "row 7, keygen 0x07: pending, off chain",
        "1970-01-01T00:00:00+00:00  recorded: block 9  (for 0.25 s)",
        "stages: check 0.10 s",
        "1970-01-01T00:00:00+00:00  waits in submit: down",
        "now                        waits",
        "next                       a worker",
    ]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"), (0.0042, "4.2 ms"), (0.05, "50 ms"), (0.6, "0.60 s"), (42.0, "42.0 s"), (90.0, "1.5 min"), (7200, "2.0 h"),
        (864_000, "10 days"),
    ],
)  # fmt: skip
def test_a_duration_is_in_the_unit_that_reads_best(seconds: float | None, text: str) -> None:
    assert duration_text(seconds) == text


def test_pauses_name_what_is_paused() -> None:
    answer = {"kind": "keygen", "changed": True, "paused": STOPPED["paused"]}
    assert told("pause", answer)[1] == "  paused: keygen since 1970-01-01T00:00:00+00:00: upgrade"
    assert [*told("resume", {**answer, "changed": False, "paused": []})] == ["keygen: was not paused"]


def test_what_is_refused_is_named_with_the_reason() -> None:
    answer = {"skipped": [], "refused": [{**REQUEST, "why": "it is signed"}]}
    assert told("skip", answer) == ["row 7, keygen 0x07: is unchanged: it is signed"]


def test_a_replay_names_each_comparison() -> None:
    checks = [{"check": "event", "same": None, "found": "cleared"}, {"check": "core", "same": False, "found": "9 bytes"}]  # fmt: skip
    assert told("replay", {**REQUEST, "same": False, "checks": checks}) == [
        "event        unknown    cleared",
        "core         DIFFERENT  9 bytes",
        "row 7, keygen 0x07: the reply differs from what its inputs give",
    ]


def test_a_log_is_listed_by_its_name_and_an_empty_quarantine_says_so() -> None:
    log = {"log": "0x12345678:3", "block": 9, "contract": "0xAb", "found_at": 0.0, "reason": "unknown form"}
    [line] = told("quarantine.list", {"logs": [log], "requests": []})
    assert line == "0x12345678:3     log of block 9, 0xAb  1970-01-01T00:00:00+00:00  unknown form"
    assert told("quarantine.list", {"logs": [], "requests": []}) == ["nothing is quarantined"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The directory of configurations."""
    monkeypatch.setenv("KMS_CONNECTOR_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("KMS_CONNECTOR_PROFILE", "httpz-rc7")
    return tmp_path


def test_names_or_paths_of_configurations_are_printed_in_order(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("two.toml", "one.toml", "three.md"):
        (folder / name).touch()
    assert main(["list"]) == 0
    assert capsys.readouterr().out == "one.toml\ntwo.toml\n"
    assert main(["list", "-f"]) == 0
    assert capsys.readouterr().out == f"{folder / 'one.toml'}\n{folder / 'two.toml'}\n"
    monkeypatch.setenv("KMS_CONNECTOR_CONFIG_DIR", str(folder / "absent"))
    assert main(["list", "--full-path"]) == 0
    said = capsys.readouterr()
    assert (said.out, "warning: the directory" in said.err) == ("", True)


def test_validate_takes_a_name_of_the_directory_and_names_the_file(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write(folder, LEAST)
    assert main(["validate", "-c", path.stem]) == 0
    said = capsys.readouterr().out
    assert f"the configuration {path} is valid" in said
    assert "profile      httpz-rc7" in said
    assert "tx sender    0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266" in said
    assert "junk" not in said


def test_validate_judges_a_file_of_httpz_without_the_environment(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("KMS_CONNECTOR_CHAIN_ID", "7")
    path = write(folder, {name: value for name, value in LEAST.items() if name != "chain_id"})
    assert main(["validate", "-c", str(path)]) == 2
    assert "chain_id: is required in a file" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["0.0.0.0:9200", "http://127.0.0.1:9200/healthz"])
def test_a_path_is_asked_for_at_the_address_of_the_variable(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def ask(url: str) -> tuple[int, bytes]:
        asked.append(url)
        return 200, b""

    monkeypatch.setenv("KMS_CONNECTOR_MONITORING_ENDPOINT", address)
    monkeypatch.setattr(checking, "ask", ask)
    assert checking.health(argparse.Namespace(endpoint="/liveness")) == 0
    assert asked == ["http://127.0.0.1:9200/liveness"]


@pytest.mark.parametrize(
    ("written", "url"),
    [
        ("", "http://127.0.0.1:9100/healthz"),
        ("0.0.0.0:9200", "http://127.0.0.1:9200/healthz"),
        ("[::]:9200", "http://[::1]:9200/healthz"),
        ("10.0.0.1:9200", "http://10.0.0.1:9200/healthz"),
        ("http://127.0.0.1:9100/healthz", "http://127.0.0.1:9100/healthz"),
    ],
)
def test_the_variable_is_read_as_an_address_and_as_a_url(written: str, url: str) -> None:
    assert checking.health_url({"KMS_CONNECTOR_MONITORING_ENDPOINT": written}) == url


NOT_WELL = json.dumps({"healthy": False, "details": "gateway: down; core[0]: is not serving"}).encode()


@pytest.mark.parametrize(
    ("answer", "ended", "printed"),
    [
        ((200, b'{"healthy": true, "details": ""}'), 0, "HTTP 200: well\n"),
        ((503, NOT_WELL), 1, "HTTP 503: gateway: down\ncore[0]: is not serving\n"),
        *(((404, body), 1, "HTTP 404") for body in (b"", b"<html>", b"[]", b'{"details": null}', b"\xff")),
    ],
)
def test_the_status_and_each_reason_are_told(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    answer: tuple[int, bytes],
    ended: int,
    printed: str,
) -> None:
    monkeypatch.setattr(checking, "ask", lambda _: answer)
    assert checking.health(argparse.Namespace(endpoint="http://127.0.0.1:1/healthz")) == ended
    assert capsys.readouterr().out.startswith(printed)


@pytest.mark.parametrize("url", ["9100", "https://127.0.0.1:1", "http://", "http://127.0.0.1:port/"])
def test_what_is_no_url_is_wrong_usage(url: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert checking.health(argparse.Namespace(endpoint=url)) == 2
    assert "name it as http://HOST:PORT/healthz" in capsys.readouterr().err


def test_nobody_there_is_status_1(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def ask(_: str) -> tuple[int, bytes]:
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(checking, "ask", ask)
    assert checking.health(argparse.Namespace(endpoint="http://127.0.0.1:1/")) == 1
    assert "does not answer" in capsys.readouterr().err


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
