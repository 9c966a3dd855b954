from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm import abi
from kmsconn.protocols.fhevm.operations import FhevmOperation
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Revert, Verdict
from tests import vectors

REVERTS = vectors.load()["reverts"]
GENERATION = vectors.load()["ethereum"]["reverts"]
ANNEX_A = {
    "KmsNodeAlreadySigned": Verdict.DONE,
    "DecryptionNotRequested": Verdict.RETRY,
    "DecryptionContextMismatch": Verdict.FINAL,
    "InvalidKmsContext": Verdict.RETRY,
    "NotKmsSigner": Verdict.FINAL,
    "KmsSignerDoesNotMatchTxSender": Verdict.FINAL,
    "UnsupportedExtraDataVersion": Verdict.FINAL,
    "InvalidExtraDataLength": Verdict.FINAL,
    "InvalidNullContextId": Verdict.FINAL,
    "ECDSAInvalidSignature": Verdict.FINAL,
    "ECDSAInvalidSignatureLength": Verdict.FINAL,
    "ECDSAInvalidSignatureS": Verdict.FINAL,
}
OPERATIONS: Any = {
    row.reply.name: row
    for row in Fhevm(vectors.vector_settings()).operations.values()
    if isinstance(row, FhevmOperation) and row.reply is not None
}


def read(function: str, data: bytes | None) -> Revert:
    revert: Revert = OPERATIONS[function].revert(data)
    return revert


named = pytest.mark.parametrize("entry", REVERTS, ids=lambda entry: entry["name"])


def comparable(argument: Any) -> str:
    return str(int(argument, 16) if isinstance(argument, str) else argument)


def test_all_62_reverts_are_there() -> None:
    assert len(REVERTS) == 62


@named
def test_name_arguments_and_verdict(entry: dict[str, Any]) -> None:
    found = read(entry["function"], from_hex(entry["eth_call_error"]["data"]))
    name = entry["error"].split("(")[0]
    assert (found.name, found.verdict) == (name, ANNEX_A[name])
    numbers = [str(int(text, 0)) for text in found.arguments]
    assert numbers == [comparable(argument) for argument in entry["arguments"]]


@pytest.mark.parametrize("entry", GENERATION, ids=lambda entry: entry["name"])
def test_reverts_of_the_generation_replies_have_a_verdict_of_the_table(entry: dict[str, Any]) -> None:
    calldata = from_hex(entry["call"]["data"])
    contracts = (abi.KMS_GENERATION, abi.PROTOCOL_CONFIG)
    (function,) = [
        one.functions_by_selector[calldata[:4]]
        for one in contracts
        if calldata[:4] in one.functions_by_selector
    ]
    found = read(function.name, from_hex(entry["eth_call_error"]["data"]))
    assert found.name == entry["error"].split("(")[0]
    assert found.verdict is OPERATIONS[function.name].verdicts[found.name]


@pytest.mark.parametrize("function", sorted(OPERATIONS))
def test_every_name_in_the_table_is_an_error_of_the_contracts(function: str) -> None:
    assert set(OPERATIONS[function].verdicts) <= {error.name for error in abi.ALL_ERRORS.values()}


def test_every_kind_but_aborts_and_ends_has_its_reply_function() -> None:
    without = {Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED, Kind.KMS_EPOCH_DESTROYED}
    every = set(Fhevm(vectors.vector_settings()).operations)
    assert {row.kind for row in OPERATIONS.values()} == every - without - {
        Kind.HTTP_PUBLIC_DECRYPTION,
        Kind.HTTP_USER_DECRYPTION,
    }


@pytest.mark.parametrize("function", sorted(OPERATIONS))
def test_every_error_without_arguments_is_named_with_a_verdict(function: str) -> None:
    bare = [error for error in abi.ALL_ERRORS.values() if error.signature.endswith("()")]
    found = [read(function, error.selector) for error in bare]
    assert [revert.name for revert in found] == [error.name for error in bare]
    expected = [OPERATIONS[function].verdicts.get(error.name, Verdict.RETRY) for error in bare]
    assert [revert.verdict for revert in found] == expected


@pytest.mark.parametrize("data", [None, b""])
def test_a_revert_without_data_is_retry(data: bytes | None) -> None:
    assert read("userDecryptionResponse", data).verdict is Verdict.RETRY


@pytest.mark.parametrize(
    "data", ["01", "12345678", "12345678" + "00" * 32, "99ec48d9", "99ec48d9" + "00" * 31]
)
def test_unknown_or_cut_data_is_retry_under_its_selector(data: str) -> None:
    found = read("userDecryptionResponse", bytes.fromhex(data))
    assert (found.name, found.arguments, found.verdict) == ("0x" + data[:8], (), Verdict.RETRY)


def test_a_known_error_that_the_table_does_not_name_is_retry() -> None:
    paused = abi.DECRYPTION.error("EnforcedPause").encode()
    assert str(read("publicDecryptionResponse", paused)) == "EnforcedPause()"
    assert read("publicDecryptionResponse", paused).verdict is Verdict.RETRY


def test_the_built_in_errors_are_named() -> None:
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32)
    assert str(read("publicDecryptionResponse", panic)) == "Panic(17)"
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32) + (4).to_bytes(32) + b"no\0\n" + bytes(28)
    assert str(read("publicDecryptionResponse", text)) == "Error(no��)"


def test_a_revert_reads_well() -> None:
    error = abi.DECRYPTION.error("KmsNodeAlreadySigned")
    found = read("publicDecryptionResponse", error.encode((1 << 248) + 1, vectors.account("signer1")[0]))
    assert str(found) == (
        "KmsNodeAlreadySigned(0x0100000000000000000000000000000000000000000000000000000000000001, "
        "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf)"
    )
