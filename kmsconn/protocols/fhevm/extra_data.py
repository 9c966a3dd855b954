"""extraData: which context and epoch a request names. Never asks whether they exist.

Source: fhevm-0.14.md, section 6.
"""

from __future__ import annotations

from kmsconn.errors import Rejected

_CONTEXT_ONLY, _CONTEXT_AND_EPOCH = 1, 2
_CONTEXT, _EPOCH = slice(1, 33), slice(33, 65)


def parse(extra_data: bytes) -> tuple[int | None, int | None]:
    """Return context and epoch, None where not named. Raises Rejected for an unknown version or too few bytes."""
    version = extra_data[0] if extra_data else 0
    if version == 0:
        return None, None
    if version == _CONTEXT_ONLY:
        return _id(extra_data, _CONTEXT), None
    if version == _CONTEXT_AND_EPOCH:
        return _id(extra_data, _CONTEXT), _id(extra_data, _EPOCH)
    raise Rejected(f"extraData version {version} is not known")


def build(context_id: int | None, epoch_id: int | None) -> bytes:
    """Return the shortest extraData that names these. Raises ValueError for an epoch without context."""
    if context_id is None:
        if epoch_id is not None:
            raise ValueError("an epoch needs its context")
        return b""
    if epoch_id is None:
        return bytes([_CONTEXT_ONLY]) + context_id.to_bytes(32)
    return bytes([_CONTEXT_AND_EPOCH]) + context_id.to_bytes(32) + epoch_id.to_bytes(32)


def normalise(extra_data: bytes) -> bytes:
    """Return what a decryption's Core request carries: the single byte 0x00 becomes empty, all else stays (6.3)."""
    return b"" if extra_data == b"\0" else extra_data


def _id(extra_data: bytes, place: slice) -> int:
    if len(extra_data) < place.stop:
        raise Rejected(f"extraData of version {extra_data[0]} ends after {len(extra_data)} bytes")
    return int.from_bytes(extra_data[place])
