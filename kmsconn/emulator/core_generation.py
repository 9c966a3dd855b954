"""The calls of an emulated Core about keys, CRS, contexts and epochs, by name and with the Core's statuses, and those that look into it.

What those do that change contexts and epochs stands in ``core_context_calls``.
Source: kms-core-grpc.md, 3.3 to 3.5, 3.7 and 5; fhevm-0.15.md, 1.7.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import partial

import attrs
import trio

from kmsconn._generated.fhevm.kms.v1 import (
    CrsGenRequest,
    CrsInfo,
    HealthStatus,
    HealthStatusResponse,
    KeyGenPreprocRequest,
    KeyGenPreprocResult,
    KeyGenRequest,
    KeyGenResult,
    KeyInfo,
    KeyMaterialAvailabilityResponse,
    NodeType,
    PeersFromContext,
    RequestId,
)
from kmsconn.emulator.contracts.generation_releases import prep_keygen_hash
from kmsconn.emulator.core_context_calls import ContextCalls
from kmsconn.emulator.core_jobs import SHORT_POLL, CoreJobs, RefusedCall
from kmsconn.emulator.core_keys import (
    MOST_BITS,
    PUBLIC_KEY_TYPE,
    ExistingKeySet,
    KeyResults,
    KeySetJob,
    KeySetKind,
    KeyStore,
    SigningNode,
)
from kmsconn.emulator.core_requests import ID_BYTES, CoreIds, Invalid, check_schemes, read_domain, read_id
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


@contextmanager
def refusing(label: str, request_id: bytes = _NO_ID) -> Iterator[None]:
    """Put what goes wrong meanwhile into a status."""
    try:
        yield
    except Undecodable as error:
        raise GrpcFailure(Status.INTERNAL, "failed to decode Protobuf message") from error
    except Invalid as error:
        raise refusal(label, Status.INVALID_ARGUMENT, request_id) from error
    except RefusedCall as error:
        raise refusal(label, error.status, request_id) from error


@attrs.define(eq=False)
class KeyManagement:
    """What one Core makes and has; ``known`` and ``jobs`` are shared with its decryptions."""

    known: CoreIds
    results: KeyResults
    jobs: CoreJobs
    store: KeyStore = attrs.field(factory=KeyStore)
    _contexts: ContextCalls = attrs.field(init=False, repr=False)
    _preprocessed: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    """Of each running key: the preprocessing it was made from."""
    _prepared: dict[bytes, KeySetKind] = attrs.field(factory=dict, init=False, repr=False)
    """Of each preprocessing: what it was made for."""

    def __attrs_post_init__(self) -> None:
        self._contexts = ContextCalls(self.known, self.results, self.jobs, self.store)

    def methods(self) -> dict[str, Method]:
        """Return the calls by bare name."""
        contexts = self._contexts
        long = _LONG_POLL if self.results.node().degree else SHORT_POLL
        at_once = {
            "KeyGenPreproc": ("keygen_preproc_request", self.start_preprocessing),
            "CrsGen": ("crs_gen_request", self.start_crs),
            "AbortKeyGen": ("keygen_abort", self.abort_key),
            "AbortCrsGen": ("crs_gen_abort", self.abort_crs),
            "NewMpcContext": ("new_mpc_context", contexts.new_context),
            "NewMpcEpoch": ("new_mpc_epoch", contexts.new_epoch),
            "DestroyMpcContext": ("destroy_mpc_context", contexts.destroy_context),
            "DestroyMpcEpoch": ("destroy_mpc_epoch", contexts.destroy_epoch),
            "GetKeyMaterialAvailability": ("", self._material),
            "GetHealthStatus": ("", self._status),
        }
        waiting: dict[str, tuple[str, Method]] = {
            "KeyGen": ("keygen_request", self.start_key),
            "GetKeyGenPreprocResult": ("keygen_preproc_result", partial(self._result, "preprocessing", long)),
            "GetKeyGenResult": ("keygen_result", partial(self._result, "key", long)),
            "GetCrsGenResult": ("crs_gen_result", partial(self._result, "crs", SHORT_POLL)),
            "GetEpochResult": ("get_mpc_epoch_result", partial(self._result, "epoch", SHORT_POLL)),
        }
        calls = waiting | {name: (label, _later(call)) for name, (label, call) in at_once.items()}
        return {name: partial(_guarded, self.jobs, label, call) for name, (label, call) in calls.items()}

    async def _result(self, kind: str, longest: float, request: bytes) -> bytes:
        return await self.jobs.result(kind, longest, read_id(decode(RequestId, request)))

    def start_preprocessing(self, request: bytes) -> bytes:
        """Begin a preparation. Raises Invalid or RefusedCall."""
        message = decode(KeyGenPreprocRequest, request)
        request_id, domain = read_id(message.request_id), read_domain(message.domain)
        _check_parameters(message.params)
        if message.keyset_config is None:
            raise Invalid("a standard key set has a configuration")
        kind = KeySetKind.read(message.keyset_config)
        check_schemes(self.results.node().release, message.signing_schemes)
        self._check_pair(message.context_id, message.epoch_id, threshold_only=True)
        struct_hash = prep_keygen_hash(int.from_bytes(request_id), message.extra_data)
        signed = self.results.sign(domain, struct_hash, message.signing_schemes)
        name = RequestId(request_id=request_id.hex())
        result = KeyGenPreprocResult(
            preprocessing_id=name, external_signature=signed.external, signatures=signed.by_scheme
        )
        self.jobs.begin("preprocessing", request_id, partial(bytes, result))
        self._prepared[request_id] = kind
        return b""

    async def start_key(self, request: bytes) -> bytes:
        """Begin a key, or a migration, from a preparation once that is ready. Raises Invalid or RefusedCall."""
        message = decode(KeyGenRequest, request)
        key_id, kind = read_id(message.request_id), KeySetKind.read(message.keyset_config)
        existing = ExistingKeySet.read(message.keyset_added_info) if kind.migrates else None
        check_schemes(self.results.node().release, message.signing_schemes)
        result = partial(
            self.results.key_result,
            read_domain(message.domain),
            extra_data=message.extra_data,
            schemes=tuple(message.signing_schemes),
        )
        self._check_pair(message.context_id, message.epoch_id)
        prep_id = read_id(message.preproc_id)
        if self.jobs.table("key").get(key_id) is not None:
            raise RefusedCall(Status.ALREADY_EXISTS)
        await self.jobs.result("preprocessing", SHORT_POLL, prep_id)
        self._check_preparation(key_id, prep_id, kind)
        self._check_tag(existing)
        made = partial(self._finish_key, KeySetJob(key_id, prep_id, kind), existing, result)
        self.jobs.begin("key", key_id, made)
        self.jobs.table("preprocessing").forget(prep_id)
        self._preprocessed[key_id] = prep_id
        return b""

    def start_crs(self, request: bytes) -> bytes:
        """Begin a CRS. Raises Invalid or RefusedCall."""
        message = decode(CrsGenRequest, request)
        crs_id, domain = read_id(message.request_id), read_domain(message.domain)
        _check_parameters(message.params)
        bits = MOST_BITS if message.max_num_bits is None else message.max_num_bits
        if not 0 < bits <= MOST_BITS or bits & (bits - 1):
            raise Invalid("the size of a CRS is a power of two up to 2048")
        check_schemes(self.results.node().release, message.signing_schemes)
        self._check_pair(message.context_id, None)
        digest = self.results.digest(f"CRS {bits}", crs_id)
        info = CrsInfo(crs_id=RequestId(request_id=crs_id.hex()), crs_digest=digest)
        made = self.results.crs_result(domain, info, bits, message.extra_data, message.signing_schemes)
        self.jobs.begin("crs", crs_id, partial(bytes, made))
        return b""

    def abort_key(self, request: bytes) -> bytes:
        """Abort a preparation, and the key that is made from it. Raises RefusedCall where none runs."""
        prep_id = read_id(decode(RequestId, request))
        keys = [key for key, prep in self._preprocessed.items() if prep == prep_id]
        generating = (self.jobs.table("key").get(key) for key in keys)
        return self.jobs.abort([self.jobs.table("preprocessing").get(prep_id), *generating])

    def abort_crs(self, request: bytes) -> bytes:
        """Abort a CRS. Raises RefusedCall where none runs."""
        return self.jobs.abort([self.jobs.table("crs").get(read_id(decode(RequestId, request)))])

    def _finish_key(
        self, job: KeySetJob, existing: ExistingKeySet | None, result: Callable[[KeyInfo], KeyGenResult]
    ) -> bytes:
        """Store and sign what was made; of a migration the public key is the old one. Raises RefusedCall."""
        origins = dict.fromkeys(job.kind.types, job.key_id)
        if existing is None:
            self.known.keys.add(job.key_id)
        else:
            self._check_shares(existing)
            origins[PUBLIC_KEY_TYPE] = existing.key_id
        self.store.keep(job.key_id, job.prep_id, origins)
        digests = {name: self.results.digest(name, one) for name, one in origins.items()}
        if existing is not None and existing.copies and self.store.copies:
            self.store.copy(job.key_id, existing.key_id, job.prep_id)
            copied = attrs.evolve(job, key_id=existing.key_id)
            self.jobs.renew("key", existing.key_id, partial(bytes, result(copied.info(digests))))
        return bytes(result(job.info(digests)))

    def _check_shares(self, existing: ExistingKeySet) -> None:
        """Fail a migration without shares or public key of what is migrated, and that of a centralised Core. Raises RefusedCall."""
        possible = self.results.node().degree and existing.key_id in self.known.keys
        if not possible or existing.key_id in self.store.damaged:
            raise RefusedCall(Status.INTERNAL)

    def _check_preparation(self, key_id: bytes, prep_id: bytes, kind: KeySetKind) -> None:
        """Fail a key whose configuration is not the one that its preparation was made for. Raises RefusedCall."""
        if self._prepared.get(prep_id) != kind:
            self.jobs.begin("key", key_id, _fail)
            raise RefusedCall(Status.INTERNAL)

    def _check_tag(self, existing: ExistingKeySet | None) -> None:
        """Look for the tag of the key that is migrated. Raises RefusedCall; a centralised Core fails later, whatever there is."""
        wanted = existing is not None and existing.takes_tag and self.results.node().degree
        if existing is not None and wanted and existing.key_id not in self.known.keys:
            raise RefusedCall(Status.INTERNAL)

    def _check_pair(
        self, context: RequestId | None, epoch: RequestId | None, *, threshold_only: bool = False
    ) -> None:
        """Look context and epoch up, where they are named. Raises RefusedCall."""
        named = [(context, self.known.contexts), (epoch, self.known.epochs)]
        unknown = any(name is not None and read_id(name) not in known for name, known in named)
        if unknown and (self.results.node().degree or not threshold_only):
            raise RefusedCall(Status.NOT_FOUND)

    def _material(self, _request: bytes) -> bytes:
        """Say which keys there are."""
        keys, crs = _texts(self.known.keys), _texts(_made_crs(self.jobs))
        return bytes(KeyMaterialAvailabilityResponse(fhe_key_ids=keys, crs_ids=crs, storage_info=STORAGE))

    def _status(self, _request: bytes) -> bytes:
        """Say which contexts there are, every peer being there; a centralised Core has no peers and names no contexts."""
        degree = self.results.node().degree
        contexts = sorted(self.known.contexts) if degree else []
        reply = HealthStatusResponse(
            peers_from_all_contexts=[_peers(one, self.results.node()) for one in contexts],
            my_fhe_key_ids=_texts(self.known.keys),
            my_crs_ids=_texts(_made_crs(self.jobs)),
            my_storage_info=STORAGE,
            node_type=NodeType.THRESHOLD if degree else NodeType.CENTRALIZED,
        )
        return bytes(reply)


async def _guarded(
    jobs: CoreJobs, label: str, call: Callable[[bytes], Awaitable[bytes]], request: bytes
) -> bytes:
    """Run a call, once all is stored that is ready by now."""
    jobs.settle()
    with refusing(label):
        return await call(request)


def _peers(context_id: bytes, node: SigningNode) -> PeersFromContext:
    return PeersFromContext(
        context_id=RequestId(request_id=context_id.hex()),
        my_party_id=node.party_id,
        threshold_required=node.degree + 1,
        nodes_reachable=3 * node.degree + 1,
        status=HealthStatus.OPTIMAL,
    )


def _made_crs(jobs: CoreJobs) -> list[bytes]:
    return [one for one, _ in jobs.table("crs").items() if not jobs.at_work("crs", one)]


def _check_parameters(params: int | None) -> None:
    if params not in {0, 1}:
        raise Invalid("unknown parameters")


def _texts(identifiers: Iterable[bytes]) -> list[str]:
    return [one.hex() for one in sorted(identifiers)]


def _later(call: Callable[[bytes], bytes]) -> Method:
    async def answer(request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return call(request)

    return answer


def _fail() -> bytes:
    raise RefusedCall(Status.INTERNAL)
