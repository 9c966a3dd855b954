"""Sealing a decrypted value for one user as Cores of the first generation did, and opening it again. Never decides who may have it.

A NaCl box around a signed text; hashes are SHA3-256, without separators. Source: kms-core-grpc.md, 12.6.
"""

from __future__ import annotations

import hashlib
import secrets

import attrs

from kmsconn.emulator.bincode import sized, u32
from kmsconn.emulator.httpz.box import KEY_BYTES, NONCE_BYTES, open_box, public_key, seal
from kmsconn.emulator.signcryption import (
    NotOpened,
    Opened,
    is_signed_by,
    read_message,
    sign_sha256,
    verification_key,
)
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey

ENC_KEY_BYTES = 40
_HASH_BYTES = 32
_SIGNATURE_BYTES = 64
_TAIL_BYTES = _SIGNATURE_BYTES + 2 * _HASH_BYTES


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


def open_share(secret_key: bytes, share: bytes, *, client: Address, vk: bytes) -> Opened:
    """Open a sealed share with the user's secret key and check that the node with ``vk`` signed it for this client.

    Raises NotOpened. The link is for the caller to compare.
    """
    inner, ours = _unseal(secret_key, share)
    message, signature = inner[:-_TAIL_BYTES], inner[-_TAIL_BYTES : -2 * _HASH_BYTES]
    if inner[-2 * _HASH_BYTES :] != _hash(vk) + _hash(pack_key(ours)):
        raise NotOpened("it was sealed by another node")
    if not is_signed_by(vk, _signed_text(message, client, pack_key(public_key(secret_key))), signature):
        raise NotOpened("its signature is not the node's, or was made for another client")
    return read_message(message)


def _unseal(secret_key: bytes, share: bytes) -> tuple[bytes, bytes]:
    """Return the signed text in a share, and the public key that it was sealed with."""
    end = 8 + int.from_bytes(share[:8], "little")
    box, nonce, ours = share[8:end], share[end + 8 : end + 8 + NONCE_BYTES], share[-KEY_BYTES:]
    if share != sized(box) + sized(nonce) + sized(ours):
        raise NotOpened("its lengths are wrong")
    try:
        return open_box(box, nonce, sender=ours, secret=secret_key), ours
    except ValueError:
        raise NotOpened("it was sealed for another key, or changed") from None


def _signed_text(message: bytes, client: Address, enc_key: bytes) -> bytes:
    return message + client + _hash(enc_key)


def _hash(data: bytes) -> bytes:
    return hashlib.sha3_256(data).digest()
