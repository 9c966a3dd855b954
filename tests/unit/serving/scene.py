"""A server of the HTTP API over memory streams: clients that send what they like, and decryptions that end when a test says so."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import attrs
import h11
import trio
from trio.testing import memory_stream_pair

from kmsconn.config.working import ApiKey, HttpApi
from kmsconn.model.events import Event, HttpAnswered
from kmsconn.model.http_answers import HttpFailure, HttpResult
from kmsconn.model.requests import Content
from kmsconn.serving.decryptions import HttpApiService
from kmsconn.transport.ports import offload_inline

CHAIN = 12345
KEY = "0123456789abcdef-the-key-of-a-relayer"
OTHER_KEY = "fedcba9876543210-the-key-of-another"


def result_fields(result: str) -> dict[str, bytes]:
    """Return the fields of an answer."""
    return {result: b"\x01\x02", "signature": b"\x03", "extraData": b""}


def key(text: str = KEY, name: str = "relayer", **limits: Any) -> ApiKey:
    """Return the digest of a key under an id."""
    return ApiKey(name, hashlib.sha256(text.encode()).digest(), **limits)


def handle(number: int = 1, fhe_type: int = 5) -> str:
    """Return a ciphertext handle of the served chain."""
    return "0x" + (bytes([number]) * 22 + CHAIN.to_bytes(8) + bytes([fhe_type, 0])).hex()


def public_body(number: int = 1, **changes: Any) -> bytes:
    """Return the body of a public decryption."""
    return json.dumps({"ctHandles": [handle(number)], "extraData": "0x00", **changes}).encode()


def user_body(**changes: Any) -> bytes:
    """Return the body of a user decryption."""
    address = "0x" + "33" * 20
    payload = {
        "handles": [{"handle": handle(), "contractAddress": address, "ownerAddress": "0x" + "44" * 20}],
        "userAddress": "0x" + "55" * 20,
        "publicKey": "0x2000",
        "allowedContracts": [address],
        "requestValidity": {"startTimestamp": 1770000000, "durationSeconds": 300},
        "extraData": "0x00",
    }
    body = {
        "attestationType": "eip712-unified-user-decrypt-v1",
        "payload": payload,
        "signature": "0x" + "66" * 65,
    }
    return json.dumps({**body, **changes}).encode()


def wall() -> float:
    """Return the time of day in scenes."""
    return 1_800_000_000.0 + trio.current_time()


class MemoryListener(trio.abc.Listener[trio.abc.Stream]):
    """Accepts clients that connect in memory."""

    def __init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[trio.abc.Stream](10_000)

    def offer(self, stream: trio.abc.Stream) -> None:
        """Let a stream be the next client."""
        self._send.send_nowait(stream)

    def connect(self) -> trio.StapledStream[Any, Any]:
        """Return a client's stream."""
        ours, theirs = memory_stream_pair()
        self.offer(theirs)
        return ours

    async def accept(self) -> trio.abc.Stream:
        """Return the next client's stream."""
        return await self._receive.receive()

    async def aclose(self) -> None:
        """Accept nobody any more."""
        await self._receive.aclose()


@attrs.define
class FakeDecryptions:
    """Decrypts at once, after ``seconds``, or never; what is asked stands in ``asked``."""

    seconds: float = 0.0
    fails: HttpFailure | None = None
    result: str = "decryptedResult"
    asked: list[Content] = attrs.field(factory=list)
    cancelled: int = 0

    async def decrypt(self, content: Content) -> HttpResult:
        """Return the result."""
        self.asked.append(content)
        try:
            await trio.sleep(self.seconds)
        except trio.Cancelled:
            self.cancelled += 1
            raise
        if self.fails is not None:
            raise self.fails
        return HttpResult(content.id, result_fields(self.result))


@attrs.frozen
class Answer:
    """What a client read."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


class Client:
    """An HTTP client over one stream."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self.stream = stream
        self.http = h11.Connection(h11.CLIENT)

    async def send(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> None:
        """Send a request; one with a body has its length."""
        length = {} if body is None else {"Content-Length": str(len(body))}
        head = list({"Host": "kms", **length, **(headers or {})}.items())
        await self.stream.send_all(
            self.http.send(h11.Request(method=method, target=path, headers=head)) or b""
        )
        if body:
            await self.stream.send_all(self.http.send(h11.Data(data=body)) or b"")
        await self.stream.send_all(self.http.send(h11.EndOfMessage()) or b"")

    async def read(self) -> Answer:
        """Read an answer."""
        status, headers, body = 0, dict[str, str](), b""
        while True:
            event = self.http.next_event()
            if event is h11.NEED_DATA:
                self.http.receive_data(bytes(await self.stream.receive_some(65536)))
            elif isinstance(event, h11.Response):
                status = event.status_code
                headers = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                if self.http.our_state is h11.DONE:
                    self.http.start_next_cycle()
                return Answer(status, headers, body)
            elif not isinstance(event, h11.InformationalResponse):
                raise AssertionError(f"no answer: {event}")

    async def ask(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        """Send a request and read its answer."""
        await self.send(method, path, body, headers)
        return await self.read()

    async def post(self, path: str, body: bytes, key: str | None = None, **headers: str) -> Answer:
        """Post a body under a key."""
        bearer = {} if key is None else {"Authorization": f"Bearer {key}"}
        return await self.ask("POST", path, body, {**bearer, **headers})

    async def until_closed(self) -> bytes:
        """Read until the server closes, and return what came."""
        data = b""
        try:
            while piece := await self.stream.receive_some(65536):
                data += bytes(piece)
        except trio.BrokenResourceError:
            pass
        return data


@attrs.define
class Scene:
    """A server, its listener and what it told."""

    service: HttpApiService
    listener: MemoryListener
    decryptions: FakeDecryptions
    events: list[Event] = attrs.field(factory=list)

    def client(self) -> Client:
        """Return a client of a new connection."""
        return Client(self.listener.connect())

    @property
    def answered(self) -> list[tuple[str, int, str, str]]:
        """Route, status, code and client of each request that has ended."""
        return [
            (one.route, one.status, one.code, one.client)
            for one in self.events
            if isinstance(one, HttpAnswered)
        ]


def settings(**values: Any) -> HttpApi:
    """Return settings of an open server, with changes."""
    return HttpApi("127.0.0.1:0", frozenset({CHAIN}), **values)


@asynccontextmanager
async def serving(decryptions: FakeDecryptions | None = None, **values: Any) -> AsyncIterator[Scene]:
    """Serve while the block lasts."""
    decryptions = decryptions or FakeDecryptions()
    events: list[Event] = []
    service = HttpApiService(settings(**values), decryptions, offload_inline, events.append, wall)
    scene = Scene(service, MemoryListener(), decryptions, events)
    async with trio.open_nursery() as nursery:
        await nursery.start(service.run, [scene.listener])
        yield scene
        nursery.cancel_scope.cancel()
