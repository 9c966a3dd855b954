"""Blocks, transactions, receipts and logs as a node writes them in JSON, and the filters of logs that it reads. Looks nothing up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from kmsconn.emulator.blocks import Block, EmulatedTransaction, Mined
from kmsconn.emulator.node_faults import INVALID_PARAMS, NodeError
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex

NO_BLOOM = "0x" + "00" * 256
_ZERO_HASH = "0x" + "00" * 32
_ZERO_ADDRESS = "0x" + "00" * 20
_ETHEREUM_V, _EIP155_V = 27, 35
_NO_UNCLES = "0x1dcc4de8dec75d7aab85b567b6ccd41ad312451b948a7413f0a142fd40d49347"

Json = dict[str, Any]


def block_json(block: Block, *, chain_id: int, gas_limit: int, full: bool) -> Json:
    """Write a block with transaction hashes, or whole transactions when ``full``. The bloom is empty."""
    content: Json = {
        "number": quantity(block.number),
        "hash": to_hex(block.hash),
        "parentHash": to_hex(block.parent),
        "timestamp": quantity(block.timestamp),
        "gasLimit": quantity(gas_limit),
        "gasUsed": quantity(block.gas_used),
        "logsBloom": NO_BLOOM,
        "miner": _ZERO_ADDRESS,
        "difficulty": "0x0",
        "extraData": "0x",
        "nonce": "0x0000000000000000",
        "mixHash": _ZERO_HASH,
        "sha3Uncles": _NO_UNCLES,
        "stateRoot": _ZERO_HASH,
        "transactionsRoot": _ZERO_HASH,
        "receiptsRoot": _ZERO_HASH,
        "size": "0x0",
        "uncles": [],
        "transactions": [
            transaction_json(m.transaction, m, chain_id) if full else to_hex(m.transaction.hash)
            for m in block.mined
        ],
    }
    return content if block.base_fee is None else {**content, "baseFeePerGas": quantity(block.base_fee)}


def transaction_json(transaction: EmulatedTransaction, mined: Mined | None, chain_id: int) -> Json:
    """Write a transaction; one that waits has no block."""
    envelope = transaction.envelope
    priority = None if envelope is None else envelope.max_priority_fee
    content: Json = {
        "hash": to_hex(transaction.hash),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to),
        "input": to_hex(transaction.data),
        "gas": quantity(transaction.gas),
        "nonce": quantity(transaction.nonce),
        "value": quantity(0 if envelope is None else envelope.value),
        "type": "0x0" if priority is None else "0x2",
        "chainId": quantity(chain_id),
        "gasPrice": quantity(transaction.max_fee if mined is None else mined.price),
        **_signature(transaction, chain_id),
        **(_NOWHERE if mined is None else _place(mined)),
    }
    if priority is not None:
        fees = {"maxFeePerGas": quantity(transaction.max_fee), "maxPriorityFeePerGas": quantity(priority)}
        content |= {**fees, "accessList": [], "yParity": content["v"]}
    return content


def _signature(transaction: EmulatedTransaction, chain_id: int) -> Json:
    """Return the fields of a signature; all are zero for what the emulator's own actors do."""
    r, s, v = transaction.signature[:32], transaction.signature[32:64], transaction.signature[64]
    parity = max(0, v - _ETHEREUM_V)
    is_legacy = transaction.envelope is not None and transaction.envelope.is_legacy
    bound = _EIP155_V + 2 * chain_id if is_legacy else 0
    return {
        "v": quantity(bound + parity),
        "r": quantity(int.from_bytes(r)),
        "s": quantity(int.from_bytes(s)),
    }


_NOWHERE: Json = {"blockHash": None, "blockNumber": None, "transactionIndex": None}


def _place(mined: Mined) -> Json:
    return {
        "blockHash": to_hex(mined.block_hash),
        "blockNumber": quantity(mined.block_number),
        "transactionIndex": quantity(mined.index),
    }


def receipt_json(mined: Mined) -> Json:
    """Write the receipt of a mined transaction. The bloom is empty."""
    transaction = mined.transaction
    is_legacy = transaction.envelope is None or transaction.envelope.is_legacy
    return {
        "transactionHash": to_hex(transaction.hash),
        **_place(mined),
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to),
        "status": quantity(mined.outcome.status),
        "gasUsed": quantity(mined.outcome.gas_used),
        "cumulativeGasUsed": quantity(mined.cumulative_gas),
        "effectiveGasPrice": quantity(mined.price),
        "type": "0x0" if is_legacy else "0x2",
        "contractAddress": None,
        "logsBloom": NO_BLOOM,
        "logs": [log_json(log, mined) for log in mined.logs],
    }


def log_json(log: Log, mined: Mined, *, removed: bool = False) -> Json:
    """Write one log."""
    return {
        "address": to_hex(log.address),
        "topics": [to_hex(topic) for topic in log.topics],
        "data": to_hex(log.data),
        "blockHash": to_hex(log.block_hash),
        "blockNumber": quantity(log.block_number),
        "blockTimestamp": quantity(mined.timestamp),
        "transactionHash": to_hex(log.transaction_hash),
        "transactionIndex": quantity(mined.index),
        "logIndex": quantity(log.log_index),
        "removed": removed,
    }


def trace_json(mined: Mined) -> Json:
    """Write what ``debug_traceTransaction`` with the callTracer says, with the reason of a revert in the top frame."""
    transaction, outcome = mined.transaction, mined.outcome
    content: Json = {
        "type": "CALL",
        "from": to_hex(transaction.sender),
        "to": to_hex(transaction.to),
        "gas": quantity(transaction.gas),
        "gasUsed": quantity(outcome.gas_used),
        "input": to_hex(transaction.data),
        "value": "0x0",
    }
    if outcome.status:
        return content
    if outcome.revert_data is None:
        return {**content, "error": outcome.error}
    reason = outcome.error.removeprefix("execution reverted: ")
    said = {"error": "execution reverted", "output": to_hex(outcome.revert_data), "revertReason": reason}
    return content | said


Alternatives = frozenset[bytes] | None  # None takes anything


@attrs.frozen
class LogFilter:
    """Addresses and topics; None in a place takes anything there."""

    addresses: Alternatives = None
    topics: tuple[Alternatives, ...] = ()

    @classmethod
    def parse(cls, content: Mapping[str, Any]) -> LogFilter:
        """Read the members ``address`` and ``topics``. Raises NodeError."""
        try:
            topics = tuple(_alternatives(topic) for topic in content.get("topics") or ())
            return cls(_alternatives(content.get("address")), topics)
        except (TypeError, ValueError) as error:
            raise NodeError(INVALID_PARAMS, f"invalid filter: {error}") from error

    def takes(self, log: Log) -> bool:
        """Tell whether the log passes."""
        if self.addresses is not None and log.address not in self.addresses:
            return False
        if len(self.topics) > len(log.topics):
            return False
        pairs = zip(self.topics, log.topics, strict=False)
        return all(wanted is None or topic in wanted for wanted, topic in pairs)


def _alternatives(content: Any) -> Alternatives:
    if content is None or content == []:
        return None
    return frozenset(from_hex(text) for text in ([content] if isinstance(content, str) else content))
