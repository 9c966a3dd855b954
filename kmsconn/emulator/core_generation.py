"""The calls of an emulated Core about keys, CRS, contexts and epochs, by name and with the Core's statuses, and those that look into it.

What the first do stands in ``core_key_calls`` and ``core_context_calls``. Source: kms-core-grpc.md, 3.3 to 3.5, 3.7 and 5.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from functools import partial

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
from kmsconn.emulator.core_context_calls import ContextCalls
from kmsconn.emulator.core_jobs import SHORT_POLL, CoreJobs, RefusedCall
from kmsconn.emulator.core_key_calls import KeyCalls
from kmsconn.emulator.core_keys import KeyResults, KeyStore
from kmsconn.emulator.core_requests import ID_BYTES, CoreIds, Invalid, read_id
from kmsconn.emulator.grpc_server import GrpcFailure, Method
from kmsconn.errors import Undecodable
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status

STORAGE = "emulated"
_LONG_POLL = 300.0
_NO_ID = b"\x01" + bytes(ID_BYTES - 1)


def refusal(label: str, status: Status, request_id: bytes = _NO_ID) -> GrpcFailure:
    """Return a status whose text has the one shape that the Core uses (5.4)."""
    return GrpcFailure(status, f"Failed on requestID {request_id.hex()} with metric {label}")


@attrs.define(eq=False)
class KeyManagement:
    """What one Core makes and has; ``known`` and ``jobs`` are shared with its decryptions."""

    known: CoreIds
    results: KeyResults
    jobs: CoreJobs
    store: KeyStore = attrs.field(factory=KeyStore)
    _keys: KeyCalls = attrs.field(init=False, repr=False)
    _contexts: ContextCalls = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._keys = KeyCalls(self.known, self.results, self.jobs, self.store)
        self._contexts = ContextCalls(self.known, self.results, self.jobs, self.store)

    def methods(self) -> dict[str, Method]:
        """Return the calls by bare name."""
        keys, contexts = self._keys, self._contexts
        long = _LONG_POLL if self.results.node().degree else SHORT_POLL
        at_once = {
            "KeyGenPreproc": ("keygen_preproc_request", keys.start_preprocessing),
            "CrsGen": ("crs_gen_request", keys.start_crs),
            "AbortKeyGen": ("keygen_abort", keys.abort_key),
            "AbortCrsGen": ("crs_gen_abort", keys.abort_crs),
            "NewMpcContext": ("new_mpc_context", contexts.new_context),
            "NewMpcEpoch": ("new_mpc_epoch", contexts.new_epoch),
            "DestroyMpcContext": ("destroy_mpc_context", contexts.destroy_context),
            "DestroyMpcEpoch": ("destroy_mpc_epoch", contexts.destroy_epoch),
            "GetKeyMaterialAvailability": ("", self._material),
            "GetHealthStatus": ("", self._status),
        }
        waiting: dict[str, tuple[str, Method]] = {
            "KeyGen": ("keygen_request", keys.start_key),
            "GetKeyGenPreprocResult": ("keygen_preproc_result", partial(self._result, "preprocessing", long)),
            "GetKeyGenResult": ("keygen_result", partial(self._result, "key", long)),
            "GetCrsGenResult": ("crs_gen_result", partial(self._result, "crs", SHORT_POLL)),
            "GetEpochResult": ("get_mpc_epoch_result", partial(self._result, "epoch", SHORT_POLL)),
        }
        calls = waiting | {name: (label, _later(call)) for name, (label, call) in at_once.items()}
        return {name: partial(self._guarded, label, call) for name, (label, call) in calls.items()}

    async def _result(self, kind: str, longest: float, request: bytes) -> bytes:
        return await self.jobs.result(kind, longest, read_id(decode(RequestId, request)))

    async def _guarded(self, label: str, call: Callable[[bytes], Awaitable[bytes]], request: bytes) -> bytes:
        """Run a call, and put what goes wrong into a status."""
        self.jobs.settle()
        try:
            return await call(request)
        except Undecodable as error:
            raise GrpcFailure(Status.INTERNAL, "failed to decode Protobuf message") from error
        except Invalid as error:
            raise refusal(label, Status.INVALID_ARGUMENT) from error
        except RefusedCall as error:
            raise refusal(label, error.status) from error

    def _material(self, _request: bytes) -> bytes:
        """Say which keys there are."""
        return bytes(
            KeyMaterialAvailabilityResponse(
                fhe_key_ids=_texts(self.known.keys), crs_ids=_texts(self._crs()), storage_info=STORAGE
            )
        )

    def _status(self, _request: bytes) -> bytes:
        """Say which contexts there are, every peer being there; a centralised Core has no peers and names no contexts."""
        degree = self.results.node().degree
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
        return [one for one, _ in self.jobs.table("crs").items() if not self.jobs.at_work("crs", one)]

    def _context(self, context_id: bytes, degree: int) -> PeersFromContext:
        return PeersFromContext(
            context_id=RequestId(request_id=context_id.hex()),
            my_party_id=self.results.node().party_id,
            threshold_required=degree + 1,
            nodes_reachable=3 * degree + 1,
            status=HealthStatus.OPTIMAL,
        )


def _texts(identifiers: Iterable[bytes]) -> list[str]:
    return [one.hex() for one in sorted(identifiers)]


def _later(call: Callable[[bytes], bytes]) -> Method:
    async def answer(request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return call(request)

    return answer
