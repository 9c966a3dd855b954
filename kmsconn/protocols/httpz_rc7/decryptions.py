"""Decryptions for everybody and for users. The contract has checked the users' rights, and tells no window.

The main revision has ``bytes32`` handles, rc7 ``uint256`` ones: the same 32 bytes on the wire, and another type where they are signed.
Source: httpz-rc7.md, 1.2, 2.1-2.4, 3.3, 3.4, 8.2 and 8.3; annex C; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Any, ClassVar, NoReturn, TypeVar

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.errors import Broken, Rejected, Undecodable
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import HANDLE_BYTES, fhe_type_of, id_hex
from kmsconn.model.life import Answer, Ciphertext
from kmsconn.model.requests import CiphertextReference, Content, Kind, PoolName
from kmsconn.protocols import bincode
from kmsconn.protocols.core_messages import (
    DEPENDENCY,
    domain_message,
    expect_count,
    payload_of,
    read_message,
    typed_ciphertexts,
)
from kmsconn.protocols.deployments import SIGNATURE
from kmsconn.protocols.httpz_rc7 import messages
from kmsconn.protocols.httpz_rc7.contracts import (
    DECRYPTION_MANAGER,
    RC4,
    RC7,
    SENDER_VERDICTS,
    HttpzOperation,
    RequestViews,
    Signed,
    first_signed,
)
from kmsconn.protocols.httpz_rc7.messages import (
    SIZES,
    link_digest,
    public_digest,
    request_id,
    user_digest,
)
from kmsconn.protocols.port import Facts, RequestEvent, Verdict, id_in_topic
from kmsconn.protocols.protobuf import LENGTH, fields
from kmsconn.protocols.queries import ContractQuery


class HttpzDecryption(Content):
    """A request to reveal the values of ciphertexts."""

    __slots__ = ()

    @property
    def handles(self) -> list[bytes]:
        """The handles in event order."""
        return [reference.handle for reference in self.references]


D = TypeVar("D", bound=HttpzDecryption)


class HttpzDecryptionOperation(HttpzOperation[D]):
    """A request of the DecryptionManager; the subclass has its event, its message and its answer."""

    expires = True
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsSignerAlreadyResponded": Verdict.DONE,
        "NotKmsSigner": Verdict.FINAL,
        **SIGNATURE,
        **SENDER_VERDICTS,
    }

    @property
    def views(self) -> RequestViews:
        """Those to the DecryptionManager."""
        return self.deployment.decryptions

    def has_answered(self, content: D, signer: Address | None, tx_sender: Address) -> ContractQuery[bool]:
        """Ask whether this node's answer is in the contract."""
        assert signer is not None, "decryptions are signed"
        return self.views.has_answered(self.answers, content.id, signer)

    def checks(self, content: D, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """See that the Core can do it. Raises Rejected for a request without ciphertexts or with an unknown FHE type."""
        if not content.references:
            raise Rejected("the request names no ciphertext")
        check_types(content)
        return ()


def references_of(values: tuple[Any, ...], *, numeric: bool) -> tuple[CiphertextReference, ...]:
    """Return references with their handles as the 32 bytes that they are on the wire in both revisions."""
    return tuple(
        CiphertextReference(handle.to_bytes(HANDLE_BYTES) if numeric else handle, *rest)
        for handle, *rest in values
    )


def check_types(content: HttpzDecryption) -> None:
    """See that the Core of that era can decrypt every handle. Raises Rejected: a wrong type would only waste its place there."""
    for reference in content.references:
        if (fhe_type := fhe_type_of(reference.handle)) not in SIZES:
            raise Rejected(f"handle {reference.handle.hex()} has FHE type {fhe_type}, which is not known")


PUBLIC_EVENT = DECRYPTION_MANAGER.event("PublicDecryptionRequest")
NUMERIC_PUBLIC_EVENT = RC7["DecryptionManager"].event("PublicDecryptionRequest")
PUBLIC_RESPONSE = DECRYPTION_MANAGER.function("publicDecryptionResponse")


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
        RequestEvent(PUBLIC_EVENT, partial(HttpzPublicDecryption.read, numeric=False), id_in_topic(1)),
        RequestEvent(NUMERIC_PUBLIC_EVENT, partial(HttpzPublicDecryption.read, numeric=True), id_in_topic(1)),
    )
    reply = PUBLIC_RESPONSE
    spare_gas = 250_000
    start, result = "Decrypt", "GetDecryptResult"
    counter, answers = 1, 2

    def request(
        self, content: HttpzPublicDecryption, gathered: Sequence[Ciphertext]
    ) -> kms.DecryptionRequest:
        """Return the message for the Core (8.2)."""
        return kms.DecryptionRequest(
            request_id=request_id(content.id),
            ciphertexts=typed_ciphertexts(kms, content.references, gathered),
            key_id=request_id(content.references[0].key_id),
            domain=domain_message(kms, self.deployment.manager),
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
        return Answer(PUBLIC_RESPONSE.encode(content.id, result, signature), signer)

    def _results(self, content: HttpzPublicDecryption, values: list[messages.Plaintext]) -> Iterator[Signed]:
        for form in self.deployment.forms:
            try:
                result = messages.encode_plaintexts(form, values)
            except ValueError:
                continue
            manager, handles = self.deployment.manager, content.handles
            yield result, public_digest(manager, handles, result, numeric=content.numeric)


USER_EVENT = DECRYPTION_MANAGER.event("UserDecryptionRequest")
NUMERIC_USER_EVENT = RC7["DecryptionManager"].event("UserDecryptionRequest")
NAMELESS_EVENT = RC4["DecryptionManager"].event("UserDecryptionRequest")
"""A user request of March that names no user: heard, so that its coming is told, and never answered."""

USER_RESPONSE = DECRYPTION_MANAGER.function("userDecryptionResponse")
_SIGNATURE_IN_PAYLOAD = 6


@attrs.frozen
class HttpzUserDecryption(HttpzDecryption):
    """A request to reveal values to one user. ``numeric``: its contract knows handles as ``uint256``, which is how they are signed."""

    id: int
    references: tuple[CiphertextReference, ...]
    numeric: bool
    user: Address
    public_key: bytes

    kind = Kind.USER_DECRYPTION

    @classmethod
    def read(
        cls, identifier: int, references: Any, user: Address, public_key: bytes, *, numeric: bool
    ) -> HttpzUserDecryption:
        """Return what the event asks for."""
        return cls(identifier, references_of(references, numeric=numeric), numeric, user, public_key)


def _refuse_nameless(*_: object) -> NoReturn:
    raise Undecodable(
        "a user request of the interface rc4, which names no user address: it cannot be answered"
    )


class HttpzUserDecryptions(HttpzDecryptionOperation[HttpzUserDecryption]):
    """The row of user decryption.

    The reply that completes a request reads the shares of all out of storage into one event: some 75 gas for a byte of each node, where
    the estimate has some 700 for a byte of its own share that it stores. So 150 percent of the estimate do for up to 13 nodes.
    """

    kind = Kind.USER_DECRYPTION
    pool = PoolName.USER_DECRYPTION
    events = (
        RequestEvent(USER_EVENT, partial(HttpzUserDecryption.read, numeric=False), id_in_topic(1)),
        RequestEvent(NUMERIC_USER_EVENT, partial(HttpzUserDecryption.read, numeric=True), id_in_topic(1)),
        RequestEvent(NAMELESS_EVENT, _refuse_nameless, id_in_topic(1)),
    )
    reply = USER_RESPONSE
    spare_gas = 250_000
    spare_percent = 150
    start, result = "Reencrypt", "GetReencryptResult"
    counter, answers = 6, 7

    def request(
        self, content: HttpzUserDecryption, gathered: Sequence[Ciphertext]
    ) -> kms.ReencryptionRequest:
        """Return the message for the Core (8.2)."""
        return kms.ReencryptionRequest(
            request_id=request_id(content.id),
            typed_ciphertexts=typed_ciphertexts(kms, content.references, gathered),
            key_id=request_id(content.references[0].key_id),
            client_address=checksum(content.user),
            enc_key=content.public_key,
            domain=domain_message(kms, self.deployment.manager),
        )

    def read_answer(
        self, content: HttpzUserDecryption, reply: bytes | None, expected: Address | None
    ) -> Answer:
        """Read the share in the form that ``expected`` has signed, and build the reply. Raises Broken."""
        assert expected is not None, "decryptions are signed"
        payload, signature = _payload_and_signature(reply or b"")
        shares = payload.signcrypted_ciphertexts
        expect_count(len(content.references), shares)
        if [share.external_handle.rjust(HANDLE_BYTES, b"\0") for share in shares] != content.handles:
            raise Broken(DEPENDENCY, f"the answer to {id_hex(content.id)} is for other handles")
        images = (bincode.encode(payload), bincode.encode_shares(shares))
        signed = ((image, self._digest(content, image)) for image in images)
        share, signer = first_signed(signed, signature, expected)
        linked = payload.digest in links(self.deployment.manager, content)
        mismatch = "" if linked else "the digest in the share is not that of the request"
        return Answer(USER_RESPONSE.encode(content.id, share, signature), signer, mismatch)

    def may_vary(self, parameter: str, one: Any, other: Any) -> bool:
        """Say so of the signature, and of a share whose ciphertexts alone differ."""
        if parameter == "reencryptedShare":
            return bincode.same_but_ciphertexts(one, other, packed=False)
        return super().may_vary(parameter, one, other)

    def _digest(self, content: HttpzUserDecryption, share: bytes) -> bytes:
        manager, key, handles = self.deployment.manager, content.public_key, content.handles
        return user_digest(manager, key, handles, share, numeric=content.numeric)


def links(domain: Domain, content: HttpzUserDecryption) -> tuple[bytes, bytes]:
    """Return what an answer may be tied to its request with: Cores before 7 April hash handles as numbers (3.4)."""
    first, second = (
        link_digest(domain, content.public_key, content.handles, content.user, numeric=numeric)
        for numeric in (False, True)
    )
    return first, second


def _payload_and_signature(reply: bytes) -> tuple[Any, bytes]:
    """Read an answer; before 2 April the payload stood in field 2 and had the signature inside (8.2, profile A)."""
    message = read_message(kms.ReencryptionResponse, reply)
    if message.payload is not None or not message.external_signature:
        return payload_of(message), message.external_signature
    inner: bytes = message.external_signature
    payload = read_message(kms.ReencryptionResponsePayload, inner)
    found = [bytes(value) for key, value in fields(inner) if key == _SIGNATURE_IN_PAYLOAD << 3 | LENGTH]
    return payload, found[-1] if found else b""
