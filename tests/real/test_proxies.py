"""RPC, buckets and AWS through a real proxy on loopback: names that only the proxy resolves, so nothing can go around it."""

from __future__ import annotations

import random
import ssl
import time
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import trio

from kmsconn.chain.endpoint import open_endpoint
from kmsconn.ciphertexts.places import BucketPolicy, ObjectPlace
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.config.description import AwsKmsKey
from kmsconn.config.parties import Chain
from kmsconn.emulator.aws_kms import EmulatedAwsKms
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.events import ignore
from kmsconn.replies.wallet import open_aws_kms
from kmsconn.transport.dialling import Way, dial_sockets, sockets
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports, offload_to_threads, start_tls
from kmsconn.transport.proxies import Proxies, proxies_of
from tests.real.connect_proxy import ConnectProxy, open_proxy
from tests.real.stores import open_moto
from tests.real.test_aws_kms_sockets import serving
from tests.real.test_chain_sockets import certificates, listening
from tests.unit.chain.scripted_node import CHAIN_ID, Node

CREDENTIALS = {"Basic dXNlcjpodW50ZXIy"}


@pytest.fixture(autouse=True)
async def _limit() -> AsyncIterator[None]:
    with trio.fail_after(60):
        yield


@pytest.fixture
async def proxy() -> AsyncIterator[ConnectProxy]:
    async with open_proxy() as found:
        yield found


def proxies(proxy: ConnectProxy) -> Proxies:
    return proxies_of({"HTTP_PROXY": proxy.url, "HTTPS_PROXY": proxy.url})


def ports(proxy: ConnectProxy, context: ssl.SSLContext | None = None) -> Ports:
    return Ports(
        dial_sockets,
        offload_to_threads,
        time.time,
        random.random,
        partial(start_tls, context=context),
        proxies(proxy),
    )


@pytest.mark.parametrize("scheme", ["ws", "http", "wss", "https"])
async def test_rpc_goes_through_the_proxy(scheme: str, proxy: ConnectProxy, tmp_path: Path) -> None:
    server, client = certificates(tmp_path, "node.example")
    tls = scheme in {"wss", "https"}
    websocket = scheme in {"ws", "wss"}
    async with listening(Node(), websocket=websocket, context=server if tls else None) as port:
        url, there = f"{scheme}://node.example:{port}/", ports(proxy, client)
        async with (
            open_http(there) as http,
            open_endpoint(Chain(CHAIN_ID, (url,)), "gateway", there, http) as endpoint,
        ):
            assert await endpoint.call("echo", 1) == 1
    tunnel = f"CONNECT node.example:{port} HTTP/1.1"
    assert set(proxy.lines) == {f"POST {url} HTTP/1.1" if scheme == "http" else tunnel}
    assert proxy.credentials == CREDENTIALS


async def _no_object(_: HttpRequest) -> HttpResponse:
    await trio.lowlevel.checkpoint()
    return HttpResponse(404)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_buckets_go_through_the_proxy(scheme: str, proxy: ConnectProxy, tmp_path: Path) -> None:
    server, client = certificates(tmp_path, "bucket.example")
    policy = BucketPolicy(allow_http=True)
    there = ports(proxy, client)
    way = Way(there, sockets(allow=policy.allows_address))
    bucket: Any = SimpleNamespace(serve=lambda stream, _: serve_http(stream, _no_object))
    async with listening(bucket, websocket=False, context=server if scheme == "https" else None) as port:
        url = f"{scheme}://bucket.example:{port}/ct"
        async with open_http(there, way=way, judge=policy.check) as http:
            assert (await http.head(url)).status == 404
    line = f"HEAD {url} HTTP/1.1" if scheme == "http" else f"CONNECT bucket.example:{port} HTTP/1.1"
    assert proxy.lines == [line]


async def test_a_name_that_leads_to_a_forbidden_address_is_dialled_nowhere() -> None:
    """``localhost`` stands for any name whose DNS says something private; judged is what is dialled, not what was looked up before."""
    accepted: list[int] = []
    async with trio.open_nursery() as nursery:

        async def handle(stream: trio.SocketStream) -> None:
            accepted.append(1)

        listeners = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, handle, listeners)
        port = listeners[0].socket.getsockname()[1]
        with pytest.raises(ConnectionRefusedError, match="which is not allowed"):
            await sockets(allow=BucketPolicy().allows_address)("localhost", port)
        await trio.sleep(0.05)
        nursery.cancel_scope.cancel()
    assert accepted == []


async def test_of_several_addresses_an_allowed_one_is_dialled(monkeypatch: pytest.MonkeyPatch) -> None:
    async def both(host: str, port: int, **_: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        return [(0, 0, 0, "", (address, port)) for address in ("10.0.0.1", "127.0.0.1")]

    async with listening(Node(), websocket=False) as port:
        monkeypatch.setattr(trio.socket, "getaddrinfo", both)
        dial = sockets(allow=lambda address: address == "127.0.0.1")
        monkeypatch.setattr(trio, "open_tcp_stream", _literal)
        stream = await dial("bucket.example", port)
        await trio.aclose_forcefully(stream)


async def _literal(host: str, port: int) -> trio.SocketStream:
    socket = trio.socket.socket()
    await socket.connect((host, port))
    return trio.SocketStream(socket)


async def test_aws_kms_goes_through_the_proxy(proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")  # the SDK's own reading would end here
    key = PrivateKey(bytes(31) + b"\x07")
    async with serving(EmulatedAwsKms({"key": key})) as url:
        named = url.replace("127.0.0.1", "kms.example")
        async with open_aws_kms(AwsKmsKey("key", "us-east-1", named), ignore, proxies(proxy)) as signer:
            assert signer.address == key.address
    assert proxy.lines
    assert all(line.startswith(f"POST {named}/") for line in proxy.lines)
    assert proxy.credentials == CREDENTIALS


async def test_without_a_proxy_of_ours_the_sdk_uses_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """An embedding program passes its own environment, and that of the process counts for nobody."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "test")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter3")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    key = PrivateKey(bytes(31) + b"\x07")
    async with (
        serving(EmulatedAwsKms({"key": key})) as url,
        open_aws_kms(AwsKmsKey("key", "us-east-1", url), ignore) as signer,
    ):
        assert signer.address == key.address


async def test_an_object_with_credentials_goes_through_the_proxy(
    proxy: ConnectProxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tests.real.stores import ACCESS_KEY, SECRET_KEY, connect

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
    with open_moto() as port:
        store = connect(port)
        store.create_bucket(Bucket="ciphertexts")
        store.put_object(Bucket="ciphertexts", Key="key", Body=b"bytes")
        place = ObjectPlace("us-east-1", f"http://s3.us-east-1.amazonaws.com:{port}", "ciphertexts")
        async with (
            open_sdk(offload_to_threads, proxies(proxy)) as sdk,
            sdk.get(place, "key", 100) as body,
        ):
            assert b"".join([piece async for piece in body]) == b"bytes"
    assert proxy.lines == [f"GET http://s3.us-east-1.amazonaws.com:{port}/ciphertexts/key HTTP/1.1"]
