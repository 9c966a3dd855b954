"""The pieces of bincode's legacy layout that a Core signs and seals. Written only, never read.

The user's payload is that of ``protocols``. Source: kms-core-grpc.md, section 10.
"""

from __future__ import annotations

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionResponsePayload


def u32(number: int) -> bytes:
    """Write a u32, or an i32 that is not negative."""
    return number.to_bytes(4, "little")


def u64(number: int) -> bytes:
    """Write a u64: also every length and count."""
    return number.to_bytes(8, "little")


def sized(data: bytes) -> bytes:
    """Write a byte string or text with its length."""
    return u64(len(data)) + data


def public_payload(payload: PublicDecryptionResponsePayload) -> bytes:
    """Write the payload of a public decryption; only the internal signature covers it."""
    values = [sized(plaintext.bytes) + u32(plaintext.fhe_type) for plaintext in payload.plaintexts]
    asked = payload.request_id
    name = b"\x00" if asked is None else b"\x01" + sized(asked.request_id.encode())
    return sized(payload.verification_key) + u64(len(values)) + b"".join(values) + name
