"""Decryption over HTTP: the operations of the chain's requests, of which no contract tells and to which none is replied; and their bodies.

Contents are those of the chain's forms under an id of their own, the EIP-712 hash of all that they say. Their event is synthetic: a log
of no chain, under a topic of its own, that keeps the content in the journal as an event does. A body is read strictly, and judged as far as
it alone tells.
Source: fhevm-0.15.md, 5.2-5.5.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any, ClassVar, Final, TypeVar

import attrs
import msgspec

from kmsconn.errors import KmsconnError, Rejected, Undecodable
from kmsconn.ethereum.abi import ContractEvent, Function, Log, hash_struct, signing_digest_under
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import HANDLE_BYTES, PLAINTEXT_BITS, chain_id_of, fhe_type_of
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.life import Answer
from kmsconn.model.requests import NO_BLOCK, Kind, PoolName
from kmsconn.protocols.fhevm import decryptions, user_decryption
from kmsconn.protocols.fhevm.decryptions import (
    Decryption,
    PublicDecryption,
    PublicDecryptions,
    references_of,
)
from kmsconn.protocols.fhevm.operations import Deployment, IdCounter, parse_extra_data
from kmsconn.protocols.fhevm.user_decryption import HandleEntry, UnifiedUserDecryption, UserDecryptions
from kmsconn.protocols.port import Posted, RequestEvent, id_in_topic
from kmsconn.protocols.queries import ContractQuery

HTTP_LIFETIME: Final = 3600.0
"""Seconds for which a request over HTTP is worked on, whether or not somebody still waits for it."""

HTTP_PATIENCE: Final = 3.0
"""Seconds since it was asked for until its last try for what may be a dependency's fault: a relayer gives up after five."""

ATTESTATION_TYPE: Final = "eip712-unified-user-decrypt-v1"
"""The one form of a user's permit that is known: the signature of the unified request (0.14 3.4)."""

PUBLIC_TYPE = "PublicDecryptionRequest(bytes32[] ctHandles,bytes extraData)"
USER_TYPE = (
    "UserDecryptionRequest(string attestationType,UserDecryptionPayload payload,bytes signature)"
    "HandleEntry(bytes32 handle,address contractAddress,address ownerAddress)"
    "RequestValidity(uint64 startTimestamp,uint64 durationSeconds)"
    "UserDecryptionPayload(HandleEntry[] handles,address userAddress,bytes publicKey,address[] allowedContracts,"
    "RequestValidity requestValidity,bytes extraData)"
)
DOMAIN_SEPARATOR = hash_struct("EIP712Domain(string name,string version)", "kms-connector-decryption", "1")
"""The domain of ids has two fields: an id names a content, whichever network it is for."""


@attrs.frozen
class HttpPublicDecryption(PublicDecryption):
    """A request over HTTP to reveal values to everybody."""

    kind = Kind.HTTP_PUBLIC_DECRYPTION

    @classmethod
    def of(cls, handles: Sequence[bytes], extra_data: bytes) -> HttpPublicDecryption:
        """Return the content with its id (5.3)."""
        return _with_id(cls.read(0, tuple(handles), extra_data))

    def struct_hash(self) -> bytes:
        """Return the hash of the body as a struct of EIP-712."""
        return hash_struct(PUBLIC_TYPE, *self.body())

    def body(self) -> tuple[Any, ...]:
        """Return the values of the body, in the order of the synthetic event."""
        return tuple(self.raw_handles), self.extra_data


@attrs.frozen
class HttpUserDecryption(UnifiedUserDecryption):
    """A request over HTTP to reveal values to one user, with all that is to be checked."""

    kind = Kind.HTTP_USER_DECRYPTION

    @classmethod
    def of(cls, handles: Sequence[HandleEntry], **values: Any) -> HttpUserDecryption:
        """Return the content with its id (5.3), which covers the user's signature."""
        references = references_of(entry.handle for entry in handles)
        return _with_id(cls(id=0, references=references, handles=tuple(handles), **values))

    def struct_hash(self) -> bytes:
        """Return the hash of the body as a struct of EIP-712."""
        *payload, signature = self.body()
        return hash_struct(USER_TYPE, ATTESTATION_TYPE, payload, signature)

    def body(self) -> tuple[Any, ...]:
        """Return the values of the body, in the order of the synthetic event."""
        entries, payload = self.values()
        return entries, *payload


_USER_VALUES = "(bytes32,address,address)[],address,bytes,address[],(uint64,uint64),bytes,bytes"


def _event(name: str, values: str, count: int) -> ContractEvent:
    signature = f"{name}(uint256,{values})"
    return ContractEvent(name, signature, keccak256(signature.encode()), (True, *(False,) * count))


