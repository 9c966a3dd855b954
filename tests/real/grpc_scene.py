"""Foreign gRPC servers in processes of their own, channels to them, and certificates for both."""

from __future__ import annotations

import datetime as dt
import ipaddress
import json
import random
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import attrs
import trio
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmsconn.config.parties import CoreTls
from kmsconn.core.client import client_context
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.grpc.channel import Channel, open_channel
from kmsconn.transport.grpc.framing import MAX_MESSAGE
from kmsconn.transport.ports import Ports, offload_to_threads

SCRIPT = Path(__file__).with_name("grpc_peer_process.py")
PORTS = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
WEEK = dt.timedelta(days=7)
LIMIT = 30  # seconds; a hang fails instead of blocking the suite


@attrs.frozen
class Peer:
    """A running server. Its process may be stopped and continued."""

    port: int
    process: subprocess.Popen[str]


@contextmanager
def running_peer(library: str, **options: Any) -> Iterator[Peer]:
    """Run a server with ``grpc_peer_process.Options``."""
    command = [sys.executable, str(SCRIPT), library, json.dumps(options)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        assert process.stdout is not None
        try:
            yield Peer(int(process.stdout.readline()), process)
        finally:
            process.kill()


@asynccontextmanager
async def channel_to(
    port: int, tls: CoreTls | None = None, max_message: int = MAX_MESSAGE
) -> AsyncIterator[Channel]:
    """Open a channel to a server on this machine."""
    context = None if tls is None else client_context(tls)
    with trio.fail_after(LIMIT):
        async with open_channel("127.0.0.1", port, PORTS.dial, context, max_message=max_message) as channel:
            yield channel


def make_certificate(folder: Path) -> None:
    """Put a key and a certificate of its own authority, for 127.0.0.1 and for the folder's name, into a new folder."""
    folder.mkdir(parents=True)
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, folder.name)])
    now = dt.datetime.now(dt.UTC) - dt.timedelta(hours=1)  # OpenSSL reads a clock that may be a tick behind
    names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName(folder.name)]
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number(), now, now + WEEK)
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "key.pem").write_bytes(key.private_bytes(*form))
    (folder / "certificate.pem").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
