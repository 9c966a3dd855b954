"""The least that any connector must do, as one: hear, fetch, ask the Core, send. No journal, no checks, no second try.

It exists to be measured: the load at which it no longer keeps up is that of the emulator, or near it, and what it costs is the floor of the
libraries beneath. ``python -m bench --ceiling``.
"""

from __future__ import annotations

import itertools
import os
import random
import sys
import time
from collections.abc import Iterator

import attrs
import msgspec
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.logs import decode_logs
from kmsconn.ciphertexts.attestation import ciphertext_format
from kmsconn.ciphertexts.places import by_handle
from kmsconn.ciphertexts.registry import Registry
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.core.client import CoreClient, open_core
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.model.events import ignore
from kmsconn.model.life import Ciphertext
from kmsconn.model.requests import CiphertextReference, Content
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports, offload_to_threads

GAS, MAX_FEE = 5_000_000, 10**10
LARGEST = 1 << 27
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
    key: PrivateKey
    nonces: Iterator[int] = attrs.field(factory=itertools.count)
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
        [start] = operation.start_calls(content, ciphertexts)
        await self.core.start(start)
        poll = operation.result_call(content)
        assert poll is not None, "a decryption has a result"
        answer = operation.read_answer(content, await self.core.result(poll), None)
        assert answer is not None, "a decryption is answered"
        # Each by itself: the sequencer answers a reply with its block, so those of a batch would wait for each other's.
        raw = self.signed(next(self.nonces), answer.calldata)
        await self.gateway.call("eth_sendRawTransaction", to_hex(raw))

    async def fetch(self, reference: CiphertextReference) -> Ciphertext:
        """Get one ciphertext from the first bucket; its digest is not looked at."""
        buckets = await self.registry.find(reference.coprocessors)
        url = by_handle(buckets[0], reference.handle)
        async with await self.http.stream_get(url, max_bytes=LARGEST) as download:
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
                for log in decode_logs([msgspec.json.decode(push)])[0]:
                    self.hear(log)

        self.nursery.start_soon(self.gateway.listen, ("logs", criteria), notify)
        await subscribed.wait()
        for log in decode_logs(await self.gateway.call("eth_getLogs", criteria | {"fromBlock": "0x0"}))[0]:
            self.hear(log)

    def signed(self, nonce: int, calldata: bytes) -> bytes:
        """Return the raw transaction of a reply."""
        to = self.settings.protocol.decryption_contract.address
        transaction = Transaction(self.gateway.chain_id, nonce, 0, MAX_FEE, GAS, to, 0, calldata)
        return sign_transaction(transaction, self.key)[0]


async def run(settings: Settings, ports: Ports = PORTS) -> None:
    """Answer until killed."""
    async with (
        open_http(ports) as http,
        open_endpoint(settings.chains.gateway, "gateway", ports, http) as gateway,
        open_core(settings.core.core_endpoints, ports) as core,
        trio.open_nursery() as nursery,
    ):
        profile = Fhevm(settings)
        registry = Registry(profile, gateway, settings.ciphertexts.registry_refresh, ignore)
        await registry.load()
        assert settings.wallet.private_key is not None, "an emulated connector's key is in its file"
        key = PrivateKey.parse(settings.wallet.private_key.reveal())
        await Straight(settings, profile, gateway, core, http, registry, nursery, key).listen()


if __name__ == "__main__":
    trio.run(run, load_config(sys.argv[1], environ=dict(os.environ)))