PUBLIC_EVENT = _event("HttpPublicDecryption", "bytes32[],bytes", 2)
USER_EVENT = _event("HttpUserDecryption", _USER_VALUES, 7)
"""The synthetic events: the id as a topic, and what stands in the body."""

D = TypeVar("D", HttpPublicDecryption, HttpUserDecryption)


def _with_id(content: D) -> D:
    return attrs.evolve(
        content, id=int.from_bytes(signing_digest_under(DOMAIN_SEPARATOR, content.struct_hash()))
    )


def _read_public(*values: Any) -> HttpPublicDecryption:
    return _named(HttpPublicDecryption.read(*values))


def _read_user(identifier: int, entries: Any, *payload: Any) -> HttpUserDecryption:
    return _named(HttpUserDecryption.read_later(identifier, entries, payload))


def _named(content: D) -> D:
    if (found := _with_id(content)).id != content.id:
        raise Undecodable(f"the content has the id {found.id:#x}, not {content.id:#x}")
    return content


class OverHttp(Posted):
    """What a contract would add is left out: a counter, since ids are hashes, a context of that time, the answer on chain, the reply.

    ``answered``: the function whose calldata holds an answer, and what a response calls its first value.
    """

    deployment: Deployment
    events: tuple[RequestEvent, ...]
    answered: ClassVar[tuple[Function, str]]
    lifetime = HTTP_LIFETIME
    patience: float | None = HTTP_PATIENCE
    reply: Function | None = None
    counter: ClassVar[IdCounter | None] = None

    def replying_context(self, content: Decryption) -> int | Sequence[ContractQuery[int]]:
        """Return the context of extraData; else ask for the Gateway's current one, for none was pinned."""
        named, _ = content.context
        if named is not None:
            return named
        return (self.deployment.gateway_config.current_context(),)

    def has_answered(
        self, content: Decryption, signer: Address | None, tx_sender: Address
    ) -> ContractQuery[bool] | None:
        """Return nothing: no contract gets the answer."""
        return None

    def log_of(self, content: HttpPublicDecryption | HttpUserDecryption) -> Log:
        """Return the synthetic log of a content."""
        topics, data = self.events[0].event.encode(content.id, *content.body())
        return Log(self.deployment.decryption.verifying_contract, topics, data, NO_BLOCK, b"", b"", 0)

    def fields_of(self, answer: Answer) -> Mapping[str, bytes]:
        """Return what the response says: what the reply on chain would carry (5.5)."""
        function, name = self.answered
        _, value, signature, extra_data = function.decode(answer.calldata)
        return {name: value, "signature": signature, "extraData": extra_data}


class HttpPublicDecryptions(OverHttp, PublicDecryptions):
    """The row of public decryption over HTTP."""

    kind = Kind.HTTP_PUBLIC_DECRYPTION
    pool = PoolName.HTTP_PUBLIC_DECRYPTION
    events = (RequestEvent(PUBLIC_EVENT, _read_public, id_in_topic(1)),)
    answered = decryptions.RESPONSE, "decryptedResult"


class HttpUserDecryptions(OverHttp, UserDecryptions):
    """The row of user decryption over HTTP."""

    kind = Kind.HTTP_USER_DECRYPTION
    pool = PoolName.HTTP_USER_DECRYPTION
    events = (RequestEvent(USER_EVENT, _read_user, id_in_topic(1)),)
    answered = user_decryption.RESPONSE, "userDecryptedShares"


MALFORMED: Final = "malformed"
UNSUPPORTED_ATTESTATION_TYPE: Final = "unsupported_attestation_type"

LATEST_TIME: Final = 2**63 - 1
"""Of a window's start and duration, in seconds."""


class BodyRefused(KmsconnError):  # noqa: N818 - what a client gets, not a fault of the program
    """The body of an HTTP request is none that can be answered. ``code`` is what its client reads: one of two (5.4)."""

    def __init__(self, message: str, code: str = MALFORMED) -> None:
        super().__init__(message)
        self.code = code


@attrs.frozen
class HttpLimits:
    """What a body may ask for: handles of these chains, so many bits of plaintext in all, so many allowed contracts (5.4)."""

    chain_ids: Collection[int]
    request_bits: int = 2048
    allowed_contracts: int = 10


class _PublicBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    ct_handles: list[str]
    extra_data: str


