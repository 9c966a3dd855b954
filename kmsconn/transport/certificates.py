"""Certificates of a server: the TLS context made of one with its key, and when it ends (RFC 5280, 4.1.2.5). Opens no connection."""

from __future__ import annotations

import re
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

SOON: Final = 14 * 86400.0
"""Seconds before its end from which a certificate is one to be renewed."""

_PEM = re.compile("-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----", re.DOTALL)
_VERSION, _UTC_TIME = 0xA0, 0x17


def end_of(path: Path) -> float:
    """Return the Unix time at which the first of a PEM file's certificates to end does so.

    Raises OSError, and ValueError for a file without a certificate that can be read.
    """
    found = _PEM.findall(path.read_text(encoding="ascii", errors="replace"))
    if not found:
        raise ValueError(f"{path} has no certificate")
    try:
        return min(_end(ssl.PEM_cert_to_DER_cert(one)) for one in found)
    except (IndexError, StopIteration, ValueError):
        raise ValueError(f"{path} has a certificate that cannot be read") from None


def _end(der: bytes) -> float:
    [(_, certificate)] = _elements(der)
    _, body = next(_elements(certificate))
    fields = [one for one in _elements(body) if one[0] != _VERSION]  # serial, algorithm, issuer, validity, …
    _, (kind, text) = _elements(fields[3][1])
    form = "%y%m%d%H%M%SZ" if kind == _UTC_TIME else "%Y%m%d%H%M%SZ"
    return datetime.strptime(text.decode(), form).replace(tzinfo=UTC).timestamp()


def _elements(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield tag and content of each element."""
    at = 0
    while at < len(data):
        tag, length, at = data[at], data[at + 1], at + 2
        if length > 0x7F:  # noqa: PLR2004 - the number of bytes that the length has (X.690, 8.1.3.5)
            size = length & 0x7F
            length, at = int.from_bytes(data[at : at + size]), at + size
        yield tag, data[at : at + length]
        at += length


def told_end(end: float, now: float) -> str:
    """Return what is said of a certificate that ends soon or has ended; empty for any other."""
    if end - now > SOON:
        return ""
    at = datetime.fromtimestamp(end, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"ended on {at}: clients refuse it" if end <= now else f"ends on {at}"


ALPN: Final = ("http/1.1",)
"""The protocols that the server offers."""


class TlsFault(ValueError):  # noqa: N818 - as kmsconn.errors.Fault
    """Certificate and key cannot be used; the text names the files and the reason, and holds nothing out of them."""


def server_context(certificate: Path, key: Path) -> ssl.SSLContext:
    """Return the context of a server with this certificate chain and private key, PEM.

    Raises TlsFault where they cannot be read, do not belong together, or the key is encrypted.
    """
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_RENEGOTIATION
    context.set_alpn_protocols(list(ALPN))
    try:
        context.load_cert_chain(certificate, key, password=_no_passphrase)
    except _Encrypted:
        raise TlsFault(f"the key {key} is encrypted; a key without a passphrase is needed") from None
    except ssl.SSLError as error:
        reason = (error.reason or "unreadable").replace("_", " ").lower()
        raise TlsFault(
            f"{certificate} and {key} are no certificate and key that belong together: {reason}"
        ) from None
    except OSError as error:
        raise TlsFault(f"{certificate} or {key} cannot be read: {error.strerror}") from None
    return context


class _Encrypted(Exception):  # noqa: N818 - says what was found
    pass


def _no_passphrase() -> str:
    raise _Encrypted
