"""Debian's Chromium without a window, spoken to by the DevTools protocol over a websocket: pages, what they log, and screenshots.

Source: https://chromedevtools.github.io/devtools-protocol/
"""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import DEVNULL
from typing import Any, Final

import attrs
import trio
import trio_websocket

START_SECONDS: Final = 60.0
"""For a browser to start, on a busy machine."""
_STOP_SECONDS: Final = 5.0
_LARGEST_MESSAGE: Final = 1 << 26  # bytes: a screenshot
_ABOUT_NAVIGATION: Final = "GenericIssue"  # such as a click that the test made, which no finger did
_FLAGS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


@attrs.define
class Tab:
    """One page of a browser. ``log`` holds what it wrote to the console, exceptions, and what its security policy refused."""

    connection: trio_websocket.WebSocketConnection
    session: str | None = None
    log: list[str] = attrs.field(factory=list)
    number: int = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        """Have the browser do something; what it tells meanwhile is kept."""
        self.number += 1
        asked = {"id": self.number, "method": method, "params": parameters}
        if self.session is not None:
            asked["sessionId"] = self.session
        await self.connection.send_message(json.dumps(asked))
        while True:
            message = json.loads(await self.connection.get_message())
            if message.get("id") == self.number:
                assert "error" not in message, message
                result: dict[str, Any] = message["result"]
                return result
            self._note(message)

    def _note(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Runtime.consoleAPICalled":
                self.log.append(f"console: {parameters['args']}")
            case "Runtime.exceptionThrown":
                self.log.append(f"exception: {parameters['exceptionDetails']}")
            case "Log.entryAdded":
                self.log.append(f"log: {parameters['entry']['text']}")
            case "Audits.issueAdded" if parameters["issue"]["code"] != _ABOUT_NAVIGATION:
                self.log.append(f"issue: {parameters['issue']}")

    async def open(self, url: str) -> None:
        """Go to an address."""
        await self.call("Page.navigate", url=url)

    async def evaluate(self, expression: str) -> Any:
        """Return the value of an expression; a promise's when it is kept."""
        found = await self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    async def wait_for(self, expression: str) -> None:
        """Return once an expression is true; while the page is loading, what it reads may not be there."""
        guarded = f"(() => {{ try {{ return {expression} }} catch {{ return false }} }})()"
        while not await self.evaluate(guarded):
            await trio.sleep(0.1)

    async def resize(self, width: int, height: int, *, dark: bool = False, scale: float = 1.0) -> None:
        """Take the size of a screen, and its colours."""
        await self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=scale,
            mobile=width < 600,
        )
        scheme = "dark" if dark else "light"
        await self.call(
            "Emulation.setEmulatedMedia", features=[{"name": "prefers-color-scheme", "value": scheme}]
        )

    async def screenshot(self, path: Path) -> None:
        """Keep the whole page as a PNG."""
        found = await self.call("Page.captureScreenshot", captureBeyondViewport=True)
        await trio.to_thread.run_sync(path.write_bytes, base64.b64decode(found["data"]))


@asynccontextmanager
async def open_tab(chromium: Path, folder: Path) -> AsyncIterator[Tab]:
    """Give an empty page of a browser of its own, which keeps everything in an empty folder."""
    command = (str(chromium), *_FLAGS, f"--user-data-dir={folder}", "about:blank")
    environment = {**os.environ, "HOME": str(folder)}
    process = await trio.lowlevel.open_process(
        command, stdin=DEVNULL, stdout=DEVNULL, stderr=DEVNULL, env=environment
    )
    try:
        url = await _address(folder)
        async with trio_websocket.open_websocket_url(url, max_message_size=_LARGEST_MESSAGE) as connection:
            tab = await _attached(connection)
            yield tab
    finally:
        process.terminate()
        with trio.move_on_after(_STOP_SECONDS, shield=True):
            await process.wait()
        if process.returncode is None:
            process.kill()


async def _address(folder: Path) -> str:
    """Return where the browser listens, once it has written that down."""
    file = trio.Path(folder / "DevToolsActivePort")
    with trio.fail_after(START_SECONDS):
        while True:
            lines = (await file.read_text()).split() if await file.exists() else []
            if len(lines) == 2:
                return f"ws://127.0.0.1:{lines[0]}{lines[1]}"
            await trio.sleep(0.1)


async def _attached(connection: trio_websocket.WebSocketConnection) -> Tab:
    browser = Tab(connection)
    target = await browser.call("Target.createTarget", url="about:blank")
    session = await browser.call("Target.attachToTarget", targetId=target["targetId"], flatten=True)
    tab = Tab(connection, session["sessionId"])
    tab.number = browser.number
    for domain in ("Page", "Runtime", "Log", "Audits"):
        await tab.call(f"{domain}.enable")
    return tab
