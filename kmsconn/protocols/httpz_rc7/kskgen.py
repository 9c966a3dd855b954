"""Generation of a key that switches from one key to another: the preparation and the key.

It is what that Core makes with ``DecompressionOnly``; for it the domain stays out, since the Core has no struct to sign for such a key
and would fail the finished job.
Source: httpz-rc7.md, 1.3, 2.2, 2.5, 8.2 and 8.3; annex C.
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
    DECOMPRESSION_ONLY,
    KeyRequest,
    Preparation,
    PreparedKey,
    expect_request_id,
)
from kmsconn.protocols.httpz_rc7.messages import request_id
from kmsconn.protocols.httpz_rc7.operations import SENDER_VERDICTS
from kmsconn.protocols.port import RequestEvent, Verdict, id_in_data


@attrs.frozen
class PrepKskgen(KeyRequest):
    """A request to prepare a key that switches from one key to another."""

    id: int
    parameters: bytes

    kind = Kind.PREP_KSKGEN


class PrepKskgens(Preparation[PrepKskgen]):
    """The row of preparations."""

    kind = Kind.PREP_KSKGEN
    events = (RequestEvent(KEY_MANAGER.event("PreprocessKskgenRequest"), PrepKskgen, id_in_data),)
    reply = KEY_MANAGER.function("preprocessKskgenResponse")
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "PreprocessKskgenKmsNodeAlreadyResponded": Verdict.DONE,
        **SENDER_VERDICTS,
    }
    counter, answers = 9, 12

    def request(self, content: PrepKskgen) -> kms.KeyGenPreprocRequest:
        """Return the message for the Core."""
        identifier = request_id(content.produced_id)
        return kms.KeyGenPreprocRequest(identifier, self.fhe_parameters(content), DECOMPRESSION_ONLY)


@attrs.frozen
class Kskgen(KeyRequest):
    """A request to make the switching key that was prepared under ``id``, between two keys."""

    id: int
    source: int
    destination: int
    parameters: bytes

    kind = Kind.KSKGEN


class Kskgens(PreparedKey[Kskgen]):
    """The row of switching keys, which nobody signs."""

    kind = Kind.KSKGEN
    events = (RequestEvent(KEY_MANAGER.event("KskgenRequest"), Kskgen, id_in_data),)
    signed = False
    reply = KEY_MANAGER.function("kskgenResponse")
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KskgenKmsNodeAlreadyResponded": Verdict.DONE,
        **SENDER_VERDICTS,
    }
    prepared, answers = PrepKskgens.answers, 16

    def request(self, content: Kskgen) -> kms.KeyGenRequest:
        """Return the message for the Core."""
        return kms.KeyGenRequest(
            request_id=request_id(content.produced_id),
            params=self.fhe_parameters(content),
            preproc_id=request_id(content.id),
            keyset_config=DECOMPRESSION_ONLY,
            keyset_added_info=kms.KeySetAddedInfo(
                from_keyset_id_decompression_only=request_id(content.source),
                to_keyset_id_decompression_only=request_id(content.destination),
            ),
        )

    def objects(self, content: Kskgen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Read the answer, whose objects nobody signs. Raises Broken."""
        expect_request_id(read_message(kms.KeyGenResult, reply), content)
        return ()
