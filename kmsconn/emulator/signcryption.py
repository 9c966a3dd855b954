"""Sealing a decrypted value for one user, signed by one node, and how such a value is written. Never decides who may have it.

ML-KEM-512 (FIPS 203), AES-256-GCM, SHAKE-256, ECDSA over SHA-256. A value is written by one Core, as a share of many, and for the contract;
here are the pieces of bincode in it. Source: kms-core-grpc.md, sections 6.3, 7, 9, 10 and 11.
"""

from __future__ import annotations

import hashlib
import secrets
from functools import lru_cache

import attrs
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem.default_parameters import DEFAULT_PARAMETERS
from kyber_py.ml_kem.ml_kem import ML_KEM

from kmsconn._generated.fhevm.kms.v1 import PublicDecryptionResponsePayload
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.signing import PrivateKey


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


PLAINTEXT_BYTES = {0: 1, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 16, 7: 20, 8: 32, 9: 64, 10: 128, 11: 256, 39: 10}
"""The types that a Core decrypts, with the width of their little-endian bytes."""

ABI_TYPES = {
    0: "bool", 2: "uint8", 3: "uint16", 4: "uint32", 5: "uint64", 6: "uint128", 7: "uint160", 8: "uint256",
}  # fmt: skip
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
