"""Objects of buckets that want credentials: S3 through its SDK, one client for each region and endpoint. Never judges whom to ask.

The SDK finds credentials by itself, as operators of AWS expect; there is no retry here. Deadlines are the caller's scopes.

Source: httpz-rc7.md, 4.5.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any

import attrs
import trio

from kmsconn.ciphertexts.places import ObjectPlace
from kmsconn.errors import Misconfigured, Unreachable
from kmsconn.extras import require_extra
from kmsconn.transport.aws import AwsService, errors_of_the_sdk, open_aws, prepare, read_error
from kmsconn.transport.ports import Offload
from kmsconn.transport.proxies import NO_PROXIES, Proxies

SERVICE = "s3"
CONNECTIONS = 8  # for each client; more wait, for a pool that is waited for in the SDK may leak places
PIECE = 64 * 1024
METADATA = "x-amz-meta-"
_OK = 200


@attrs.define(eq=False)
class SdkBody:
    """An object on its way; iterating raises Unreachable when it breaks or grows beyond the cap."""

    headers: Mapping[str, str]
    announced: int | None
    _stream: Any = attrs.field(repr=False)
    _shown: str
    _max: int
    status: int = _OK
    whole: bytes = b""
    _taken: int = 0

    def __aiter__(self) -> SdkBody:
        return self

    async def __anext__(self) -> bytes:
        piece = await self._next()
        if not piece:
            raise StopAsyncIteration
        self._taken += len(piece)
        if self._taken > self._max:
            raise Unreachable(f"{self._shown}: the body is larger than {self._max} bytes")
        return piece

    async def _next(self) -> bytes:
        try:
            return bytes(await self._stream.read(PIECE))
        except errors_of_the_sdk() as error:
            raise Unreachable(str(read_error(self._shown, error))) from None


class Sdk:
    """The clients that were needed so far. Made by ``open_sdk``."""

    def __init__(self, clients: AsyncExitStack, proxies: Proxies = NO_PROXIES) -> None:
        self._stack, self._proxies = clients, proxies
        self._opening = trio.Lock()
        self._known: dict[tuple[str, str], tuple[AwsService, trio.CapacityLimiter]] = {}

    @asynccontextmanager
    async def get(
        self, place: ObjectPlace, key: str, max_bytes: int, begun: Callable[[], None] = lambda: None
    ) -> AsyncIterator[SdkBody]:
        """Ask for an object and give it with its bytes to be iterated over.

        Raises Unreachable where it is not had, whatever the reason, Overloaded for throttling; nothing is the operator's fault
        for sure, since S3 refuses an object that is not there in the same words as one that must not be read.
        Cancellation: closes the connection. Repeating: reads only.
        """
        shown = f"{place.service}/{place.bucket}/{key}"
        try:
            client, places = await self._client(place)
        except (Misconfigured, Unreachable) as error:
            raise Unreachable(f"{shown}: {error}") from error
        async with places:
            begun()
            try:
                answer = await client.ask("get_object", Bucket=place.bucket, Key=key)
            except Misconfigured as error:
                raise Unreachable(f"{shown}: {error}") from error
            async with answer["Body"] as stream:
                yield _body(answer, stream, shown, max_bytes)

    async def _client(self, place: ObjectPlace) -> tuple[AwsService, trio.CapacityLimiter]:
        async with self._opening:
            name = (place.region, place.service)
            if name not in self._known:
                opening = open_aws(
                    SERVICE,
                    region=place.region,
                    endpoint=place.service,
                    connections=CONNECTIONS,
                    proxies=self._proxies,
                    s3={"addressing_style": "path"},
                    # the digest that the chain names is checked anyway
                    response_checksum_validation="when_required",
                )
                client = await self._stack.enter_async_context(opening)
                self._known[name] = client, trio.CapacityLimiter(CONNECTIONS)
            return self._known[name]


def _body(answer: Mapping[str, Any], stream: Any, shown: str, max_bytes: int) -> SdkBody:
    announced = answer.get("ContentLength")
    if announced is not None and announced > max_bytes:
        raise Unreachable(f"{shown}: the body is larger than {max_bytes} bytes")
    headers = {f"{METADATA}{name.lower()}": value for name, value in answer.get("Metadata", {}).items()}
    return SdkBody(headers, announced, stream, shown, max_bytes)


@asynccontextmanager
async def open_sdk(offload: Offload, proxies: Proxies = NO_PROXIES) -> AsyncIterator[Sdk]:
    """Give a store of clients that are opened when a place needs one, and closed when the block is left. Raises ExtraMissing."""
    require_extra("aws", f"reading {SERVICE.upper()} with credentials, as httpz-rc7 does,")
    await offload("sdk", partial(prepare, SERVICE))
    async with AsyncExitStack() as clients:
        yield Sdk(clients, proxies)
