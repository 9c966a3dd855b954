"""What a Core has, which release it is, and what it accepts as a decryption request. Never knows which ids were asked for.

Source: kms-core-grpc.md, sections 3.2, 4 and 6.1-6.4; fhevm-0.15.md, 1.9, 2.3, 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    Eip712DomainMsg,
    PublicDecryptionRequest,
    RequestId,
    SigningSchemeType,
    TypedCiphertext,
    TypedSignature,
    UserDecryptionRequest,
)
from kmsconn.emulator.signcryption import unpack_key
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, KEY_TAG, make_id
from kmsconn.protocols.protobuf import decode

ID_BYTES = 32
DEFAULT_CONTEXT = make_id(CONTEXT_TAG, 1).to_bytes(ID_BYTES)
DEFAULT_EPOCH = make_id(EPOCH_TAG, 1).to_bytes(ID_BYTES)
_HANDLE_BYTES = 32


class Invalid(ValueError):  # noqa: N818 - the request is
    """A request that gets INVALID_ARGUMENT; the cause stays in the Core's log."""


@attrs.frozen
class Item:
    """One ciphertext: its handle, its type, and the value in it (None: a body that the Core cannot decrypt)."""

    handle: bytes
    fhe_type: int
    value: int | None


@attrs.frozen
class User:
    """Who gets the shares."""

    client: Address
    enc_key: bytes = attrs.field(repr=False)


@attrs.frozen
class Job:
    """An accepted request, without the ciphertexts."""

    request_id: bytes
    items: tuple[Item, ...]
    key_id: bytes
    context_id: bytes
    epoch_id: bytes
    domain: Domain
    extra_data: bytes
    user: User | None = None
    schemes: tuple[int, ...] = ()
    """The signing schemes asked for."""

    @property
    def handles(self) -> list[bytes]:
        """The handles as they are signed: left-padded to 32 bytes."""
        return [item.handle.rjust(_HANDLE_BYTES, b"\0") for item in self.items]


def read_public(request: bytes, plaintexts: Mapping[bytes, int]) -> Job:
    """Read a PublicDecryptionRequest. Raises Invalid, or Undecodable for bytes that are no message."""
    message = decode(PublicDecryptionRequest, request)
    return _job(message, message.ciphertexts, plaintexts)


def read_user(request: bytes, plaintexts: Mapping[bytes, int]) -> Job:
    """Read a UserDecryptionRequest. Raises Invalid, or Undecodable for bytes that are no message."""
    message = decode(UserDecryptionRequest, request)
    job = _job(message, message.typed_ciphertexts, plaintexts)
    if any(len(item.handle) > _HANDLE_BYTES for item in job.items):
        raise Invalid("a handle is longer than 32 bytes")
    client = _eip55(message.client_address)
    if client == job.domain.verifying_contract:
        raise Invalid("the client is the verifying contract")
    try:
        unpack_key(message.enc_key)
    except ValueError as error:
        raise Invalid(str(error)) from None
    return attrs.evolve(job, user=User(client, message.enc_key))


def read_id(message: RequestId | None) -> bytes:
    """Read an id as leniently as the Core does. Raises Invalid for an absent, malformed or all-zero one."""
    text = "" if message is None else message.request_id.strip().removeprefix("0x")
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raise Invalid("an id is not hex") from None
    if len(raw) != ID_BYTES or not any(raw):
        raise Invalid("an id is 32 bytes that are not all zero")
    return raw


def _job(
    message: PublicDecryptionRequest | UserDecryptionRequest,
    ciphertexts: Sequence[TypedCiphertext],
    plaintexts: Mapping[bytes, int],
) -> Job:
    if not ciphertexts:
        raise Invalid("the request has no ciphertext")
    return Job(
        request_id=read_id(message.request_id),
        items=tuple(_item(ciphertext, plaintexts) for ciphertext in ciphertexts),
        key_id=read_id(message.key_id),
        context_id=DEFAULT_CONTEXT if message.context_id is None else read_id(message.context_id),
        epoch_id=DEFAULT_EPOCH if message.epoch_id is None else read_id(message.epoch_id),
        domain=read_domain(message.domain),
        extra_data=message.extra_data,
        schemes=tuple(message.signing_schemes),
    )


