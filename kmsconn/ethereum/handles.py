"""Ciphertext handles: 32 bytes that say chain, type and version. Never asks anybody.

Source: fhevm-0.14.md, 4.1 and 4.2.
"""

from __future__ import annotations

from kmsconn.frozen import frozen

HANDLE_BYTES = 32
_INDEX, _CHAIN, _TYPE, _VERSION = 21, slice(22, 30), 30, 31


def _names() -> tuple[str, ...]:
    unsigned = (2, 6, 10, 12, 14)
    signed = (2, 4, 6, 8, 10, 12, 14, 16, 32, 64, 128, 160, 256)
    larger = [bits for bits in range(24, 257, 8) if bits not in {32, 64, 128, 160, 256}]
    return (
        *("Bool", "Uint4", "Uint8", "Uint16", "Uint32", "Uint64", "Uint128", "Uint160", "Uint256"),
        *("Uint512", "Uint1024", "Uint2048"),
        *(f"Uint{bits}" for bits in unsigned),
        *(f"Int{bits}" for bits in signed),
        *("AsciiString", "Int512", "Int1024", "Int2048"),
        *(f"Uint{bits}" for bits in larger),
        *(f"Int{bits}" for bits in larger),
    )


FHE_TYPE_NAMES: dict[int, str] = dict(enumerate(_names()))
"""The 84 values of ``FheTypes``."""

PLAINTEXT_BITS: dict[int, int] = {0: 2, 2: 8, 3: 16, 4: 32, 5: 64, 6: 128, 7: 160, 8: 256}
"""The types that can be decrypted today, with the bits that the Gateway counts for each."""


def fhe_type_of(raw: bytes) -> int:
    """Return the FHE type that the 32 bytes of a handle name, known or not."""
    return raw[_TYPE]


def chain_id_of(raw: bytes) -> int:
    """Return the host chain that the 32 bytes of a handle name, configured or not."""
    return int.from_bytes(raw[_CHAIN])


@frozen
class Handle:
    """A handle taken apart."""

    raw: bytes
    chain_id: int
    fhe_type: int
    index: int
    version: int

    @classmethod
    def parse(cls, raw: bytes) -> Handle:
        """Take 32 bytes apart. Raises ValueError for another length or an unknown FHE type."""
        if len(raw) != HANDLE_BYTES:
            raise ValueError(f"a handle has {HANDLE_BYTES} bytes, not {len(raw)}")
        if raw[_TYPE] not in FHE_TYPE_NAMES:
            raise ValueError(f"FHE type {raw[_TYPE]} is not known")
        return cls(raw, int.from_bytes(raw[_CHAIN]), raw[_TYPE], raw[_INDEX], raw[_VERSION])

    @property
    def type_name(self) -> str:
        """The name of its FHE type."""
        return FHE_TYPE_NAMES[self.fhe_type]
