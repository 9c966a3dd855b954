"""How decrypted values are written, and shares sealed, in both generations (kms-core-grpc.md, 6.3, 7, 9, 11.2 and 12.6)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.emulator.httpz.signcryption import seal
from kmsconn.emulator.httpz.signcryption import unpack_key as unpack_x25519
from kmsconn.emulator.signcryption import (
    ABI_TYPES,
    PLAINTEXT_BYTES,
    UserKey,
    abi_word,
    bits_of,
    constant_share,
    little_endian,
    unpack_key,
)
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols import bincode
from tests import vectors
from tests.opening import open_httpz_share, value_of_share
from tests.unit.emulator.core_worlds import USER_KEY
from tests.vectors import httpz


@pytest.mark.parametrize(("value", "kind"), [(4, 0), (16, 1), (256, 2), (1 << 160, 7), (-1, 5)])
def test_a_value_beyond_its_type_is_refused(value: int, kind: int) -> None:
    with pytest.raises(ValueError, match="does not fit"):
        little_endian(value, kind)


def test_a_type_that_no_core_decrypts_is_refused() -> None:
    with pytest.raises(ValueError, match="cannot be decrypted"):
        little_endian(1, 34)


@pytest.mark.parametrize("kind", sorted(PLAINTEXT_BYTES.keys() - ABI_TYPES.keys()))
def test_types_without_a_word_are_refused_publicly(kind: int) -> None:
    with pytest.raises(ValueError, match="publicly"):
        abi_word(1, kind)


def test_the_share_of_the_specification() -> None:
    """Uint8 200 is the blocks 0, 2, 0, 3, each times 2^123 (11.2, step 4)."""
    share = constant_share(200, 2)
    assert share[:8] == bytes.fromhex("0100000000000000")
    assert [share[8 + at : 24 + at] for at in (0, 16, 32, 48)] == [
        (block << 123).to_bytes(16, "little") for block in (0, 2, 0, 3)
    ]
    assert len(share) == 72


@pytest.mark.parametrize("kind", sorted(ABI_TYPES))
def test_a_share_reads_back(kind: int) -> None:
    value = 1 if kind == 0 else (1 << bits_of(kind)) - 5
    assert value_of_share(constant_share(value, kind)) == value


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


USER = parse_address(httpz.load()["keys"]["user"]["address"])
SECRET_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["private_key"])
ENC_KEY = from_hex(httpz.load()["keys"]["user_x25519"]["enc_key"])
OPENED = [entry for _, entry in httpz.exchanges("client_library") if "ok" in entry["output"]]


@pytest.mark.parametrize("entry", OPENED, ids=httpz.name_of)
def test_what_the_client_library_opened_opens_here_to_the_same_values(entry: dict[str, Any]) -> None:
    expected = [(kind, int(value, 16)) for kind, value in entry["output"]["ok"]]
    for response in entry["input"]["responses"]:
        payload = bincode.decode(bytes.fromhex(response["payload"]), packed=False)
        found = [
            open_httpz_share(SECRET_KEY, share.signcrypted, client=USER, vk=payload.verification_key)
            for share in payload.shares
        ]
        assert {one.link for one in found} == {payload.digest}
        read = value_of_share if payload.degree else of_little_endian
        assert [(one.fhe_type, read(one.plaintext)) for one in found] == expected


def of_little_endian(plaintext: bytes) -> int:
    return int.from_bytes(plaintext, "little")


@pytest.mark.parametrize("enc_key", [b"", ENC_KEY[8:], ENC_KEY[:-1], ENC_KEY + b"\0", b"\x21" + ENC_KEY[1:]])
def test_anything_else_is_no_key(enc_key: bytes) -> None:
    with pytest.raises(ValueError, match="X25519"):
        unpack_x25519(enc_key)


ALICE = bytes.fromhex(
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
)  # her public key; BOB is a secret one
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
NONCE = bytes.fromhex("69696ee955b62b73cd62bda875fc73d68219e0036b7a0b37")
MESSAGE = bytes.fromhex(
    "be075fc53c81f2d5cf141316ebeb0c7b5228c52a4c62cbd44b66849b64244ffce5ecbaaf33bd751a1ac728d45e6c61296c"
    "dc3c01233561f41db66cce314adb310e3be8250c46f06dceea3a7fa1348057e2f6556ad6b1318a024a838f21af1fde0489"
    "77eb48f59ffd4924ca1c60902e52f0a089bc76897040e082f937763848645e0705"
)
BOX = bytes.fromhex(
    "f3ffc7703f9400e52a7dfb4b3d3305d98e993b9f48681273c29650ba32fc76ce48332ea7164d96a4476fb8c531a1186ac0"
    "dfc17c98dce87b4da7f011ec48c97271d2c20f9b928fe2270d6fb863d51738b48eeee314a7cc8ab932164548e526ae9022"
    "4368517acfeabd6bb3732bc0e9da99832b61ca01b6de56244a9e88d5f9b37973f622a43d14a6599b1f654cb45a74e355a5"
)


def test_the_example_of_nacl_is_sealed_to_its_bytes() -> None:
    """A box is the same in both directions."""
    assert seal(MESSAGE, NONCE, recipient=ALICE, secret=BOB) == BOX
