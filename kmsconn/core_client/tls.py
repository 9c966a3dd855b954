"""TLS towards the Core: from the configured files to a context; never touches a stream."""

from __future__ import annotations

import ssl

from kmsconn.config.settings import CoreTls
from kmsconn.errors import StartRefused
from kmsconn.transport.grpc.channel import ALPN


def client_context(tls: CoreTls) -> ssl.SSLContext:
    """Return a context that offers HTTP/2 and trusts the given authority, or the system's when none is given.

    Raises StartRefused when a file cannot be read or does not hold what it should.
    """
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.certificate_file is not None:
            context.load_cert_chain(tls.certificate_file, tls.key_file)
    except OSError as error:  # SSLError is one
        raise StartRefused(f"core_tls: {error}") from error
    context.set_alpn_protocols([ALPN])
    return context
