"""Sealing a decrypted value for one user, signed by one node, and opening it again. Never decides who may have it.

ML-KEM-512 (FIPS 203), AES-256-GCM, SHAKE-256, ECDSA over SHA-256. Source: kms-core-grpc.md, sections 6.3, 7 and 11.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import attrs
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem.default_parameters import DEFAULT_PARAMETERS
from kyber_py.ml_kem.ml_kem import ML_KEM

from kmsconn.emulator.plaintexts import sized, u32
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recover

ENCAPSULATION_KEY_BYTES = 800
NONCE_BYTES = 12
KEM_BYTES = 768
_SEPARATOR = b"SIGNCRYP"
_USER_DECRYPTION = b"USER_DEC"
_HASH_BYTES = 32
_SIGNATURE_BYTES = 64
_VERIFICATION_KEY_BYTES = 41
_ENCAPSULATIONS = 256  # remembered, of 800 bytes
_TAIL_BYTES = _SIGNATURE_BYTES + _HASH_BYTES

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


class NotOpened(Exception):  # noqa: N818 - what did not happen
    """A share that does not open: another key, another user, another signer, or changed bytes."""


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


@attrs.frozen
class Opened:
    """What a share held."""

    plaintext: bytes
    fhe_type: int
    link: bytes


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
    return key.sign(hashlib.sha256(data).digest())[:_SIGNATURE_BYTES]


def is_signed_by(vk: bytes, data: bytes, signature: bytes) -> bool:
    """Say whether the node with this verification key signed ``data`` so."""
    digest = hashlib.sha256(data).digest()
    return _address_of(vk) in {recover(digest, signature + bytes([parity])) for parity in (0, 1)}


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


def open_share(secret_key: bytes, share: bytes, *, client: Address, vk: bytes) -> Opened:
    """Open a sealed share with the user's secret key and check that the node with ``vk`` signed it for this client.

    Raises NotOpened. The link is for the caller to compare.
    """
    inner = _unseal(secret_key, share)
    message, signature = inner[:-_TAIL_BYTES], inner[-_TAIL_BYTES:-_HASH_BYTES]
    public = secret_key[KEM_BYTES : KEM_BYTES + ENCAPSULATION_KEY_BYTES]
    if len(vk) != _VERIFICATION_KEY_BYTES or inner[-_HASH_BYTES:] != _hash(vk):
        raise NotOpened("it was sealed by another node")
    if not is_signed_by(vk, _signed_text(message, client, public), signature):
        raise NotOpened("its signature is not the node's, or was made for another client")
    return read_message(message)


def read_message(message: bytes) -> Opened:
    """Take a signed text apart: plaintext, type and link. Raises NotOpened."""
    size = int.from_bytes(message[:8], "little")
    plaintext, rest = message[8 : 8 + size], message[8 + size :]
    fhe_type, link = int.from_bytes(rest[:4], "little"), rest[12:]
    if message != sized(plaintext) + u32(fhe_type) + sized(link):
        raise NotOpened("its content is malformed")
    return Opened(plaintext, fhe_type, link)


@lru_cache(maxsize=_ENCAPSULATIONS)
def _encapsulate(public: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return the shared secret and its encapsulation. This costs milliseconds, which whoever repeats the message pays once."""
    shared, encapsulated = _kem(message).encaps(public)
    return bytes(shared), bytes(encapsulated)


def _unseal(secret_key: bytes, share: bytes) -> bytes:
    nonce, rest = share[:NONCE_BYTES], share[NONCE_BYTES:]
    encapsulated, sealed = rest[8 : 8 + KEM_BYTES], rest[16 + KEM_BYTES :]
    if rest != sized(encapsulated) + sized(sealed):
        raise NotOpened("its lengths are wrong")
    try:
        return AESGCM(_kem(b"").decaps(secret_key, encapsulated)).decrypt(nonce, sealed, None)
    except InvalidTag:
        raise NotOpened("it was sealed for another key, or changed") from None


def _signed_text(message: bytes, client: Address, public: bytes) -> bytes:
    return _USER_DECRYPTION + message + client + _hash(sized(public))


def _hash(data: bytes) -> bytes:
    return hashlib.shake_256(_SEPARATOR + data).digest(_HASH_BYTES)


def _address_of(vk: bytes) -> Address:
    from btclib_secp256k1 import keys

    point = keys.reserialize(vk[8:], compressed=False)
    return Address(keccak256(point[1:])[-ADDRESS_BYTES:])


def _kem(message: bytes) -> ML_KEM:
    """Return ML-KEM-512 whose only randomness is ``message``."""
    kem = ML_KEM(DEFAULT_PARAMETERS["ML512"])
    kem.random_bytes = lambda _: message
    return kem
