"""Generation of a common reference string.

Source: httpz-rc7.md, 1.3, 2.2, 3.3 and 8.2; annex C.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.model.requests import Kind
from kmsconn.protocols.answers import read_message
from kmsconn.protocols.httpz_rc7.abi import KEY_MANAGER
from kmsconn.protocols.httpz_rc7.key_management import KeyOperation, KeyRequest, expect_request_id
from kmsconn.protocols.httpz_rc7.messages import domain_message, request_id
from kmsconn.protocols.httpz_rc7.operations import SENDER_VERDICTS
from kmsconn.protocols.port import RequestEvent, Verdict, id_in_data


@attrs.frozen
class HttpzCrsgen(KeyRequest):
    """A request to make a common reference string."""

    id: int
    parameters: bytes

    kind = Kind.CRSGEN


class HttpzCrsgens(KeyOperation[HttpzCrsgen]):
    """The row of common reference strings."""

    kind = Kind.CRSGEN
    events = (RequestEvent(KEY_MANAGER.event("CrsgenRequest"), HttpzCrsgen, id_in_data),)
    reply = KEY_MANAGER.function("crsgenResponse")
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "CrsgenKmsNodeAlreadyResponded": Verdict.DONE,
        **SENDER_VERDICTS,
    }
    start, result = "CrsGen", "GetCrsGenResult"
    counter, answers = 20, 22

    def request(self, content: HttpzCrsgen) -> kms.CrsGenRequest:
        """Return the message for the Core."""
        return kms.CrsGenRequest(
            request_id=request_id(content.produced_id),
            params=self.fhe_parameters(content),
            domain=domain_message(self.deployment.httpz),
        )

    def objects(self, content: HttpzCrsgen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Yield the string of an answer. Raises Broken."""
        message = read_message(kms.CrsGenResult, reply)
        expect_request_id(message, content)
        return [] if message.crs_results is None else [("CRS", message.crs_results)]
