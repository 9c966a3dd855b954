"""``kmsconn run`` on a bad day: attacked, told to end; and a scrape has what rules and dashboards read."""

from __future__ import annotations

import json
import re
import resource
import signal
import socket
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, contextmanager, suppress
from pathlib import Path

import attrs
import httpx2
import pytest
import trio

from kmsconn.config.sources import load_config
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.journal.database import Binding
from kmsconn.journal.recording import record
from kmsconn.model.life import State
from kmsconn.observe.server import CONNECTIONS
from tests.e2e.test_cli_process import PATIENCE, config, running, until
from tests.e2e.test_process import Scene, scene
from tests.queries import Reading, readings
from tests.unit.config.sample_values import KEY
from tests.unit.journal.samples import WAYS, arrival, opened, read_of, walk
from tests.vectors import log_of, request
from tools.panels import DASHBOARDS
from tools.rules import ALERT_RULES, RECORDING_RULES

REQUEST = b"GET /metrics HTTP/1.1\r\nhost: x\r\n\r\n"
PROBE = b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n"
OTHERS = 16
"""Descriptors that the process opens meanwhile for everything else."""
SLOWEST_PROBE = 1.0
"""Seconds of the kubelet's own limit, here of the connector's CPU: how long a busy machine lets it wait is another matter."""


@attrs.frozen
class Target:
    """A running connector."""

    pid: int
    host: str
    port: int

    async def connect(self) -> trio.SocketStream:
        return await trio.open_tcp_stream(self.host, self.port)

    async def probe(self) -> float:
        """Ask for the health as the kubelet does; return the seconds that the connector computed meanwhile."""
        begun = self.computed()
        async with await self.connect() as stream:
            await stream.send_all(PROBE)
            said = b"".join([bytes(piece) async for piece in stream])
        assert said.startswith(b"HTTP/1.1 503 "), said  # its dependencies never answer
        return self.computed() - begun

    def computed(self) -> float:
        """Return the seconds of CPU that the connector has had, by the clock that Linux has of each process."""
        return time.clock_gettime((~self.pid << 3) | 2)

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


@pytest.mark.sampled
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


