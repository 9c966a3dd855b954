"""Clients of decryption over HTTP in a world: each asks the living process, and repeats its request until it has its answer once.

They stand where the HTTP server would: what a client gets from a process that dies does not reach it any more.
"""

from __future__ import annotations

import math
from typing import Any

import attrs
import trio

from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL
from kmsconn.emulator.users import Prepared
from kmsconn.model.http_answers import HttpFailure, HttpResult
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.fhevm.http_decryption import HttpPublicDecryption, HttpUserDecryption
from kmsconn.protocols.fhevm.user_decryption import HandleEntry
from kmsconn.testing.killable import ConnectorProcess

POSTED_FORMS = ("public", "unified", "unified_delegated", "wallet")
"""The forms of requests from the chain that there are over HTTP too."""
CLIENT_WAIT = 30.0  # seconds that a client waits for an answer before it asks again
CLIENT_PAUSE = 1.0  # seconds until it does


def content_of(prepared: Prepared, **changes: Any) -> HttpPublicDecryption | HttpUserDecryption:
    """Return what a client asks for in place of a transaction; ``changes`` are to the values of a user's request."""
    if prepared.form == "public":
        handles, extra_data = DECRYPTION.function("publicDecryptionRequest").decode(prepared.calldata)
        return HttpPublicDecryption.of(handles, extra_data)
    entries, user, public_key, contracts, (start, duration), signature, extra_data = DECRYPTION.function(
        UNIFIED_CALL
    ).decode(prepared.calldata)
    values = {
        "user": user,
        "public_key": public_key,
        "allowed_contracts": contracts,
        "start": start,
        "duration": duration,
        "extra_data": extra_data,
        "signature": signature,
    }
    return HttpUserDecryption.of([HandleEntry(*entry) for entry in entries], **{**values, **changes})


@attrs.define(eq=False)
class HttpClients:
    """The clients of a world; ``answers`` by id, ``violations`` in words."""

    process: ConnectorProcess
    answers: dict[int, HttpResult | None] = attrs.field(factory=dict)
    """What each has got; None: nothing yet."""
    violations: list[str] = attrs.field(factory=list)
    _send: trio.MemorySendChannel[Any] = attrs.field(init=False)
    _receive: trio.MemoryReceiveChannel[Any] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._send, self._receive = trio.open_memory_channel[Any](math.inf)  # as many as a plan has

    def post(self, prepared: Prepared) -> None:
        """Let a client begin to ask for what a transaction would ask for."""
        content = content_of(prepared)
        self.answers[content.id] = None
        self._send.send_nowait(content)

    async def run(self) -> None:
        """Let clients ask, for ever."""
        async with trio.open_nursery() as nursery:
            async for content in self._receive:
                nursery.start_soon(self._client, content)

    async def _client(self, content: Any) -> None:
        while self.answers[content.id] is None:
            try:
                self.answers[content.id] = await self._ask(content)
            except HttpFailure as failure:
                if not failure.retryable:
                    self.violations.append(f"HTTP: 0x{content.id:064x} is refused: {failure.document()}")
                    return
            await trio.sleep(CLIENT_PAUSE)

    async def _ask(self, content: Any) -> HttpResult | None:
        """Return what the living process answers; None where there is none, where it dies meanwhile, and after ``CLIENT_WAIT``."""
        connector, life = self.process.connector, self.process.life
        if connector is None or life.dead:
            return None
        results: list[HttpResult] = []
        failures: list[HttpFailure] = []

        async def ask() -> None:
            try:
                results.append(await connector.decryptions.decrypt(content))
            except HttpFailure as failure:
                failures.append(failure)
            nursery.cancel_scope.cancel()

        async with trio.open_nursery() as nursery:
            nursery.cancel_scope.deadline = trio.current_time() + CLIENT_WAIT
            self.process.context.run(nursery.start_soon, ask)
            await life.ended.wait()
            nursery.cancel_scope.cancel()
        if life.dead:  # nothing that a dead process says reaches anybody
            return None
        if failures:
            raise failures[0]
        return results[0] if results else None

    def owed(self) -> list[str]:
        """Say who has no answer yet."""
        return [
            f"HTTP: 0x{identifier:064x} has no answer"
            for identifier, answer in self.answers.items()
            if answer is None
        ]
