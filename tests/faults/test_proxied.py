"""A whole connector behind a proxy: chains and buckets are reached through it, the Core is not, and its password shows nowhere."""

from __future__ import annotations

import re
from collections import Counter
from contextlib import suppress

import attrs
import trio

from kmsconn.emulator.network import MemoryNetwork
from kmsconn.model.events import AlertRaised
from kmsconn.transport.proxies import proxies_of
from tests.faults.scene import Scene

PROXY = ("proxy.example", 3128)
NAMED = dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY"), "http://user:hunter2@proxy.example:3128")
_ASKED = re.compile(rb"([A-Z]+) (?:http://)?([^/: ]+)")


@attrs.define
class Proxy:
    """Relays to the network and counts by method and host."""

    network: MemoryNetwork
    asked: Counter[tuple[str, str]] = attrs.field(factory=Counter)

    async def serve(self, client: trio.abc.Stream) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += bytes(await client.receive_some()) or b"\r\n\r\n"
        found = _ASKED.match(head)
        assert found is not None, head
        method, host = found[1].decode(), found[2].decode()
        self.asked[method, host] += 1
        async with await self.network(host, 80) as server:
            if method == "CONNECT":
                await client.send_all(b"HTTP/1.1 200 OK\r\n\r\n")
            else:
                await server.send_all(head.replace(b"http://" + host.encode(), b"", 1))
            await _relay(client, server)

    @property
    def hosts(self) -> set[str]:
        return {host for _, host in self.asked}


async def _relay(one: trio.abc.Stream, other: trio.abc.Stream) -> None:
    async def pump(source: trio.abc.Stream, sink: trio.abc.Stream) -> None:
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            while data := await source.receive_some(65_536):
                await sink.send_all(data)
        nursery.cancel_scope.cancel()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(pump, one, other)
        nursery.start_soon(pump, other, one)


async def test_chains_and_buckets_are_reached_through_the_proxy_and_the_core_is_not(scene: Scene) -> None:
    proxy = Proxy(scene.network)
    scene.network.serve(*PROXY, proxy.serve)
    async with scene.connected(proxies=proxies_of(NAMED)):
        ids = await scene.ask("public")
        await scene.wait(lambda: set(ids) <= scene.answered)
    asked = {host: sum(n for (_, one), n in proxy.asked.items() if one == host) for host in proxy.hosts}
    dialled = {host: scene.network.line(host, 80).dialled for host in proxy.hosts}
    assert asked == dialled  # nothing goes around it
    assert {"gateway", "ethereum", "host"} <= proxy.hosts
    assert any(host.startswith("bucket") for host in proxy.hosts)
    assert not any(host.startswith("core") for host in proxy.hosts)
    assert scene.network.line("core0", 80).dialled


async def test_a_proxy_that_is_gone_is_named_and_waited_for(scene: Scene) -> None:
    """Nothing of what the connector says may hold the proxy's password: the scene looks."""
    scene.network.serve(*PROXY, Proxy(scene.network).serve)
    scene.network.line(*PROXY).refuse = True
    async with scene.connected(proxies=proxies_of(NAMED)):
        await scene.wait(
            lambda: any("proxy http://proxy.example:3128" in one.text for one in scene.told(AlertRaised))
        )
        scene.network.line(*PROXY).refuse = False
        ids = await scene.ask("public")
        await scene.wait(lambda: set(ids) <= scene.answered)
