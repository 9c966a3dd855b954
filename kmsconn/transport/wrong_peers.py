"""What answered at an address in place of what was meant there, as far as its first bytes and the words of the failure tell. Pure.

Each kind has words for operators. What to do depends on what the address is for, so that chains and Cores have tables of their own.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Final


class WrongPeer(Enum):
    """What was found at an address."""

    NO_TLS = "no TLS is spoken there"
    TLS = "TLS is spoken there"
    EXPIRED = "its certificate has expired"
    EARLY = "its certificate is not valid yet"
    UNTRUSTED = "its certificate is of an authority that is not trusted here"
    OTHER_NAME = "its certificate is for another host"
    WANTS_CERTIFICATE = "it asks for a client's certificate, or takes none that was shown"
    ENDS_TLS = "it ends the connection within TLS"
    HANGS_UP = "it ends the connection without an answer"
    SILENT = "nothing answers there in time"
    NOBODY = "there is no connection with it"
    HTTP1 = "HTTP/1 is spoken there"
    HTTP2 = "HTTP/2 is spoken there, as gRPC has it"
    OTHER_PROTOCOL = "another protocol is spoken there"
    PAGE = "a page answers there, as those of web servers and proxies"
    EMPTY_PROXY = "a proxy answers there, and reaches nothing behind it"
    NO_WEBSOCKET = "it answers HTTP, and opens no websocket"
    NO_POST = "it takes no JSON-RPC by POST"
    FORBIDDEN = "it refuses the key or the password"
    NOT_THERE = "it knows no such path"
    PROXY = "the proxy on the way lets nothing through to it"


_KINDS: Final = (
    ("the proxy http", WrongPeer.PROXY),
    ("WRONG_VERSION_NUMBER|RECORD_LAYER_FAILURE|UNKNOWN_PROTOCOL|PACKET_LENGTH_TOO_LONG", WrongPeer.NO_TLS),
    ("certificate has expired", WrongPeer.EXPIRED),
    ("certificate is not yet valid", WrongPeer.EARLY),
    ("Hostname mismatch|IP address mismatch", WrongPeer.OTHER_NAME),
    ("CERTIFICATE_VERIFY_FAILED", WrongPeer.UNTRUSTED),
    ("_ALERT_(CERTIFICATE_REQUIRED|HANDSHAKE_FAILURE|BAD_CERTIFICATE|UNKNOWN_CA|ACCESS_DENIED)", WrongPeer.WANTS_CERTIFICATE),
    ("_ALERT_(UNSUPPORTED_CERTIFICATE|CERTIFICATE_EXPIRED|CERTIFICATE_REVOKED|CERTIFICATE_UNKNOWN)", WrongPeer.WANTS_CERTIFICATE),
    ("reading failed: .*UNEXPECTED_EOF_WHILE_READING", WrongPeer.HANGS_UP),
    ("UNEXPECTED_EOF_WHILE_READING|TLS with", WrongPeer.ENDS_TLS),
    ("the answer is TLS|plain HTTP at a port of HTTPS", WrongPeer.TLS),
    ("the answer is HTTP/2", WrongPeer.HTTP2),
    ("the answer is HTTP/1|no HTTP/2 by ALPN", WrongPeer.HTTP1),
    ("the answer is no HTTP|HTTP/2: a frame of [0-9]|no websocket, [^H]", WrongPeer.OTHER_PROTOCOL),
    ("HTTP 50[24]|HTTP status 50[234]", WrongPeer.EMPTY_PROXY),
    ("no JSON-RPC|no grpc-status", WrongPeer.PAGE),
    ("HTTP 40[13]", WrongPeer.FORBIDDEN),
    ("no websocket, HTTP", WrongPeer.NO_WEBSOCKET),
    ("HTTP (400|405|415|426|501)", WrongPeer.NO_POST),
    ("HTTP (404|410)", WrongPeer.NOT_THERE),
    ("ended without an answer|hung up during the handshake|closed the connection", WrongPeer.HANGS_UP),
    ("reset by peer|(reading|writing) failed", WrongPeer.HANGS_UP),
    ("no connection (with[^;]* )?(with)?in|no answer to", WrongPeer.SILENT),
    ("attempts to connect|Connection ?[Rr]efused|No route|unreachable|Name or service|resolution|not a host name", WrongPeer.NOBODY),
)  # fmt: skip
"""Which words tell of what: OpenSSL's names of reasons, and ours. The first that stands in a text counts."""


def wrong_peer_in(words: str) -> WrongPeer | None:
    """Return what the words of a failure tell of a peer; None where they tell nothing of it."""
    return next((peer for pattern, peer in _KINDS if re.search(pattern, words)), None)


def remedy_for(words: str, remedies: Mapping[WrongPeer, str], **names: str) -> str:
    """Return what was found and what to do, as a table has it, with ``names`` filled in; empty where there is nothing to say.

    ``words`` are those of the failure.
    """
    peer = wrong_peer_in(words)
    if peer is None or peer not in remedies:
        return ""
    return f"{peer.value}: {remedies[peer].format(**names)}"


def words_of(error: BaseException) -> str:
    """Return the words of an error; those of its cause where it has none, as Trio's errors of broken TLS have."""
    return str(error) or str(error.__cause__ or "")


_TLS_RECORDS: Final = (b"\x15\x03", b"\x16\x03")  # an alert, a handshake
_SETTINGS: Final = re.compile(rb"\x00..\x04\x00\x00\x00\x00\x00", re.DOTALL)
"""The frame with which an HTTP/2 server begins (RFC 9113, 3.4)."""


def protocol_of(data: bytes | bytearray) -> str:
    """Return what the first bytes of an answer speak: TLS, HTTP/2, HTTP/1, or nothing that is known here."""
    if data.startswith(_TLS_RECORDS):
        return "TLS"
    if _SETTINGS.match(data):
        return "HTTP/2"
    return "HTTP/1" if data.startswith(b"HTTP/1.") else ""
