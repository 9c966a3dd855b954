from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from kmsconn._generated.fhevm.kms.v1 import (
    PublicDecryptionResponse,
    RequestId,
    TypedPlaintext,
    UserDecryptionResponse,
)
from kmsconn.errors import Broken
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm import contracts, decryptions
from kmsconn.protocols.fhevm.decryptions import decrypted_result
from kmsconn.protocols.fhevm.operations import FhevmOperation
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Revert, Verdict
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
ANSWERS = vectors.answers()
every_answer = pytest.mark.parametrize(
    ("entry", "answer"), ANSWERS, ids=[f"{entry['name']}-{answer['node']}" for entry, answer in ANSWERS]
)


def read(entry: dict[str, Any], reply: bytes) -> Any:
    content: Any = PROFILE.decode(vectors.log_of(entry))
    return PROFILE.operations[content.kind].read_answer(content, reply, None)


@every_answer
def test_calldata_byte_for_byte_and_the_signer_is_the_node(
    entry: dict[str, Any], answer: dict[str, Any]
) -> None:
    found, (signer, _) = (
        read(entry, from_hex(answer["response_bytes"])),
        vectors.account(f"signer{answer['node']}"),
    )
    assert (found.calldata, found.signer) == (from_hex(answer["reply"]["calldata"]), signer)


def test_b2_words_and_no_bytes_are_a_zero_word() -> None:
    plaintexts = [(2, b"\x07"), (0, b"\x01"), (5, bytes.fromhex("0201000000000000"))]
    assert decrypted_result(plaintexts) == b"".join(n.to_bytes(32) for n in (7, 1, 0x102))
    assert decrypted_result([(8, b"")]) == bytes(32)


@pytest.mark.parametrize(
    ("fhe_type", "raw", "told"),
    [*((kind, b"\x01", "FHE type") for kind in (1, 9, 30, 84, 1000, -1)), (8, bytes(33), "33 bytes")],
)
def test_other_types_and_more_than_a_word_are_broken(fhe_type: int, raw: bytes, told: str) -> None:
    with pytest.raises(Broken, match=told):
        decrypted_result([(fhe_type, raw)])


# Answers that no honest Core gives


PUBLIC = vectors.request("public_three_v2_context_2")
USER = vectors.request("user_legacy_direct_v0")
Change = Callable[[Any], object]


def changed(entry: dict[str, Any], change: Change) -> bytes:
    kind = PublicDecryptionResponse if entry["kind"] == "public" else UserDecryptionResponse
    message = kind.parse(from_hex(entry["answers"][0]["response_bytes"]))
    change(message)
    return bytes(message)


def of_id(text: str | None) -> Change:
    """Let the answer name another request, or none."""
    return lambda one: setattr(one.payload, "request_id", None if text is None else RequestId(text))


def signed(make: Callable[[bytes], bytes]) -> Change:
    """Let the answer have another signature."""
    return lambda one: setattr(one, "external_signature", make(one.external_signature))


OF_EITHER: dict[str, Change] = {
    "short signature": signed(lambda signature: signature[:64]),
    "no signature": signed(lambda _: b""),
    "v zero": signed(lambda signature: signature[:64] + b"\x00"),
    "zero r": signed(lambda signature: bytes(32) + signature[32:]),
    "high s": signed(lambda signature: signature[:32] + b"\xee" * 32 + b"\x1b"),
    "other extra data": lambda one: setattr(one, "extra_data", b"\x00"),
    "no payload": lambda one: setattr(one, "payload", None),
}
OF_PUBLIC: dict[str, Change] = {
    "other id": of_id(id_hex(5)),
    "no id": of_id(None),
    "upper case id": of_id("0X" + id_hex(5)),
    "one plaintext less": lambda one: one.payload.plaintexts.pop(),
    "one plaintext more": lambda one: one.payload.plaintexts.append(TypedPlaintext(b"\x01", 5)),
    **OF_EITHER,
}
OF_USER: dict[str, Change] = {
    "one share less": lambda one: one.payload.signcrypted_ciphertexts.pop(),
    "shares swapped": lambda one: one.payload.signcrypted_ciphertexts.reverse(),
    **OF_EITHER,
}


@pytest.mark.parametrize(
    ("entry", "change"), [*((PUBLIC, one) for one in OF_PUBLIC), *((USER, one) for one in OF_USER)]
)
def test_answers_of_no_honest_core_are_broken(entry: dict[str, Any], change: str) -> None:
    changes = OF_PUBLIC if entry is PUBLIC else OF_USER
    with pytest.raises(Broken, match="core"):
        read(entry, changed(entry, changes[change]))


@pytest.mark.parametrize("entry", [PUBLIC, USER], ids=["public", "user"])
def test_truncated_answers_are_broken(entry: dict[str, Any]) -> None:
    raw = from_hex(entry["answers"][0]["response_bytes"])
    for size in range(0, len(raw), 13):
        with pytest.raises(Broken, match=None if size else "no payload"):
            read(entry, raw[:size])


def test_another_value_recovers_another_signer() -> None:
    """A changed plaintext is not Broken here: the caller sees that the signer is a stranger."""

    def change(message: Any) -> None:
        message.payload.plaintexts[0].bytes = b"\x77"

    stranger = read(PUBLIC, changed(PUBLIC, change)).signer
    assert stranger not in {vectors.account(f"signer{n}")[0] for n in range(1, 6)}