def _item(ciphertext: TypedCiphertext, plaintexts: Mapping[bytes, int]) -> Item:
    return Item(ciphertext.external_handle, ciphertext.fhe_type, plaintexts.get(ciphertext.ciphertext))


def read_domain(message: Eip712DomainMsg | None) -> Domain:
    """Read a domain. Raises Invalid."""
    if message is None:
        raise Invalid("the domain is absent")
    if message.salt is not None:
        raise Invalid("the emulated Core signs no salted domain; the connector never sends one")
    chain_id = int.from_bytes(message.chain_id)
    if chain_id >> 256:
        raise Invalid("the chain id has more than 256 bits")
    return Domain(message.name, message.version, chain_id, _eip55(message.verifying_contract))


def _eip55(text: str) -> Address:
    try:
        address = parse_address(text)
    except ValueError as error:
        raise Invalid(str(error)) from None
    if checksum(address) != text:
        raise Invalid(f"{text!r} is not EIP-55 text")
    return address


DEFAULT_KEY = make_id(KEY_TAG, 1).to_bytes(ID_BYTES)


@attrs.define
class CoreIds:
    """The ids of what a Core has; a fresh one has the first of each."""

    contexts: set[bytes] = attrs.field(factory=lambda: {DEFAULT_CONTEXT})
    epochs: set[bytes] = attrs.field(factory=lambda: {DEFAULT_EPOCH})
    keys: set[bytes] = attrs.field(factory=lambda: {DEFAULT_KEY})

    def clear(self) -> None:
        """Have nothing, as a Core that joins later."""
        for ids in (self.contexts, self.epochs, self.keys):
            ids.clear()


ECDSA256K1 = SigningSchemeType.ECDSA256K1


class CoreRelease(IntEnum):
    """A release of the Core; later ones are greater."""

    V0_14 = 14
    V0_15 = 15
    V0_16 = 16

    def __repr__(self) -> str:
        # A world that failed is printed as Python, which the default form of an enum is not.
        return f"{type(self).__name__}.{self.name}"

    @property
    def text(self) -> str:
        """The release as people write it."""
        return f"0.{self.value}"

    @property
    def is_later(self) -> bool:
        """Whether requests may name signing schemes, calls may start and wait, and what failed is done again.

        It refuses an epoch of a key that comes with another preprocessing than it has recorded (kms#737), too.
        """
        return self >= CoreRelease.V0_15


RELEASES = {release.text: release for release in CoreRelease}
"""By their texts."""


@attrs.frozen
class SignatureFields:
    """What stands in the fields of an answer: ``external`` in the old one, ``by_scheme`` in the list."""

    external: bytes
    by_scheme: list[TypedSignature]


def check_schemes(release: CoreRelease, schemes: Sequence[int]) -> None:
    """Refuse what this Core cannot sign with; it has a key for ECDSA alone. Raises Invalid."""
    if release.is_later and any(scheme != ECDSA256K1 for scheme in schemes):
        raise Invalid("a signing scheme is unknown, or this node has no key for it")


def signature_fields(release: CoreRelease, schemes: Sequence[int], signature: bytes) -> SignatureFields:
    """Return an ECDSA signature as a release answers to a request for ``schemes``: 0.15 lists nothing that was not asked for."""
    asked = bool(schemes) or release is CoreRelease.V0_16
    by_scheme = [TypedSignature(ECDSA256K1, signature)] if release.is_later and asked else []
    return SignatureFields(b"" if release is CoreRelease.V0_16 else signature, by_scheme)
