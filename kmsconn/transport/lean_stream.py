"""A TCP stream that costs less than Trio's own: no second scheduling of what is done at once. Never dials.

Trio lets other tasks run after each send and each receive that need not wait. Here a send that the kernel takes at once returns at
once, and a receive looks at the socket only once it is readable. Those who use a stream await other things between their calls, so
nobody is starved by that.
"""

from __future__ import annotations

import errno
import select
import socket

import trio

RECEIVE_BYTES = 65536


class LeanStream(trio.abc.HalfCloseableStream):
    """A connected TCP stream, in place of the ``trio.SocketStream`` that it is made of."""

    def __init__(self, stream: trio.SocketStream) -> None:
        of = stream.socket
        self._socket = socket.socket(of.family, of.type, of.proto, fileno=of.detach())
        self._socket.setblocking(False)

    def is_readable(self) -> bool:
        """Say whether something has come that was not received yet, the end for one."""
        poll = select.poll()
        poll.register(self._socket, select.POLLIN)
        return bool(poll.poll(0))

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Send bytes; waits only where the kernel has no room. One task at a time. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            sent = self._send(data)
            if sent == len(data):
                return
            rest = memoryview(data)[sent:]
            while rest:
                await trio.lowlevel.wait_writable(self._descriptor())
                rest = rest[self._send(rest) :]

    def _send(self, data: bytes | bytearray | memoryview) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0

    async def wait_send_all_might_not_block(self) -> None:
        """Wait until the kernel has room. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            await trio.lowlevel.wait_writable(self._descriptor())

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Return what has come, empty at its end; waits where nothing has. One task at a time. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            while True:
                await trio.lowlevel.wait_readable(self._descriptor())
                try:
                    return self._socket.recv(RECEIVE_BYTES if max_bytes is None else max_bytes)
                except BlockingIOError:
                    continue

    async def send_eof(self) -> None:
        """Say that nothing more is sent. Raises as Trio's own."""
        with _ERRORS_OF_TRIO:
            await trio.lowlevel.checkpoint()
            self._socket.shutdown(socket.SHUT_WR)

    def _descriptor(self) -> int:
        descriptor = self._socket.fileno()
        if descriptor < 0:
            raise OSError(errno.EBADF, "closed")
        return descriptor

    async def aclose(self) -> None:
        """Close; whoever waits for the stream gets ClosedResourceError. Repeating: does nothing."""
        if self._socket.fileno() >= 0:
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()
        await trio.lowlevel.checkpoint()


class _ErrorsOfTrio:
    """Turns errors of the socket into Trio's own. A class, since a generator takes as long as what it surrounds."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, _kind: object, error: BaseException | None, _traceback: object) -> None:
        if isinstance(error, OSError):
            if error.errno == errno.EBADF:
                raise trio.ClosedResourceError("this stream was already closed") from None
            raise trio.BrokenResourceError(f"socket connection broken: {error}") from error


_ERRORS_OF_TRIO = _ErrorsOfTrio()
