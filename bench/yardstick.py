"""A fixed piece of work, as a yardstick for machines: plain Python and secp256k1, as connectors do them. Measures only itself.

The milliseconds of a request differ by a factor of 1.9 between machines, those of this work likewise. It must not change: figures of
different versions are compared by it. Its signatures were coincurve's once; btclib-secp256k1 makes the same ones in
as much time (1.35 and 1.37 ms, 200 rounds in turn).
"""

from __future__ import annotations

import time
from hashlib import sha256
from typing import Any, Final

from btclib_secp256k1 import recovery

SIGNATURES: Final = 16
ENTRIES: Final = 1000
_KEY: Final = bytes(31) + b"\x07"
_BEGIN: Final = sha256(b"kmsconn yardstick").digest()


def work() -> str:
    """Do the work: texts, dictionaries and integers, then signatures and the keys recovered from them. Return what came of it."""
    return _sign(_write_and_read(_BEGIN)).hex()


def _write_and_read(digest: bytes) -> bytes:
    """Write entries as texts and read them back."""
    number = int.from_bytes(digest[:8])
    told: dict[str, dict[str, Any]] = {}
    for place in range(ENTRIES):
        number = (number * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        told[f"0x{number:016x}"] = {"place": place, "text": number.to_bytes(8).hex()}
    read = sum(int(name, 16) ^ int(entry["text"], 16) ^ entry["place"] for name, entry in told.items())
    return sha256(digest + read.to_bytes(16)).digest()


def _sign(digest: bytes) -> bytes:
    for _ in range(SIGNATURES):
        signature, parity = recovery.sign(digest, _KEY, verify=False)
        signer = recovery.recover(digest, signature, parity)
        digest = sha256(signature + bytes([parity]) + signer).digest()
    return digest


def machine_ms() -> float:
    """Return the CPU milliseconds that this thread takes for the work, now and here."""
    before = time.thread_time()
    work()
    return 1000 * (time.thread_time() - before)
