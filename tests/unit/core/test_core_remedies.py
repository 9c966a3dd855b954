"""What the alert of a Core that is not reached tells to do, by what answers at its address."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn.config.parties import CoreTls
from kmsconn.core.client import SERVICE, open_core
from kmsconn.core.remedies import REMEDIES
from kmsconn.emulator.grpc_server import GrpcFailure, health_method, serve_grpc
from kmsconn.errors import RequestError
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.protobuf import Chunks
from kmsconn.requests.core_health import ENDPOINT_FAILURE_GRACE, CoreHealth
from kmsconn.transport.grpc.framing import Status
from kmsconn.transport.ports import Ports, offload_inline
from kmsconn.transport.wrong_peers import WrongPeer
from tests.unit.transport.tls_peers import (
    TLS_ALERT,
    PeerDial,
    Serve,
    asks_for_certificate,
    is_silent,
    says,
    with_tls,
    write_certificate,
)

HTTP1 = says(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
START_OF_HEADERS = bytes.fromhex("010400000001")
START = "PublicDecrypt"


@attrs.frozen
class Met:
    """Who is met at the address, and what the connector is told of TLS; without that it asks for none."""

    serve: Serve | None
    tls: CoreTls | None = None


def plain(serve: Serve | None) -> Callable[[Path], Met]:
    return lambda _folder: Met(serve)


def in_vain(serve: Serve) -> Callable[[Path], Met]:
    """TLS is asked for where there is none."""
    return lambda _folder: Met(serve, CoreTls())


def secured(
    serve: Serve, *, trusted: bool = True, alpn: str = "h2", **certificate: Any
) -> Callable[[Path], Met]:
    def make(folder: Path) -> Met:
        pem = write_certificate(folder, **certificate)
        return Met(with_tls(serve, pem, alpn=(alpn,)), CoreTls(pem if trusted else None))

    return make


def asks_clients(folder: Path) -> Met:
    pem = write_certificate(folder)
    return Met(asks_for_certificate(pem), CoreTls(pem))


async def gives_a_page(stream: trio.abc.Stream, status: bytes = bytes([0x8D])) -> None:
    """A web server of HTTP/2: SETTINGS, and its headers end the stream: ``:status 404`` of HPACK's table (RFC 7541, annex A)."""
    await stream.receive_some(4096)
    await stream.send_all(bytes.fromhex("000000040000000000"))
    asked = b""
    while START_OF_HEADERS not in asked:
        asked += await stream.receive_some(4096)
    await stream.send_all(bytes([0, 0, len(status)]) + bytes.fromhex("010500000001") + status)
    await stream.aclose()


