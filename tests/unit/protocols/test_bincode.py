from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.errors import Undecodable
from kmsconn.protocols.bincode import Share, SharePayload, decode, encode, encode_shares

B3 = bytes.fromhex(
    "020000000000000002aa0400000000000000d1d1d1d10100000000000000050000000200000000000000c0c1"
    "2000000000000000111111111111111111111111111111111111111111111111111111111111111101000000"
    "0300000001000000"
)
PAYLOAD = SharePayload(
    verification_key=b"\x02\xaa",
    digest=b"\xd1" * 4,
    shares=(Share(5, b"\xc0\xc1", b"\x11" * 32, 1),),
    party_id=3,
    degree=1,
)


@pytest.mark.parametrize(
    ("payload", "image"),
    [(PAYLOAD, B3), (SharePayload(b"", b"", (), 0, 0), bytes(32))],
    ids=["b3", "without shares"],
)
def test_a_payload_and_its_image(payload: SharePayload, image: bytes) -> None:
    assert encode(payload) == image
    assert decode(image) == payload


def test_the_first_generation_has_no_packing_factor() -> None:
    share = attrs.evolve(PAYLOAD.shares[0], packing_factor=None)
    payload = attrs.evolve(PAYLOAD, shares=(share,))
    image = B3[:-12] + B3[-8:]
    assert encode(payload) == image
    assert decode(image, packed=False) == payload


def test_shares_alone_are_the_middle_of_the_image() -> None:
    assert encode_shares(PAYLOAD.shares) == B3[22:-8]


@pytest.mark.parametrize("size", range(len(B3)))
def test_every_truncation_is_undecodable(size: int) -> None:
    with pytest.raises(Undecodable):
        decode(B3[:size])


@pytest.mark.parametrize(
    ("data", "told"),
    [(B3 + b"\0", "left over"), (bytes(16) + b"\xff" * 8 + bytes(100), "ends before its values do")],
)
def test_bytes_left_over_and_a_count_beyond_the_data_are_undecodable(data: bytes, told: str) -> None:
    with pytest.raises(Undecodable, match=told):
        decode(data)


@pytest.mark.parametrize("field", ["party_id", "degree"])
@pytest.mark.parametrize("value", [-1, 2**32])
def test_numbers_outside_their_width_are_value_errors(field: str, value: int) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(ValueError, match="does not fit"):
        encode(attrs.evolve(PAYLOAD, **changes))
