"""The bodies of decryption requests over HTTP: read strictly, and judged as far as the body alone tells. Pure.

Source: fhevm-0.15.md, 5.2 and 5.4.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Final, TypeVar

import attrs
import msgspec

from kmsconn.errors import KmsconnError, Rejected
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import HANDLE_BYTES, PLAINTEXT_BITS, chain_id_of, fhe_type_of
from kmsconn.protocols.fhevm.http_operations import ATTESTATION_TYPE, HttpPublicDecryption, HttpUserDecryption
from kmsconn.protocols.fhevm.operations import parse_extra_data
from kmsconn.protocols.fhevm.user_decryption import HandleEntry

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
