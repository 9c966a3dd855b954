"""The monitoring port over a real socket."""

from __future__ import annotations

import socket

import httpx2
import pytest
import trio

from kmsconn.errors import StartRefused
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, make_app, open_server

APP = make_app(Monitor(), Identity("kmsconn", "0.1.0"))


async def test_it_answers_on_a_free_port_while_the_block_lasts() -> None:
    with trio.fail_after(20):
        async with open_server(APP, "127.0.0.1:0") as url, httpx2.AsyncClient(trust_env=False) as client:
            assert (await client.get(f"{url}/liveness")).json()["status"] == "alive"
            assert (await client.get(f"{url}/healthz")).status_code == 503
            head = await client.head(f"{url}/version")
            assert (head.status_code, head.content) == (200, b"")
        host, _, port = url.removeprefix("http://").rpartition(":")
        with pytest.raises(OSError, match=r".*"):
            await trio.open_tcp_stream(host, int(port))


async def test_a_taken_address_is_refused_by_name() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        with pytest.raises(StartRefused, match=address):
            async with open_server(APP, address):
                pass


async def test_cancelling_the_block_closes_the_port() -> None:
    with trio.fail_after(20):
        with trio.CancelScope() as scope:
            async with open_server(APP, "127.0.0.1:0"):
                scope.cancel()
                await trio.sleep_forever()
        assert scope.cancelled_caught
