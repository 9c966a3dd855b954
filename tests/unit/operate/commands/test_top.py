"""``kmsconn top``: how a status fills a terminal, and where it comes from."""

from __future__ import annotations

import argparse
import io
import json
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from rich.console import Console

from kmsconn.errors import Unreachable
from kmsconn.model import events
from kmsconn.observe.monitor import Monitor
from kmsconn.operate.commands import checking
from kmsconn.operate.commands.top_view import TopFrame, whole
from kmsconn.operate.control.explaining import live_commands
from kmsconn.operate.doctor import machine
from kmsconn.requests.snapshot import CoreStatistics
from tests.unit.observe.snapshots import EACH, PUBLIC, snapshot

SIZES = [(200, 60), (140, 42), (104, 30), (80, 24), (40, 12), (20, 4)]


def monitor(requests: int = 100) -> Monitor:
    made = Monitor(lambda: 1_700_000_000.0)
    made.watch(lambda: snapshot(cores={"core[0]": CoreStatistics(False, "refused")}))
    for event in EACH:
        made.on_event(event)
    for rid in range(10, 10 + requests):
        made.on_event(events.RequestRecorded(rid, PUBLIC, (1 << 248) | rid, 10901, 55, b"\x03" * 32, 2))
        made.on_event(events.RequestDeferred(rid, PUBLIC, "check", "denied by the ACL", 2.5))
    made.on_event(events.AlertRaised("core[0]", "unreachable", "refused", events.Severity.CRITICAL))
    return made


async def status(**changes: Any) -> dict[str, Any]:
    command = live_commands(monitor(), "node-1", "0.1.0")["status.live"]
    found = await command.run(None, {})  # type: ignore[arg-type]
    return {**json.loads(json.dumps(found)), **changes}


def drawn(what: Any, width: int = 140, height: int = 42) -> str:
    console = Console(file=io.StringIO(), width=width, height=height, color_system=None, force_terminal=False)
    with console.capture() as capture:
        console.print(what, end="", height=height if isinstance(what, TopFrame) else None)
    return capture.get()


@pytest.mark.parametrize(("width", "height"), SIZES)
async def test_a_frame_fills_the_terminal_and_no_more(width: int, height: int) -> None:
    lines = drawn(TopFrame(await status()), width, height).splitlines()
    assert len(lines) <= height
    assert len(lines) >= height - 3 or height < 30
    assert max(map(len, lines)) <= width
    assert "kmsconn" in "".join(lines)
    assert "critical" in "".join(lines) or height < 10


async def test_an_alert_has_its_remedy() -> None:
    assert "to do: check that it runs" in drawn(TopFrame(await status()))


async def test_a_lost_connection_is_told_above_the_last_status() -> None:
    text = drawn(TopFrame(await status(), "no connector listens"))
    assert "connection lost, trying again: no connector listens" in text
    assert "0x01…000a" in text


async def test_the_oldest_requests_without_a_reply_come_first_with_what_they_wait_for() -> None:
    lines = drawn(TopFrame(await status())).splitlines()
    first = next(number for number, line in enumerate(lines) if "oldest without reply, then newest" in line)
    assert "deferred" in lines[first + 2]
    assert "check: denied by the ACL" in lines[first + 2]


async def test_before_the_connector_runs_there_is_a_status() -> None:
    found = await live_commands(Monitor(), "kmsconn", "0.1.0")["status.live"].run(None, {})  # type: ignore[arg-type]
    assert "starting" in drawn(whole(found))


async def test_texts_of_others_are_no_markup() -> None:
    found = await status()
    found["alerts"][0]["text"] = "[bold]x[/nothing]"
    found["newest"][0]["detail"] = "[/]"
    assert "[bold]x[/nothing]" in drawn(whole(found))


@attrs.frozen
class Answer:
    """A client that gives one answer, or fails."""

    status: int = 200
    body: bytes = b""
    error: Exception | None = None

    async def stream_get(self, _url: str, **_: Any) -> nullcontext[Answer]:
        await trio.lowlevel.checkpoint()
        if self.error is not None:
            raise self.error
        return nullcontext(self)

    async def read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self.body


async def test_the_status_comes_from_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    body = json.dumps(await status()).encode()
    monkeypatch.setattr(machine, "open_http", lambda *_, **__: nullcontext(Answer(200, body)))
    found = await checking._from_url("http://x/status.json", {})
    assert found["service"] == "node-1"


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (Answer(401), "--token-file"),
        (Answer(404), "option status_page"),
        (Answer(503), "HTTP 503"),
        (Answer(200, b"<html>"), "no status of a connector"),
        (Answer(200, b'{"error": "not found"}'), "no status of a connector"),
        (Answer(error=Unreachable("refused")), "no connector answers: refused"),
    ],
)
async def test_what_is_no_status_says_what_to_do(
    answer: Answer, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(machine, "open_http", lambda *_, **__: nullcontext(answer))
    with pytest.raises(checking.NotShown, match=said):
        await checking._from_url("http://x/status.json", {})


async def test_without_a_connector_its_socket_is_named(tmp_path: Path) -> None:
    with pytest.raises(checking.NotShown, match=str(tmp_path / "sock")):
        await checking._from_socket(tmp_path / "sock")


async def test_a_later_failure_keeps_the_last_status() -> None:
    frame = TopFrame(await status())

    async def gone() -> Any:
        await trio.lowlevel.checkpoint()
        raise checking.NotShown("no connector listens")

    await checking._look(gone, frame)
    assert (frame.problem, frame.status["service"]) == ("no connector listens", "node-1")


def test_a_token_is_read_and_a_missing_file_named(tmp_path: Path) -> None:
    path = tmp_path / "token"
    with pytest.raises(checking.NotShown, match="cannot be read"):
        checking._authorization(path)
    path.write_text("a-token\n")
    assert checking._authorization(path) == {"authorization": "Bearer a-token"}
    assert checking._authorization(None) == {}


def test_the_socket_is_the_given_one() -> None:
    assert checking._socket_of(argparse.Namespace(socket=Path("/x.sock"))) == Path("/x.sock")
