"""Sealing a decrypted value for one user, signed by one node. Never decides who may have it.

ML-KEM-512 (FIPS 203), AES-256-GCM, SHAKE-256, ECDSA over SHA-256. Source: kms-core-grpc.md, sections 6.3, 7 and 11.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem.default_parameters import DEFAULT_PARAMETERS
from kyber_py.ml_kem.ml_kem import ML_KEM

from kmsconn.emulator.plaintexts import sized, u32
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey

ENCAPSULATION_KEY_BYTES = 800
NONCE_BYTES = 12
_SEPARATOR = b"SIGNCRYP"
_USER_DECRYPTION = b"USER_DEC"
_HASH_BYTES = 32
_ENCAPSULATIONS = 256  # remembered, of 800 bytes

_CONTAINER = b"".join(
    (
        sized(b"0.5"),  # version of the container
        u32(0),  # versioned
        sized(b"0.1"),  # version of the versioning
        sized(b"UnifiedPublicEncKey"),
        u32(0),  # version of the type
        u32(0),  # ML-KEM-512
    )
)


@attrs.frozen
class UserKey:
    """A user's key pair; ``enc_key`` is the public half in the container that goes into requests."""

    enc_key: bytes = attrs.field(repr=False)
    secret_key: bytes = attrs.field(repr=False)

    @classmethod
    def from_seed(cls, seed: bytes) -> UserKey:
        """Make the key pair of 64 bytes, d ‖ z of FIPS 203."""
        public, secret = _kem(b"").key_derive(seed)
        return cls(pack_key(public), secret)


@attrs.frozen
class Randomness:
    """What makes one sealing differ from the next: the message of the encapsulation and the nonce."""

    encapsulation_m: bytes = attrs.field(factory=lambda: secrets.token_bytes(32), repr=False)
    nonce: bytes = attrs.field(factory=lambda: secrets.token_bytes(NONCE_BYTES))

    @classmethod
    def from_seed(cls, seed: bytes) -> Randomness:
        """Make the randomness of a seed."""
        stream = hashlib.shake_256(seed).digest(32 + NONCE_BYTES)
        return cls(stream[:32], stream[32:])


def pack_key(encapsulation_key: bytes) -> bytes:
    """Put an ML-KEM-512 encapsulation key into the container of requests: 869 bytes."""
    return _CONTAINER + sized(encapsulation_key)


def unpack_key(enc_key: bytes) -> bytes:
    """Take the encapsulation key out of its container. Raises ValueError for anything but ML-KEM-512."""
    key = enc_key[len(_CONTAINER) + 8 :]
    if len(key) != ENCAPSULATION_KEY_BYTES or enc_key != pack_key(key):
        raise ValueError("enc_key is no serialised ML-KEM-512 key")
    return key


def verification_key(public_key: bytes) -> bytes:
    """Write a node's 33-byte public key as the 41 bytes of answers (section 7)."""
    return sized(public_key)


def sign_sha256(key: PrivateKey, data: bytes) -> bytes:
    """Sign the SHA-256 of ``data``: r ‖ s, 64 bytes, low s."""
    return key.sign(hashlib.sha256(data).digest())[:64]


def signcrypt(
    plaintext: bytes,
    fhe_type: int,
    *,
    link: bytes,
    client: Address,
    enc_key: bytes,
    key: PrivateKey,
    randomness: Randomness,
) -> bytes:
    """Sign and seal one plaintext for the holder of ``enc_key``. Raises ValueError for a key that is none."""
    public = unpack_key(enc_key)
    message = sized(plaintext) + u32(fhe_type) + sized(link)
    signature = sign_sha256(key, _signed_text(message, client, public))
    inner = message + signature + _hash(verification_key(key.public_key))
    shared, encapsulated = _encapsulate(public, randomness.encapsulation_m)
    sealed = AESGCM(shared).encrypt(randomness.nonce, inner, None)
    return randomness.nonce + sized(encapsulated) + sized(sealed)


@lru_cache(maxsize=_ENCAPSULATIONS)
def _encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return the shared secret and its encapsulation. This costs milliseconds, which whoever repeats the message pays once."""
    shared, encapsulated = _kem(message).encaps(public)
    return bytes(shared), bytes(encapsulated)


def _signed_text(message: bytes, client: Address, public: bytes) -> bytes:
    return _USER_DECRYPTION + message + client + _hash(sized(public))


def _hash(data: bytes) -> bytes:
    return hashlib.shake_256(_SEPARATOR + data).digest(_HASH_BYTES)


def _kem(message: bytes) -> ML_KEM:
    """Return ML-KEM-512 whose only randomness is ``message``."""
    kem = ML_KEM(DEFAULT_PARAMETERS["ML512"])
    kem.random_bytes = lambda _: message
    return kem
