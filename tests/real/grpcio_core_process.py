"""A Core that is no part of the emulator, for whoever looks from outside: the logic of the emulated one behind a server of grpcio.

``grpcio_core_process.py SEED [CIPHERTEXTS.json]`` prints its port and the address of its signer, and serves until its standard input ends.
It can decrypt the ciphertexts of the file and no others.
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import grpc
import trio

from kmsconn.emulator.ciphertexts import read_ciphertexts
from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.core_keys import SigningNode
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.grpc_server import GrpcFailure, Method
from kmsconn.ethereum.addresses import checksum

_WORKERS = 64  # threads: as many calls may wait for their results at once


class GrpcioHandlers(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Lets each call run in the Core's Trio thread."""

    def __init__(self, core: EmulatedCore, token: trio.lowlevel.TrioToken) -> None:
        self._methods, self._token = core.methods(), token

    def service(self, details: Any) -> Any:
        method = self._methods.get(details.method)
        return None if method is None else grpc.unary_unary_rpc_method_handler(partial(self._call, method))

    def _call(self, method: Method, request: bytes, context: Any) -> bytes:
        codes = {code.value[0]: code for code in grpc.StatusCode}
        try:
            return trio.from_thread.run(method, request, trio_token=self._token)
        except GrpcFailure as failure:
            context.abort(codes[failure.status.value], failure.message)
            raise AssertionError from failure


async def serve(seed: str, ciphertexts: str = "") -> None:
    key = key_for(f"signer of a Core of one's own {seed}")
    stock = read_ciphertexts(Path(ciphertexts)) if ciphertexts else ()
    core = EmulatedCore(SigningNode(key), {one.body: one.value for one in stock})
    server = grpc.server(ThreadPoolExecutor(_WORKERS), options=[("grpc.so_reuseport", 0)])
    server.add_generic_rpc_handlers((GrpcioHandlers(core, trio.lowlevel.current_trio_token()),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    print(f"{port} {checksum(key.address)}\n", end="", flush=True)  # noqa: T201 - its output
    await trio.to_thread.run_sync(sys.stdin.read, abandon_on_cancel=True)
    server.stop(0)


if __name__ == "__main__":
    trio.run(partial(serve, *sys.argv[1:]))
