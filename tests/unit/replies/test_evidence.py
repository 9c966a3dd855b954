"""What answers about a reply mean, text by text."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.chain.port import Receipt, RpcError
from kmsconn.errors import StageTimeout, Unreachable
from kmsconn.model.requests import Kind
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import (
    SEND_ERRORS,
    Accepts,
    Sent,
    Unclear,
    is_done,
    is_hopeless,
    read_probe,
    read_receipt,
    read_sent,
    read_trace,
)
from tests.unit.replies.world import CONTRACT, Reverts

PROFILE: Profile = Reverts()  # type: ignore[assignment]  # as much of it as a transaction manager needs
KIND = Kind.PUBLIC_DECRYPTION


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("already known", Sent.KNOWN),
        ("AlreadyKnown", Sent.KNOWN),
        ("transaction already imported", Sent.KNOWN),
        ("Known transaction", Sent.KNOWN),
        ("nonce too low: address 0xab, tx: 1 state: 5", Sent.USED),
        ("OldNonce", Sent.USED),
        ("nonce too high: address 0xab, tx: 9 state: 5", Sent.GAP),
        ("Transaction nonce is too distant from current sender nonce", Sent.GAP),
        ("replacement transaction underpriced", Sent.OCCUPIED),
        ("transaction underpriced: tip needed 2, tip permitted 1", Sent.UNDERPRICED),
        ("max fee per gas less than block base fee: maxFeePerGas: 1, baseFee: 2", Sent.UNDERPRICED),
        ("FeeTooLowToCompete", Sent.UNDERPRICED),
        ("insufficient funds for gas * price + value: balance 5", Sent.FUNDS),
        ("Upfront cost exceeds account balance", Sent.FUNDS),
        ("tx fee (2.00 ether) exceeds the configured cap (1.00 ether)", Sent.CAPPED),
        ("max fee per gas higher than 2^256-1", Sent.CAPPED),
        ("execution reverted", Sent.REFUSED),
        ("intrinsic gas too low", Sent.REFUSED),
        ("txpool is full", Sent.FAILED),
        ("rate limited", Sent.FAILED),
        ("", Sent.FAILED),
    ],
)
def test_a_refused_send_is_read_by_its_text(text: str, sent: Sent) -> None:
    assert read_sent(RpcError(-32000, text)) is sent


@pytest.mark.parametrize(("text", "sent"), SEND_ERRORS)
def test_every_entry_of_the_table_is_found_in_any_case_and_spelling(text: str, sent: Sent) -> None:
    assert read_sent(RpcError(-32000, f"Err: {text.title()}!")) is sent
    assert read_sent(RpcError(-32000, text.title().replace(" ", ""))) is sent


def test_a_send_with_a_result_is_accepted_and_one_that_nobody_answered_may_have_been() -> None:
    assert read_sent("0x" + "00" * 32) is Sent.ACCEPTED
    assert read_sent("0x" + "0A" * 32, b"\n" * 32) is Sent.ACCEPTED
    assert read_sent("0x" + "00" * 32, b"\n" * 32) is Sent.UNANSWERED
    assert read_sent(StageTimeout("a send", 15)) is Sent.UNANSWERED


NO_HASHES: list[Any] = [None, True, 7, "", "0x", "0x" + "00" * 31, "0x" + "00" * 33, "0x" + "zz" * 32, [], {}]


@pytest.mark.parametrize("result", [*NO_HASHES, Unreachable("reset")])
def test_a_send_that_is_answered_by_no_hash_or_breaks_has_failed(result: Any) -> None:
    """Whether the bytes were taken is not known then, and somebody must be told."""
    assert read_sent(result) is Sent.FAILED


@pytest.mark.slow
@given(st.text(), st.integers())
def test_every_text_of_a_node_means_something(text: str, code: int) -> None:
    assert isinstance(read_sent(RpcError(code, text)), Sent)


@pytest.mark.parametrize(
    ("error", "revert"),
    [
        (RpcError(3, ""), True),
        (RpcError(-32000, "", b"\x01"), True),
        (RpcError(-32000, "VM Exception: Revert"), True),
        (RpcError(-32000, "missing trie node"), False),
        (RpcError(-32000, "header not found", b""), False),
    ],
)
def test_a_revert_is_told_by_code_data_or_text(error: RpcError, revert: bool) -> None:
    assert error.is_revert is revert


@pytest.mark.parametrize(
    ("result", "is_estimate", "expected"),
    [
        ("0x", False, Accepts()),
        ("0x5208", True, Accepts(21_000)),
        (RpcError(-32005, "limit exceeded"), False, Unclear("-32005: limit exceeded", silent=True)),
    ],
    ids=["the contract has no reply", "an estimate", "another error"],
)
def test_what_a_call_says(result: Any, is_estimate: bool, expected: Any) -> None:
    assert read_probe(PROFILE, KIND, result, is_estimate=is_estimate) == expected


@pytest.mark.parametrize(("data", "done"), [(b"answered", True), (b"notrequested", False)])
def test_a_call_that_reverts_says_what_the_profile_says(data: bytes, done: bool) -> None:
    said = read_probe(PROFILE, KIND, RpcError(3, "reverted", data), is_estimate=False)
    assert (is_done(said), is_hopeless(said)) == (done, False)
    assert all(is_hopeless(Revert("No", (), verdict)) for verdict in (Verdict.FINAL, Verdict.SKIP))


NO_ESTIMATES: list[Any] = ["52", None, {}, "0xzz"]
NO_RESULTS: list[Any] = [
    None,
    True,
    0,
    "",
    "0x0",
    "0x" + "00" * 32,
    "0x" + "00" * 500_000,
    [],
    {"data": "0x"},
]


@pytest.mark.parametrize(
    ("result", "is_estimate"), [*((one, True) for one in NO_ESTIMATES), *((one, False) for one in NO_RESULTS)]
)
def test_a_result_that_no_reply_or_estimate_has_is_no_answer(result: Any, is_estimate: bool) -> None:
    """Else a reply that is included would be taken for gone, and sent again."""
    assert isinstance(read_probe(PROFILE, KIND, result, is_estimate=is_estimate), Unclear)


def test_a_receipt_tells_block_and_success() -> None:
    receipt = {"blockNumber": "0x10", "blockHash": "0xab", "status": "0x1"}
    assert read_receipt(CONTRACT, receipt) == Receipt(16, succeeded=True, block_hash=b"\xab")
    assert read_receipt(CONTRACT, {**receipt, "status": "0x0"}) == Receipt(
        16, succeeded=False, block_hash=b"\xab"
    )


def test_what_kept_a_64th_of_its_gas_and_no_more_ran_out_of_it() -> None:
    found = [Receipt(1, succeeded=False, gas_used=used).used_up(6400) for used in (6400, 6300, 6299, None)]
    assert found == [True, True, False, False]


def test_no_receipt_is_told_from_one_that_proves_nothing() -> None:
    assert read_receipt(CONTRACT, None) is None
    assert isinstance(
        read_receipt(CONTRACT, {"blockNumber": "0x10", "blockHash": None, "status": "0x1"}), Unclear
    )
    assert isinstance(
        read_receipt(CONTRACT, {"blockNumber": None, "blockHash": None, "status": "0x1"}), Unclear
    )
    assert isinstance(read_receipt(CONTRACT, RpcError(-32000, "busy")), Unclear)
    assert isinstance(read_receipt(CONTRACT, {"blockHash": "0xab"}), Unclear)
    assert isinstance(read_receipt(CONTRACT, 7), Unclear)


def test_a_trace_with_revert_data_is_a_revert() -> None:
    said = read_trace(PROFILE, KIND, {"error": "execution reverted", "output": "0x" + b"answered".hex()})
    assert is_done(said)


@pytest.mark.parametrize(
    "trace", [{"error": "out of gas"}, {"output": "0x"}, {"output": 7}, "text", RpcError(-32601, "no method")]
)
def test_a_trace_without_revert_data_is_no_answer(trace: Any) -> None:
    assert isinstance(read_trace(PROFILE, KIND, trace), Unclear)


def test_a_trace_names_why_without_data() -> None:
    assert read_trace(PROFILE, KIND, {"error": "out of gas"}) == Unclear("status 0: out of gas")


def test_every_answer_has_a_text() -> None:
    assert str(Accepts()) == "the contract has no reply of this node"
    assert str(Unclear("busy")) == "busy"
    assert str(Revert("KmsNodeAlreadySigned", ("1", "0xab"), Verdict.DONE)) == "KmsNodeAlreadySigned(1, 0xab)"
