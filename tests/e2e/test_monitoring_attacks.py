"""The monitoring port of a real ``kmsconn run`` under attack: it holds few descriptors, and a probe is answered all the while."""

from __future__ import annotations

import resource
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.observe.server import CONNECTIONS
from tests.e2e.test_cli_process import PATIENCE, config, running, until

pytestmark = pytest.mark.sampled

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
OTHERS = 16
"""Descriptors that the process opens meanwhile for everything else."""
SLOWEST_PROBE = 1.0
"""Seconds; the kubelet's own limit."""


@attrs.frozen
class Target:
    """A running connector."""

    pid: int
    host: str
    port: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port)

    async def probe(self) -> float:
        """Ask for the health as the kubelet does; return the seconds it took."""
        begun = time.perf_counter()
        async with await self.connect() as stream:
            await stream.send_all(PROBE)
            said = b"".join([bytes(piece) async for piece in stream])
        assert said.startswith(b"HTTP/1.1 503 "), said  # its dependencies never answer
        return time.perf_counter() - begun

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.pid}/fd").iterdir())

    async def wait_started(self) -> None:
        """Wait until the start opens nothing any more: modules are imported and files opened until then."""
        before, quiet = -1, 0
        while quiet < 4:
            await trio.sleep(0.25)
            now = self.descriptors()
            before, quiet = now, quiet + 1 if now == before else 0


@asynccontextmanager
async def target(folder: Path) -> AsyncIterator[Target]:
    """Run a connector whose dependencies never answer."""
    with trio.fail_after(PATIENCE):
        async with running(config(folder)) as (process, lines):
            url = (await until(lines, "started"))["monitoring"]
            await until(lines, "wallet")  # the journal is open
            host, _, port = url.removeprefix("http://").rpartition(":")
            yield Target(process.pid, host, int(port))


async def hold(found: Target, stack: AsyncExitStack, number: int, data: bytes) -> None:
    """Open connections, send something on each as far as it is taken, and read nothing."""
    for _ in range(number):
        stream = await stack.enter_async_context(await found.connect())
        with trio.move_on_after(0.01), suppress(trio.BrokenResourceError):
            await stream.send_all(data)


@pytest.mark.parametrize("data", [b"", REQUEST[:-2], REQUEST * 200], ids=["silent", "half", "pipelined"])
async def test_hundreds_of_connections_hold_few_descriptors_and_up_no_probe(
    tmp_path: Path, data: bytes
) -> None:
    """Reproduced: pipelined, unread requests for the metrics held 1,024 descriptors, and nothing was included any more."""
    async with target(tmp_path) as found, AsyncExitStack() as stack:
        before = found.descriptors()
        await hold(found, stack, 4 * CONNECTIONS, data)
        assert max([await found.probe() for _ in range(10)]) < SLOWEST_PROBE
        assert found.descriptors() <= before + CONNECTIONS + OTHERS


async def test_a_long_row_of_requests_on_one_connection_holds_up_no_probe(tmp_path: Path) -> None:
    """Reproduced: 747 KiB of requests kept the health from being told for 20 s."""
    async with target(tmp_path) as found, AsyncExitStack() as stack:
        await hold(found, stack, 1, REQUEST * (747 * 1024 // len(REQUEST)))
        assert await found.probe() < SLOWEST_PROBE


async def test_without_descriptors_it_waits_and_answers_again(tmp_path: Path) -> None:
    """As when the whole machine runs out of them: the port must neither end the process nor stay deaf."""
    async with target(tmp_path) as found:
        await found.wait_started()
        limits = resource.prlimit(found.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(found.pid, resource.RLIMIT_NOFILE, (3, limits[1]))
        async with await found.connect() as waiting:  # by the kernel, for the process has no descriptor left
            with trio.move_on_after(0.5):
                await waiting.receive_some()
                pytest.fail("a connection was accepted")
            resource.prlimit(found.pid, resource.RLIMIT_NOFILE, limits)
            await waiting.send_all(PROBE)
            assert (await waiting.receive_some()).startswith(b"HTTP/1.1 503 ")
        assert await found.probe() < SLOWEST_PROBE
