"""Public decryption: reveal values to everybody.

Source: httpz-rc7.md, 1.2, 2.1-2.3, 3.3 and 8.2; annex C; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference, Kind, PoolName
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.answers import expect_count, payload_of, read_message
from kmsconn.protocols.httpz_rc7 import plaintexts, views
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER, RC7
from kmsconn.protocols.httpz_rc7.decryptions import HttpzDecryption, HttpzDecryptionOperation, references_of
from kmsconn.protocols.httpz_rc7.messages import domain_message, public_digest, request_id, typed_ciphertexts
from kmsconn.protocols.httpz_rc7.operations import NO_TAG, Signed, first_signed
from kmsconn.protocols.port import Numbering, RequestEvent, id_in_topic
from kmsconn.protocols.queries import StorageRead

EVENT = DECRYPTION_MANAGER.event("PublicDecryptionRequest")
NUMERIC_EVENT = RC7["DecryptionManager"].event("PublicDecryptionRequest")
RESPONSE = DECRYPTION_MANAGER.function("publicDecryptionResponse")


@attrs.frozen
class HttpzPublicDecryption(HttpzDecryption):
    """A request to reveal values to everybody.

    ``numeric``: its contract knows handles as ``uint256``, which is how they are then signed.
    """

    id: int
    references: tuple[CiphertextReference, ...]
    numeric: bool

    kind = Kind.PUBLIC_DECRYPTION

    @classmethod
    def read(cls, identifier: int, references: Any, *, numeric: bool) -> HttpzPublicDecryption:
        """Return what the event asks for."""
        return cls(identifier, references_of(references, numeric=numeric), numeric)


class HttpzPublicDecryptions(HttpzDecryptionOperation[HttpzPublicDecryption]):
    """The row of public decryption.

    Replies of several nodes share a block, so an estimate does not tell who will be the one that completes a request. It reads the
    signatures of all. What is not used is not paid.
    """

    kind = Kind.PUBLIC_DECRYPTION
    pool = PoolName.PUBLIC_DECRYPTION
    events = (
        RequestEvent(EVENT, partial(HttpzPublicDecryption.read, numeric=False), id_in_topic(1)),
        RequestEvent(NUMERIC_EVENT, partial(HttpzPublicDecryption.read, numeric=True), id_in_topic(1)),
    )
    reply = RESPONSE
    spare_gas = 250_000
    start, result = "Decrypt", "GetDecryptResult"

    def numbering(self) -> Numbering:
        """Return the counter of public requests."""
        return Numbering(self.kind, NO_TAG, views.newest_public_id(*self.contract))

    def has_answered(
        self, content: HttpzPublicDecryption, signer: Address | None, tx_sender: Address
    ) -> StorageRead[bool]:
        """Ask whether this node's answer is in the contract."""
        assert signer is not None, "decryptions are signed"
        return views.has_answered_public(*self.contract, content.id, signer)

    def request(
        self, content: HttpzPublicDecryption, ciphertexts: Sequence[Ciphertext]
    ) -> kms.DecryptionRequest:
        """Return the message for the Core (8.2)."""
        return kms.DecryptionRequest(
            request_id=request_id(content.id),
            ciphertexts=typed_ciphertexts(ciphertexts),
            key_id=request_id(content.references[0].key_id),
            domain=domain_message(self.deployment.manager),
        )

    def read_answer(
        self, content: HttpzPublicDecryption, reply: bytes | None, expected: Address | None
    ) -> Answer:
        """Read the values in the form that ``expected`` has signed, and build the reply. Raises Broken."""
        assert expected is not None, "decryptions are signed"
        payload = payload_of(read_message(kms.DecryptionResponse, reply or b""))
        expect_count(len(content.references), payload.plaintexts)
        values = [(int(entry.fhe_type), entry.bytes) for entry in payload.plaintexts]
        signature = payload.external_signature or b""
        result, signer = first_signed(self._results(content, values), signature, expected)
        return Answer(RESPONSE.encode(content.id, result, signature), signer)

    def _results(
        self, content: HttpzPublicDecryption, values: list[plaintexts.Plaintext]
    ) -> Iterator[Signed]:
        for form in self.deployment.forms:
            try:
                result = plaintexts.encode(form, values)
            except ValueError:
                continue
            manager, handles = self.deployment.manager, content.handles
            yield result, public_digest(manager, handles, result, numeric=content.numeric)
