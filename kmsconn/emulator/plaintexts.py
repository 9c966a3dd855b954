"""How a decrypted value is written: by one Core, as a share of many, and for the contract; and the pieces of bincode in it. Never encrypts.

Source: kms-core-grpc.md, sections 9, 10 and 11.2.
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


PLAINTEXT_BYTES = {
    0: 1,
    1: 1,
    2: 1,
    3: 2,
    4: 4,
    5: 8,
    6: 16,
    7: 20,
    8: 32,
    9: 64,
    10: 128,
    11: 256,
    39: 10,
}
"""The types that a Core decrypts, with the width of their little-endian bytes."""

ABI_TYPES = {
    0: "bool",
    2: "uint8",
    3: "uint16",
    4: "uint32",
    5: "uint64",
    6: "uint128",
    7: "uint160",
    8: "uint256",
}
"""The types that a public decryption can write for the contract, by their names."""

_SUB_BYTE_BITS = {0: 2, 1: 4}  # Bool is one block, Uint4 is two
_BLOCK_BITS = 2
_BLOCKS_PER_ELEMENT = 4
_COEFFICIENT_BYTES = 16
_SHIFT = 123  # a block b stands as b · 2^123 in the ring


def little_endian(value: int, fhe_type: int) -> bytes:
    """Write a value as the Core returns it. Raises ValueError for other types, or a value too large."""
    width = PLAINTEXT_BYTES.get(fhe_type)
    if width is None:
        raise ValueError(f"FHE type {fhe_type} cannot be decrypted")
    if value < 0 or value >> bits_of(fhe_type):
        raise ValueError(f"{value} does not fit FHE type {fhe_type}")
    return value.to_bytes(width, "little")


def bits_of(fhe_type: int) -> int:
    """Return the bits of the value; Bool counts 2, being one block."""
    return _SUB_BYTE_BITS.get(fhe_type, 8 * PLAINTEXT_BYTES[fhe_type])


def abi_word(value: int, fhe_type: int) -> bytes:
    """Write a value as one word of ``decryptedResult``. Raises ValueError for a type that has no such form."""
    if fhe_type not in ABI_TYPES:
        raise ValueError(f"FHE type {fhe_type} cannot be decrypted publicly")
    return value.to_bytes(32)


def constant_share(value: int, fhe_type: int) -> bytes:
    """Write the share that every node may hold of a value: a constant polynomial opens to itself at any degree."""
    blocks = [(value >> at) & 3 for at in range(0, bits_of(fhe_type), _BLOCK_BITS)]
    blocks += [0] * (-len(blocks) % _BLOCKS_PER_ELEMENT)
    coefficients = [(block << _SHIFT).to_bytes(_COEFFICIENT_BYTES, "little") for block in blocks]
    return u64(len(blocks) // _BLOCKS_PER_ELEMENT) + b"".join(coefficients)
