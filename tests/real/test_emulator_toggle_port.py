"""A dependency's port is shut and opened again: connections break, new ones are refused, later ones are served on the same port."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from kmsconn.emulator.network import TogglePort

PATIENCE = 20


async def echo(stream: trio.abc.Stream) -> None:
    async for chunk in stream:
        await stream.send_all(chunk)


async def said_back(stream: trio.abc.Stream) -> bytes:
    await stream.send_all(b"hello")
    return bytes(await stream.receive_some(5))


async def test_who_is_connected_when_it_shuts_is_cut(nursery: trio.Nursery) -> None:
    with trio.fail_after(PATIENCE):
        toggle_port = TogglePort(echo)
        stream = await trio.open_tcp_stream("127.0.0.1", await nursery.start(toggle_port.serve))
        async with stream:
            assert await said_back(stream) == b"hello"
            toggle_port.shut()
            assert await stream.receive_some(5) == b""


async def test_who_comes_while_it_is_shut_is_refused(nursery: trio.Nursery) -> None:
    with trio.fail_after(PATIENCE):
        toggle_port = TogglePort(echo)
        port = await nursery.start(toggle_port.serve)
        toggle_port.shut()
        await trio.testing.wait_all_tasks_blocked()
        with pytest.raises(OSError, match=str(port)):
            await trio.open_tcp_stream("127.0.0.1", port)


async def test_opened_again_it_serves_on_the_same_port(nursery: trio.Nursery) -> None:
    with trio.fail_after(PATIENCE):
        toggle_port = TogglePort(echo)
        port = await nursery.start(toggle_port.serve)
        for turn in (toggle_port.shut, toggle_port.shut, toggle_port.open, toggle_port.open):
            turn()
            await trio.testing.wait_all_tasks_blocked()
        async with await trio.open_tcp_stream("127.0.0.1", port) as stream:
            assert await said_back(stream) == b"hello"
