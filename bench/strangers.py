"""``python -m bench.strangers``: clients of every bad kind at a connector's HTTP address, in a process of their own, until killed.

So many clients at once, of the kinds in turn, from loopback addresses that nobody else has; each connects again when it is closed. Once a
second a file says how many are open and what the connector said to each kind. Judges nothing.
"""

from __future__ import annotations

import argparse
import json
import resource
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from itertools import cycle, islice
from pathlib import Path
from typing import Never

import attrs
import trio

GONE = (trio.BrokenResourceError, trio.ClosedResourceError, OSError)
HEAD = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: kms\r\n"
PAUSE = 1.0
"""Seconds until a client that was closed connects again."""
SLOWLY = 2.0
"""Seconds between two bytes of a slow client."""
ANSWER_BYTES = 64
PIECE = b" " * 4096

Send = Callable[[trio.SocketStream, bytes], Awaitable[None]]


async def silent(stream: trio.SocketStream, _key: bytes) -> None:
    """Say nothing."""


async def slow_head(stream: trio.SocketStream, _key: bytes) -> None:
    """Send a head by and by."""
    await stream.send_all(HEAD)
    while True:
        await stream.send_all(b"X")
        await trio.sleep(SLOWLY)


async def slow_body(stream: trio.SocketStream, key: bytes) -> None:
    """Send a body by and by, with a key."""
    await stream.send_all(HEAD + key + b"Content-Length: 100000\r\n\r\n")
    while True:
        await stream.send_all(b" ")
        await trio.sleep(SLOWLY)


async def endless(stream: trio.SocketStream, key: bytes) -> None:
    """Send a body that does not end, with a key, as fast as it is taken."""
    await stream.send_all(HEAD + key + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        await stream.send_all(b"%x\r\n%s\r\n" % (len(PIECE), PIECE))


async def oversized(stream: trio.SocketStream, key: bytes) -> None:
    """Announce more than is taken, and send it, with a key."""
    await stream.send_all(HEAD + key + b"Content-Length: 1000000000\r\n\r\n")
    while True:
        await stream.send_all(PIECE)


async def without_key(stream: trio.SocketStream, _key: bytes) -> None:
    """Ask without a key."""
    await stream.send_all(HEAD + b"Content-Length: 2\r\n\r\n{}")


async def malformed(stream: trio.SocketStream, key: bytes) -> None:
    """Send a body that is none, with a key."""
    await stream.send_all(HEAD + key + b"Content-Length: 9\r\n\r\nnot json!")


async def garbage(stream: trio.SocketStream, _key: bytes) -> None:
    """Speak no HTTP."""
    await stream.send_all(bytes(range(256)))


KINDS: Mapping[str, Send] = {
    one.__name__: one
    for one in (silent, slow_head, slow_body, endless, oversized, without_key, malformed, garbage)
}


@attrs.define
class Strangers:
    """How many are open, the most until now, and what each kind was told: a status, or that it was closed or refused."""

    port: int
    key: bytes
    addresses: int = 1
    open: int = 0
    most: int = 0
    told: Counter[tuple[str, str]] = attrs.field(factory=Counter)

    async def play(self, kind: str, number: int) -> Never:
        """Be a client of a kind for ever."""
        address = f"127.0.0.{2 + number % self.addresses}"
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", self.port, local_address=address)
            except OSError:
                self.told[kind, "refused"] += 1
            else:
                async with stream:
                    await self._exchange(kind, stream)
            await trio.sleep(PAUSE)

    async def _exchange(self, kind: str, stream: trio.SocketStream) -> None:
        self.open += 1
        self.most = max(self.most, self.open)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._send, kind, stream)
                self.told[kind, await _status(stream)] += 1
                nursery.cancel_scope.cancel()
        finally:
            self.open -= 1

    async def _send(self, kind: str, stream: trio.SocketStream) -> None:
        with suppress(*GONE):
            await KINDS[kind](stream, self.key)

    def document(self) -> dict[str, object]:
        """Return what is told of them."""
        told: dict[str, dict[str, int]] = {}
        for (kind, what), times in sorted(self.told.items()):
            told.setdefault(kind, {})[what] = times
        return {"open": self.open, "most": self.most, "told": told}


async def _status(stream: trio.SocketStream) -> str:
    """Return the status that the connector answers with, or that it closed the connection."""
    said = b""
    with suppress(*GONE):
        while len(said) < ANSWER_BYTES and (piece := await stream.receive_some(ANSWER_BYTES)):
            said += piece
    return said[9:12].decode(errors="replace") if said.startswith(b"HTTP/1.1 ") else "closed"


async def main(arguments: argparse.Namespace) -> None:
    """Play until killed."""
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
    key = f"Authorization: Bearer {arguments.key}\r\n".encode()
    strangers = Strangers(arguments.port, key, arguments.addresses)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(_tell, strangers, arguments.file)
        for number, kind in enumerate(islice(cycle(arguments.kinds), arguments.clients)):
            nursery.start_soon(strangers.play, kind, number)
            await trio.sleep(0.0005)


async def _tell(strangers: Strangers, file: Path) -> Never:
    while True:
        beside = file.with_suffix(".new")
        beside.write_text(json.dumps(strangers.document()))
        beside.replace(file)
        await trio.sleep(1)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.strangers", description=__doc__)
    parser.add_argument("port", type=int, help="of the connector's HTTP address, plain, on loopback")
    parser.add_argument("file", type=Path, help="where it is written what they get")
    parser.add_argument("--clients", type=int, default=1000, help="at once (1,000)")
    parser.add_argument(
        "--addresses", type=int, default=1, help="loopback addresses from which they come (1)"
    )
    parser.add_argument("--kinds", nargs="+", default=tuple(KINDS), choices=KINDS, help="in turn (all)")
    parser.add_argument("--key", default="", help="an API key, for the kinds that have one")
    trio.run(main, parser.parse_args())
