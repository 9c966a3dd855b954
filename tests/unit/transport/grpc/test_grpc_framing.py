"""gRPC's framing, from the specification's rules; header blocks: ours as hpack reads them, the peer's as hpack writes them."""

from __future__ import annotations

import grpc
import grpclib.const
import hpack
import pytest

from kmsconn.errors import Broken, Unreachable
from kmsconn.transport.grpc.frames import ErrorCode, Http2Error
from kmsconn.transport.grpc.framing import (
    MAX_MESSAGE,
    GrpcReply,
    Status,
    StatusError,
    percent_decoded,
    request_headers,
)
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
from tests.behaviours import SCRIPTED, shows

HEAD: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc")]
OK: list[Header] = [(b"grpc-status", b"0")]


def reply_of(*data: bytes, head: list[Header] = HEAD, trailers: list[Header] = OK) -> GrpcReply:
    reply = GrpcReply()
    reply.take_headers(head)
    for each in data:
        reply.take_data(each)
    reply.take_headers(trailers)
    reply.take_end()
    return reply


def status_of(reply: GrpcReply) -> StatusError:
    with pytest.raises(StatusError) as caught:
        reply.message()
    return caught.value


# The request.


def test_the_headers_of_a_call() -> None:
    assert request_headers("/p.S/M", "host:1", "http") == (
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":path", b"/p.S/M"),
        (b":authority", b"host:1"),
        (b"te", b"trailers"),
        (b"content-type", b"application/grpc"),
        (b"user-agent", b"kmsconn"),
    )


# The reply.


def test_a_whole_reply() -> None:
    assert reply_of(b"\0\0\0\0\5hello").message() == b"hello"
    assert reply_of(b"\0\0\0\0\0").message() == b"", "an empty message is one"
    head: list[Header] = [(b":status", b"200"), (b"content-type", b"application/grpc+proto")]
    assert reply_of(b"\0\0\0\0\1x", head=head).message() == b"x"


def test_the_reply_is_finished_only_at_its_end() -> None:
    reply = GrpcReply()
    reply.take_headers(HEAD)
    reply.take_data(b"\0\0\0\0\1x")
    assert not reply.finished
    reply.take_headers(OK)
    reply.take_end()
    assert reply.finished


@pytest.mark.parametrize("data", [[], [b"\0\0\0"], [b"\0\0\0\0\5hell"]])
def test_ok_without_a_whole_message_is_broken(data: list[bytes]) -> None:
    with pytest.raises(Broken, match="without a whole message"):
        reply_of(*data).message()


@pytest.mark.parametrize("data", [[b"\0\0\0\0\1xy"], [b"\0\0\0\0\1x", b"\0\0\0\0\1y"], [b"\0\0\0\0\0", b"z"]])
def test_more_than_one_message_is_broken(data: list[bytes]) -> None:
    with pytest.raises(Broken, match="more than one message"):
        reply_of(*data).message()


@pytest.mark.parametrize(
    ("data", "told"),
    [(b"\1\0\0\0\1x", "compressed"), (b"\0" + (MAX_MESSAGE + 1).to_bytes(4), "104857601 bytes")],
)
def test_a_message_that_is_compressed_or_too_large_is_broken_at_once(data: bytes, told: str) -> None:
    reply = GrpcReply()
    reply.take_headers(HEAD)
    reply.take_data(data)
    assert reply.finished
    with pytest.raises(Broken, match=told):
        reply.message()


def test_a_message_of_exactly_the_limit_is_read() -> None:
    reply = GrpcReply(limit=3)
    reply.take_headers(HEAD)
    reply.take_data(b"\0\0\0\0\3abc")
    reply.take_headers(OK)
    reply.take_end()
    assert reply.message() == b"abc"


def test_what_comes_after_the_end_changes_nothing() -> None:
    reply = reply_of(b"\0\0\0\0\1x")
    reply.fail(Unreachable("late"))
    reply.take_data(b"more")
    reply.take_reset(8)
    assert reply.message() == b"x"


# The status.


def test_trailers_only_give_the_status() -> None:
    reply = reply_of(head=[*HEAD, (b"grpc-status", b"5"), (b"grpc-message", b"gone")], trailers=[])
    error = status_of(reply)
    assert (error.status, error.message, error.spoken) == (Status.NOT_FOUND, "gone", True)


def test_a_grpc_status_wins_over_the_message_and_the_http_status() -> None:
    assert Status.INTERNAL is status_of(reply_of(b"\0\0\0\0\1x", trailers=[(b"grpc-status", b"13")])).status
    error = status_of(reply_of(head=[(b":status", b"404"), (b"grpc-status", b"14")], trailers=[]))
    assert (error.status, error.spoken) == (Status.UNAVAILABLE, True)


