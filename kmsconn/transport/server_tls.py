"""TLS of a server: a context from its certificate and key. Opens no connection, and asks nobody for a passphrase."""

from __future__ import annotations

import ssl
from pathlib import Path
from typing import Final

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
