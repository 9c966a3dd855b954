"""The keys of users (kms-core-grpc.md, 6.3 and 7). That shares are sealed as they must be, the vectors show."""

from __future__ import annotations

import pytest

from kmsconn.emulator.signcryption import (
    UserKey,
    unpack_key,
)
from kmsconn.ethereum.hexes import from_hex
from tests import vectors
from tests.unit.emulator.core_worlds import USER_KEY


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
