"""What a node's answers about a reply mean; whatever it says, the result is a value and never an exception."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.chain.port import RpcError
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.sending.outcomes import (
    Accepts,
    Receipt,
    Unclear,
    is_done,
    read_call,
    read_estimate,
    read_receipt,
    read_trace,
)

KIND = Kind.PUBLIC_DECRYPTION
NONSENSE = [None, 7, True, [], {}, "", "text", "0x1", {"what": ["is", 7]}]


class Reverts:
    """As much of a profile as is needed."""

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        return Revert("Named", (), Verdict.DONE if data == b"done" else Verdict.RETRY)


PROFILE: Any = Reverts()


@pytest.mark.parametrize("result", ["0x", "0x00"])
def test_a_call_that_returns_is_taken_by_the_contract(result: str) -> None:
    assert read_call(PROFILE, KIND, result) == Accepts()


@pytest.mark.parametrize("result", NONSENSE, ids=repr)
def test_a_call_that_returns_nonsense_proves_nothing(result: Any) -> None:
    """Taken for a yes it would say that our reply is gone from the contract."""
    assert isinstance(read_call(PROFILE, KIND, result), Unclear)


@pytest.mark.parametrize("read", [read_call, read_estimate])
def test_a_revert_is_read_by_the_profile(read: Any) -> None:
    assert is_done(read(PROFILE, KIND, RpcError(3, "execution reverted", b"done")))


@pytest.mark.parametrize("read", [read_call, read_estimate])
def test_an_error_that_is_no_revert_proves_nothing(read: Any) -> None:
    assert isinstance(read(PROFILE, KIND, RpcError(-32000, "header not found")), Unclear)


@pytest.mark.parametrize("result", [None, 7, True, [], {}, "", "text", {"what": 7}], ids=repr)
def test_an_estimate_of_nonsense_proves_nothing(result: Any) -> None:
    assert isinstance(read_estimate(PROFILE, KIND, result), Unclear)


@pytest.mark.parametrize(
    "result", [7, True, [], {}, "", {"blockHash": "0x"}, RpcError(-32000, "no")], ids=repr
)
def test_a_receipt_of_nonsense_proves_nothing(result: Any) -> None:
    assert isinstance(read_receipt(result), Unclear)


def test_no_receipt_is_none_and_one_without_a_block_none_yet() -> None:
    assert read_receipt(None) is None
    assert isinstance(read_receipt({"blockHash": None}), Unclear)


@pytest.mark.parametrize("status", [0, 1])
def test_a_receipt_says_its_block_and_whether_it_went_well(status: int) -> None:
    raw = {"blockHash": "0x" + "11" * 32, "blockNumber": "0x10", "status": hex(status)}
    assert read_receipt(raw) == Receipt(16, status == 1)


@pytest.mark.parametrize("result", [*NONSENSE, RpcError(-32601, "no such method")], ids=repr)
def test_a_trace_of_nonsense_proves_nothing(result: Any) -> None:
    assert isinstance(read_trace(PROFILE, KIND, result), Unclear)


def test_a_trace_with_revert_data_is_read_by_the_profile() -> None:
    assert is_done(read_trace(PROFILE, KIND, {"output": "0x" + b"done".hex()}))
