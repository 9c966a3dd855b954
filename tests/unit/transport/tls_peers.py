"""Peers over memory streams that are not what is meant at an address: a certificate of any fault, and words of another protocol."""

from __future__ import annotations

import ssl
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from trio.testing import memory_stream_pair

from kmsconn.transport.ports import start_tls

HOST = "peer"
Serve = Callable[[trio.abc.Stream], Awaitable[None]]

TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"
"""How a server of TLS ends a connection on which plain text came: protocol_version (RFC 8446, 6)."""


def write_certificate(folder: Path, *, host: str = HOST, begins: int = -1, ends: int = 30) -> Path:
    """Write a certificate that is its own authority, and its key, into one file; ``begins`` and ``ends`` in days from now."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    first, last = now + timedelta(days=begins), now + timedelta(days=ends)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), first, last)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "peer.pem"
    path.write_bytes(key.private_bytes(*form) + certificate.public_bytes(serialization.Encoding.PEM))
    return path


def _server_context(pem: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(pem)
    return context


def with_tls(serve: Serve, pem: Path, *, alpn: Sequence[str] = ()) -> Serve:
    """Return a server behind TLS of this certificate."""
    context = _server_context(pem)
    context.set_alpn_protocols(list(alpn))

    async def serve_secured(stream: trio.abc.Stream) -> None:
        secured = trio.SSLStream(stream, context, server_side=True, https_compatible=True)
        try:
            await serve(secured)
        except trio.BrokenResourceError:
            await trio.aclose_forcefully(stream)

    return serve_secured


def asks_for_certificate(pem: Path) -> Serve:
    """Return a server of TLS that asks for its clients' certificates, and trusts none. Trio's own would send no alert."""
    context = _server_context(pem)
    context.verify_mode = ssl.CERT_REQUIRED
    context.set_alpn_protocols(["h2"])

    async def serve(stream: trio.abc.Stream) -> None:
        come, to_send = ssl.MemoryBIO(), ssl.MemoryBIO()
        connection = context.wrap_bio(come, to_send, server_side=True)
        refused = False
        while not refused:
            come.write(await stream.receive_some(4096))
            try:
                connection.do_handshake()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                refused = True
            await stream.send_all(to_send.read())
        with suppress(trio.BrokenResourceError):
            while await stream.receive_some(4096):
                pass
        await stream.aclose()

    return serve


def says(words: bytes) -> Serve:
    """Return a server that answers the first bytes of each client with these words, and hangs up; without words it does so at once."""

    async def serve(stream: trio.abc.Stream) -> None:
        await stream.receive_some(4096)
        if words:
            await stream.send_all(words)
        await stream.aclose()

    return serve


async def is_silent(stream: trio.abc.Stream) -> None:
    """Take connections and never answer."""
    await stream.receive_some(4096)
    await trio.sleep_forever()


@attrs.frozen
class PeerDial:
    """A Dial with one peer at every address, who ``serve`` s; ``trusted`` is the only authority that its clients know."""

    nursery: trio.Nursery
    serve: Serve | None
    trusted: Path | None = None

    async def __call__(self, host: str, port: int, *, tls: bool = False) -> trio.abc.Stream:
        await trio.lowlevel.checkpoint()
        if self.serve is None:
            raise ConnectionRefusedError(
                f"all attempts to connect to {host}:{port} failed: Connection refused"
            )
        ours, theirs = memory_stream_pair()
        self.nursery.start_soon(self.serve, theirs)
        if not tls:
            return ours
        return await start_tls(ours, host, ssl.create_default_context(cafile=self.trusted))