class _BodyEntry(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    handle: str
    contract_address: str
    owner_address: str


class _BodyWindow(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    start_timestamp: int
    duration_seconds: int


class _BodyPayload(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    handles: list[_BodyEntry]
    user_address: str
    public_key: str
    allowed_contracts: list[str]
    request_validity: _BodyWindow
    extra_data: str


class _UserBody(msgspec.Struct, forbid_unknown_fields=True, rename="camel"):
    attestation_type: str
    payload: _BodyPayload
    signature: str


class _Attested(msgspec.Struct, rename="camel"):
    attestation_type: str


B = TypeVar("B")


def read_public(document: object, limits: HttpLimits) -> HttpPublicDecryption:
    """Read the decoded JSON of a public decryption. Raises BodyRefused."""
    body = _converted(document, _PublicBody)
    handles = [_octets(text, "ctHandles", HANDLE_BYTES) for text in body.ct_handles]
    _check_handles(handles, limits)
    return HttpPublicDecryption.of(handles, _extra_data(body.extra_data))


def read_user(document: object, limits: HttpLimits) -> HttpUserDecryption:
    """Read the decoded JSON of a user decryption. Raises BodyRefused, for an unknown type of attestation whatever else stands there."""
    if _converted(document, _Attested).attestation_type != ATTESTATION_TYPE:
        raise BodyRefused(f"attestationType must be {ATTESTATION_TYPE}", UNSUPPORTED_ATTESTATION_TYPE)
    body = _converted(document, _UserBody)
    payload = body.payload
    handles = [_entry(entry) for entry in payload.handles]
    _check_handles([entry.handle for entry in handles], limits)
    if len(payload.allowed_contracts) > limits.allowed_contracts:
        raise BodyRefused(
            f"allowedContracts has {len(payload.allowed_contracts)} entries, at most {limits.allowed_contracts} are taken"
        )
    return HttpUserDecryption.of(
        handles,
        user=_address(payload.user_address, "userAddress"),
        public_key=_octets(payload.public_key, "publicKey"),
        allowed_contracts=tuple(_address(text, "allowedContracts") for text in payload.allowed_contracts),
        start=_time(payload.request_validity.start_timestamp, "startTimestamp"),
        duration=_time(payload.request_validity.duration_seconds, "durationSeconds"),
        extra_data=_extra_data(payload.extra_data),
        signature=_octets(body.signature, "signature"),
    )


def _converted(document: object, body: type[B]) -> B:
    try:
        return msgspec.convert(document, body)
    except msgspec.ValidationError as error:
        raise BodyRefused(str(error)) from error


def _entry(entry: _BodyEntry) -> HandleEntry:
    return HandleEntry(
        _octets(entry.handle, "handle", HANDLE_BYTES),
        _address(entry.contract_address, "contractAddress"),
        _address(entry.owner_address, "ownerAddress"),
    )


def _octets(text: str, field: str, length: int | None = None) -> bytes:
    try:
        data = from_hex(text if text[:2] in {"0x", "0X"} else f"0x{text}")
    except ValueError as error:
        raise BodyRefused(f"{field} is no hex text") from error
    if length is not None and len(data) != length:
        raise BodyRefused(f"{field} has {len(data)} bytes, not {length}")
    return data


def _address(text: str, field: str) -> Address:
    return Address(_octets(text, field, ADDRESS_BYTES))


def _time(seconds: int, field: str) -> int:
    if not 0 <= seconds <= LATEST_TIME:
        raise BodyRefused(f"{field} must be from 0 to 2^63 - 1")
    return seconds


def _extra_data(text: str) -> bytes:
    data = _octets(text, "extraData")
    try:
        parse_extra_data(data)
    except Rejected as error:
        raise BodyRefused(str(error)) from error
    return data


def _check_handles(handles: Sequence[bytes], limits: HttpLimits) -> None:
    """See that there are handles, all of types that can be decrypted and of one chain that is configured, and not too many bits."""
    if not handles:
        raise BodyRefused("the request names no ciphertext")
    bits = sum(_bits(handles))
    if bits > limits.request_bits:
        raise BodyRefused(f"the plaintexts have {bits} bits, at most {limits.request_bits} are taken")
    chain_ids = {chain_id_of(handle) for handle in handles}
    if len(chain_ids) > 1:
        raise BodyRefused("the handles are of several host chains")
    if not chain_ids <= set(limits.chain_ids):
        raise BodyRefused(f"host chain {chain_ids.pop()} is not served")


def _bits(handles: Iterable[bytes]) -> Iterable[int]:
    for handle in handles:
        fhe_type = fhe_type_of(handle)
        if fhe_type not in PLAINTEXT_BITS:
            raise BodyRefused(f"a handle has FHE type {fhe_type}, which cannot be decrypted")
        yield PLAINTEXT_BITS[fhe_type]
