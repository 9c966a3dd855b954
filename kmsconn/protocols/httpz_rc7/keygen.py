"""Generation of keys, from preparation to key, and of common reference strings.

Source: httpz-rc7.md, 1.3, 2.2, 2.5, 3.3 and 8.2; annex C.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, ClassVar

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.model.requests import Kind
from kmsconn.protocols.answers import read_message
from kmsconn.protocols.httpz_rc7.abi import KEY_MANAGER
from kmsconn.protocols.httpz_rc7.key_management import (
    KeyOperation,
    KeyRequest,
    Preparation,
    PreparedKey,
    expect_request_id,
)
from kmsconn.protocols.httpz_rc7.messages import domain_message, request_id
from kmsconn.protocols.httpz_rc7.operations import SENDER_VERDICTS
from kmsconn.protocols.port import RequestEvent, Verdict, id_in_data


@attrs.frozen
class HttpzPrepKeygen(KeyRequest):
    """A request to prepare a key."""

    id: int
    parameters: bytes

    kind = Kind.PREP_KEYGEN


class HttpzPrepKeygens(Preparation[HttpzPrepKeygen]):
    """The row of preparations."""

    kind = Kind.PREP_KEYGEN
    events = (RequestEvent(KEY_MANAGER.event("PreprocessKeygenRequest"), HttpzPrepKeygen, id_in_data),)
    reply = KEY_MANAGER.function("preprocessKeygenResponse")
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "PreprocessKeygenKmsNodeAlreadyResponded": Verdict.DONE,
        **SENDER_VERDICTS,
    }
    counter, answers = 1, 4

    def request(self, content: HttpzPrepKeygen) -> kms.KeyGenPreprocRequest:
        """Return the message for the Core."""
        return kms.KeyGenPreprocRequest(request_id(content.produced_id), self.fhe_parameters(content))


@attrs.frozen
class HttpzKeygen(KeyRequest):
    """A request to make the key that was prepared under ``id``."""

    id: int
    parameters: bytes

    kind = Kind.KEYGEN


class HttpzKeygens(PreparedKey[HttpzKeygen]):
    """The row of keys."""

    kind = Kind.KEYGEN
    events = (RequestEvent(KEY_MANAGER.event("KeygenRequest"), HttpzKeygen, id_in_data),)
    reply = KEY_MANAGER.function("keygenResponse")
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KeygenKmsNodeAlreadyResponded": Verdict.DONE,
        **SENDER_VERDICTS,
    }
    prepared, answers = HttpzPrepKeygens.answers, 6

    def request(self, content: HttpzKeygen) -> kms.KeyGenRequest:
        """Return the message for the Core."""
        return kms.KeyGenRequest(
            request_id=request_id(content.produced_id),
            params=self.fhe_parameters(content),
            preproc_id=request_id(content.id),
            domain=domain_message(self.deployment.httpz),
        )

    def objects(self, content: HttpzKeygen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Yield the keys of an answer. Raises Broken."""
        message = read_message(kms.KeyGenResult, reply)
        expect_request_id(message, content)
        return sorted(message.key_results.items())


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
