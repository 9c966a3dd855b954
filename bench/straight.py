"""The least that any connector must do, as one: hear, fetch, ask the Core, send. No journal, no checks, no second try.

It exists to be measured: the load at which it no longer keeps up is that of the emulator, or near it, and what it costs is the floor of the
libraries beneath. ``python -m bench --ceiling``.
"""

from __future__ import annotations

import os
import random
import sys
import time

import attrs
import msgspec
import trio

from kmsconn.ciphertexts.attestation import ciphertext_format
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.urls import by_handle
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.core_client.client import CoreClient, open_core
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.logs import Log
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.model.events import ignore
from kmsconn.model.requests import CiphertextReference, Content
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.rpc.endpoint import Endpoint, open_endpoint
from kmsconn.rpc.logs import decode_log, decode_logs
from kmsconn.rpc.port import Call
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.offloading import offload_to_threads
from kmsconn.transport.ports import Ports

GAS, MAX_FEE = 5_000_000, 10**10
LARGEST = 1 << 27
UNSENT = 10_000  # replies that wait for the wire: more than any load that is measured leaves behind
PORTS = Ports(dial_sockets, offload_to_threads, time.time, random.random)


@attrs.define
class Straight:
    """One run; a request is known by its id, so that it is answered once."""

    settings: Settings
    profile: Fhevm
    gateway: Endpoint
    core: CoreClient
    http: HttpClient
    registry: Registry
    nursery: trio.Nursery
    replies: trio.MemorySendChannel[bytes]
    known: set[int] = attrs.field(factory=set)

    def hear(self, log: Log | None) -> None:
        """Begin with the request of a log, unless that was done."""
        content = None if log is None else self.profile.decode(log)
        if content is not None and content.id not in self.known:
            self.known.add(content.id)
            self.nursery.start_soon(self.answer, content)

    async def answer(self, content: Content) -> None:
        """Take one request from its event to its reply."""
        ciphertexts = [await self.fetch(reference) for reference in content.references]
        operation = self.profile.operations[content.kind]
        [start] = operation.start_calls(content, ciphertexts, None)
        await self.core.start(start)
        poll = operation.result_call(content)
        assert poll is not None, "a decryption has a result"
        answer = operation.read_answer(content, await self.core.result(poll), None)
        assert answer is not None, "a decryption is answered"
        await self.replies.send(answer.calldata)

    async def fetch(self, reference: CiphertextReference) -> Ciphertext:
        """Get one ciphertext from the first bucket; its digest is not looked at."""
        url = by_handle(self.registry.buckets(reference.coprocessors)[0], reference.handle)
        async with self.http.stream_get(url, max_bytes=LARGEST) as download:
            return Ciphertext(reference.handle, await download.read(), ciphertext_format(download.headers))

    async def listen(self) -> None:
        """Hear what is pushed; once, at the subscription, also what was there before."""
        topics = [[to_hex(topic) for topic in self.profile.subscriptions()[0].topics]]
        criteria = {"address": to_hex(self.settings.protocol.decryption_contract.address), "topics": topics}
        subscribed = trio.Event()

        def notify(push: bytes | None) -> None:
            if push is None:
                subscribed.set()
            else:
                self.hear(decode_log(msgspec.json.decode(push)))

        self.nursery.start_soon(self.gateway.listen, ("logs", criteria), notify)
        await subscribed.wait()
        for log in decode_logs(await self.gateway.call("eth_getLogs", criteria | {"fromBlock": "0x0"}))[0]:
            self.hear(log)

    async def send_all(self, to_send: trio.MemoryReceiveChannel[bytes]) -> None:
        """Sign replies with one nonce after the other, and send what waits in one batch."""
        assert self.settings.wallet.private_key is not None, "an emulated connector's key is in its file"
        key, nonce = PrivateKey.parse(self.settings.wallet.private_key.reveal()), 0
        async for first in to_send:
            waiting = [first, *_waiting(to_send)]
            raws = [self.signed(key, nonce + place, calldata) for place, calldata in enumerate(waiting)]
            nonce += len(raws)
            await self.gateway.batch([Call("eth_sendRawTransaction", (to_hex(raw),)) for raw in raws])

    def signed(self, key: PrivateKey, nonce: int, calldata: bytes) -> bytes:
        """Return the raw transaction of a reply."""
        to = self.settings.protocol.decryption_contract.address
        transaction = Eip1559Transaction(self.gateway.chain_id, nonce, 0, MAX_FEE, GAS, to, 0, calldata)
        return sign_transaction(transaction, key)[0]


def _waiting(replies: trio.MemoryReceiveChannel[bytes]) -> list[bytes]:
    return [replies.receive_nowait() for _ in range(replies.statistics().current_buffer_used)]


async def run(settings: Settings) -> None:
    """Answer until killed."""
    async with (
        open_http(PORTS) as http,
        open_endpoint(settings.chains.gateway, "gateway", PORTS, http) as gateway,
        open_core(settings.core.core_endpoints, PORTS) as core,
        trio.open_nursery() as nursery,
    ):
        profile = Fhevm(settings)
        registry = Registry(profile, gateway, settings.ciphertexts.registry_refresh, ignore)
        await registry.load()
        ready, to_send = trio.open_memory_channel[bytes](UNSENT)
        straight = Straight(settings, profile, gateway, core, http, registry, nursery, ready)
        nursery.start_soon(straight.listen)
        nursery.start_soon(straight.send_all, to_send)


if __name__ == "__main__":
    trio.run(run, load_config(sys.argv[1], environ=dict(os.environ)))
