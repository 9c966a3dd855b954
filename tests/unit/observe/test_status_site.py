"""The paths of the status page: who may ask for what, its headers, its bounds, and one rendering for all."""

from __future__ import annotations

import json
import re
from importlib.resources import files
from inspect import iscoroutine
from typing import Any

import pytest
import trio

from kmsconn.config.description import Secret, StatusPage
from kmsconn.config.settings import MonitoringSettings
from kmsconn.errors import JournalFailed
from kmsconn.model import events
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import (
    LOOKUP_SECONDS,
    STATUS_INTERVAL,
    VIEWERS,
    Identity,
    PageAnswer,
    StatusSite,
    make_app,
    make_status_site,
)
from kmsconn.serving.wire import LiveAnswer, ServedAnswer, ServedRequest
from tests.unit.observe.snapshots import EACH, snapshot

TOKEN = "a-token-of-the-tests"
DATA = ("/status.json", "/status/events", "/status/requests/1")
FILES = ("/status", "/status.css", "/status.js")
LOOPBACK = "127.0.0.1:9100"


def monitor() -> Monitor:
    made = Monitor(lambda: 1_700_000_000.0)
    made.watch(snapshot)
    for event in EACH:
        made.on_event(event)
    return made


def site(token: str | None = None) -> StatusSite:
    made = StatusSite(
        monitor(), {"service": "kmsconn", "version": "0.1.0"}, None if token is None else Secret(token)
    )
    made.lookup = found
    return made


def request(path: str, host: str = LOOPBACK, authorization: str = "", method: str = "GET") -> ServedRequest:
    return ServedRequest(path, method, ((b"host", host.encode()), (b"authorization", authorization.encode())))


def ask(
    of: StatusSite, path: str, host: str = LOOPBACK, authorization: str = "", method: str = "GET"
) -> PageAnswer:
    answer = of.answer(request(path, host, authorization, method))
    assert answer is not None
    return answer


def status_of(answer: PageAnswer) -> int:
    """Return the status; 200 for what is still to come."""
    if iscoroutine(answer):
        answer.close()
    return answer.status if isinstance(answer, ServedAnswer) else 200


async def found(name: str) -> dict[str, str]:
    await trio.lowlevel.checkpoint()
    return {"found": name}


@pytest.mark.parametrize("path", ["/", "/metrics", "/healthz", "/liveness", "/version", "/statusx"])
async def test_other_paths_are_not_of_the_page(path: str) -> None:
    assert site().answer(request(path)) is None


@pytest.mark.parametrize("path", ["/healthz", "/liveness", "/version", "/metrics"])
async def test_the_paths_of_0_14_answer_the_same_beside_the_page(path: str) -> None:
    same, identity = monitor(), Identity("kmsconn", "0.1.0")
    beside = make_app(same, identity, lambda: 0.0, site(TOKEN))
    assert beside(ServedRequest(path, "POST")) == make_app(same, identity, lambda: 0.0)(ServedRequest(path))


@pytest.mark.parametrize("path", [*FILES, *DATA, "/status/none"])
async def test_every_answer_has_the_strict_headers(path: str) -> None:
    answer = ask(site(), path)
    if not isinstance(answer, ServedAnswer | LiveAnswer):
        answer = await answer
    headers = dict(answer.headers)
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == policy["connect-src"] == "'self'"
    assert policy["form-action"] == policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert "unsafe" not in headers["content-security-policy"]
    assert (headers["cache-control"], headers["x-content-type-options"]) == ("no-store", "nosniff")


@pytest.mark.parametrize("path", [*FILES, *DATA])
@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS"])
async def test_nothing_but_reading_is_answered(path: str, method: str) -> None:
    assert status_of(ask(site(), path, method=method)) == 405


@pytest.mark.parametrize("path", DATA)
@pytest.mark.parametrize("host", [LOOPBACK, "localhost:9100", "[::1]:9100", "127.0.0.1", "[::1]"])
async def test_a_loopback_host_may_read(path: str, host: str) -> None:
    assert status_of(ask(site(), path, host)) == 200


@pytest.mark.parametrize("path", DATA)
@pytest.mark.parametrize(
    "host", ["", "evil.example", "evil.example:9100", "10.0.0.1:9100", "127.0.0.1.evil.example"]
)
async def test_a_name_of_another_site_is_refused(path: str, host: str) -> None:
    """A site may give its own name a loopback address and ask through a visitor's browser (DNS rebinding)."""
    assert status_of(ask(site(), path, host)) == 403


@pytest.mark.parametrize("path", DATA)
@pytest.mark.parametrize(
    "said", ["", "Bearer ", f"Bearer {TOKEN}x", f"Bearer {TOKEN[:-1]}", TOKEN, f"Basic {TOKEN}", "Bearer ü"]
)
async def test_without_the_token_nothing_of_the_connector_is_shown(path: str, said: str) -> None:
    answer = ask(site(TOKEN), path, authorization=said)
    assert isinstance(answer, ServedAnswer)
    assert (answer.status, ("www-authenticate", "Bearer") in answer.headers) == (401, True)
    assert json.loads(answer.body) == {"error": "a bearer token is needed"}


@pytest.mark.parametrize("path", DATA)
async def test_with_the_token_any_host_may_read(path: str) -> None:
    assert status_of(ask(site(TOKEN), path, "node.example", f"Bearer {TOKEN}")) == 200


