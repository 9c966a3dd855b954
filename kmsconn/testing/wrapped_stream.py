"""A stream around another one; what a subclass does not change passes through."""

from __future__ import annotations

import trio


class WrappedStream(trio.abc.Stream):
    """A stream that passes everything on to the one beneath it."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send on the stream beneath."""
        await self._stream.send_all(data)

    async def wait_send_all_might_not_block(self) -> None:
        """Wait for room on the stream beneath."""
        await self._stream.wait_send_all_might_not_block()

    async def receive_some(self, max_bytes: int | None = None) -> bytes | bytearray:
        """Receive from the stream beneath."""
        return await self._stream.receive_some(max_bytes)

    async def aclose(self) -> None:
        """Close the stream beneath."""
        await self._stream.aclose()
