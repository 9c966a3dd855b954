"""Makes what coprocessors publish: handles, ciphertext bodies, digests, signed attestations; or reads ready-made ones from a file.

The same every time; never random. Source: fhevm-0.14.md, 4.1-4.5. The file is a JSON list of objects with ``path`` (from the file's
folder), ``type`` (name or number of the FHE type), ``value`` (a number, or digits in a text), ``format`` (as in attestations) and
``key_id`` (a number, or hex digits in a text). What stands in it is never encrypted, and never looked into.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property
from pathlib import Path
from typing import Annotated, Final

import attrs
import msgspec

from kmsconn.ciphertexts.attestation import VERSION, Attestation, StoredFormat, signed_digest
from kmsconn.emulator.signcryption import ABI_TYPES, abi_word, little_endian
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.ids import FHE_TYPES, HANDLE_BYTES
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey

_HASH_BYTES = 21
MIN_SIZE = 32


@attrs.frozen
class EmulatedCiphertext:
    """One ciphertext of a typed value, as a coprocessor made it."""

    handle: bytes
    fhe_type: int
    value: int
    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    ciphertext_digest: bytes
    """Of the ordinary ciphertext, which nobody fetches."""
    stored: StoredFormat | None = None
    """How coprocessors store it; None: as they like."""
    key_id: int | None = None
    """Under which key it is encrypted; None: under the emulated one."""

    @cached_property
    def digest(self) -> bytes:
        """Keccak-256 of the body: ``snsCiphertextDigest``."""
        return keccak256(self.body)


def make_handle(seed: bytes, *, chain_id: int, fhe_type: int, index: int = 0, version: int = 0) -> bytes:
    """Lay out a handle; ``seed`` makes its 21 bytes of hash. Raises ValueError or OverflowError for what does not fit."""
    if fhe_type not in FHE_TYPES:
        raise ValueError(f"FHE type {fhe_type} is not known")
    tail = bytes([index]) + chain_id.to_bytes(8) + bytes([fhe_type, version])
    return keccak256(seed)[:_HASH_BYTES] + tail


def make_ciphertext(
    label: str, value: int, fhe_type: int, *, chain_id: int, index: int = 0, size: int = 256
) -> EmulatedCiphertext:
    """Make the ciphertext of a value; another label makes another one of the same value.

    ``size`` is the number of bytes of its body, at least 32. Raises ValueError for a value that does not fit the type.
    """
    little_endian(value, fhe_type)
    if size < MIN_SIZE:
        raise ValueError(f"a body has at least {MIN_SIZE} bytes, so that no two are equal")
    seed = f"{label}/{chain_id}/{fhe_type}/{value:#x}".encode()
    return EmulatedCiphertext(
        handle=make_handle(seed, chain_id=chain_id, fhe_type=fhe_type, index=index),
        fhe_type=fhe_type,
        value=value,
        body=hashlib.shake_256(b"body of " + seed).digest(size),
        ciphertext_digest=keccak256(b"ordinary ciphertext of " + seed),
    )


def attest(
    ciphertext: EmulatedCiphertext, *, key_id: int, stored: StoredFormat, signer: PrivateKey
) -> Attestation:
    """Sign what a coprocessor says about a ciphertext."""
    digests = ciphertext.ciphertext_digest, ciphertext.digest
    unsigned = Attestation(key_id, *digests, stored, signer.address, b"")
    return sign_attestation(ciphertext.handle, unsigned, signer)


def sign_attestation(handle: bytes, unsigned: Attestation, signer: PrivateKey) -> Attestation:
    """Put a signature over this handle on an attestation, whatever it says."""
    if len(handle) != HANDLE_BYTES:
        raise ValueError(f"a handle has {HANDLE_BYTES} bytes")
    return attrs.evolve(unsigned, signature=signer.sign(signed_digest(handle, unsigned)))


def attestation_header(attestation: Attestation) -> str:
    """Write an attestation as the value of ``x-amz-meta-ct-attestation``."""
    members = {
        "version": VERSION,
        "key_id": quantity(attestation.key_id),
        "ciphertext_digest": to_hex(attestation.ciphertext_digest),
        "sns_ciphertext_digest": to_hex(attestation.sns_ciphertext_digest),
        "format": attestation.format.name.lower(),
        "signer": to_hex(attestation.signer),
        "signature": to_hex(attestation.signature),
    }
    return json.dumps(members, separators=(",", ":"))


_TYPES: Final = {name: kind for kind, name in ABI_TYPES.items()}
_FORMATS: Final = {stored.name.lower(): stored for stored in StoredFormat}
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Entry(msgspec.Struct, forbid_unknown_fields=True):
    """One object of the file, as it stands there."""

    path: _Text
    type: int | _Text
    value: int | bool | _Text
    format: _Text
    key_id: int | _Text


@attrs.frozen
class StoredCiphertext:
    """A ciphertext that was made elsewhere, and how coprocessors store and attest it."""

    body: bytes = attrs.field(repr=lambda body: f"<{len(body)} bytes>")
    fhe_type: int
    value: int
    stored: StoredFormat
    key_id: int

    def under(self, label: str, chain_id: int) -> EmulatedCiphertext:
        """Return it under a handle of its own, by this label: the same ciphertext may be asked for again and again."""
        seed = f"{label}/{chain_id}".encode() + keccak256(self.body)
        return EmulatedCiphertext(
            handle=make_handle(seed, chain_id=chain_id, fhe_type=self.fhe_type),
            fhe_type=self.fhe_type,
            value=self.value,
            body=self.body,
            ciphertext_digest=keccak256(b"ordinary ciphertext of " + seed),
            stored=self.stored,
            key_id=self.key_id,
        )


def read_ciphertexts(path: Path) -> tuple[StoredCiphertext, ...]:
    """Read a file and the ciphertexts that it names. Raises ConfigError with all that is wrong."""
    try:
        entries = msgspec.json.decode(path.read_bytes(), type=list[_Entry])
    except OSError as error:
        raise _wrong(str(path), f"cannot be read: {error.strerror}") from error
    except msgspec.DecodeError as error:
        raise _wrong(str(path), f"is not a list of ciphertexts: {error}") from error
    read = [_read(f"{path}[{index}]", path.parent, entry) for index, entry in enumerate(entries)]
    faults = tuple(one for one in read if isinstance(one, Fault))
    if faults or not read:
        raise ConfigError(faults or (Fault(str(path), "names no ciphertext"),))
    return tuple(one for one in read if isinstance(one, StoredCiphertext))


def _read(place: str, folder: Path, entry: _Entry) -> StoredCiphertext | Fault:
    try:
        kind = _type_of(entry.type)
        value = _number(entry.value, 0, "value")
        little_endian(value, kind), abi_word(value, kind)  # the type holds it
        stored = _format_of(entry.format)
        key_id = _number(entry.key_id, 16, "key_id")
        return StoredCiphertext((folder / entry.path).read_bytes(), kind, value, stored, key_id)
    except OSError as error:
        return Fault(place, f"{entry.path} cannot be read: {error.strerror}")
    except ValueError as error:
        return Fault(place, str(error))


def _type_of(said: int | str) -> int:
    kind = said if isinstance(said, int) else _TYPES.get(said.lower().removeprefix("e"))
    if kind not in ABI_TYPES:
        names = (f"{name} ({kind})" for name, kind in sorted(_TYPES.items(), key=lambda pair: pair[1]))
        raise ValueError(f"type {said!r} is not one of {', '.join(names)}")
    return kind


def _format_of(said: str) -> StoredFormat:
    stored = _FORMATS.get(said.lower())
    if stored is None:
        raise ValueError(f"format {said!r} is not one of {', '.join(_FORMATS)}")
    return stored


def _number(said: int | str, base: int, what: str) -> int:
    try:
        return said if isinstance(said, int) else int(said, base)
    except ValueError:
        raise ValueError(f"{what} {said!r} is not a number") from None


def _wrong(place: str, message: str) -> ConfigError:
    return ConfigError((Fault(place, message),))
