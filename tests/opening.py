"""How a user opens the shares of both generations, written from the specification: what the emulated Cores seal must open here.

Source: kms-core-grpc.md, 7, 11 and 12.6.
"""

from __future__ import annotations

import hashlib

import attrs
from btclib_secp256k1 import keys
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from kyber_py.ml_kem import ML_KEM_512

from kmsconn.emulator.httpz.signcryption import public_key, seal
from kmsconn.emulator.signcryption import sized
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import recover

_NONCE, _ENCAPSULATED, _KEM_SECRET, _KEM_PUBLIC = 12, 768, 768, 800
_BOX_NONCE, _BOX_KEY, _MAC = 24, 32, 16
_HASH, _SIGNATURE, _ELEMENT = 32, 64, 16


@attrs.frozen
class Opened:
    """What a share held."""

    plaintext: bytes
    fhe_type: int
    link: bytes


def open_share(secret_key: bytes, share: bytes, *, client: Address, vk: bytes) -> Opened:
    """Open a share of fhevm, which the node with ``vk`` must have signed for this client."""
    rest = share[_NONCE:]
    encapsulated, sealed = rest[8 : 8 + _ENCAPSULATED], rest[16 + _ENCAPSULATED :]
    assert rest == sized(encapsulated) + sized(sealed)
    inner = AESGCM(ML_KEM_512.decaps(secret_key, encapsulated)).decrypt(share[:_NONCE], sealed, None)
    message, signature = inner[: -_SIGNATURE - _HASH], inner[-_SIGNATURE - _HASH : -_HASH]
    assert inner[-_HASH:] == _shake(vk)
    user = _shake(sized(secret_key[_KEM_SECRET : _KEM_SECRET + _KEM_PUBLIC]))
    _check(vk, b"USER_DEC" + message + client + user, signature)
    return _taken_apart(message)


def open_httpz_share(secret_key: bytes, share: bytes, *, client: Address, vk: bytes) -> Opened:
    """Open a share of httpz-rc7 likewise. A box is the same in both directions, so what seals it opens it too."""
    end = 8 + int.from_bytes(share[:8], "little")
    box, nonce, theirs = share[8:end], share[end + 8 : end + 8 + _BOX_NONCE], share[-_BOX_KEY:]
    assert share == sized(box) + sized(nonce) + sized(theirs)
    inner = seal(box[_MAC:], nonce, recipient=theirs, secret=secret_key)[_MAC:]
    assert seal(inner, nonce, recipient=theirs, secret=secret_key) == box
    message, signature = inner[: -_SIGNATURE - 2 * _HASH], inner[-_SIGNATURE - 2 * _HASH : -2 * _HASH]
    assert inner[-2 * _HASH :] == _sha3(vk) + _sha3(sized(theirs))
    _check(vk, message + client + _sha3(sized(public_key(secret_key))), signature)
    return _taken_apart(message)


def value_of_share(share: bytes) -> int:
    """Read the value of a constant share, rounding each block as a client does."""
    body = share[8:]
    assert len(body) == int.from_bytes(share[:8], "little") * 4 * _ELEMENT
    elements = [int.from_bytes(body[at : at + _ELEMENT], "little") for at in range(0, len(body), _ELEMENT)]
    return sum((((one + (1 << 122)) >> 123) & 3) << (2 * index) for index, one in enumerate(elements))


def _taken_apart(message: bytes) -> Opened:
    size = int.from_bytes(message[:8], "little")
    plaintext, rest = message[8 : 8 + size], message[8 + size :]
    kind, link = rest[:4], rest[12:]
    assert message == sized(plaintext) + kind + sized(link)
    return Opened(plaintext, int.from_bytes(kind, "little"), link)


def _check(vk: bytes, signed: bytes, signature: bytes) -> None:
    digest, point = hashlib.sha256(signed).digest(), keys.reserialize(vk[8:], compressed=False)
    signers = {recover(digest, signature + bytes([parity])) for parity in (0, 1)}
    assert Address(keccak256(point[1:])[-20:]) in signers


def _shake(data: bytes) -> bytes:
    return hashlib.shake_256(b"SIGNCRYP" + data).digest(_HASH)


def _sha3(data: bytes) -> bytes:
    return hashlib.sha3_256(data).digest()
