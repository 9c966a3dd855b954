"""CPU microseconds of the chain side per JSON-RPC call, log and push, over a websocket to a node in another process.

``python -m bench.chain_calls``; the best of some rounds: CPU us of this process for each call, log or push.
"""

from __future__ import annotations

import json
import random
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

import trio

from bench.rows import Row, beside, run_module
from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.logs import read_logs
from kmsconn.chain.port import Call
from kmsconn.config.parties import Chain
from kmsconn.emulator.http import HttpRequest, HttpResponse, serve_http
from kmsconn.emulator.network import serve_sockets
from kmsconn.ethereum.addresses import Address
from kmsconn.transport.dialling import dial_sockets
from kmsconn.transport.http import open_http
from kmsconn.transport.ports import Ports, offload_to_threads

CHAIN_ID = 54321
CONTRACT, TOPIC = Address(b"\x01" * 20), b"\x02" * 32
LOGS, PUSHES, ROUNDS = 200, 1000, 5
SEND = Call("eth_sendRawTransaction", ("0x" + "ab" * 421,))
SLOT = Call("eth_getStorageAt", ("0x" + "01" * 20, "0x" + "02" * 32, "latest"))


# The node: answers at once, and pushes a burst of logs when it is asked to.


def log(number: int) -> dict[str, Any]:
    return {
        "address": "0x" + CONTRACT.hex(),
        "topics": ["0x" + TOPIC.hex(), "0x" + number.to_bytes(32).hex()],
        "data": "0x" + "ab" * 384,
        "blockNumber": "0x10",
        "blockHash": "0x" + "03" * 32,
        "transactionHash": "0x" + "04" * 32,
        "transactionIndex": "0x0",
        "logIndex": hex(number),
        "removed": False,
    }


RESULTS: dict[str, str] = {
    "eth_chainId": json.dumps(hex(CHAIN_ID)),
    "eth_getBlockByNumber": json.dumps({"number": "0x10", "timestamp": "0x10", "hash": "0x" + "05" * 32}),
    "eth_getLogs": json.dumps([log(number) for number in range(LOGS)]),
    "eth_subscribe": '"0x1"',
}
WORD = json.dumps("0x" + "00" * 31 + "01")
PUSH = json.dumps(
    {"jsonrpc": "2.0", "method": "eth_subscription", "params": {"subscription": "0x1", "result": log(1)}}
)


def one(question: dict[str, Any]) -> str:
    return f'{{"jsonrpc":"2.0","id":{question["id"]},"result":{RESULTS.get(question["method"], WORD)}}}'


async def answer(connection: Any) -> None:
    while True:
        question = json.loads(await connection.get_message())
        if isinstance(question, list):
            await connection.send_message(f"[{','.join(map(one, question))}]")
            continue
        await connection.send_message(one(question))
        for _ in range(PUSHES if question["method"] == "push" else 0):
            await connection.send_message(PUSH)


async def serve() -> None:
    async def nothing(_: HttpRequest) -> HttpResponse:
        await trio.lowlevel.checkpoint()
        return HttpResponse(404)

    async with trio.open_nursery() as nursery:
        handler = partial(serve_http, handler=nothing, websocket=answer)
        print(await nursery.start(serve_sockets, handler), flush=True)


# The cases.


async def calls(endpoint: Endpoint, width: int) -> int:
    async def caller() -> None:
        for _ in range(1600 // width):
            await endpoint.call(SEND.method, *SEND.params)

    async with trio.open_nursery() as nursery:
        for _ in range(width):
            nursery.start_soon(caller)
    return 1600


async def batches(endpoint: Endpoint, size: int) -> int:
    async def caller() -> None:
        for _ in range(25):
            await endpoint.batch([SLOT] * size)

    async with trio.open_nursery() as nursery:
        for _ in range(8):
            nursery.start_soon(caller)
    return 200


async def logs(endpoint: Endpoint) -> int:
    for _ in range(10):
        read = await read_logs(endpoint, CONTRACT, (TOPIC,), 1, 16)
        assert len(read.logs) == LOGS
    return 10 * LOGS


class Pushes:
    """A subscription that counts its pushes."""

    def __init__(self) -> None:
        self.count = 0
        self.all = trio.Event()

    def take(self, push: Any) -> None:
        self.count += push is not None
        if self.count == PUSHES:
            self.all.set()

    async def burst(self, endpoint: Endpoint) -> int:
        self.count, self.all = 0, trio.Event()
        await endpoint.call("push")
        await self.all.wait()
        return PUSHES


async def best(case: Callable[[], Awaitable[int]]) -> float:
    found = []
    for _ in range(ROUNDS):
        begun = time.process_time()
        count = await case()
        found.append((time.process_time() - begun) / count * 1e6)
    return min(found)


async def main(port: int) -> list[Row]:
    ports = Ports(dial=dial_sockets, offload=offload_to_threads, wall=time.time, random=random.random)
    chain = Chain(CHAIN_ID, (f"ws://127.0.0.1:{port}/",))
    async with (
        open_http(ports) as http,
        open_endpoint(chain, "gateway", ports, http) as endpoint,
        trio.open_nursery() as nursery,
    ):
        pushes = Pushes()
        nursery.start_soon(endpoint.listen, ("logs", {}), pushes.take)
        cases: dict[str, Callable[[], Awaitable[int]]] = {
            "a send, 1 on its way": partial(calls, endpoint, 1),
            "a send, 32 on their way": partial(calls, endpoint, 32),
            "a batch of 1, 8 on their way": partial(batches, endpoint, 1),
            "a batch of 8, 8 on their way": partial(batches, endpoint, 8),
            f"a log, {LOGS} in a read": partial(logs, endpoint),
            f"a push, {PUSHES} in a burst": partial(pushes.burst, endpoint),
        }
        found = [Row(f"chain: {name}", "kmsconn", await best(case)) for name, case in cases.items()]
        nursery.cancel_scope.cancel()
    return found


def rows() -> list[Row]:
    """Measure every case."""
    return beside("bench.chain_calls", main)


if __name__ == "__main__":
    run_module(serve, rows)
