"""Decryption requests to the Core. Never reads an answer; those are for ``replies``.

Source: fhevm-0.14.md, 5.2-5.5.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn._generated.fhevm_014.kms import v1 as kms
from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Decryption, PublicDecryption, UserDecryption
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.core_parts import expect_whole
from kmsconn.protocols.fhevm_014.extra_data import normalise
from kmsconn.protocols.fhevm_014.messages import (
    domain_message,
    long_poll,
    optional_id,
    request_id,
    typed_ciphertexts,
)
from kmsconn.protocols.port import CoreCall
from kmsconn.protocols.proto_writer import encode


@attrs.frozen
class CoreMessages:
    """Builds requests under one EIP-712 domain: that of Decryption on the Gateway chain, for users too."""

    domain: Domain

    def start(
        self,
        content: Decryption,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
    ) -> CoreCall:
        """Return the call that hands a request over, ``ciphertexts`` in the order of its materials.

        Raises Rejected for a request without materials, or under different keys; ValueError
        when the ciphertexts are not those of the materials.
        """
        expect_whole(content.materials, ciphertexts)
        if isinstance(content, PublicDecryption):
            public = self._public(content, context_id, epoch_id, ciphertexts)
            return CoreCall("PublicDecrypt", encode(public), content.id, at_once="PublicDecryptSync")
        user = self._user(content, context_id, epoch_id, ciphertexts)
        return CoreCall("UserDecrypt", encode(user), content.id, at_once="UserDecryptSync")

    def _public(
        self,
        content: PublicDecryption,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
    ) -> kms.PublicDecryptionRequest:
        return kms.PublicDecryptionRequest(
            request_id=request_id(content.id),
            ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(_key_id(content, ciphertexts)),
            domain=domain_message(self.domain),
            extra_data=normalise(content.extra_data),
            context_id=optional_id(context_id),
            epoch_id=optional_id(epoch_id),
        )

    def _user(
        self,
        content: UserDecryption,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
    ) -> kms.UserDecryptionRequest:
        return kms.UserDecryptionRequest(
            request_id=request_id(content.id),
            typed_ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(_key_id(content, ciphertexts)),
            client_address=checksum(content.user),
            enc_key=content.public_key,
            domain=domain_message(self.domain),
            extra_data=normalise(content.extra_data),
            context_id=optional_id(context_id),
            epoch_id=optional_id(epoch_id),
        )


def result_call(content: Decryption) -> CoreCall:
    """Return the long poll for a request's result; it goes where the request went (5.5)."""
    public = isinstance(content, PublicDecryption)
    method = "GetPublicDecryptionResult" if public else "GetUserDecryptionResult"
    return long_poll(method, content.id, content.id)


def _key_id(content: Decryption, ciphertexts: Sequence[Ciphertext]) -> int:
    """Return the key of a request: the chain names one for all, or else the coprocessors attest one for each. Raises Rejected."""
    first = content.materials[0]
    keys = {first.key_id} if not first.is_bare else {one.key_id for one in ciphertexts}
    if len(keys) > 1:
        raise Rejected("the ciphertexts of the request are under different keys")
    return keys.pop()
