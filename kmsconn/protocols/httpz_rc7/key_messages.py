"""Requests of key management to the Core of the first generation, byte for byte. Never reads an answer; those are for ``key_replies``.

The key that switches between two others is what that Core makes with ``DecompressionOnly``; for it the domain stays out, since the Core
has no struct to sign for such a key and would fail the finished job.
Source: httpz-rc7.md, 8.2 and 8.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import attrs

from kmsconn.errors import Misconfigured
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Kind
from kmsconn.protocols.core_parts import domain_message, request_id
from kmsconn.protocols.httpz_rc7.contents import (
    Crsgen,
    Keygen,
    KeyManagement,
    Kskgen,
    PrepKeygen,
    PrepKskgen,
    produced_id,
)
from kmsconn.protocols.httpz_rc7.core_messages import MEANS
from kmsconn.protocols.port import Chunks, CoreCall, Meaning, Reading
from kmsconn.protocols.proto_writer import int_field, message_field

_DEFAULT = 0
_DECOMPRESSION_ONLY = int_field(1, 1)
_RESULTS = {
    Kind.PREP_KEYGEN: "GetKeyGenPreprocResult",
    Kind.PREP_KSKGEN: "GetKeyGenPreprocResult",
    Kind.KEYGEN: "GetKeyGenResult",
    Kind.KSKGEN: "GetKeyGenResult",
    Kind.CRSGEN: "GetCrsGenResult",
}
_CONSUMED: Mapping[str, Reading] = {**MEANS, "NOT_FOUND": Meaning.DOUBT}
"""A Core removes a preprocessing once a key generation names it: the same call again finds none, and its result tells why."""


@attrs.frozen
class KeyMessages:
    """Builds requests under a domain; ``parameters`` says which FHE parameters a digest means, none: always the default."""

    domain: Domain
    parameters: Mapping[bytes, int]

    def start(self, content: KeyManagement) -> CoreCall:
        """Return the call that hands a request over. Raises Misconfigured for parameters that nobody has named."""
        match content:
            case PrepKeygen():
                return self._call("KeyGenPreproc", content)
            case PrepKskgen():
                return self._call("KeyGenPreproc", content, message_field(3, _DECOMPRESSION_ONLY))
            case Crsgen():
                return self._call("CrsGen", content, message_field(4, domain_message(self.domain)))
            case Keygen():
                tail = (
                    message_field(3, request_id(content.id)),
                    message_field(4, domain_message(self.domain)),
                )
                return attrs.evolve(self._call("KeyGen", content, *tail), means=_CONSUMED)
            case Kskgen():
                ends = message_field(2, request_id(content.source)) + message_field(
                    3, request_id(content.destination)
                )
                tail = (message_field(3, request_id(content.id)), message_field(5, _DECOMPRESSION_ONLY))
                return attrs.evolve(
                    self._call("KeyGen", content, *tail, message_field(6, ends)), means=_CONSUMED
                )
            case _:
                assert_never(content)

    def _call(self, method: str, content: KeyManagement, *tail: bytes) -> CoreCall:
        identifier = produced_id(content)
        head = message_field(1, request_id(identifier)) + int_field(2, self._parameters(content.parameters))
        return CoreCall(method, Chunks([head, *tail]), identifier, MEANS)

    def _parameters(self, digest: bytes) -> int:
        if not self.parameters:
            return _DEFAULT
        if digest not in self.parameters:
            raise Misconfigured(f"FHE parameters {digest.hex()} are not configured (fhe_parameters)")
        return self.parameters[digest]


def result_call(content: KeyManagement) -> CoreCall:
    """Return the long poll for a request's result."""
    identifier = produced_id(content)
    return CoreCall(_RESULTS[content.kind], Chunks([request_id(identifier)]), identifier)
