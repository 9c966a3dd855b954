"""Makes what coprocessors publish: handles, ciphertext bodies, digests, signed attestations. The same every time; never random.

Source: fhevm-0.14.md, 4.1-4.5.
"""

from __future__ import annotations

import hashlib
import json
from functools import cached_property

import attrs

from kmsconn.ciphertexts.attestation import VERSION, Attestation, StoredFormat, signed_digest
from kmsconn.emulator.plaintexts import little_endian
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
    return sign_attestation(
        ciphertext.handle,
        Attestation(key_id, ciphertext.ciphertext_digest, ciphertext.digest, stored, signer.address, b""),
        signer,
    )


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
