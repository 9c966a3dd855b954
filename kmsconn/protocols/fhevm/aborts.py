"""Aborts: stop the generation of a key (E4) or of a common reference string (E5). Nobody replies to them.

Source: fhevm-0.14.md, 1.5, 5.4.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

import attrs

from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.model.steps import Ciphertext
from kmsconn.protocols.fhevm.abi import KMS_GENERATION
from kmsconn.protocols.fhevm.key_management import NOTHING_RUNS, KmsGenerationOperation
from kmsconn.protocols.fhevm.messages import request_id
from kmsconn.protocols.port import CoreCall, RequestEvent
from kmsconn.protocols.proto_writer import encode

A = TypeVar("A", bound=Content)


@attrs.frozen
class AbortKeygen(Content):
    """Stop a key generation, prepared or running; the id is that of the preparation."""

    id: int

    kind = Kind.ABORT_KEYGEN


@attrs.frozen
class AbortCrsgen(Content):
    """Stop the generation of a common reference string."""

    id: int

    kind = Kind.ABORT_CRSGEN


class Aborts(KmsGenerationOperation[A]):
    """A row of aborts; ``method`` is that of the Core."""

    pool = PoolName.ABORTS
    signed = False
    method: str

    def start_calls(
        self,
        content: A,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the abort; that nothing runs is as good."""
        return (CoreCall(self.method, encode(request_id(content.id)), content.id, NOTHING_RUNS),)


class KeygenAborts(Aborts[AbortKeygen]):
    """The row of aborted keys."""

    kind = Kind.ABORT_KEYGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortKeygen"), AbortKeygen),)
    method = "AbortKeyGen"


class CrsgenAborts(Aborts[AbortCrsgen]):
    """The row of aborted common reference strings."""

    kind = Kind.ABORT_CRSGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortCrsgen"), AbortCrsgen),)
    method = "AbortCrsGen"
