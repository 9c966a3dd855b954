"""What a revert of a reply means, as one table. Never decides alone that a request is over: see outcomes.

Source: fhevm-0.14.md, annex A.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm_014.abi import ALL_ERRORS
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.protocols.reverting import name_revert

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
    Kind.PREP_KEYGEN: "prepKeygenResponse",
    Kind.KEYGEN: "keygenResponse",
    Kind.CRSGEN: "crsgenResponse",
    Kind.NEW_KMS_CONTEXT: "confirmKmsContextCreation",
    Kind.NEW_KMS_EPOCH: "confirmEpochActivation",
}
"""The reply function of each kind that has one."""


def read(function: str, data: bytes | None) -> Revert:
    """Name the revert of a reply function by its data; what is not known, or not there, is RETRY."""
    return name_revert(ALL_ERRORS, VERDICTS[function], data)
