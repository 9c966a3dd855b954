"""The answers of one node of the first generation: values in a chosen form and sealed shares, genuinely signed. Decrypts nothing.

What a ciphertext holds stands in a table. Source: kms-core-grpc.md, 12; httpz-rc7.md, 2.3, 2.4 and 3.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import attrs

from kmsconn._generated.httpz_rc7.kms.v1 import (
    CrsGenRequest,
    CrsGenResult,
    DecryptionRequest,
    DecryptionResponse,
    DecryptionResponsePayload,
    Eip712DomainMsg,
    FheType,
    KeyGenPreprocRequest,
    KeyGenPreprocResult,
    KeyGenResult,
    ReencryptionRequest,
    ReencryptionResponse,
    ReencryptionResponsePayload,
    RequestId,
    SignedPubDataHandle,
    TypedPlaintext,
    TypedSigncryptedCiphertext,
)
from kmsconn.emulator.httpz.signcryption import HttpzRandomness, signcrypt
from kmsconn.emulator.plaintexts import constant_share
from kmsconn.emulator.signcryption import sign_sha256, verification_key
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7.messages import link_digest, object_digest, public_digest, user_digest
from kmsconn.protocols.httpz_rc7.plaintexts import SIZES, PlaintextForm, encode
from kmsconn.protocols.httpz_rc7.user_decryption import share_payload


@attrs.define(eq=False)
class FirstNode:
    """Who answers; the fields are knobs and may be changed at any time."""

    key: PrivateKey
    plaintexts: Mapping[bytes, int] = attrs.field(repr=False)
    """The value in each ciphertext body that exists."""
    form: PlaintextForm = PlaintextForm.P3
    numeric: bool = False
    party_id: int = 1
    degree: int = 0
    """Of the sharing: 0 is a centralised Core."""
    wrong_link: bool = False
    """Whether shares are tied to some other request."""

    def answer(self, message: Any) -> bytes:
        """Return the protobuf bytes of what a request asks for. Raises KeyError for a ciphertext that does not exist."""
        match message:
            case DecryptionRequest():
                return bytes(self._public(message))
            case ReencryptionRequest():
                return bytes(self._user(message))
            case KeyGenPreprocRequest():
                return bytes(KeyGenPreprocResult())
            case CrsGenRequest():
                crs = self._object(message.domain, "CRS", message.request_id)
                return bytes(CrsGenResult(request_id=message.request_id, crs_results=crs))
        names = ("DecompressionKey",) if message.keyset_added_info else ("PublicKey", "ServerKey", "SnsKey")
        made = {name: self._object(message.domain, name, message.request_id) for name in names}
        return bytes(KeyGenResult(request_id=message.request_id, key_results=made))

    def _public(self, message: DecryptionRequest) -> DecryptionResponse:
        values = [(int(one.fhe_type), self._little_endian(one)) for one in message.ciphertexts]
        handles = [one.external_handle for one in message.ciphertexts]
        result = encode(self.form, values)
        digest = public_digest(domain_of(message.domain), handles, result, numeric=self.numeric)
        plaintexts = [TypedPlaintext(bytes=raw, fhe_type=FheType(kind)) for kind, raw in values]
        payload = DecryptionResponsePayload(plaintexts=plaintexts, external_signature=self.key.sign(digest))
        return DecryptionResponse(signature=b"internal", payload=payload)

    def _user(self, message: ReencryptionRequest) -> ReencryptionResponse:
        domain, user = domain_of(message.domain), parse_address(message.client_address)
        linked = PrivateKey(bytes([9] * 32)).address if self.wrong_link else user
        handles = [one.external_handle for one in message.typed_ciphertexts]
        link = link_digest(domain, message.enc_key, handles, linked, numeric=self.numeric)
        payload = ReencryptionResponsePayload(
            verification_key=verification_key(self.key.public_key),
            digest=link,
            signcrypted_ciphertexts=[
                TypedSigncryptedCiphertext(
                    fhe_type=one.fhe_type,
                    signcrypted_ciphertext=self._sealed(one, link, user, message.enc_key),
                    external_handle=one.external_handle,
                )
                for one in message.typed_ciphertexts
            ],
            party_id=self.party_id,
            degree=self.degree,
        )
        share = bincode.encode(share_payload(payload))
        digest = user_digest(domain, message.enc_key, handles, share, numeric=self.numeric)
        return ReencryptionResponse(
            signature=sign_sha256(self.key, share), external_signature=self.key.sign(digest), payload=payload
        )

    def _sealed(self, ciphertext: Any, link: bytes, user: Address, enc_key: bytes) -> bytes:
        """Seal a value, or this node's share of it, by randomness that a second asking finds again."""
        kind = int(ciphertext.fhe_type)
        value = self.plaintexts[ciphertext.ciphertext]
        return signcrypt(
            constant_share(value, kind) if self.degree else self._little_endian(ciphertext),
            kind,
            link=link,
            client=user,
            enc_key=enc_key,
            key=self.key,
            randomness=HttpzRandomness.from_seed(link + ciphertext.external_handle + bytes([self.party_id])),
        )

    def _little_endian(self, ciphertext: Any) -> bytes:
        return self.plaintexts[ciphertext.ciphertext].to_bytes(SIZES[int(ciphertext.fhe_type)], "little")

    def _object(
        self, domain: Eip712DomainMsg | None, name: str, identifier: RequestId | None
    ) -> SignedPubDataHandle:
        assert identifier is not None
        handle = identifier.request_id
        if domain is None:
            return SignedPubDataHandle(key_handle=handle)
        digest = object_digest(domain_of(domain), name, bytes.fromhex(handle))
        return SignedPubDataHandle(key_handle=handle, external_signature=self.key.sign(digest))


def domain_of(message: Eip712DomainMsg | None) -> Domain:
    """Return the domain of a request."""
    assert message is not None
    contract = parse_address(message.verifying_contract)
    return Domain(message.name, message.version, int.from_bytes(message.chain_id), contract)
