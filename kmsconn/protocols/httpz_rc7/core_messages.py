"""Decryption requests to the Core of the first generation. Never reads an answer; those are for ``replies``.

Source: httpz-rc7.md, 8.1-8.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.core_parts import expect_whole
from kmsconn.protocols.httpz_rc7.contents import PublicDecryption, UserDecryption
from kmsconn.protocols.httpz_rc7.messages import domain_message, long_poll, request_id, typed_ciphertexts
from kmsconn.protocols.httpz_rc7.plaintexts import SIZES
from kmsconn.protocols.port import CoreCall, Meaning, Reading
from kmsconn.protocols.proto_writer import encode

_TYPE_BYTE = 30
_STORING, _KNOWN_ID, _FULL = "into meta store:", "The element with ID", "Error in"
Decryption = PublicDecryption | UserDecryption


def aborted(text: str) -> Meaning | None:
    """Say what ABORTED means on a start call: that Core has it for known ids, a full table and bad requests alike (8.4).

    Its texts are cut short, so that only their beginnings count.
    """
    _, stored, reason = text.partition(_STORING)
    if not stored:
        return Meaning.REFUSED
    if reason.lstrip().startswith(_KNOWN_ID):
        return Meaning.SUCCESS
    return None if reason.lstrip().startswith(_FULL) else Meaning.REFUSED


MEANS: Mapping[str, Reading] = {"ABORTED": aborted}
"""What statuses of start calls mean in that era, where they mean something else than later."""


@attrs.frozen
class CoreMessages:
    """Builds decryption requests under one EIP-712 domain, that of the DecryptionManager."""

    domain: Domain

    def start(self, content: Decryption, ciphertexts: Sequence[Ciphertext]) -> CoreCall:
        """Return the call that hands a request over, ``ciphertexts`` in the order of its materials.

        Raises Rejected for a request without materials; ValueError when the ciphertexts are not those of the materials.
        """
        expect_whole(content.materials, ciphertexts)
        if isinstance(content, PublicDecryption):
            return CoreCall("Decrypt", encode(self._public(content, ciphertexts)), content.id, MEANS)
        return CoreCall("Reencrypt", encode(self._user(content, ciphertexts)), content.id, MEANS)

    def _public(self, content: PublicDecryption, ciphertexts: Sequence[Ciphertext]) -> kms.DecryptionRequest:
        return kms.DecryptionRequest(
            request_id=request_id(content.id),
            ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(content.materials[0].key_id),
            domain=domain_message(self.domain),
        )

    def _user(self, content: UserDecryption, ciphertexts: Sequence[Ciphertext]) -> kms.ReencryptionRequest:
        return kms.ReencryptionRequest(
            request_id=request_id(content.id),
            typed_ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(content.materials[0].key_id),
            client_address=checksum(content.user),
            enc_key=content.public_key,
            domain=domain_message(self.domain),
        )


def check_types(content: Decryption) -> None:
    """See that the Core of that era can decrypt every handle. Raises Rejected: a wrong type would only waste its place there."""
    for material in content.materials:
        if material.handle[_TYPE_BYTE] not in SIZES:
            kind = material.handle[_TYPE_BYTE]
            raise Rejected(f"handle {material.handle.hex()} has FHE type {kind}, which is not known")


def result_call(content: Decryption) -> CoreCall:
    """Return the long poll for a request's result."""
    public = isinstance(content, PublicDecryption)
    method = "GetDecryptResult" if public else "GetReencryptResult"
    return long_poll(method, content.id)
