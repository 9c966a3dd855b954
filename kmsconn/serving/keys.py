"""Who may ask over HTTP: API keys by their digests, and how much each may ask at once. No I/O, and no Trio.

A key is compared with every known one, each in constant time, so that the time of an answer says nothing about a key. Keys stand nowhere:
not in memory, logs, metrics or errors; what is said of a client is the id of its key.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final

import attrs

from kmsconn.config.working import ApiKey
from kmsconn.model.http_answers import FailureCode, HttpFailure

ANYBODY: Final = ApiKey("", b"")
"""The client where no keys are configured."""

_SCHEME: Final = b"bearer"


@attrs.define(eq=False)
class ApiClient:
    """The holder of a key, and what it uses of its limits: requests at once, and an allowance that grows with time."""

    key: ApiKey
    in_flight: int = 0
    _allowance: float = attrs.field(default=0.0, init=False)
    _counted_at: float = attrs.field(default=float("-inf"), init=False)

    @contextmanager
    def request(self, now: float) -> Iterator[None]:
        """Count a request while the block lasts. Raises HttpFailure where the client has too many, or too many a second."""
        most = self.key.max_in_flight
        if most is not None and self.in_flight >= most:
            raise HttpFailure(
                FailureCode.RATE_LIMITED, f"this API key has {most} requests in flight, its limit"
            )
        self._spend(now)
        self.in_flight += 1
        try:
            yield
        finally:
            self.in_flight -= 1

    def _spend(self, now: float) -> None:
        rate = self.key.requests_per_second
        if rate is None:
            return
        most = max(1.0, rate)
        self._allowance = min(most, self._allowance + (now - self._counted_at) * rate)
        self._counted_at = now
        if self._allowance < 1.0:
            raise HttpFailure(
                FailureCode.RATE_LIMITED, f"this API key may make {rate:g} requests a second, its limit"
            )
        self._allowance -= 1.0


class ApiClients:
    """The clients that are known now; anybody is one where no keys are configured."""

    def __init__(self, keys: Sequence[ApiKey]) -> None:
        self._anybody = None if keys else ApiClient(ANYBODY)
        self._clients = tuple(map(ApiClient, keys))

    def replace(self, keys: Sequence[ApiKey]) -> None:
        """Take other keys from now on; a client whose id stays keeps what it uses. Not for a server that is open to anybody."""
        known = {client.key.id: client for client in self._clients}
        clients = []
        for key in keys:
            client = known.get(key.id) or ApiClient(key)
            client.key = key
            clients.append(client)
        self._clients = tuple(clients)

    def find(self, authorization: Iterable[bytes]) -> ApiClient:
        """Return the client that an ``Authorization`` header names. Raises HttpFailure where there is not one such header of one."""
        if self._anybody is not None:
            return self._anybody
        client = self._holder(_token(list(authorization)))
        if client is None:
            raise HttpFailure(FailureCode.SENDER_AUTHENTICATION_FAILED, "the API key is missing or not known")
        return client

    def _holder(self, token: bytes) -> ApiClient | None:
        digest = hashlib.sha256(token).digest()
        found = None
        for client in self._clients:  # all of them: the time must not say which one it was
            if hmac.compare_digest(client.key.sha256, digest):
                found = client
        return found if token else None


def _token(headers: list[bytes]) -> bytes:
    if len(headers) != 1:
        return b""
    scheme, _, token = headers[0].strip().partition(b" ")
    return token.strip() if scheme.lower() == _SCHEME else b""
