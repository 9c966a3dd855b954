"""What an operator can do about an endpoint of the Core that is not reached, by what answered in place of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.transport.wrong_peers import WrongPeer, remedy_for

_OPTION: Final = "kms_core_endpoints"
_PORT: Final = f"name the Core's gRPC port in {_OPTION}"

_SECURE: Final = "https:// or another port may be meant"
_ASKS: Final = "it may ask for a client's certificate (core_tls.certificate_file)"

REMEDIES: Final[Mapping[WrongPeer, str]] = {
    WrongPeer.NO_TLS: f"write http:// in {_OPTION} and leave core_tls out, or name the Core's port of TLS",
    WrongPeer.TLS: f"write https:// in {_OPTION}, and let core_tls.ca_file name the authority of its certificate",
    WrongPeer.EXPIRED: "renew the Core's certificate, or set this machine's clock",
    WrongPeer.EARLY: "set this machine's clock, or give the Core another certificate",
    WrongPeer.UNTRUSTED: "let core_tls.ca_file name a PEM file with the authority that signed it",
    WrongPeer.OTHER_NAME: f"name the Core in {_OPTION} by a host that its certificate has",
    WrongPeer.WANTS_CERTIFICATE: (
        "let core_tls.certificate_file and core_tls.key_file name a certificate whose authority the Core trusts"
    ),
    WrongPeer.ENDS_TLS: (
        f"it may speak no TLS (write http:// in {_OPTION}, leave core_tls out), or ask for a client's certificate "
        "(core_tls.certificate_file)"
    ),
    WrongPeer.HANGS_UP: f"check that the Core runs, and {_OPTION}: {{hint}}",
    WrongPeer.SILENT: f"check that the Core runs, firewalls on the way, and host, port and scheme in {_OPTION}",
    WrongPeer.NOBODY: f"start the Core, or correct its host and port in {_OPTION}",
    WrongPeer.HTTP1: f"a node, a web server or a proxy may be there; {_PORT}",
    WrongPeer.OTHER_PROTOCOL: _PORT,
    WrongPeer.EMPTY_PROXY: f"check that the Core behind it runs, or {_PORT}",
    WrongPeer.PAGE: f"{_PORT}, or let the proxy before it pass gRPC on",
}
"""By what was found."""


def core_remedy(words: str, *, is_tls: bool) -> str:
    """Return what was found at an endpoint and what to do, by the words of a failure; empty where they tell nothing.

    ``is_tls``: whether TLS was asked for.
    """
    return remedy_for(words, REMEDIES, hint=_ASKS if is_tls else _SECURE)
