"""The bad day on order: faults are put on a running emulation over HTTP, the connector names them, and goes on when they end.

Two processes over loopback sockets: ``kmsconn emulate --control`` and ``kmsconn run``.
"""

from __future__ import annotations

import json
import tomllib
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import httpx2
import pytest
import trio

from kmsconn.emulator.network import reserve_ports
from tests.e2e.test_process import Scene, scene

pytestmark = pytest.mark.rotating

SECONDS, RATE = 20, 5
NAMED = 15.0  # seconds within which a fault must be named: some are looked for every 10 s


@attrs.define
class Drill:
    """A running emulation and connector, with the way to both."""

    running: Scene
    connector: trio.Process
    client: httpx2.AsyncClient
    control: str
    monitoring: str

    async def put_on(self, path: str, **body: Any) -> None:
        answer = await self.client.post(f"{self.control}{path}", content=json.dumps(body))
        assert answer.status_code == 204, answer.text

    async def end(self, path: str) -> int:
        answer = await self.client.delete(f"{self.control}{path}")
        assert answer.status_code == 200, answer.text
        ended: int = answer.json()["ended"]
        return ended

    async def status(self) -> dict[str, Any]:
        counts: dict[str, Any] = (await self.client.get(f"{self.control}/status")).json()
        return counts

    async def health(self) -> tuple[int, str]:
        """Return the status of ``/healthz`` and its details."""
        try:
            answer = await self.client.get(f"{self.monitoring}/healthz")
        except httpx2.TransportError:
            return 0, "not there yet"
        return answer.status_code, answer.json()["details"]

    async def until_healthy(self) -> None:
        while (await self.health())[0] != 200:
            await trio.sleep(0.1)

    async def until_named(self, *words: str) -> None:
        """Wait until health is bad and says all of these words."""
        with trio.fail_after(NAMED):
            while True:
                status, details = await self.health()
                if status == 503 and all(word in details for word in words):
                    return
                await trio.sleep(0.1)

    async def logged(self, *words: str) -> None:
        """Wait until a line of the connector's log has all of these words."""
        log = self.running.logs / "run-1.log"
        with trio.fail_after(NAMED):
            while not any(all(word in line for word in words) for line in log.read_text().splitlines()):
                await trio.sleep(0.1)


@asynccontextmanager
async def started(running: Scene, options: str) -> AsyncIterator[trio.Process]:
    """Run the connector with further options in its file."""
    running.config.write_text(running.config.read_text() + options)
    async with running.connector() as connector:
        yield connector


@asynccontextmanager
async def drill(folder: Path, options: str = "") -> AsyncIterator[Drill]:
    async with AsyncExitStack() as stack:
        (port,) = stack.enter_context(reserve_ports(1))
        load = ("--rate", str(RATE), "--duration", str(SECONDS), "--control", str(port))
        running = await stack.enter_async_context(scene(folder, *load))
        connector = await stack.enter_async_context(started(running, options))
        client = await stack.enter_async_context(httpx2.AsyncClient(trust_env=False))
        monitoring = tomllib.loads(running.config.read_text())["monitoring_endpoint"]
        made = Drill(running, connector, client, f"http://127.0.0.1:{port}", f"http://{monitoring}")
        await made.until_healthy()
        yield made


async def test_faults_are_put_on_named_and_ended_and_every_request_is_answered_once(tmp_path: Path) -> None:
    async with drill(tmp_path) as at:
        await at.put_on("/core0/refuse")
        await at.until_named("core")
        assert await at.end("/core0/refuse") == 1
        await at.until_healthy()

        await at.put_on("/gateway/refuse")
        await at.until_named("gateway")
        assert await at.end("/gateway/refuse") == 1
        await at.until_healthy()

        await at.put_on("/buckets/status", code=403)
        await at.logged("403")
        assert await at.end("/buckets/status") == 2

        await at.put_on("/gateway/reorganise", blocks=8)
        await at.put_on("/gateway/hang", method="eth_estimateGas", share=0.2)
        await trio.sleep(3)
        listing = (await at.client.get(f"{at.control}/faults")).json()["on"]
        assert [(one["target"], one["fault"]) for one in listing] == [
            ("gateway", "reorganise"),
            ("gateway", "hang"),
        ]
        assert await at.end("/gateway/hang") == 1

        verdict = await at.running.verdict()
    assert (verdict["emitted"], verdict["open"], verdict["strays"]) == (SECONDS * RATE, 0, 0)
