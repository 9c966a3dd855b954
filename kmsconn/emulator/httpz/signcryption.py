"""Sealing a decrypted value for one user as Cores of the first generation did. Never decides who may have it.

A box of the NaCl library (XSalsa20 and Poly1305 for the holder of an X25519 key; the MAC stands before the sealed bytes) around a signed
text; hashes are SHA3-256, without separators. Sources: kms-core-grpc.md, 12.6; Bernstein, "Cryptography in NaCl" and "Extending the
Salsa20 nonce"; RFC 7748.
"""

from __future__ import annotations

import hashlib
import secrets
import struct

import attrs
from Crypto.Cipher import Salsa20
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey
from cryptography.hazmat.primitives.poly1305 import Poly1305

from kmsconn.emulator.signcryption import sign_sha256, sized, u32, verification_key
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey

KEY_BYTES = 32
NONCE_BYTES = 24
_PREFIX = 16  # bytes of the nonce that make the key; the other 8 are the nonce of the stream
_MASK = 0xFFFFFFFF
_CONSTANTS = struct.unpack("<4I", b"expand 32-byte k")
_QUARTERS = (
    (0, 4, 8, 12), (5, 9, 13, 1), (10, 14, 2, 6), (15, 3, 7, 11),
    (0, 1, 2, 3), (5, 6, 7, 4), (10, 11, 8, 9), (15, 12, 13, 14),
)  # fmt: skip
_KEY_WORDS = (0, 5, 10, 15, 6, 7, 8, 9)


def public_key(secret: bytes) -> bytes:
    """Return the public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(secret).public_key().public_bytes_raw()


def seal(message: bytes, nonce: bytes, *, recipient: bytes, secret: bytes) -> bytes:
    """Seal a message for the holder of ``recipient``, from the holder of ``secret``. Raises ValueError for what is no key."""
    public = X25519PublicKey.from_public_bytes(recipient)
    agreed = X25519PrivateKey.from_private_bytes(secret).exchange(public)
    key = _derive(_derive(agreed, bytes(_PREFIX)), nonce[:_PREFIX])
    stream = Salsa20.new(key, nonce=nonce[_PREFIX:])
    authentic, sealed = stream.encrypt(bytes(KEY_BYTES)), stream.encrypt(message)
    return Poly1305.generate_tag(authentic, sealed) + sealed


def _derive(key: bytes, prefix: bytes) -> bytes:
    """HSalsa20: a key out of a key and 16 bytes; of Salsa20's sixteen words a diagonal are constants. Ten double rounds."""
    keys, places = struct.unpack("<8I", key), struct.unpack("<4I", prefix)
    one, two, three, four = _CONSTANTS
    x = [one, *keys[:4], two, *places, three, *keys[4:], four]
    for _ in range(10):
        for a, b, c, d in _QUARTERS:
            x[b] ^= _turn(x[a] + x[d], 7)
            x[c] ^= _turn(x[b] + x[a], 9)
            x[d] ^= _turn(x[c] + x[b], 13)
            x[a] ^= _turn(x[d] + x[c], 18)
    return struct.pack("<8I", *(x[word] for word in _KEY_WORDS))


def _turn(word: int, by: int) -> int:
    word &= _MASK
    return (word << by | word >> (32 - by)) & _MASK


ENC_KEY_BYTES = 40


@attrs.frozen
class HttpzRandomness:
    """What makes one sealing differ from the next: a key for this box alone, and its nonce."""

    secret: bytes = attrs.field(factory=lambda: secrets.token_bytes(KEY_BYTES), repr=False)
    nonce: bytes = attrs.field(factory=lambda: secrets.token_bytes(NONCE_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> HttpzRandomness:
        """Make the randomness of a seed."""
        stream = hashlib.shake_256(seed).digest(KEY_BYTES + NONCE_BYTES)
        return cls(stream[:KEY_BYTES], stream[KEY_BYTES:])


def pack_key(public: bytes) -> bytes:
    """Write an X25519 public key as requests carry it: 40 bytes."""
    return sized(public)


def unpack_key(enc_key: bytes) -> bytes:
    """Take the public key out of a request's. Raises ValueError for anything else."""
    public = enc_key[-KEY_BYTES:]
    if len(enc_key) != ENC_KEY_BYTES or enc_key != pack_key(public):
        raise ValueError("enc_key is no serialised X25519 key")
    return public


def signcrypt(
    plaintext: bytes,
    fhe_type: int,
    *,
    link: bytes,
    client: Address,
    enc_key: bytes,
    key: PrivateKey,
    randomness: HttpzRandomness,
) -> bytes:
    """Sign and seal one plaintext for the holder of ``enc_key``. Raises ValueError for a key that is none."""
    recipient, ours = unpack_key(enc_key), public_key(randomness.secret)
    message = sized(plaintext) + u32(fhe_type) + sized(link)
    signature = sign_sha256(key, _signed_text(message, client, enc_key))
    inner = message + signature + _hash(verification_key(key.public_key)) + _hash(pack_key(ours))
    box = seal(inner, randomness.nonce, recipient=recipient, secret=randomness.secret)
    return sized(box) + sized(randomness.nonce) + sized(ours)


def _signed_text(message: bytes, client: Address, enc_key: bytes) -> bytes:
    return message + client + _hash(enc_key)


def _hash(data: bytes) -> bytes:
    return hashlib.sha3_256(data).digest()
