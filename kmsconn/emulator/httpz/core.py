"""A Core of the first generation: its start and result calls with the statuses of the real one, and the answers of its node.

It has no tasks: a job is an entry with the time at which it will be ready; and no health service. The insecure calls are those of the
secure ones by other names. Values are in a chosen form, shares sealed, all genuinely signed; what a ciphertext holds stands in a table.
Source: kms-core-grpc.md, 12; httpz-rc7.md, 2.3, 2.4, 3.3, 8.1 and 8.4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final

import attrs
import trio

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
    KeyGenRequest,
    KeyGenResult,
    ReencryptionRequest,
    ReencryptionResponse,
    ReencryptionResponsePayload,
    RequestId,
    SignedPubDataHandle,
    TypedPlaintext,
    TypedSigncryptedCiphertext,
)
from kmsconn.core.client import SERVICE
from kmsconn.emulator.core_jobs import CoreJob, CoreJobs, RefusedCall
from kmsconn.emulator.dependencies import REPLIES, GenerationEvents
from kmsconn.emulator.grpc_server import GrpcFailure, Method
from kmsconn.emulator.httpz.signcryption import HttpzRandomness, signcrypt
from kmsconn.emulator.signcryption import constant_share, sign_sha256, verification_key
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.model.requests import Kind
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7.contracts import DECRYPTION_MANAGER
from kmsconn.protocols.httpz_rc7.decryptions import NAMELESS_EVENT
from kmsconn.protocols.httpz_rc7.messages import (
    SIZES,
    PlaintextForm,
    encode_plaintexts,
    link_digest,
    object_digest,
    public_digest,
    user_digest,
)
from kmsconn.protocols.httpz_rc7.profile import EVENTS
from kmsconn.transport.grpc.framing import Status

HTTPZ: Final = GenerationEvents(
    {
        topic0: kind
        for topic0, kind in EVENTS.kinds.items()
        if kind in REPLIES.values() and topic0 != NAMELESS_EVENT.topic0
    },
    {DECRYPTION_MANAGER.function(name).selector: kind for name, kind in REPLIES.items()},
    {
        DECRYPTION_MANAGER.event("PublicDecryptionResponse").topic0: Kind.PUBLIC_DECRYPTION,
        DECRYPTION_MANAGER.event("UserDecryptionResponse").topic0: Kind.USER_DECRYPTION,
    },
    EVENTS.digest,
    {Kind.PUBLIC_DECRYPTION: PUBLIC_DECRYPTION_TAG, Kind.USER_DECRYPTION: USER_DECRYPTION_TAG},
)
"""Names are those that fhevm gives by itself: a tag, then the number."""


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
        result = encode_plaintexts(self.form, values)
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
        share = bincode.encode(payload)
        digest = user_digest(domain, message.enc_key, handles, share, numeric=self.numeric)
        signatures = {"signature": sign_sha256(self.key, share), "external_signature": self.key.sign(digest)}
        return ReencryptionResponse(**signatures, payload=payload)

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


LONG_POLL = 60.0
KNOWN_ID = "Could not insert {what} into meta store: The element with ID {id}"
FULL = "Could not insert {what} into meta store: Error in table: it is full"

STARTS: Mapping[str, tuple[Any, str]] = {
    "Decrypt": (DecryptionRequest, "GetDecryptResult"),
    "Reencrypt": (ReencryptionRequest, "GetReencryptResult"),
    "KeyGenPreproc": (KeyGenPreprocRequest, "GetKeyGenPreprocResult"),
    "KeyGen": (KeyGenRequest, "GetKeyGenResult"),
    "CrsGen": (CrsGenRequest, "GetCrsGenResult"),
    "InsecureKeyGen": (KeyGenRequest, "GetInsecureKeyGenResult"),
    "InsecureCrsGen": (CrsGenRequest, "GetInsecureCrsGenResult"),
}
"""Start call → its request, and the call for its result."""

_DECRYPTIONS = {
    **dict.fromkeys(("Decrypt", "GetDecryptResult"), Kind.PUBLIC_DECRYPTION),
    **dict.fromkeys(("Reencrypt", "GetReencryptResult"), Kind.USER_DECRYPTION),
}


def _nobody(_: bytes) -> None:
    """Is told things and keeps none."""


@attrs.define(eq=False)
class FirstCore(FirstNode):
    """A Core with one signer key; the fields are its knobs and may be changed at any time."""

    computing: float | Callable[[], float] = 0.0
    """Seconds from start to answer, or what draws them."""
    insecure: bool = True
    """Whether it was built with the insecure calls."""
    does: Callable[[str, str], None] = lambda _method, _id: None
    """Is told method and id of each call before it is answered; may raise GrpcFailure in its place."""
    on_start: Callable[[bytes], None] = _nobody
    """Is told the name of each decryption that a start call asks for, whatever comes of it."""
    on_answer: Callable[[bytes], None] = _nobody
    """Is told the name of each decryption whose answer goes out."""
    memory: CoreJobs = attrs.field(factory=lambda: CoreJobs(kept=0), repr=False)
    """What was asked, by result call and id."""
    prepared: set[str] = attrs.field(factory=set, init=False)

    def methods(self) -> dict[str, Method]:
        """Return the calls for ``serve_grpc``, keyed by path."""
        calls: dict[str, Method] = {"Init": self._init}
        for start, (_, result) in STARTS.items():
            calls |= {start: partial(self._start, start), result: partial(self._result, result)}
        there = ((name, call) for name, call in calls.items() if self.insecure or "Insecure" not in name)
        return {f"/{SERVICE}/{name}": call for name, call in there}

    def restart(self) -> None:
        """Lose every request, as a restarted process does; calls that wait lose their connection."""
        self.memory.restart()

    def hear(self, method: str, identifier: str, message: Any = None) -> None:
        """Take note of a call, and of what a start call asks for."""
        self.does(method, identifier)
        if message is not None:
            self._tell(self.on_start, method, identifier)

    async def _init(self, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        del request
        self.does("Init", "")
        return b""

    async def _start(self, method: str, request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        kind, result = STARTS[method]
        message = kind.parse(request)
        identifier: str = message.request_id.request_id
        self.hear(method, identifier, message)
        jobs, now = self.memory.table(result), trio.current_time()
        if jobs.get(identifier.encode()) is not None:
            if method == "KeyGenPreproc":
                return b""
            raise GrpcFailure(Status.ABORTED, KNOWN_ID.format(what=method, id=identifier))
        if jobs.is_full(now):
            raise GrpcFailure(Status.ABORTED, FULL.format(what=method))
        if method == "KeyGen":
            try:  # it is taken away as soon as it is named (8.3)
                self.memory.table("GetKeyGenPreprocResult").forget(message.preproc_id.request_id.encode())
            except KeyError:
                raise GrpcFailure(Status.NOT_FOUND, "no such preprocessing") from None
        seconds = self.computing() if callable(self.computing) else self.computing
        jobs.add(identifier.encode(), CoreJob(now + seconds, partial(self._made, message)), now)
        return b""

    async def _result(self, method: str, request: bytes) -> bytes:
        identifier = RequestId.parse(request).request_id
        self.hear(method, identifier)
        await trio.lowlevel.checkpoint()
        try:
            reply = await self.memory.result(method, LONG_POLL, identifier.encode())
        except RefusedCall as error:
            raise GrpcFailure(error.status, error.status.name.lower()) from error
        if method == "GetKeyGenPreprocResult":
            self.prepared.add(identifier)
        self._tell(self.on_answer, method, identifier)
        return reply

    def _made(self, message: Any) -> bytes:
        try:
            return self.answer(message)
        except (KeyError, ValueError) as error:
            raise RefusedCall(Status.INTERNAL) from error

    def _tell(self, whom: Callable[[bytes], None], method: str, identifier: str) -> None:
        kind = _DECRYPTIONS.get(method)
        if kind is not None:
            whom(HTTPZ.name(kind, int(identifier, 16)).to_bytes(32))
