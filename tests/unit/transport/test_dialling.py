from __future__ import annotations

import errno

import pytest
import trio
from trio.testing import memory_stream_pair

from kmsconn.transport.dialling import reasons_of, within


async def _late(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
    await trio.sleep(2)
    return memory_stream_pair()[0]


async def _refused(host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
    await trio.lowlevel.checkpoint()
    raise ConnectionRefusedError


async def test_a_connection_in_time_is_given() -> None:
    assert isinstance(await within(_late, 3)("node", 1), trio.abc.Stream)


async def test_a_late_connection_is_a_timeout_that_is_an_os_error() -> None:
    with pytest.raises(OSError, match="no connection with node:1 within 1 s"):
        await within(_late, 1)("node", 1)
    assert trio.current_time() == pytest.approx(1)


async def test_a_refusal_comes_out_as_it_is() -> None:
    with pytest.raises(ConnectionRefusedError):
        await within(_refused, 1)("node", 1)


def test_what_every_attempt_met_is_said_once() -> None:
    """Trio counts the attempts only."""
    refused = [OSError(errno.ECONNREFUSED, "Error connecting to somewhere") for _ in range(2)]
    error = OSError("all attempts to connect to x:9 failed")
    error.__cause__ = ExceptionGroup("x", [*refused, OSError(errno.ENETUNREACH, "no way")])
    assert reasons_of(error) == "Connection refused, Network is unreachable"
    assert not reasons_of(OSError("no such name"))
