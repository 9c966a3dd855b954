"""The least that any connector must do, as one: hear, fetch, ask the Core, send. No journal, no checks, no second try.

It exists to be measured: the load at which it no longer keeps up is that of the emulator, or near it, and what it costs is the floor of the
libraries beneath. ``python -m bench --connector 'python -m bench.straight {config}'``, or ``--ceiling``.
"""

from __future__ import annotations

import os
import sys
from typing import Any

import attrs
import trio

from kmsconn.chain.logs import decode_log, decode_logs
from kmsconn.chain.port import Call
from kmsconn.ciphertexts.attestation import ciphertext_format
from kmsconn.ciphertexts.urls import by_handle
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.logs import Log
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.model.events import ignore
from kmsconn.model.requests import Material
from kmsconn.model.steps import Ciphertext
from kmsconn.service.house import House, open_house, real_ports

GAS, MAX_FEE = 5_000_000, 10**10
LARGEST = 1 << 27
UNSENT = 10_000  # replies that wait for the wire: more than any load that is measured leaves behind


@attrs.define
class Straight:
    """One run; a request is known by its id, so that it is answered once."""

    house: House
    nursery: trio.Nursery
    replies: trio.MemorySendChannel[bytes]
    known: set[int] = attrs.field(factory=set)

    def hear(self, log: Log | None) -> None:
        """Begin with the request of a log, unless that was done."""
        content = None if log is None else self.house.profile.decode(log)
        if content is not None and content.id not in self.known:
            self.known.add(content.id)
            self.nursery.start_soon(self.answer, content)

    async def answer(self, content: Any) -> None:
        """Take one request from its event to its reply."""
        profile, core = self.house.profile, self.house.links.core
        ciphertexts = [await self.fetch(material) for material in content.materials]
        await core.start(profile.start_call(content, *profile.context_of(content), ciphertexts))
        reply = await core.result(profile.result_call(content))
        await self.replies.send(profile.read_answer(content, reply).calldata)

    async def fetch(self, material: Material) -> Ciphertext:
        """Get one ciphertext from the first bucket; its digest is not looked at."""
        bucket = self.house.registry.buckets(material.coprocessors)[0]
        url = by_handle(bucket, material.handle)
        async with self.house.links.buckets.stream_get(url, max_bytes=LARGEST) as download:
            return Ciphertext(material.handle, await download.read(), ciphertext_format(download.headers))


async def run(settings: Settings) -> None:
    """Answer until killed."""
    async with open_house(settings, real_ports(), ignore) as house, trio.open_nursery() as nursery:
        nursery.start_soon(house.gateway.keep)
        await house.registry.load()
        replies, to_send = trio.open_memory_channel[bytes](UNSENT)
        straight = Straight(house, nursery, replies)
        nursery.start_soon(listen, straight)
        nursery.start_soon(send_all, house, PrivateKey.parse(settings.private_key.reveal()), to_send)


async def listen(straight: Straight) -> None:
    """Hear what is pushed; once, at the subscription, also what was there before."""
    (wanted,) = straight.house.profile.subscriptions()
    topics = [[to_hex(topic) for topic in wanted.topics]]
    criteria = {"address": to_hex(wanted.contract), "topics": topics}
    subscribed = trio.Event()

    def ring(push: Any) -> None:
        if push is None:
            subscribed.set()
        else:
            straight.hear(decode_log(push))

    straight.nursery.start_soon(straight.house.gateway.listen, ("logs", criteria), ring)
    await subscribed.wait()
    earlier, _ = decode_logs(
        await straight.house.gateway.call("eth_getLogs", criteria | {"fromBlock": "0x0"})
    )
    for log in earlier:
        straight.hear(log)


async def send_all(house: House, key: PrivateKey, replies: trio.MemoryReceiveChannel[bytes]) -> None:
    """Sign replies with one nonce after the other, and send what waits in one batch."""
    contract, nonce = house.settings.decryption_contract.address, 0
    async for first in replies:
        waiting = [first, *_waiting(replies)]
        raws = []
        for calldata in waiting:
            transaction = Eip1559Transaction(
                house.gateway.chain_id, nonce, 0, MAX_FEE, GAS, contract, 0, calldata
            )
            raws.append(sign_transaction(transaction, key)[0])
            nonce += 1
        await house.gateway.batch([Call("eth_sendRawTransaction", (to_hex(raw),)) for raw in raws])


def _waiting(replies: trio.MemoryReceiveChannel[bytes]) -> list[bytes]:
    return [replies.receive_nowait() for _ in range(replies.statistics().current_buffer_used)]


if __name__ == "__main__":
    trio.run(run, load_config(sys.argv[1], environ=dict(os.environ)))
