"""Requests to the Core, byte for byte, in pieces. Never reads an answer; those are for ``replies``.

Source: fhevm-0.14.md, 5.2-5.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Decryption, PublicDecryption, UserDecryption
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.core_parts import ciphertext_fields, domain_message, expect_whole, request_id
from kmsconn.protocols.fhevm_014.extra_data import normalise
from kmsconn.protocols.port import Chunks, CoreCall
from kmsconn.protocols.proto_writer import (
    bytes_field,
    message_field,
    splice,
    text_field,
)


@attrs.frozen
class CoreMessages:
    """Builds requests under one EIP-712 domain: that of Decryption on the Gateway chain, for users too."""

    domain: Domain
    _domain: bytes = attrs.field(init=False, repr=False)

    @_domain.default
    def _encode_domain(self) -> bytes:
        return domain_message(self.domain)

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
        ends = [_optional_id(context_id), _optional_id(epoch_id)]
        if isinstance(content, PublicDecryption):
            parts = self._public(content, ciphertexts, ends)
            return CoreCall("PublicDecrypt", splice(list(parts)), content.id, at_once="PublicDecryptSync")
        parts = self._user(content, ciphertexts, ends)
        return CoreCall("UserDecrypt", splice(list(parts)), content.id, at_once="UserDecryptSync")

    def _public(
        self, content: PublicDecryption, ciphertexts: Sequence[Ciphertext], ends: Sequence[bytes | None]
    ) -> Iterator[bytes]:
        yield message_field(1, request_id(content.id))
        yield from ciphertext_fields(ciphertexts)
        yield message_field(3, request_id(_key_id(content, ciphertexts)))
        yield message_field(4, self._domain)
        yield bytes_field(5, normalise(content.extra_data))
        yield from _present(6, ends)

    def _user(
        self, content: UserDecryption, ciphertexts: Sequence[Ciphertext], ends: Sequence[bytes | None]
    ) -> Iterator[bytes]:
        yield message_field(1, request_id(content.id))
        yield from ciphertext_fields(ciphertexts)
        yield message_field(3, request_id(_key_id(content, ciphertexts)))
        yield text_field(4, checksum(content.user))
        yield bytes_field(5, content.public_key)
        yield message_field(6, self._domain)
        yield bytes_field(7, normalise(content.extra_data))
        yield from _present(8, ends)


def result_call(content: Decryption) -> CoreCall:
    """Return the long poll for a request's result; it goes where the request went (5.5)."""
    public = isinstance(content, PublicDecryption)
    method = "GetPublicDecryptionResult" if public else "GetUserDecryptionResult"
    return CoreCall(method, Chunks([request_id(content.id)]), content.id)


def _key_id(content: Decryption, ciphertexts: Sequence[Ciphertext]) -> int:
    """Return the key of a request: the chain names one for all, or else the coprocessors attest one for each. Raises Rejected."""
    first = content.materials[0]
    keys = {first.key_id} if not first.is_bare else {one.key_id for one in ciphertexts}
    if len(keys) > 1:
        raise Rejected("the ciphertexts of the request are under different keys")
    return keys.pop()


def _optional_id(identifier: int | None) -> bytes | None:
    return None if identifier is None else request_id(identifier)


def _present(first: int, messages: Sequence[bytes | None]) -> Iterator[bytes]:
    for field, message in enumerate(messages, first):
        if message is not None:
            yield message_field(field, message)