@pytest.mark.parametrize("said", [b"17", b"99", b"-1", b"", b"five", b"\xff"])
def test_a_status_that_grpc_does_not_know_is_unknown(said: bytes) -> None:
    error = status_of(reply_of(trailers=[(b"grpc-status", said)]))
    assert (error.status, error.spoken) == (Status.UNKNOWN, True)


@pytest.mark.parametrize(
    ("http", "status"),
    [
        (b"400", Status.INTERNAL),
        (b"401", Status.UNAUTHENTICATED),
        (b"403", Status.PERMISSION_DENIED),
        (b"404", Status.UNIMPLEMENTED),
        (b"429", Status.UNAVAILABLE),
        (b"502", Status.UNAVAILABLE),
        (b"503", Status.UNAVAILABLE),
        (b"504", Status.UNAVAILABLE),
        (b"200", Status.UNKNOWN),
        (b"500", Status.UNKNOWN),
        (b"302", Status.UNKNOWN),
        (b"nonsense", Status.UNKNOWN),
    ],
)
def test_an_http_status_without_grpc_status_is_mapped_and_not_the_core_s_word(
    http: bytes, status: Status
) -> None:
    error = status_of(reply_of(head=[(b":status", http)], trailers=[]))
    assert (status, False) == (error.status, error.spoken)


PAGE = b"<html>\n<h1>Bad Gateway</h1>\n</html>"
PAGE_HEAD: list[Header] = [(b":status", b"502"), (b"content-type", b"text/html")]


@pytest.mark.parametrize("data", [[PAGE], [bytes([byte]) for byte in PAGE], [b"\0\0\0\0\1x"]])
def test_a_page_is_not_read_as_a_message(data: list[bytes]) -> None:
    error = status_of(reply_of(*data, head=PAGE_HEAD, trailers=[]))
    assert (error.status, error.spoken) == (Status.UNAVAILABLE, False)
    assert "HTTP status 502 (text/html): " in error.message


def test_the_error_tells_a_page_in_one_line() -> None:
    error = status_of(reply_of(PAGE, head=PAGE_HEAD, trailers=[]))
    assert error.message.endswith("HTTP status 502 (text/html): <html> <h1>Bad Gateway</h1> </html>")


@pytest.mark.parametrize(
    "head", [[(b":status", b"200"), (b"content-type", b"text/html")], [(b":status", b"200")]]
)
def test_a_body_that_is_not_said_to_be_grpc_is_none(head: list[Header]) -> None:
    error = status_of(reply_of(PAGE, head=head, trailers=[]))
    assert (error.status, error.spoken) == (Status.UNKNOWN, False)


def test_of_a_page_without_an_end_only_the_beginning_is_awaited() -> None:
    reply = GrpcReply()
    reply.take_headers(PAGE_HEAD)
    while not reply.finished:
        assert len(reply._body) < 1024
        reply.take_data(b"x" * 700)
    assert status_of(reply).message.endswith(": " + "x" * 1024)


@shows("every code of RST_STREAM becomes its status", SCRIPTED)
@pytest.mark.parametrize(
    ("code", "status"),
    [
        (0, Status.INTERNAL),
        (7, Status.UNAVAILABLE),
        (8, Status.CANCELLED),
        (11, Status.RESOURCE_EXHAUSTED),
        (12, Status.PERMISSION_DENIED),
        (999, Status.INTERNAL),
    ],
)
def test_a_reset_is_mapped_and_not_the_core_s_word(code: int, status: Status) -> None:
    reply = GrpcReply()
    reply.take_reset(code)
    error = status_of(reply)
    assert (status, False) == (error.status, error.spoken)


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        (b"plain", "plain"),
        (b"100%25 %C3%BCbel%0A", "100% übel\n"),
        (b"%", "%"),
        (b"%zz%4", "%zz%4"),
        (b"%ff", "\ufffd"),
        (b"\xc3\xbc", "ü"),
    ],
)
def test_a_message_text_is_percent_decoded_without_fail(sent: bytes, text: str) -> None:
    assert text == percent_decoded(sent)


def test_names_and_numbers_are_those_of_grpcio_and_grpclib() -> None:
    ours = {status.name: status.value for status in Status}
    assert {code.name: code.value[0] for code in grpc.StatusCode} == ours
    assert {code.name: code.value for code in grpclib.const.Status} == ours


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
    decoded = hpack.Decoder(max_header_list_size=100_000).decode(encode(tuple(fields)), raw=True)
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
