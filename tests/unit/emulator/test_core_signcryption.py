"""Sealing and opening shares (kms-core-grpc.md, 6.3, 7 and 11)."""

from __future__ import annotations

import pytest

from kmsconn.emulator.signcryption import (
    NotOpened,
    Randomness,
    UserKey,
    open_share,
    signcrypt,
    unpack_key,
    verification_key,
)
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors
from tests.unit.emulator.core_worlds import CLIENT, SIGNER, USER_KEY

LINK = b"\xdd" * 32
VK = verification_key(SIGNER.public_key)


def sealed(plaintext: bytes = b"\x15\xcd\x5b\x07\0\0\0\0", seed: bytes = b"") -> bytes:
    return signcrypt(
        plaintext,
        5,
        link=LINK,
        client=CLIENT,
        enc_key=USER_KEY.enc_key,
        key=SIGNER,
        randomness=Randomness.from_seed(seed),
    )


def test_another_user_cannot_open() -> None:
    other = UserKey.from_seed(b"\1" * 64)
    with pytest.raises(NotOpened, match="another key"):
        open_share(other.secret_key, sealed(), client=CLIENT, vk=VK)


def test_it_does_not_open_for_another_client_address() -> None:
    with pytest.raises(NotOpened, match="another client"):
        open_share(USER_KEY.secret_key, sealed(), client=Address(bytes(20)), vk=VK)


def test_it_does_not_open_as_another_nodes() -> None:
    stranger = verification_key(PrivateKey(bytes(31) + b"\x02").public_key)
    with pytest.raises(NotOpened, match="another node"):
        open_share(USER_KEY.secret_key, sealed(), client=CLIENT, vk=stranger)


@pytest.mark.parametrize("place", [0, 15, 20, 800, -1])
def test_a_changed_byte_does_not_open(place: int) -> None:
    share = bytearray(sealed())
    share[place] ^= 1
    with pytest.raises(NotOpened):
        open_share(USER_KEY.secret_key, bytes(share), client=CLIENT, vk=VK)


@pytest.mark.parametrize("share", [b"", bytes(12), sealed()[:-1], sealed() + b"\0"])
def test_a_share_of_another_length_does_not_open(share: bytes) -> None:
    with pytest.raises(NotOpened, match="lengths"):
        open_share(USER_KEY.secret_key, share, client=CLIENT, vk=VK)


@pytest.mark.parametrize(
    "container",
    [
        b"",
        USER_KEY.enc_key[:-1],
        USER_KEY.enc_key + b"\0",
        USER_KEY.enc_key[:57] + b"\1" + USER_KEY.enc_key[58:],
        (800).to_bytes(8, "little") + USER_KEY.enc_key[-800:],
    ],
)
def test_other_containers_are_refused(container: bytes) -> None:
    """Cut, too long, ML-KEM-1024, and the older bare form."""
    with pytest.raises(ValueError, match="ML-KEM-512"):
        unpack_key(container)


def test_reprs_hold_no_key() -> None:
    assert USER_KEY.secret_key.hex()[:16] not in repr(USER_KEY)


def test_the_users_key_pair_of_the_vectors() -> None:
    published = vectors.load()["user_key"]
    made = UserKey.from_seed(from_hex(published["seed_d_z"]))
    assert made.enc_key == from_hex(published["enc_key"])
    assert made.secret_key == from_hex(published["client_secret_key_blob"])[8:]
