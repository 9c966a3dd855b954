"""The calls with which an operator looks into a Core: what it has, and which peers it reaches. Source: kms-core-grpc.md, 3.7."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    HealthStatus,
    HealthStatusResponse,
    KeyMaterialAvailabilityResponse,
    NodeType,
    PeersFromContext,
    RequestId,
)
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_jobs import KeyJobs
from kmsconn.emulator.core_known import CoreIds
from kmsconn.emulator.grpc_server import Method

STORAGE = "emulated"


@attrs.frozen
class CoreInspection:
    """The calls, on what one Core has; a centralised Core has no peers and names no contexts."""

    known: CoreIds
    node: Callable[[], SigningNode]
    jobs: KeyJobs

    def methods(self) -> dict[str, Method]:
        """Return the calls by bare name."""
        return {"GetKeyMaterialAvailability": self.material, "GetHealthStatus": self.status}

    async def material(self, request: bytes) -> bytes:
        """Say which keys there are."""
        del request
        await trio.lowlevel.checkpoint()
        self.jobs.settle()
        reply = KeyMaterialAvailabilityResponse(
            fhe_key_ids=_texts(self.known.keys), crs_ids=_texts(self._crs()), storage_info=STORAGE
        )
        return bytes(reply)

    async def status(self, request: bytes) -> bytes:
        """Say which contexts there are, every peer being there."""
        del request
        await trio.lowlevel.checkpoint()
        self.jobs.settle()
        degree = self.node().degree
        contexts = sorted(self.known.contexts) if degree else []
        reply = HealthStatusResponse(
            peers_from_all_contexts=[self._context(one, degree) for one in contexts],
            my_fhe_key_ids=_texts(self.known.keys),
            my_crs_ids=_texts(self._crs()),
            my_storage_info=STORAGE,
            node_type=NodeType.THRESHOLD if degree else NodeType.CENTRALIZED,
        )
        return bytes(reply)

    def _crs(self) -> list[bytes]:
        return [one for one in self.jobs.table("crs") if not self.jobs.at_work("crs", one)]

    def _context(self, context_id: bytes, degree: int) -> PeersFromContext:
        return PeersFromContext(
            context_id=RequestId(request_id=context_id.hex()),
            my_party_id=self.node().party_id,
            threshold_required=degree + 1,
            nodes_reachable=3 * degree + 1,
            status=HealthStatus.OPTIMAL,
        )


def _texts(identifiers: Iterable[bytes]) -> list[str]:
    return [one.hex() for one in sorted(identifiers)]
