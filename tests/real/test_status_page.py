"""The status page in a browser: it follows the connector, obeys its own security policy, and fits a phone."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.description import Secret
from kmsconn.model import events
from kmsconn.model.requests import Kind
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, StatusSite, make_app, open_server
from tests.real.chromium import START_SECONDS, Tab, open_tab
from tests.unit.observe.snapshots import EACH, snapshot

TOKEN = "a-token-of-the-tests"
PHONE = 390
SHOWN = "document.querySelector('#flow li') !== null"
ALERTS = "document.querySelector('#alerts').textContent"


@attrs.frozen
class Scene:
    """A page of a connector whose events the test tells, and a browser."""

    monitor: Monitor
    url: str
    tab: Tab
    site: StatusSite


@asynccontextmanager
async def open_scene(chromium: Path, folder: Path, token: str | None = None) -> AsyncIterator[Scene]:
    monitor = Monitor()
    monitor.watch(snapshot)
    for event in EACH:
        monitor.on_event(event)
    names = {"service": "node-1", "version": "0.1.0"}
    site = StatusSite(monitor, names, None if token is None else Secret(token))
    app = make_app(monitor, Identity("node-1", "0.1.0"), status=site)
    with trio.fail_after(2 * START_SECONDS):
        async with open_server(app, "127.0.0.1:0") as url, open_tab(chromium, folder) as tab:
            yield Scene(monitor, url, tab, site)


async def test_the_page_follows_the_connector_and_logs_nothing(chromium: Path, tmp_path: Path) -> None:
    async with open_scene(chromium, tmp_path) as scene:
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for(SHOWN)
        assert "No alert is raised" in await scene.tab.evaluate(ALERTS)
        scene.monitor.on_event(
            events.AlertRaised("core[0]", "unreachable", "refused", events.Severity.CRITICAL)
        )
        await scene.tab.wait_for(f"{ALERTS}.includes('What to do: check that it runs')")
        assert await scene.tab.evaluate("document.querySelector('#state').textContent") == "unhealthy"
        scene.monitor.on_event(events.AlertCleared("core[0]", "unreachable"))
        await scene.tab.wait_for(f"{ALERTS}.includes('No alert is raised')")
        assert scene.tab.log == []


async def test_the_timeline_of_a_request_opens_and_follows_it(chromium: Path, tmp_path: Path) -> None:
    steps = "[...document.querySelectorAll('.steps li')].map((one) => one.children[1].textContent)"
    async with open_scene(chromium, tmp_path) as scene:
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for("document.querySelector('#newest a') !== null")
        row, found = (
            77,
            {"row": 77, "id": None, "kind": "public_decryption", "state": "pending", "recorded_at": 0.0},
        )
        told = [{"at": 0.0, "what": "recorded", "detail": "block 5", "stages": {}}]

        async def lookup(_name: str) -> dict[str, Any]:
            await trio.lowlevel.checkpoint()
            return {**found, "next": "a worker takes it", "timeline": told}

        scene.site.lookup = lookup
        scene.monitor.on_event(
            events.RequestRecorded(row, Kind.PUBLIC_DECRYPTION, 1 << 248, 1, 5, b"\1" * 32, 0)
        )
        await scene.tab.wait_for(f"document.querySelector('#newest a[href=\"#request={row}\"]') !== null")
        await scene.tab.evaluate(f"document.querySelector('#newest a[href=\"#request={row}\"]').click()")
        await scene.tab.wait_for(f"{steps}.length === 1")
        told.append({"at": 0.5, "what": "waits in check", "detail": "denied", "stages": {"check": 0.2}})
        await scene.tab.wait_for(f"{steps}.length === 2")
        assert await scene.tab.evaluate(steps) == ["recorded", "waits in check"]
        assert scene.tab.log == []


async def test_what_others_said_is_shown_as_text(chromium: Path, tmp_path: Path) -> None:
    said = "<img src=x onerror=alert(1)><script>alert(2)</script>"
    async with open_scene(chromium, tmp_path) as scene:
        scene.monitor.on_event(events.AlertRaised("core[0]", "calls-fail", said, events.Severity.WARNING))
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for(SHOWN)
        assert said in await scene.tab.evaluate(ALERTS)
        assert await scene.tab.evaluate("document.querySelectorAll('img, main script').length") == 0
        assert scene.tab.log == []


async def test_the_policy_refuses_inline_code_other_sites_and_markup(chromium: Path, tmp_path: Path) -> None:
    async with open_scene(chromium, tmp_path) as scene:
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for(SHOWN)
        await scene.tab.evaluate(
            "{const code = document.createElement('style'); code.textContent = 'p {color: red}'; document.head.append(code)}"
        )
        await scene.tab.evaluate("fetch('http://127.0.0.2:1/').catch(() => {})")
        refused = await scene.tab.evaluate(
            "(() => {try {document.body.innerHTML = '<p>x'} catch {return true}})()"
        )
        assert refused is True
        await scene.tab.wait_for("true")
        violations = [line for line in scene.tab.log if "Content Security Policy" in line]
        assert any("style-src" in line for line in violations), scene.tab.log
        assert any("connect-src" in line for line in violations), scene.tab.log


async def test_a_token_after_the_hash_opens_the_page_and_leaves_the_address(
    chromium: Path, tmp_path: Path
) -> None:
    async with open_scene(chromium, tmp_path, TOKEN) as scene:
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for("document.querySelector('#problem').textContent.includes('needs a token')")
        assert await scene.tab.evaluate(SHOWN) is False
        await scene.tab.open("about:blank")
        await scene.tab.open(f"{scene.url}/status#token={TOKEN}")
        await scene.tab.wait_for(SHOWN)
        assert await scene.tab.evaluate("location.href") == f"{scene.url}/status"


@pytest.mark.parametrize("dark", [False, True])
async def test_it_fits_a_phone_in_both_colours(chromium: Path, tmp_path: Path, dark: bool) -> None:
    async with open_scene(chromium, tmp_path) as scene:
        await scene.tab.resize(PHONE, 844, dark=dark)
        await scene.tab.open(f"{scene.url}/status")
        await scene.tab.wait_for(SHOWN)
        assert await scene.tab.evaluate("document.documentElement.scrollWidth") <= PHONE
        ground = await scene.tab.evaluate("getComputedStyle(document.body).backgroundColor")
        assert ground == ("rgb(16, 19, 26)" if dark else "rgb(245, 246, 248)")
