"""Results of JSON-RPC methods as structs: what is read, what is ignored, what is refused."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kmsconn.chain.port import JsonBlock, JsonFeeHistory, JsonReceipt, JsonTrace, JsonTransaction, read

BLOCK = {"number": "0x10", "timestamp": "0x20", "hash": "0xab", "baseFeePerGas": "0x7", "extraData": "0x"}


def test_a_block_is_read_by_the_names_of_geth_and_other_fields_are_ignored() -> None:
    assert read(BLOCK, JsonBlock) == JsonBlock("0x10", "0x20", "0xab", "0x7", None)


def test_a_trace_without_error_and_output_has_geths_defaults() -> None:
    assert read({"type": "CALL"}, JsonTrace) == JsonTrace("failed", "0x")


@pytest.mark.parametrize(
    ("result", "kind"),
    [
        (None, JsonBlock),
        ([], JsonBlock),
        ({"number": "0x1"}, JsonBlock),
        ({**BLOCK, "number": 16}, JsonBlock),
        ({"blockHash": "0x1", "blockNumber": "0x1", "status": True}, JsonReceipt),
        ({"blockNumber": "0x1", "status": "0x1"}, JsonReceipt),
        ({"to": 5, "input": "0x"}, JsonTransaction),
        ({"reward": [[5]]}, JsonFeeHistory),
        ({"reward": "0x"}, JsonFeeHistory),
    ],
)
def test_another_form_is_a_value_error(result: Any, kind: type[msgspec.Struct]) -> None:
    with pytest.raises(ValueError, match=r"Expected|missing"):
        read(result, kind)
