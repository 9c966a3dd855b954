"""Answers of the Core to decryption requests, and the replies made from them. Never trusts an answer further than its bytes go.

That era had several ways to write a result and a share, and no version tells which a Core has. The signature does: of the forms allowed
the first counts that the expected signer has signed.
Source: httpz-rc7.md, 2.1-2.4 and 3.3; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import attrs

from kmsconn.errors import Broken
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.steps import Answer
from kmsconn.protocols import bincode
from kmsconn.protocols.answers import NEIGHBOUR, expect_count, payload_of, read_message, signer_of
from kmsconn.protocols.httpz_rc7 import plaintexts
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER
from kmsconn.protocols.httpz_rc7.contents import PublicDecryption, UserDecryption
from kmsconn.protocols.httpz_rc7.plaintexts import Form
from kmsconn.protocols.httpz_rc7.typed_data import HANDLE_BYTES, link_digest, public_digest, user_digest
from kmsconn.protocols.protobuf import fields

PUBLIC_RESPONSE = DECRYPTION_MANAGER.function("publicDecryptionResponse")
USER_RESPONSE = DECRYPTION_MANAGER.function("userDecryptionResponse")

AUTO = (Form.P3, Form.P1, Form.P2, Form.RAW)
"""All forms of a public result, in the order in which they are tried."""

_SIGNATURE_IN_PAYLOAD = 6
_Signed = tuple[bytes, bytes]
"""Bytes that may be the result, and the digest that a node signs for them."""


@attrs.frozen
class Replies:
    """Reads answers under one domain, that of the DecryptionManager; ``forms`` of public results are tried in their order."""

    domain: Domain
    forms: Sequence[Form] = AUTO

    def public(self, content: PublicDecryption, reply: bytes, expected: Address) -> Answer:
        """Read the answer to a public request. Raises Broken."""
        from kmsconn._generated.httpz_rc7.kms.v1 import DecryptionResponse

        payload = payload_of(read_message(DecryptionResponse, reply))
        expect_count(len(content.materials), payload.plaintexts)
        values = [(int(entry.fhe_type), entry.bytes) for entry in payload.plaintexts]
        signature = payload.external_signature or b""
        result, signer = _first_signed(self._results(content, values), signature, expected)
        return Answer(PUBLIC_RESPONSE.encode(content.id, result, signature), signer)

    def user(self, content: UserDecryption, reply: bytes, expected: Address) -> Answer:
        """Read the answer to a user request. Raises Broken."""
        payload, signature = _user_answer(reply)
        expect_count(len(content.materials), payload.shares)
        handles = _handles(content)
        if [share.handle.rjust(HANDLE_BYTES, b"\0") for share in payload.shares] != handles:
            raise Broken(NEIGHBOUR, f"the answer to {id_hex(content.id)} is for other handles")
        images = (bincode.encode(payload), bincode.encode_shares(payload.shares))
        signed = ((image, self._user_digest(content, image)) for image in images)
        share, signer = _first_signed(signed, signature, expected)
        doubt = (
            ""
            if payload.digest in self.links(content)
            else "the digest in the share is not that of the request"
        )
        return Answer(USER_RESPONSE.encode(content.id, share, signature), signer, doubt)

    def links(self, content: UserDecryption) -> tuple[bytes, bytes]:
        """Return what an answer may be tied to its request with: Cores before 7 April hash handles as numbers (3.4)."""
        domain, key, user = self.domain, content.public_key, content.user
        first, second = (
            link_digest(domain, key, _handles(content), user, numeric=numeric) for numeric in (False, True)
        )
        return first, second

    def _results(self, content: PublicDecryption, values: list[plaintexts.Plaintext]) -> Iterator[_Signed]:
        handles = _handles(content)
        for form in self.forms:
            try:
                result = plaintexts.encode(form, values)
            except ValueError:
                continue
            yield result, public_digest(self.domain, handles, result, numeric=content.numeric)

    def _user_digest(self, content: UserDecryption, share: bytes) -> bytes:
        return user_digest(self.domain, content.public_key, _handles(content), share, numeric=content.numeric)


def share_payload(message: Any) -> bincode.SharePayload:
    """Return a kms.v1.ReencryptionResponsePayload as the values that are signed."""
    shares = tuple(
        bincode.Share(int(entry.fhe_type), entry.signcrypted_ciphertext, entry.external_handle, None)
        for entry in message.signcrypted_ciphertexts
    )
    return bincode.SharePayload(
        message.verification_key, message.digest, shares, message.party_id, message.degree
    )


def _first_signed(
    candidates: Iterable[_Signed], signature: bytes, expected: Address
) -> tuple[bytes, Address]:
    """Return the first candidate that ``expected`` signed, else the first with whoever signed that; for the caller to refuse."""
    first: tuple[bytes, Address] | None = None
    for result, digest in candidates:
        signer = signer_of(digest, signature)
        if signer == expected:
            return result, signer
        first = first or (result, signer)
    if first is None:
        raise Broken(NEIGHBOUR, "the answer has values that no form of that era can hold")
    return first


def _user_answer(reply: bytes) -> tuple[bincode.SharePayload, bytes]:
    """Return payload and signature; before 2 April the payload stood in field 2 and had the signature inside (8.2, profile A)."""
    from kmsconn._generated.httpz_rc7.kms.v1 import ReencryptionResponse, ReencryptionResponsePayload

    message = read_message(ReencryptionResponse, reply)
    if message.payload is not None or not message.external_signature:
        return share_payload(payload_of(message)), message.external_signature
    inner: bytes = message.external_signature
    payload = read_message(ReencryptionResponsePayload, inner)
    found = [
        bytes(value)
        for number, _, value in fields(inner)
        if number == _SIGNATURE_IN_PAYLOAD and not isinstance(value, int)
    ]
    return share_payload(payload), found[-1] if found else b""


def _handles(content: PublicDecryption | UserDecryption) -> list[bytes]:
    return [material.handle for material in content.materials]
