"""What an operator can do about a node that is not reached, by what answered at its URL in place of it. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from kmsconn.transport.urls import parse
from kmsconn.transport.wrong_peers import WrongPeer, remedy_for

_PORT: Final = "name the port of the node's JSON-RPC in {option}"

REMEDIES: Final[Mapping[WrongPeer, str]] = {
    WrongPeer.NO_TLS: "write {plain}:// in place of {scheme}:// in {option}, or name its port of TLS",
    WrongPeer.TLS: "write {secure}:// in place of {scheme}:// in {option}",
    WrongPeer.EXPIRED: "check this machine's clock; its operator must renew it, or name another URL in {option}",
    WrongPeer.EARLY: "check this machine's clock, or name another URL in {option}",
    WrongPeer.UNTRUSTED: (
        "let SSL_CERT_FILE name a PEM file with its authority, or name another URL in {option}"
    ),
    WrongPeer.OTHER_NAME: "name it in {option} by a host that its certificate has",
    WrongPeer.WANTS_CERTIFICATE: (
        "kmsconn shows none to nodes: name a URL in {option} that asks for none, such as that of a proxy of your own"
    ),
    WrongPeer.ENDS_TLS: (
        "it may speak no TLS, or ask for a client's certificate, of which kmsconn shows none to nodes: check port and scheme in {option}"
    ),
    WrongPeer.HANGS_UP: "check that the node runs, and port and scheme in {option}: {hint}",
    WrongPeer.SILENT: "check that the node runs, firewalls on the way, and host, port and scheme in {option}",
    WrongPeer.NOBODY: "check that the node runs, and host and port in {option}",
    WrongPeer.HTTP2: f"a Core's port may be meant by kms_core_endpoints; {_PORT}",
    WrongPeer.OTHER_PROTOCOL: _PORT,
    WrongPeer.PAGE: "name the node's JSON-RPC itself in {option}, with its path and key",
    WrongPeer.EMPTY_PROXY: "check that the node behind it runs, or name the node itself in {option}",
    WrongPeer.NO_WEBSOCKET: (
        "write {http}:// in place of {scheme}:// in {option}, or name the port of the node's websocket"
    ),
    WrongPeer.NO_POST: "check the path in {option}, or write {websocket}:// if it is the port of a websocket",
    WrongPeer.FORBIDDEN: "check the key or the password in {option}",
    WrongPeer.NOT_THERE: "check the path in {option}",
    WrongPeer.PROXY: "correct HTTPS_PROXY, HTTP_PROXY or ALL_PROXY, or let NO_PROXY name the host in {option}",
}
"""By what was found. Of ``HTTP1`` there is nothing to say: that is what nodes speak."""

_NO_CERTIFICATE: Final = "it may ask for a client's certificate, of which kmsconn shows none to nodes"
_PLAIN: Final = {"https": "http", "wss": "ws"}
_SECURE: Final = {plain: secure for secure, plain in _PLAIN.items()}


def node_remedy(words: str, url: str, option: str) -> str:
    """Return what was found at a URL and what to do, by the words of a failure; what to do alone where they tell nothing.

    ``option`` is what names the URL.
    """
    scheme = parse(url).scheme
    plain = _PLAIN.get(scheme, scheme)
    secure = _SECURE.get(scheme, scheme)
    ending = "s" if parse(url).tls else ""
    remedy = remedy_for(
        words,
        REMEDIES,
        option=option,
        scheme=scheme,
        plain=plain,
        secure=secure,
        hint=_NO_CERTIFICATE if scheme == secure else f"{secure}:// may be meant",
        http=f"http{ending}",
        websocket=f"ws{ending}",
    )
    return remedy or f"check that the node runs and that {option} has its address"