def test_an_answer_of_another_node_names_that_node() -> None:
    def change(message: Any) -> None:
        key = PrivateKey(vectors.account("signer5")[1])
        message.external_signature = key.sign(from_hex(PUBLIC["answers"][0]["eip712"]["digest"]))

    assert read(PUBLIC, changed(PUBLIC, change)).signer == vectors.account("signer5")[0]


def test_the_answer_to_the_single_zero_byte_carries_no_extra_data() -> None:
    entry = vectors.request("public_one_v0")
    calldata = read(entry, from_hex(entry["answers"][0]["response_bytes"])).calldata
    assert decryptions.RESPONSE.decode(calldata)[3] == b""


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


def revert_of(function: str, data: bytes | None) -> Revert:
    revert: Revert = OPERATIONS[function].revert(data)
    return revert


named = pytest.mark.parametrize("entry", REVERTS, ids=lambda entry: entry["name"])


def comparable(argument: Any) -> str:
    return str(int(argument, 16) if isinstance(argument, str) else argument)


@named
def test_name_arguments_and_verdict(entry: dict[str, Any]) -> None:
    found = revert_of(entry["function"], from_hex(entry["eth_call_error"]["data"]))
    name = entry["error"].split("(")[0]
    assert (found.name, found.verdict) == (name, ANNEX_A[name])
    numbers = [str(int(text, 0)) for text in found.arguments]
    assert numbers == [comparable(argument) for argument in entry["arguments"]]
    assert len(REVERTS) == 62


@pytest.mark.parametrize("entry", GENERATION, ids=lambda entry: entry["name"])
def test_reverts_of_the_generation_replies_have_a_verdict_of_the_table(entry: dict[str, Any]) -> None:
    calldata = from_hex(entry["call"]["data"])
    asking = (contracts.KMS_GENERATION, contracts.PROTOCOL_CONFIG)
    (function,) = [
        one.functions_by_selector[calldata[:4]] for one in asking if calldata[:4] in one.functions_by_selector
    ]
    found = revert_of(function.name, from_hex(entry["eth_call_error"]["data"]))
    assert found.name == entry["error"].split("(")[0]
    assert found.verdict is OPERATIONS[function.name].verdicts[found.name]


@pytest.mark.parametrize("function", sorted(OPERATIONS))
def test_every_name_in_the_table_is_an_error_of_the_contracts(function: str) -> None:
    assert set(OPERATIONS[function].verdicts) <= {error.name for error in contracts.ALL_ERRORS.values()}


def test_every_kind_but_aborts_and_ends_has_its_reply_function() -> None:
    without = {Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED, Kind.KMS_EPOCH_DESTROYED}
    every = set(Fhevm(vectors.vector_settings()).operations)
    assert {row.kind for row in OPERATIONS.values()} == every - without - {
        Kind.HTTP_PUBLIC_DECRYPTION,
        Kind.HTTP_USER_DECRYPTION,
    }


@pytest.mark.parametrize("function", sorted(OPERATIONS))
def test_every_error_without_arguments_is_named_with_a_verdict(function: str) -> None:
    bare = [error for error in contracts.ALL_ERRORS.values() if error.signature.endswith("()")]
    found = [revert_of(function, error.selector) for error in bare]
    assert [revert.name for revert in found] == [error.name for error in bare]
    expected = [OPERATIONS[function].verdicts.get(error.name, Verdict.RETRY) for error in bare]
    assert [revert.verdict for revert in found] == expected


@pytest.mark.parametrize(
    "data", ["01", "12345678", "12345678" + "00" * 32, "99ec48d9", "99ec48d9" + "00" * 31]
)
def test_unknown_or_cut_data_is_retry_under_its_selector(data: str) -> None:
    found = revert_of("userDecryptionResponse", bytes.fromhex(data))
    assert (found.name, found.arguments, found.verdict) == ("0x" + data[:8], (), Verdict.RETRY)


def test_a_revert_without_data_or_that_the_table_does_not_name_is_retry() -> None:
    paused = contracts.DECRYPTION.error("EnforcedPause").encode()
    for data in (None, b"", paused):
        assert revert_of("publicDecryptionResponse", data).verdict is Verdict.RETRY
    assert str(revert_of("publicDecryptionResponse", paused)) == "EnforcedPause()"


def test_the_built_in_errors_are_named() -> None:
    panic = bytes.fromhex("4e487b71") + (0x11).to_bytes(32)
    assert str(revert_of("publicDecryptionResponse", panic)) == "Panic(17)"
    text = bytes.fromhex("08c379a0") + (32).to_bytes(32) + (4).to_bytes(32) + b"no\0\n" + bytes(28)
    assert str(revert_of("publicDecryptionResponse", text)) == "Error(no��)"


def test_a_revert_reads_well() -> None:
    error = contracts.DECRYPTION.error("KmsNodeAlreadySigned")
    found = revert_of("publicDecryptionResponse", error.encode((1 << 248) + 1, vectors.account("signer1")[0]))
    assert str(found) == (
        "KmsNodeAlreadySigned(0x0100000000000000000000000000000000000000000000000000000000000001, "
        "0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf)"
    )