@pytest.mark.parametrize("path", FILES)
async def test_the_files_hold_nothing_of_the_connector_and_need_no_token(path: str) -> None:
    assert ask(site(TOKEN), path, "node.example") == ask(site(), path)


async def test_one_viewer_too_many_is_refused_until_one_leaves() -> None:
    of = site()
    streams = [ask(of, "/status/events") for _ in range(VIEWERS)]
    assert status_of(ask(of, "/status/events")) == 503
    assert isinstance(streams[0], LiveAnswer)
    streams[0].close()
    assert isinstance(ask(of, "/status/events"), LiveAnswer)


async def test_all_viewers_share_one_rendering() -> None:
    of = site()
    watched, taken = snapshot(), list[float]()
    of._monitor.watch(lambda: taken.append(trio.current_time()) or watched)  # type: ignore[func-returns-value]
    streams = [ask(of, "/status/events") for _ in range(VIEWERS)]
    pieces: list[list[bytes]] = [[], [], []]

    async def take(stream: PageAnswer, at: list[bytes]) -> None:
        assert isinstance(stream, LiveAnswer)
        at.append(await stream.next_piece())

    for round_ in pieces:
        async with trio.open_nursery() as nursery:
            for stream in streams:
                nursery.start_soon(take, stream, round_)
    assert [len(set(round_)) for round_ in pieces] == [1, 1, 1]
    assert sorted(set(taken)) == [0.0, STATUS_INTERVAL, 2 * STATUS_INTERVAL]
    assert max(map(taken.count, taken)) < VIEWERS  # a rendering looks twice, for the figures and for health


async def test_an_event_is_one_line_of_json() -> None:
    stream = ask(site(), "/status/events")
    assert isinstance(stream, LiveAnswer)
    piece = await stream.next_piece()
    assert piece.startswith(b"data: {")
    assert piece.endswith(b"}\n\n")
    assert piece.count(b"\n") == 2
    assert json.loads(piece.removeprefix(b"data: "))["service"] == "kmsconn"


async def looked_up(lookup: Any, path: str = "/status/requests/99") -> ServedAnswer:
    of = site()
    of.lookup = lookup
    answer = ask(of, path)
    assert not isinstance(answer, ServedAnswer | LiveAnswer)
    return await answer


async def test_a_request_comes_from_the_journal() -> None:
    answer = await looked_up(found)
    assert (answer.status, json.loads(answer.body)) == (200, {"found": "99"})
    assert "content-security-policy" in dict(answer.headers)


async def test_a_request_that_the_journal_has_not_is_not_found() -> None:
    async def lookup(_name: str) -> None:
        await trio.lowlevel.checkpoint()

    assert (await looked_up(lookup, f"/status/requests/0x{9:064x}")).status == 404


async def test_a_journal_that_fails_costs_an_answer() -> None:
    async def lookup(_name: str) -> None:
        await trio.lowlevel.checkpoint()
        raise JournalFailed("disk I/O error")

    assert (await looked_up(lookup)).status == 503


async def test_a_journal_is_not_waited_for_for_ever() -> None:
    async def lookup(_name: str) -> None:
        await trio.sleep_forever()

    assert (await looked_up(lookup)).status == 503
    assert trio.current_time() == LOOKUP_SECONDS


@pytest.mark.parametrize("name", ["", "0x", "0xg1", "1" * 19, "²", "-1", "../1", "0x" + "1" * 65])
async def test_the_journal_is_asked_for_numbers_and_ids_alone(name: str) -> None:
    of = site()
    of.lookup = lambda _name: pytest.fail("asked")
    assert status_of(ask(of, f"/status/requests/{name}")) == 404


@pytest.mark.parametrize(
    ("endpoint", "option", "served"),
    [
        ("127.0.0.1:9100", StatusPage.LOOPBACK, True),
        ("[::1]:9100", StatusPage.LOOPBACK, True),
        ("localhost:9100", StatusPage.LOOPBACK, True),
        ("0.0.0.0:9100", StatusPage.LOOPBACK, False),
        ("[::]:9100", StatusPage.LOOPBACK, False),
        ("10.0.0.1:9100", StatusPage.LOOPBACK, False),
        ("10.0.0.1:9100", StatusPage.ON, True),
        ("127.0.0.1:9100", StatusPage.OFF, False),
    ],
)
def test_where_the_page_is_served(endpoint: str, option: StatusPage, served: bool) -> None:
    settings = MonitoringSettings(monitoring_endpoint=endpoint, status_page=option)
    assert (make_status_site(Monitor(), settings, "0.1.0") is not None) is served


def test_the_page_names_no_other_address_and_has_no_form() -> None:
    folder = files("kmsconn.observe").joinpath("status_page")
    texts = {file.name: file.read_text() for file in folder.iterdir()}
    assert sorted(texts) == ["status.css", "status.html", "status.js"]
    for text in texts.values():
        assert set(re.findall(r"https?://([\w.]+\w)", text)) <= {"www.w3.org", "127.0.0.1"}
        for word in ("<form", "<input", "<button", "innerHTML", "eval(", "POST", "style="):
            assert word not in text


async def test_what_a_chain_or_a_core_said_is_text() -> None:
    """Texts of alerts come from others; in JSON they stay one line, and the page sets them as text."""
    of = site()
    said = "</script>\n\ndata: x \u2028"
    of._monitor.on_event(events.AlertRaised("core[0]", "calls-fail", said, events.Severity.WARNING))
    assert b"\n" not in of.rendering()
    [alert] = json.loads(of.rendering())["alerts"]
    assert alert["text"] == said
