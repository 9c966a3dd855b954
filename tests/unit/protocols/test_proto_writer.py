from __future__ import annotations

import pytest

from kmsconn.protocols.proto_writer import (
    SPLICED,
    bytes_field,
    int_field,
    message_field,
    splice,
    text_field,
    varint,
)


@pytest.mark.parametrize(
    ("number", "encoded"),
    [(0, "00"), (1, "01"), (127, "7f"), (128, "8001"), (150, "9601"), (2**64 - 1, "ff" * 9 + "01")],
)
def test_varints(number: int, encoded: str) -> None:
    assert varint(number).hex() == encoded


def test_the_examples_of_the_format_s_documentation() -> None:
    assert int_field(1, 150).hex() == "089601"
    assert text_field(2, "testing").hex() == "120774657374696e67"
    assert message_field(3, int_field(1, 150)).hex() == "1a03089601"


def test_defaults_are_left_out_but_present_messages_are_not() -> None:
    assert (int_field(1, 0), bytes_field(1, b""), text_field(1, "")) == (b"", b"", b"")
    assert message_field(1, b"") == b"\x0a\x00"


def test_negative_numbers_take_ten_bytes() -> None:
    assert int_field(1, -1) == b"\x08" + b"\xff" * 9 + b"\x01"


def test_large_parts_are_not_copied() -> None:
    body = bytes(SPLICED)
    chunks = splice([b"a", b"b", body, b"c", body])
    assert chunks.parts == (b"ab", body, b"c", body)
    assert chunks.parts[1] is body
    assert chunks.parts[3] is body
    assert chunks.size == len(bytes(chunks))


def test_nothing_is_no_part() -> None:
    assert splice([]).parts == ()
