"""What a revert of a reply means, as one table. Never decides alone that a request is over: see outcomes.

Source: fhevm-0.14.md, annex A.
"""

from __future__ import annotations

from typing import Any

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import SELECTOR_BYTES, Error
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm_014.abi import ALL_ERRORS
from kmsconn.protocols.port import Revert, Verdict

_DONE, _RETRY, _FINAL, _SKIP = Verdict.DONE, Verdict.RETRY, Verdict.FINAL, Verdict.SKIP

_SIGNATURE = {
    "ECDSAInvalidSignature": _FINAL,
    "ECDSAInvalidSignatureLength": _FINAL,
    "ECDSAInvalidSignatureS": _FINAL,
}
_DECRYPTION = {
    "KmsNodeAlreadySigned": _DONE,
    "DecryptionNotRequested": _RETRY,
    "DecryptionContextMismatch": _FINAL,
    "InvalidKmsContext": _RETRY,
    "NotKmsSigner": _FINAL,
    "KmsSignerDoesNotMatchTxSender": _FINAL,
    "UnsupportedExtraDataVersion": _FINAL,
    "InvalidExtraDataLength": _FINAL,
    "InvalidNullContextId": _FINAL,
    **_SIGNATURE,
}
_GENERATION = {
    "NotKmsTxSender": _FINAL,
    "NotKmsSigner": _FINAL,
    "KmsSignerDoesNotMatchTxSender": _FINAL,
    "DeserializingExtraDataFail": _FINAL,
    "UnsupportedExtraDataVersion": _FINAL,
    "InvalidKmsContext": _RETRY,
    **_SIGNATURE,
}

VERDICTS: dict[str, dict[str, Verdict]] = {
    "publicDecryptionResponse": _DECRYPTION,
    "userDecryptionResponse": _DECRYPTION,
    "prepKeygenResponse": {
        "KmsAlreadySignedForPrepKeygen": _DONE,
        "PrepKeygenNotRequested": _RETRY,
        **_GENERATION,
    },
    "keygenResponse": {
        "KmsAlreadySignedForKeygen": _DONE,
        "KeygenNotRequested": _RETRY,
        "KeyManagementRequestPending": _RETRY,
        "EmptyKeyDigests": _FINAL,
        **_GENERATION,
    },
    "crsgenResponse": {"KmsAlreadySignedForCrsgen": _DONE, "CrsgenNotRequested": _RETRY, **_GENERATION},
    "confirmKmsContextCreation": {
        "KmsContextCreationAlreadyConfirmed": _DONE,
        "KmsContextNotPending": _RETRY,  # done where the context turns out to be live: the caller asks
        "KmsContextCreationUnauthorized": _SKIP,
    },
    "confirmEpochActivation": {
        "EpochActivationAlreadyConfirmed": _DONE,
        "InvalidKmsEpoch": _RETRY,  # done where the epoch turns out to be active: the caller asks
        "EpochActivationUnauthorized": _SKIP,
        "KmsContextNotCreated": _RETRY,
        "InvalidKmsContext": _FINAL,
        "EmptyEpochActivationAttestation": _FINAL,
        "EpochActivationSignerDoesNotMatchTxSender": _FINAL,
        **_SIGNATURE,
    },
}
"""Reply function → name of the error → what to do. An error that is not here means RETRY."""

FUNCTIONS: dict[Kind, str] = {
    Kind.PUBLIC_DECRYPTION: "publicDecryptionResponse",
    Kind.USER_DECRYPTION: "userDecryptionResponse",
}
"""The reply function of each kind."""

_BUILT_IN = {
    error.selector: error
    for error in (
        Error.from_item({"name": "Error", "inputs": [{"type": "string"}]}),
        Error.from_item({"name": "Panic", "inputs": [{"type": "uint256"}]}),
    )
}
_PLAIN_NUMBER = 1 << 64


def read(function: str, data: bytes | None) -> Revert:
    """Name the revert of a reply function by its data; what is not known, or not there, is RETRY."""
    if not data:
        return Revert("no revert data", (), Verdict.RETRY)
    error = ALL_ERRORS.get(data[:SELECTOR_BYTES]) or _BUILT_IN.get(data[:SELECTOR_BYTES])
    try:
        values = error.decode(data) if error else None
    except Undecodable:
        values = None
    if error is None or values is None:
        return Revert(to_hex(data[:SELECTOR_BYTES]), (), Verdict.RETRY)
    verdict = VERDICTS[function].get(error.name, Verdict.RETRY)
    return Revert(error.name, tuple(_text(value) for value in values), verdict)


def _text(value: Any) -> str:
    """Write one argument: ids and bytes as hex, addresses by EIP-55, small numbers and the rest plainly."""
    if isinstance(value, bytes):
        return checksum(Address(value)) if len(value) == ADDRESS_BYTES else to_hex(value)
    if isinstance(value, int) and value >= _PLAIN_NUMBER:
        return f"0x{value:064x}"
    if isinstance(value, tuple):
        return f"({', '.join(_text(part) for part in value)})"
    return "".join(character if character.isprintable() else "�" for character in str(value))
