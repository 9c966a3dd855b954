"""Requests to the Core, byte for byte, in pieces. Never reads an answer; those are for ``replies``.

Source: fhevm-0.14.md, 5.2-5.5.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from kmsconn.errors import Rejected
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content, PublicDecryption, UserDecryption
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.fhevm_014.extra_data import normalise
from kmsconn.protocols.port import Chunks, CoreCall
from kmsconn.protocols.proto_writer import (
    bytes_field,
    header,
    int_field,
    message_field,
    splice,
    text_field,
)

_TYPE_BYTE = 30


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
        content: Content,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
    ) -> CoreCall:
        """Return the call that hands a request over, ``ciphertexts`` in the order of its materials.

        Raises Rejected for a request without materials; ValueError when the ciphertexts are not those of the materials.
        """
        if not content.materials:
            raise Rejected("the request names no ciphertext")
        if [entry.handle for entry in ciphertexts] != [material.handle for material in content.materials]:
            raise ValueError("the ciphertexts are not those of the request")
        ends = [_optional_id(context_id), _optional_id(epoch_id)]
        if isinstance(content, PublicDecryption):
            parts = self._public(content, ciphertexts, ends)
            return CoreCall("PublicDecrypt", splice(list(parts)), content.id)
        return CoreCall("UserDecrypt", splice(list(self._user(content, ciphertexts, ends))), content.id)

    def _public(
        self, content: PublicDecryption, ciphertexts: Sequence[Ciphertext], ends: Sequence[bytes | None]
    ) -> Iterator[bytes]:
        yield message_field(1, request_id(content.id))
        yield from _ciphertexts(ciphertexts)
        yield message_field(3, request_id(content.materials[0].key_id))
        yield message_field(4, self._domain)
        yield bytes_field(5, normalise(content.extra_data))
        yield from _present(6, ends)

    def _user(
        self, content: UserDecryption, ciphertexts: Sequence[Ciphertext], ends: Sequence[bytes | None]
    ) -> Iterator[bytes]:
        yield message_field(1, request_id(content.id))
        yield from _ciphertexts(ciphertexts)
        yield message_field(3, request_id(content.materials[0].key_id))
        yield text_field(4, checksum(content.user))
        yield bytes_field(5, content.public_key)
        yield message_field(6, self._domain)
        yield bytes_field(7, normalise(content.extra_data))
        yield from _present(8, ends)


def result_call(content: Content) -> CoreCall:
    """Return the long poll for a request's result; it goes where the request went (5.5)."""
    public = isinstance(content, PublicDecryption)
    method = "GetPublicDecryptionResult" if public else "GetUserDecryptionResult"
    return CoreCall(method, Chunks([request_id(content.id)]), content.id)


def request_id(identifier: int) -> bytes:
    """Return a RequestId message."""
    return text_field(1, id_hex(identifier))


def domain_message(domain: Domain) -> bytes:
    """Return an Eip712DomainMsg: 32-byte chain id, EIP-55 address, no salt (5.3)."""
    return b"".join(
        [
            text_field(1, domain.name),
            text_field(2, domain.version),
            bytes_field(3, domain.chain_id.to_bytes(32)),
            text_field(4, checksum(domain.verifying_contract)),
        ]
    )


def _ciphertexts(ciphertexts: Sequence[Ciphertext]) -> Iterator[bytes]:
    """Yield the fields number 2, each body a piece of its own."""
    for entry in ciphertexts:
        before = header(1, len(entry.body)) if entry.body else b""
        after = (
            int_field(2, entry.handle[_TYPE_BYTE]) + bytes_field(3, entry.handle) + int_field(4, entry.format)
        )
        yield header(2, len(before) + len(entry.body) + len(after)) + before
        yield entry.body
        yield after


def _optional_id(identifier: int | None) -> bytes | None:
    return None if identifier is None else request_id(identifier)


def _present(first: int, messages: Sequence[bytes | None]) -> Iterator[bytes]:
    for field, message in enumerate(messages, first):
        if message is not None:
            yield message_field(field, message)
