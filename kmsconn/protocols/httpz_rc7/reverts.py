"""What a revert of a reply means in the first generation, as one table. Never decides alone that a request is over: see outcomes.

Source: httpz-rc7.md, 2.2.
"""

from __future__ import annotations

from kmsconn.protocols.httpz_rc7.abi import ALL_ERRORS
from kmsconn.protocols.port import Revert, Verdict
from kmsconn.protocols.reverting import name_revert

_DONE, _FINAL = Verdict.DONE, Verdict.FINAL

_SENDER = {
    "NotKmsTxSender": _FINAL,
    "AccessControlUnauthorizedAccount": _FINAL,  # the same in rc7: the role is that of a KMS tx sender
}
_DECRYPTION = {
    "KmsSignerAlreadyResponded": _DONE,
    "NotKmsSigner": _FINAL,
    "ECDSAInvalidSignature": _FINAL,
    "ECDSAInvalidSignatureLength": _FINAL,
    "ECDSAInvalidSignatureS": _FINAL,
    **_SENDER,
}

VERDICTS: dict[str, dict[str, Verdict]] = {
    "publicDecryptionResponse": _DECRYPTION,
    "userDecryptionResponse": _DECRYPTION,
    "preprocessKeygenResponse": {"PreprocessKeygenKmsNodeAlreadyResponded": _DONE, **_SENDER},
    "preprocessKskgenResponse": {"PreprocessKskgenKmsNodeAlreadyResponded": _DONE, **_SENDER},
    "keygenResponse": {"KeygenKmsNodeAlreadyResponded": _DONE, **_SENDER},
    "kskgenResponse": {"KskgenKmsNodeAlreadyResponded": _DONE, **_SENDER},
    "crsgenResponse": {"CrsgenKmsNodeAlreadyResponded": _DONE, **_SENDER},
}
"""Reply function → name of the error → what to do. An error that is not here means RETRY."""


def read(function: str, data: bytes | None) -> Revert:
    """Name the revert of a reply function by its data; what is not known, or not there, is RETRY."""
    return name_revert(ALL_ERRORS, VERDICTS[function], data)
