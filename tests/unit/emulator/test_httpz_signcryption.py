"""Sealing shares of the first generation (kms-core-grpc.md, 12.6)."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.emulator.httpz.signcryption import (
    seal,
    unpack_key,
)
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols import bincode
from tests.opening import open_httpz_share, value_of_share
from tests.vectors import httpz

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
        read = value_of_share if payload.degree else little_endian
        assert [(one.fhe_type, read(one.plaintext)) for one in found] == expected


def little_endian(plaintext: bytes) -> int:
    return int.from_bytes(plaintext, "little")


@pytest.mark.parametrize("enc_key", [b"", ENC_KEY[8:], ENC_KEY[:-1], ENC_KEY + b"\0", b"\x21" + ENC_KEY[1:]])
def test_anything_else_is_no_key(enc_key: bytes) -> None:
    with pytest.raises(ValueError, match="X25519"):
        unpack_key(enc_key)


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
