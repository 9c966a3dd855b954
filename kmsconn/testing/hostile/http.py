"""HTTP answers that no honest server gives, and what no bucket says of a ciphertext or sends as one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.ciphertexts.attestation import ATTESTATION_HEADER, FORMAT_HEADER
from kmsconn.testing.hostile.changes import ANY, BIG_TEXT, DIGITS, Change, always


def _head(*lines: bytes, status: bytes = b"200 OK") -> bytes:
    return b"\r\n".join([b"HTTP/1.1 " + status, *lines, b"", b""])


HTTP: Final[Mapping[str, bytes]] = {
    "nothing": b"",
    "NUL bytes": b"\0" * 1_000,
    "a mail server": b"220 mail.example ESMTP\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0",
    "a TLS alert": b"\x15\x03\x01\x00\x02\x02\x28",
    "HTTP/0.9": b"<html>welcome</html>",
    "HTTP/9.9": b"HTTP/9.9 200 OK\r\ncontent-length: 0\r\n\r\n",
    "bare line feeds": b"HTTP/1.1 200 OK\ncontent-length: 2\n\n{}",
    **{
        f"status {status}": _head(b"content-length: 0", status=status.encode())
        for status in ("99", "000", "1000", "-200", "2e2", "２００", "204", "304", "418", "511", "999")
    },
    "status of 5,000 digits": _head(b"content-length: 0", status=b"2" * DIGITS),
    "204 with a body": _head(b"content-length: 2", status=b"204 No Content") + b"{}",
    "a thousand interim answers": _head(status=b"100 Continue") * 1_000,
    "switching protocols": _head(
        b"upgrade: websocket", b"connection: upgrade", status=b"101 Switching Protocols"
    ),
    "a negative length": _head(b"content-length: -1") + b"{}",
    "a length of 5,000 digits": _head(b"content-length: " + b"9" * DIGITS) + b"{}",
    "a length in exponents": _head(b"content-length: 1e3") + b"{}",
    "two lengths": _head(b"content-length: 2", b"content-length: 3") + b"{}",
    "a length and chunks": _head(b"content-length: 2", b"transfer-encoding: chunked")
    + b"2\r\n{}\r\n0\r\n\r\n",
    "a length of 60 MB": _head(b"content-length: 60000000") + b"{}",
    "a length that is too long": _head(b"content-length: 20") + b"{}",
    "a length that is too short": _head(b"content-length: 1") + b"{}",
    "a chunk of no size": _head(b"transfer-encoding: chunked") + b"zz\r\n{}\r\n",
    "a chunk of negative size": _head(b"transfer-encoding: chunked") + b"-2\r\n{}\r\n",
    "a chunk of 2^64": _head(b"transfer-encoding: chunked") + b"f" * 16 + b"\r\n{}",
    "a chunk size of 5,000 digits": _head(b"transfer-encoding: chunked") + b"f" * DIGITS + b"\r\n{}",
    "trailers without end": _head(b"transfer-encoding: chunked") + b"0\r\n" + b"a: b\r\n" * 10_000,
    "gzip": _head(b"content-length: 22", b"content-encoding: gzip") + b"\x1f\x8b\x08" + b"\0" * 19,
    "10,000 headers": _head(*[b"a: b"] * 10_000),
    "a header of a million bytes": _head(b"a: " + b"b" * BIG_TEXT),
    "a header without a colon": _head(b"nonsense", b"content-length: 0"),
    "a header in two lines": _head(b"a: b\r\n c", b"content-length: 0"),
    "a header of control bytes": _head(b"a: \x01\x1b[31m", b"content-length: 0"),
    "a header of invalid UTF-8": _head(b"a: \xff\xfe", b"content-length: 2") + b"{}",
    "a redirect to itself": _head(b"location: ", b"content-length: 0", status=b"302 Found"),
    "a redirect to no URL": _head(b"location: ht!tp:\\\\[", b"content-length: 0", status=b"302 Found"),
    "a redirect of a million bytes": _head(
        b"location: /" + b"x" * 30_000, b"content-length: 0", status=b"302 Found"
    ),
    "a body without end": _head(),
    "chunks of one byte without end": _head(b"transfer-encoding: chunked") + b"1\r\nx\r\n" * 10_000,
    "a head without end": b"HTTP/1.1 200 OK\r\n",
    "an empty body": _head(b"content-length: 0"),
    "a body that is no JSON": _head(b"content-length: 15") + b"<html>no</html>",
    "an error page": _head(b"content-length: 15", status=b"500 Oops") + b"<html>no</html>",
    "403": _head(b"content-length: 0", status=b"403 Forbidden"),
    "429 for ever": _head(b"retry-after: " + b"9" * DIGITS, b"content-length: 0", status=b"429 Slow"),
    "two answers": (_head(b"content-length: 2") + b"{}") * 2,
}
"""In the place of all that a server sends on one connection."""
ENDLESS: Final[Mapping[str, bytes]] = {
    "a body without end": b"x" * 65_536,
    "chunks of one byte without end": b"1\r\nx\r\n" * 1_000,
    "a head without end": b"a: b\r\n" * 1_000,
}
"""What follows again and again behind the HTTP answer of that name."""
METADATA: Final[Mapping[str, Mapping[str, str]]] = {
    "no headers": {},
    "an empty attestation": {ATTESTATION_HEADER: ""},
    "an attestation nested 5,000 deep": {ATTESTATION_HEADER: '{"version":' + "[" * 5_000 + "]" * 5_000 + "}"},
    "objects nested 3,000 deep": {ATTESTATION_HEADER: '{"a":' * 3_000 + "1" + "}" * 3_000},
    "a version of 4,000 digits": {ATTESTATION_HEADER: '{"version":' + "1" * 4_000 + "}"},
    "a version of 2^63": {ATTESTATION_HEADER: '{"version":9223372036854775808}'},
    "a version that is true": {ATTESTATION_HEADER: '{"version":true}'},
    "duplicate keys": {ATTESTATION_HEADER: '{"version":1,"version":2,"version":1}'},
    "surrogates": {ATTESTATION_HEADER: '{"format":"\\ud800"}'},
    "a list": {ATTESTATION_HEADER: "[]"},
    "null": {ATTESTATION_HEADER: "null"},
    "a number": {ATTESTATION_HEADER: "1e999"},
    "numbers for texts": {
        ATTESTATION_HEADER: '{"version":1,"key_id":1,"ciphertext_digest":1,"sns_ciphertext_digest":1,"format":1,"signer":1,"signature":1}'
    },
    "empty texts": {
        ATTESTATION_HEADER: '{"version":1,"key_id":"","ciphertext_digest":"","sns_ciphertext_digest":"","format":"",'
        '"signer":"","signature":""}'
    },
    "a format of 20,000 letters": {FORMAT_HEADER: "x" * 20_000},
}
"""In the place of an object's metadata headers."""
BODIES: Final[Mapping[str, Change]] = {
    **ANY,
    "one bit changed": lambda honest: bytes([honest[0] ^ 1]) + honest[1:],
    "an error document": always(b"<Error><Code>NoSuchKey</Code></Error>"),
    "a million bytes": always(bytes(BIG_TEXT)),
}
"""In the place of an object's body."""
