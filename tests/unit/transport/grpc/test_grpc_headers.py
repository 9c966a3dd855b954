"""Header blocks: ours as hpack reads them, the peer's as hpack writes them."""

from __future__ import annotations

import hpack
import pytest

from kmsconn.transport.grpc.frames import ErrorCode, Http2Error
from kmsconn.transport.grpc.headers import (
    MAX_BLOCK,
    MAX_KNOWN,
    NO_TABLE,
    Header,
    HeaderBlock,
    Reader,
    encode,
    judged,
)

ANSWER = ((b":status", b"200"), (b"content-type", b"application/grpc"))
TRAILERS = ((b"grpc-status", b"0"),)


def without_table() -> hpack.Encoder:
    """Return an encoder that was told to keep no table."""
    encoder = hpack.Encoder()
    encoder.header_table_size = 0
    return encoder


# Ours.


@pytest.mark.parametrize("size", [0, 1, 126, 127, 128, 254, 255, 256, 16_383, 20_000])
def test_names_and_values_of_any_length_are_read_by_another_library(size: int) -> None:
    fields = [(b"n" * (size or 1), b"v" * size)]
    decoded = hpack.Decoder(max_header_list_size=100_000).decode(encode(fields), raw=True)
    assert [tuple(field) for field in decoded] == fields


def test_our_blocks_put_nothing_into_a_table() -> None:
    decoder = hpack.Decoder()
    decoder.decode(encode(ANSWER))
    assert not decoder.header_table.dynamic_entries


def test_a_peer_that_allows_no_table_reads_our_first_block() -> None:
    decoder = hpack.Decoder()
    decoder.max_allowed_table_size = 0
    assert [tuple(field) for field in decoder.decode(NO_TABLE + encode(ANSWER), raw=True)] == list(ANSWER)


# The peer's.


@pytest.mark.parametrize("huffman", [True, False])
@pytest.mark.parametrize("fields", [ANSWER, TRAILERS])
def test_what_another_library_writes_is_read(fields: tuple[Header, ...], huffman: bool) -> None:
    assert Reader().read(hpack.Encoder().encode(fields, huffman=huffman)).fields == fields


def test_a_peer_with_a_table_is_read_block_after_block() -> None:
    encoder, reader = hpack.Encoder(), Reader()
    for number in range(20):
        fields = (*ANSWER, (b"x-number", b"%d" % (number % 3)))
        assert reader.read(encoder.encode(fields)).fields == fields


def test_the_same_bytes_mean_something_else_where_there_is_a_table() -> None:
    """Index 62 is the newest entry: nothing may be remembered of it."""
    reader = Reader()
    reader.read(b"\x40\x01a\x011")
    assert reader.read(b"\xbe").fields == ((b"a", b"1"),)
    reader.read(b"\x40\x01b\x012")
    assert reader.read(b"\xbe").fields == ((b"b", b"2"),)


def test_what_was_known_is_forgotten_when_a_table_begins() -> None:
    reader = Reader()
    reader.end_table()
    reader._decoder.max_allowed_table_size = 4096
    reader.read(b"\x82")
    assert reader._known
    reader.read(b"\x3f\xe1\x1f\x40\x01a\x011")  # "my table has 4096 bytes", and an entry
    assert not reader._known


def test_a_block_that_came_before_is_the_same_value_and_few_and_short_ones_are_remembered() -> None:
    encoder, reader = without_table(), Reader()
    reader.read(encoder.encode(ANSWER))
    data = encoder.encode(ANSWER)
    assert reader.read(data) is reader.read(data)
    for number in range(1000):
        reader.read(encoder.encode([(b"x", b"%d" % number)]))
    assert len(reader._known) <= MAX_KNOWN
    reader = Reader()
    for number in range(3):
        reader.read(encoder.encode([(b"x", b"%d" % number * 3000)]))
    assert all(len(data) < 100 for data in reader._known)


def test_after_the_acknowledgement_there_is_no_table_and_none_may_be_begun() -> None:
    reader = Reader()
    reader.read(b"\x40\x01a\x011")
    reader.end_table()
    assert reader.read(NO_TABLE + b"\x88").fields == ((b":status", b"200"),)
    with pytest.raises(Http2Error) as caught:
        reader.read(b"\xbe")
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR
    with pytest.raises(Http2Error):
        reader.read(b"\x3f\xe1\x1f\x82")


@pytest.mark.parametrize(
    "data",
    [b"\x80", b"\xff", b"\xbe", b"\x00", b"\x40\x05abc", b"\x00\x81\xff\x01a", b"\x82\x20", b"\x3f\xff\xff\xff\x7f", b"\xff" * 30],
    ids=["index 0", "cut number", "no such index", "cut literal", "cut name", "bad huffman", "late size", "large table", "endless number"],
)  # fmt: skip
def test_what_is_no_block_is_a_fault_of_the_connection(data: bytes) -> None:
    with pytest.raises(Http2Error, match="header block") as caught:
        Reader().read(data)
    assert caught.value.code is ErrorCode.COMPRESSION_ERROR


def test_a_small_block_that_says_too_much_is_a_fault() -> None:
    """An entry of 3 KiB, named a thousand times by one byte each."""
    entry = b"\x40\x01a" + b"\x7f\xb9\x16" + b"v" * 3000
    with pytest.raises(Http2Error):
        Reader().read(entry + b"\xbe" * 1000)
    assert MAX_BLOCK < 3000 * 1000


# Judging.


@pytest.mark.parametrize(
    ("status", "interim"), [(b"100", True), (b"199", True), (b"200", False), (b"503", False)]
)
def test_a_response_has_a_status_and_may_be_interim(status: bytes, interim: bool) -> None:
    block = judged(((b":status", status),))
    assert (block.status, block.interim, block.fault) == (int(status), interim, "")


def test_trailers_have_none_and_an_empty_value_is_fine() -> None:
    assert judged(TRAILERS) == HeaderBlock(TRAILERS)
    assert not judged(((b"grpc-message", b""),)).fault


@pytest.mark.parametrize(
    "fields",
    [
        ((b":status", b"200"), (b":status", b"200")),
        ((b"a", b"1"), (b":status", b"200")),
        ((b":path", b"/"),),
        ((b":status", b"200"), (b":path", b"/")),
        ((b":status", b"20"),),
        ((b":status", b"2000"),),
        ((b":status", b"abc"),),
        ((b":status", b"700"),),
        ((b"Upper", b"1"),),
        ((b"", b"1"),),
        ((b"a b", b"1"),),
        ((b"a:b", b"1"),),
        ((b"a", b"1\n2"),),
        ((b"a", b"1\r2"),),
        ((b"a", b"\0"),),
        ((b"a", b" 1"),),
        ((b"a", b"1\t"),),
        ((b"connection", b"close"),),
        ((b"transfer-encoding", b"chunked"),),
    ],
)
def test_what_http2_does_not_allow_is_malformed(fields: tuple[Header, ...]) -> None:
    assert judged(fields).fault
