from __future__ import annotations

import pytest

from kmsconn.errors import Undecodable
from kmsconn.ethereum import rlp

LOREM = b"Lorem ipsum dolor sit amet, consectetur adipisicing elit"


@pytest.mark.parametrize(
    ("item", "encoded"),
    [
        (b"", "80"),
        (b"\0", "00"),
        (b"\x7f", "7f"),
        (b"\x80", "8180"),
        (b"dog", "83646f67"),
        (b"x" * 55, "b7" + "78" * 55),
        (LOREM, "b838" + LOREM.hex()),
        (b"x" * 1024, "b90400" + "78" * 1024),
        ((), "c0"),
        ((b"cat", b"dog"), "c88363617483646f67"),
        (((), ((),), ((), ((),))), "c7c0c1c0c3c0c1c0"),
        ((LOREM,), "f83a" + "b838" + LOREM.hex()),
    ],
)
def test_known_encodings(item: rlp.Rlp, encoded: str) -> None:
    """The examples of the Ethereum wiki and the edges of its length classes."""
    assert rlp.encode(item).hex() == encoded
    assert rlp.decode(bytes.fromhex(encoded)) == item


@pytest.mark.parametrize(
    "encoded",
    [
        "",  # nothing
        "8100",  # a small byte with a prefix
        "83646f",  # too short
        "83646f6767",  # left over
        "b800",  # a long form for a short length
        "b83700",  # likewise, 55
        "b9003864",  # a length with a leading zero
        "b9",  # length missing
        "c883636174",  # list too short
        "c783636174836466",  # item beyond its list
        "c18363",  # likewise
        "f800",
        "ff" + "ff" * 8,
        "c1" * 40 + "c0",
    ],
)
def test_other_bytes_are_undecodable(encoded: str) -> None:
    with pytest.raises(Undecodable):
        rlp.decode(bytes.fromhex(encoded))


@pytest.mark.parametrize(("number", "encoded"), [(0, ""), (1, "01"), (255, "ff"), (256, "0100")])
def test_integers_have_no_leading_zeros(number: int, encoded: str) -> None:
    assert rlp.encode_int(number).hex() == encoded
    assert rlp.decode_int(bytes.fromhex(encoded)) == number


@pytest.mark.parametrize("item", [b"\0", b"\0\1", ()])
def test_what_is_no_integer_is_undecodable(item: rlp.Rlp) -> None:
    with pytest.raises(Undecodable):
        rlp.decode_int(item)
