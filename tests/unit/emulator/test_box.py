"""Boxes of NaCl: the published example, and what must not open."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.emulator.httpz.box import open_box, public_key, seal

ALICE = bytes.fromhex(
    "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"
)  # her public key; BOB is a secret one
BOB = bytes.fromhex("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb")
CAROL = bytes([7] * 32)
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


def test_the_example_of_nacl_opens() -> None:
    assert open_box(BOX, NONCE, sender=ALICE, secret=BOB) == MESSAGE


@given(st.binary(max_size=200))
def test_what_was_sealed_opens(message: bytes) -> None:
    box = seal(message, NONCE, recipient=public_key(CAROL), secret=BOB)
    assert len(box) == len(message) + 16
    assert open_box(box, NONCE, sender=public_key(BOB), secret=CAROL) == message


@pytest.mark.parametrize("place", [0, 15, 16, 100, -1])
def test_a_changed_byte_does_not_open(place: int) -> None:
    box = bytearray(BOX)
    box[place] ^= 1
    with pytest.raises(ValueError, match="does not open"):
        open_box(bytes(box), NONCE, sender=ALICE, secret=BOB)


@pytest.mark.parametrize("place", [0, 15, 16, 23])
def test_every_part_of_the_nonce_counts(place: int) -> None:
    nonce = bytearray(NONCE)
    nonce[place] ^= 1
    with pytest.raises(ValueError, match="does not open"):
        open_box(BOX, bytes(nonce), sender=ALICE, secret=BOB)


def test_another_key_does_not_open() -> None:
    with pytest.raises(ValueError, match="does not open"):
        open_box(BOX, NONCE, sender=ALICE, secret=CAROL)
