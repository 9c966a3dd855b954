"""Requests of key management to the Core of the first generation. Never reads an answer; those are for ``key_replies``.

The key that switches between two others is what that Core makes with ``DecompressionOnly``; for it the domain stays out, since the Core
has no struct to sign for such a key and would fail the finished job.
Source: httpz-rc7.md, 8.2 and 8.3.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import assert_never

import attrs
from betterproto2 import Message

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.errors import Misconfigured
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Kind
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
from kmsconn.protocols.httpz_rc7.messages import domain_message, long_poll, request_id
from kmsconn.protocols.port import CoreCall, Meaning, Reading
from kmsconn.protocols.proto_writer import encode

_DEFAULT = 0
_DECOMPRESSION_ONLY = kms.KeySetConfig(kms.KeySetType.DecompressionOnly)
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
        method, message = self._request(content)
        means = _CONSUMED if isinstance(content, Keygen | Kskgen) else MEANS
        return CoreCall(method, encode(message), produced_id(content), means)

    def _request(self, content: KeyManagement) -> tuple[str, Message]:
        identifier = request_id(produced_id(content))
        params = kms.FheParameter(self._parameters(content.parameters))
        domain = domain_message(self.domain)
        match content:
            case PrepKeygen():
                return "KeyGenPreproc", kms.KeyGenPreprocRequest(identifier, params)
            case PrepKskgen():
                return "KeyGenPreproc", kms.KeyGenPreprocRequest(identifier, params, _DECOMPRESSION_ONLY)
            case Crsgen():
                return "CrsGen", kms.CrsGenRequest(identifier, params, domain=domain)
            case Keygen():
                return "KeyGen", kms.KeyGenRequest(identifier, params, request_id(content.id), domain)
            case Kskgen():
                return "KeyGen", kms.KeyGenRequest(
                    request_id=identifier,
                    params=params,
                    preproc_id=request_id(content.id),
                    keyset_config=_DECOMPRESSION_ONLY,
                    keyset_added_info=kms.KeySetAddedInfo(
                        from_keyset_id_decompression_only=request_id(content.source),
                        to_keyset_id_decompression_only=request_id(content.destination),
                    ),
                )
            case _:
                assert_never(content)

    def _parameters(self, digest: bytes) -> int:
        if not self.parameters:
            return _DEFAULT
        if digest not in self.parameters:
            raise Misconfigured(f"FHE parameters {digest.hex()} are not configured (fhe_parameters)")
        return self.parameters[digest]


def result_call(content: KeyManagement) -> CoreCall:
    """Return the long poll for a request's result."""
    return long_poll(_RESULTS[content.kind], produced_id(content))