@pytest.mark.sampled
async def test_a_long_row_of_requests_on_one_connection_holds_up_no_probe(tmp_path: Path) -> None:
    """Reproduced: 747 KiB of requests kept the health from being told for 20 s."""
    async with target(tmp_path) as found, AsyncExitStack() as stack:
        await hold(found, stack, 1, REQUEST * (747 * 1024 // len(REQUEST)))
        assert await found.probe() < SLOWEST_PROBE


@pytest.mark.sampled
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


GRACE = 1.0
BETWEEN_SIGNALS = 0.01  # seconds
SLACK = 10.0
"""Seconds that the rest of an end may take on a busy machine."""


@contextmanager
def silent() -> Iterator[str]:
    """Listen where connections are taken by the kernel and nobody ever answers."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


def keep_requests(path: Path, *states: State) -> None:
    """Make the journal of a configuration with a request in each of these states."""
    settings = load_config(path, environ={})
    gateway, contract = settings.chains.gateway.chain_id, settings.protocol.decryption_contract.address
    sender = PrivateKey.parse(KEY).address
    binding = Binding(settings.protocol.profile, gateway, settings.chains.ethereum.chain_id, contract, sender)
    journal = settings.storage.journal
    assert isinstance(journal, Path)
    db = opened(journal, binding)
    log = log_of(request("public_one_v0"))
    db.begin()
    for number, state in enumerate(states, 1):
        known = attrs.evolve(arrival(number, number), log=attrs.evolve(log, block_number=number))
        read = read_of(known, blocks=(number, number))
        read = attrs.evolve(read, chain_id=gateway, contract=contract)
        [(rid, _)] = record(db, read).new
        walk(db, rid, WAYS[state])
    db.commit()
    db.close()


async def test_sigterm_during_an_outage_ends_within_the_grace_and_says_what_is_left(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE), ExitStack() as stack:
        gateway, ethereum, core = (stack.enter_context(silent()) for _ in range(3))
        path = config(
            tmp_path,
            gateway_url=gateway,
            ethereum_url=ethereum,
            kms_core_endpoints=[core],
            drain_grace=f"{GRACE:.0f}s",
        )
        keep_requests(path, State.PENDING, State.ANSWERED, State.ANSWERED, State.SIGNED, State.INCLUDED)
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            begun = time.monotonic()
            process.send_signal(signal.SIGTERM)
            assert (await until(lines, "draining"))["signal"] == "SIGTERM"
            said = await until(lines, "ended")
            assert await process.wait() == 0
    assert GRACE <= time.monotonic() - begun < GRACE + SLACK
    assert {name: said[name] for name in ("pending", "answered", "signed", "included")} == {
        "pending": 1,
        "answered": 2,
        "signed": 1,
        "included": 1,
    }


async def test_a_second_signal_ends_it_before_the_grace_and_later_ones_change_nothing(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        path = config(tmp_path, drain_grace="1h")
        keep_requests(path, State.ANSWERED)
        async with running(path) as (process, lines):
            await until(lines, "wallet")
            process.send_signal(signal.SIGINT)
            await until(lines, "draining")
            process.send_signal(signal.SIGINT)
            await until(lines, "ending at once")
            while process.poll() is None:
                process.send_signal(signal.SIGINT)
                await trio.sleep(BETWEEN_SIGNALS)
            assert (await until(lines, "ended"))["answered"] == 1
    assert process.returncode == 0


OF_PROMETHEUS = {"job", "instance"}
RECORDED = {"up", *(rule.record for rule in RECORDING_RULES)}
NOT_YET = {
    "kmsconn_logs_quarantined_total": "no log of these is undecodable",
    "kmsconn_reorganisations_total": "their chain has one branch",
    "kmsconn_reorganisation_depth_blocks": "their chain has one branch",
    "kmsconn_reorganised_total": "their chain has one branch",
    "kmsconn_replies_returned_total": "their load has no key management",
    "kmsconn_replies_sent_total": "their load has no key management",
    "kmsconn_http_waiting": "nothing is served over HTTP",
    "kmsconn_http_connections": "nothing is served over HTTP",
    "kmsconn_http_certificate_end_timestamp_seconds": "nothing is served over HTTP",
}
"""Families that come with their first event, and why it does not come here; ``unit/observe/test_status.py`` has all of them."""


def queries() -> list[Reading]:
    expressions = [
        *(rule.expression for rule in RECORDING_RULES),
        *(rule.expression for rule in ALERT_RULES),
        *(query.expression for board in DASHBOARDS for panel in board.panels for query in panel.queries),
    ]
    return [one for expression in expressions for one in readings(expression) if one.name not in RECORDED]


async def scraped(running: Scene) -> str:
    """Return what one scrape of the connector says."""
    lines = (running.logs / "run-1.log").read_text().splitlines()
    [url] = [one["monitoring"] for one in map(json.loads, lines) if one["event"] == "started"]
    async with httpx2.AsyncClient(trust_env=False) as client:
        return (await client.get(f"{url}/metrics")).text


async def test_every_query_reads_names_and_labels_of_live_scrapes(tmp_path: Path) -> None:
    """Two scrapes: one under a load, and one after its dependencies have gone, which has alerts."""
    async with scene(tmp_path) as running, running.connector():
        await running.is_included()
        text = await scraped(running)
        running.emulator.kill()
        while "\nkmsconn_alert{" not in text or "\nkmsconn_alerts_total{" not in text:
            await trio.sleep(0.2)
            text += "\n" + await scraped(running)
    there: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)(?:\{(.*)\})? ", text, re.MULTILINE):
        there.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    assert {one.name for one in queries()} - there.keys() == NOT_YET.keys()
    unknown = [
        (one.name, one.labels - there[one.name] - OF_PROMETHEUS) for one in queries() if one.name in there
    ]
    assert [one for one in unknown if one[1]] == []
