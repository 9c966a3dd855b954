"""Answers of the Core to key management, and the replies made from them. Never looks into a key.

KeyManager takes ids alone and verifies nothing. What the Core did sign is looked at all the same: its handle is the digest of the
object, so that a signature of somebody else shows.
Source: httpz-rc7.md, 2.1, 2.5 and 3.3; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from kmsconn.errors import Broken
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer
from kmsconn.protocols.answers import NEIGHBOUR, read_message, signer_of
from kmsconn.protocols.httpz_rc7.abi import KEY_MANAGER
from kmsconn.protocols.httpz_rc7.contents import (
    Crsgen,
    Keygen,
    KeyManagement,
    PrepKeygen,
    PrepKskgen,
    produced_id,
)
from kmsconn.protocols.httpz_rc7.operations import REPLIES
from kmsconn.protocols.httpz_rc7.typed_data import OBJECT_TYPES, object_digest

_HANDLE_DIGITS = 64
_SIGNED = {Kind.KEYGEN, Kind.CRSGEN}


def read_answer(domain: Domain, content: KeyManagement, reply: bytes, expected: Address | None) -> Answer:
    """Read an answer and build the reply; the signer is ``expected``, or whoever else has signed an object. Raises Broken."""
    signers = {signer_of(digest, signature) for digest, signature in _signatures(domain, content, reply)}
    strangers = signers - {expected} if content.kind in _SIGNED else set()
    return Answer(reply_to(content), min(strangers) if strangers else expected)


def reply_to(content: KeyManagement) -> bytes:
    """Return the calldata that tells the KeyManager what was made."""
    return KEY_MANAGER.function(REPLIES[content.kind]).encode(content.id, produced_id(content))


def _signatures(domain: Domain, content: KeyManagement, reply: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Yield digest and signature of each object that was signed; a Core without a usable domain leaves signatures empty."""
    for name, found in _objects(content, reply):
        if name in OBJECT_TYPES and found.external_signature:
            yield object_digest(domain, name, _digest(found.key_handle)), found.external_signature


def _objects(content: KeyManagement, reply: bytes) -> Iterator[tuple[str, Any]]:
    from kmsconn._generated.httpz_rc7.kms.v1 import CrsGenResult, KeyGenPreprocResult, KeyGenResult

    if isinstance(content, PrepKeygen | PrepKskgen):
        read_message(KeyGenPreprocResult, reply)
        return
    message = read_message(CrsGenResult if isinstance(content, Crsgen) else KeyGenResult, reply)
    if message.request_id is None or message.request_id.request_id != id_hex(produced_id(content)):
        raise Broken(NEIGHBOUR, f"the answer to {id_hex(content.id)} names another request")
    if isinstance(content, Crsgen):
        yield from [] if message.crs_results is None else [("CRS", message.crs_results)]
    elif isinstance(content, Keygen):
        yield from sorted(message.key_results.items())


def _digest(handle: str) -> bytes:
    if len(handle) != _HANDLE_DIGITS:
        raise Broken(NEIGHBOUR, f"a key handle has {len(handle)} digits, not {_HANDLE_DIGITS}")
    try:
        return bytes.fromhex(handle)
    except ValueError as error:
        raise Broken(NEIGHBOUR, "a key handle is not hexadecimal") from error
