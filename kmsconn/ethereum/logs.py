"""One event log as ``eth_getLogs`` returns it, decoded to bytes and integers."""

from __future__ import annotations

import attrs

from kmsconn.ethereum.addresses import Address


@attrs.frozen
class Log:
    """Where a log stands and what it says. ``removed`` logs never get this far."""

    address: Address
    topics: tuple[bytes, ...]
    data: bytes
    block_number: int
    block_hash: bytes
    transaction_hash: bytes
    log_index: int
