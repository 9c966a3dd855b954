"""Boxes of the NaCl library: sealing for the holder of an X25519 key, by XSalsa20 and Poly1305. Never makes a key or a nonce.

The MAC stands before the sealed bytes. Source: Bernstein, "Cryptography in NaCl" and "Extending the Salsa20 nonce"; RFC 7748.
"""

from __future__ import annotations

import struct

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.poly1305 import Poly1305

KEY_BYTES = 32
NONCE_BYTES = 24
MAC_BYTES = 16
_PREFIX = 16  # bytes of the nonce that make the key; the other 8 are the nonce of the stream
_BLOCK = 64
_MASK = 0xFFFFFFFF
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_QUARTERS = (
    (0, 4, 8, 12),
    (5, 9, 13, 1),
    (10, 14, 2, 6),
    (15, 3, 7, 11),
    (0, 1, 2, 3),
    (5, 6, 7, 4),
    (10, 11, 8, 9),
    (15, 12, 13, 14),
)
_KEY_WORDS = (0, 5, 10, 15, 6, 7, 8, 9)


def public_key(secret: bytes) -> bytes:
    """Return the public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def seal(message: bytes, nonce: bytes, *, recipient: bytes, secret: bytes) -> bytes:
    """Seal a message for the holder of ``recipient``, from the holder of ``secret``. Raises ValueError for what is no key."""
    pad = _stream(_shared(recipient, secret), nonce, KEY_BYTES + len(message))
    sealed = _xor(message, pad[KEY_BYTES:])
    return Poly1305.generate_tag(pad[:KEY_BYTES], sealed) + sealed


def open_box(box: bytes, nonce: bytes, *, sender: bytes, secret: bytes) -> bytes:
    """Open what ``seal`` made. Raises ValueError for a box that is not for this key, from another sender, or changed."""
    mac, sealed = box[:MAC_BYTES], box[MAC_BYTES:]
    pad = _stream(_shared(sender, secret), nonce, KEY_BYTES + len(sealed))
    try:
        Poly1305.verify_tag(pad[:KEY_BYTES], sealed, mac)
    except InvalidSignature:
        raise ValueError("the box does not open with this key") from None
    return _xor(sealed, pad[KEY_BYTES:])


def _shared(public: bytes, secret: bytes) -> bytes:
    agreed = X25519PrivateKey.from_private_bytes(secret).exchange(X25519PublicKey.from_public_bytes(public))
    return _derive(agreed, bytes(_PREFIX))


def _derive(key: bytes, prefix: bytes) -> bytes:
    """HSalsa20: a key out of a key and 16 bytes."""
    mixed = _mix(_state(key, prefix))
    return struct.pack("<8I", *(mixed[word] for word in _KEY_WORDS))


def _stream(key: bytes, nonce: bytes, size: int) -> bytes:
    """XSalsa20: bytes to be added to a message."""
    key, rest = _derive(key, nonce[:_PREFIX]), nonce[_PREFIX:]
    return b"".join(_block(key, rest, count) for count in range(-(-size // _BLOCK)))[:size]


def _block(key: bytes, nonce: bytes, count: int) -> bytes:
    state = _state(key, nonce + count.to_bytes(8, "little"))
    return struct.pack("<16I", *((a + b) & _MASK for a, b in zip(state, _mix(state), strict=True)))


def _state(key: bytes, place: bytes) -> list[int]:
    """Lay out Salsa20's sixteen words: a diagonal of constants, the key around 16 bytes that differ from block to block."""
    keys, places = struct.unpack("<8I", key), struct.unpack("<4I", place)
    one, two, three, four = _CONSTANTS
    return [one, *keys[:4], two, *places, three, *keys[4:], four]


def _mix(state: list[int]) -> list[int]:
    """Return the words after ten double rounds."""
    x = list(state)
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _turn(x[a] + x[d], 7)
            x[c] ^= _turn(x[b] + x[a], 9)
            x[d] ^= _turn(x[c] + x[b], 13)
            x[a] ^= _turn(x[d] + x[c], 18)
    return x


def _turn(word: int, by: int) -> int:
    word &= _MASK
    return (word << by | word >> (32 - by)) & _MASK


def _xor(data: bytes, pad: bytes) -> bytes:
    return (int.from_bytes(data) ^ int.from_bytes(pad)).to_bytes(len(data))