CASES: Mapping[str, tuple[Callable[[Path], Met], str]] = {
    "https at a plain port": (
        in_vain(says(b"\x00\x00\x00\x04\x00\x00\x00\x00\x00")),
        "no TLS is spoken there: write http:// in kms_core_endpoints and leave core_tls out, or name the Core's port of TLS",
    ),
    "http at a port of TLS": (
        plain(says(TLS_ALERT + b"\x00\x00")),
        (
            "TLS is spoken there: write https:// in kms_core_endpoints, "
            "and let core_tls.ca_file name the authority of its certificate"
        ),
    ),
    "http at a port of TLS that sends its alert and no more": (
        plain(says(TLS_ALERT)),
        (
            "TLS is spoken there: write https:// in kms_core_endpoints, "
            "and let core_tls.ca_file name the authority of its certificate"
        ),
    ),
    "an expired certificate": (
        secured(is_silent, begins=-30, ends=-1),
        "its certificate has expired: renew the Core's certificate, or set this machine's clock",
    ),
    "a certificate that is not valid yet": (
        secured(is_silent, begins=10),
        "its certificate is not valid yet: set this machine's clock, or give the Core another certificate",
    ),
    "a certificate of an authority that is not known": (
        secured(is_silent, trusted=False),
        (
            "its certificate is of an authority that is not trusted here: "
            "let core_tls.ca_file name a PEM file with the authority that signed it"
        ),
    ),
    "a certificate of another host": (
        secured(is_silent, host="other"),
        "its certificate is for another host: name the Core in kms_core_endpoints by a host that its certificate has",
    ),
    "a client's certificate asked for": (
        asks_clients,
        (
            "it asks for a client's certificate, or takes none that was shown: "
            "let core_tls.certificate_file and core_tls.key_file name a certificate whose authority the Core trusts"
        ),
    ),
    "TLS that is ended": (
        in_vain(says(b"")),
        (
            "it ends the connection within TLS: it may speak no TLS (write http:// in kms_core_endpoints, leave core_tls out), "
            "or ask for a client's certificate (core_tls.certificate_file)"
        ),
    ),
    "a web server of HTTP/1": (
        plain(HTTP1),
        (
            "HTTP/1 is spoken there: a node, a web server or a proxy may be there; "
            "name the Core's gRPC port in kms_core_endpoints"
        ),
    ),
    "a web server of HTTP/1 behind TLS": (
        secured(is_silent, alpn="http/1.1"),
        (
            "HTTP/1 is spoken there: a node, a web server or a proxy may be there; "
            "name the Core's gRPC port in kms_core_endpoints"
        ),
    ),
    "another protocol": (
        plain(says(b"SSH-2.0-OpenSSH_9.6\r\n")),
        "another protocol is spoken there: name the Core's gRPC port in kms_core_endpoints",
    ),
    "a page over HTTP/2": (
        plain(gives_a_page),
        (
            "a page answers there, as those of web servers and proxies: name the Core's gRPC port in kms_core_endpoints, "
            "or let the proxy before it pass gRPC on"
        ),
    ),
    "a proxy with nothing behind it": (
        plain(partial(gives_a_page, status=b"\x08\x03502")),
        (
            "a proxy answers there, and reaches nothing behind it: check that the Core behind it runs, "
            "or name the Core's gRPC port in kms_core_endpoints"
        ),
    ),
    "one that hangs up": (
        plain(says(b"")),
        (
            "it ends the connection without an answer: check that the Core runs, and kms_core_endpoints: "
            "https:// or another port may be meant"
        ),
    ),
    "one that hangs up behind TLS": (
        secured(says(b"")),
        (
            "it ends the connection without an answer: check that the Core runs, and kms_core_endpoints: "
            "it may ask for a client's certificate (core_tls.certificate_file)"
        ),
    ),
    "one that is silent": (
        plain(is_silent),
        (
            "nothing answers there in time: check that the Core runs, firewalls on the way, "
            "and host, port and scheme in kms_core_endpoints"
        ),
    ),
    "nobody": (
        plain(None),
        "there is no connection with it: start the Core, or correct its host and port in kms_core_endpoints",
    ),
}


@pytest.mark.parametrize(("make", "remedy"), CASES.values(), ids=CASES)
async def test_the_alert_says_what_was_found_and_names_the_option(
    tmp_path: Path, make: Callable[[Path], Met], remedy: str
) -> None:
    met = make(tmp_path)
    async with trio.open_nursery() as nursery:
        ports = Ports(PeerDial(nursery, met.serve), offload_inline, lambda: 0.0, lambda: 0.5)
        async with open_core(("http://peer:50051",), ports, met.tls) as core:
            health = CoreHealth(core, limit=30.0)
            nursery.start_soon(health.run)
            await trio.sleep(ENDPOINT_FAILURE_GRACE + 60)
            [alert] = health.alerts(trio.current_time())
        nursery.cancel_scope.cancel()
    assert alert.remedy.removesuffix("; requests wait and none is lost") == remedy, alert.text


async def test_what_a_core_says_itself_is_not_read_for_what_stands_in_its_place() -> None:
    """Its words are of its own dependencies."""

    async def fails(_request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        raise GrpcFailure(Status.UNAVAILABLE, "storage: certificate has expired")

    methods = {
        f"/{SERVICE}/{START}": fails,
        "/grpc.health.v1.Health/Check": health_method({SERVICE: lambda: True}),
    }

    async def serve(stream: trio.abc.Stream) -> None:
        await serve_grpc(stream, methods)

    async with trio.open_nursery() as nursery:
        ports = Ports(PeerDial(nursery, serve), offload_inline, lambda: 0.0, lambda: 0.5)
        async with open_core(("http://peer:50051",), ports) as core:
            with pytest.raises(RequestError, match="certificate has expired") as failed:
                await core.start(CoreCall(START, Chunks([b"message"]), 0))
        nursery.cancel_scope.cancel()
    assert failed.value.remedy == ""


def test_each_thing_that_can_be_found_has_a_remedy() -> None:
    """But HTTP/2, which Cores speak, and what only HTTP says of a node."""
    of_nodes = {
        WrongPeer.NO_WEBSOCKET,
        WrongPeer.NO_POST,
        WrongPeer.FORBIDDEN,
        WrongPeer.NOT_THERE,
        WrongPeer.PROXY,
    }
    assert set(WrongPeer) - set(REMEDIES) == {WrongPeer.HTTP2, *of_nodes}
