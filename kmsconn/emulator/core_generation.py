"""The calls of an emulated Core that make keys and CRS and change contexts and epochs. Never decrypts.

A job is an entry with the time at which it will be ready. Digests are derived from ids, so that all nodes of a set agree.
Source: kms-core-grpc.md, 3.3 to 3.5, 5 and 6.6.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial

import attrs
import trio

from kmsconn._generated.fhevm_014.kms.v1 import (
    CompressedKeyConfig,
    CrsGenRequest,
    CrsGenResult,
    CrsInfo,
    DestroyMpcContextRequest,
    DestroyMpcEpochRequest,
    EpochResultResponse,
    KeyDigest,
    KeyGenPreprocRequest,
    KeyGenPreprocResult,
    KeyGenRequest,
    KeyGenResult,
    KeyInfo,
    KeySetConfig,
    MpcContext,
    NewMpcContextRequest,
    NewMpcEpochRequest,
    PreviousEpochInfo,
    RequestId,
)
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_requests import Invalid, read_domain, read_id
from kmsconn.emulator.generation_hashes import crsgen_hash, keygen_hash, prep_keygen_hash
from kmsconn.emulator.grpc_server import GrpcFailure, Method
from kmsconn.emulator.uptime import Uptime
from kmsconn.errors import Undecodable
from kmsconn.ethereum.eip712 import Domain, signing_digest
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.status import Status

KEY_TYPES = ("ServerKey", "PublicKey")
COMPRESSED_KEY_TYPES = ("PublicKey", "CompressedXofKeySet")
_SHORT_POLL, _LONG_POLL = 60.0, 300.0
_MOST_BITS = 2048
_CODES = {KEY_TYPES[0]: 0, KEY_TYPES[1]: 1, COMPRESSED_KEY_TYPES[1]: 3}


class RefusedStart(Exception):  # noqa: N818 - the call is
    """A call ends with this status."""

    def __init__(self, status: Status) -> None:
        super().__init__(status.name)
        self.status = status


@attrs.define(eq=False)
class Running:
    """One job: pending until ``ready_at``; ``make`` gives its result; an aborted one has none."""

    ready_at: float
    make: Callable[[], bytes]
    aborted: bool = False


def digest_of(name: str, identifier: bytes) -> bytes:
    """Return the digest of what is made under an id."""
    return keccak256(name.encode() + identifier)


@attrs.define(eq=False)
class KeyManagement:
    """What one Core has made and knows; the sets are shared with its decryptions."""

    node: SigningNode
    contexts: set[bytes]
    epochs: set[bytes]
    keys: set[bytes]
    computing: Callable[[], float]
    digest: Callable[[str, bytes], bytes] = digest_of
    """The digest of a key part or a CRS by name and id."""
    on_start: Callable[[bytes], None] = lambda _: None
    """Is told the id of each start call that was understood."""
    _jobs: dict[str, dict[bytes, Running]] = attrs.field(factory=dict, init=False, repr=False)
    _preprocessed: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    """Of each running key: the preprocessing it was made from."""
    _signers: dict[bytes, set[bytes]] = attrs.field(factory=dict, init=False, repr=False)
    """Of each context that was told: the addresses of its nodes. Of the default one every Core is a node that knows it."""
    _uptime: Uptime = attrs.field(factory=Uptime, init=False, repr=False)

    def methods(self) -> dict[str, Method]:
        """Return the calls by bare name."""
        long = _LONG_POLL if self.node.degree else _SHORT_POLL
        at_once = {
            "KeyGenPreproc": ("keygen_preproc_request", self._start_preprocessing),
            "CrsGen": ("crs_gen_request", self._start_crs),
            "AbortKeyGen": ("keygen_abort", self._abort_key),
            "AbortCrsGen": ("crs_gen_abort", self._abort_crs),
            "NewMpcContext": ("new_mpc_context", self._new_context),
            "NewMpcEpoch": ("new_mpc_epoch", self._new_epoch),
            "DestroyMpcContext": ("destroy_mpc_context", self._destroy_context),
            "DestroyMpcEpoch": ("destroy_mpc_epoch", self._destroy_epoch),
        }
        waiting: dict[str, tuple[str, Method]] = {
            "KeyGen": ("keygen_request", self._start_key),
            "GetKeyGenPreprocResult": ("keygen_preproc_result", partial(self._result, "preprocessing", long)),
            "GetKeyGenResult": ("keygen_result", partial(self._result, "key", long)),
            "GetCrsGenResult": ("crs_gen_result", partial(self._result, "crs", _SHORT_POLL)),
            "GetEpochResult": ("get_mpc_epoch_result", partial(self._result, "epoch", _SHORT_POLL)),
        }
        calls = waiting | {name: (label, _later(call)) for name, (label, call) in at_once.items()}
        return {name: partial(_guarded, label, call) for name, (label, call) in calls.items()}

    def restart(self) -> None:
        """Forget what a restarted process forgets: preprocessings, epoch results, and all that was not ready."""
        now = trio.current_time()
        for kind, jobs in self._jobs.items():
            kept = kind in {"key", "crs"}
            self._jobs[kind] = {i: job for i, job in jobs.items() if kept and job.ready_at <= now}
        self._uptime.restart()

    def _start_preprocessing(self, request: bytes) -> bytes:
        message = decode(KeyGenPreprocRequest, request)
        request_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_parameters(message.params)
        if message.keyset_config is None or message.keyset_config.standard_keyset_config is None:
            raise Invalid("a standard key set has a configuration")
        self._check_pair(message.context_id, message.epoch_id, threshold_only=True)
        struct_hash = prep_keygen_hash(int.from_bytes(request_id), message.extra_data)
        result = KeyGenPreprocResult(
            preprocessing_id=RequestId(request_id=request_id.hex()),
            external_signature=self._sign(domain, struct_hash),
        )
        self._begin("preprocessing", request_id, partial(bytes, result))
        return b""

    async def _start_key(self, request: bytes) -> bytes:
        message = decode(KeyGenRequest, request)
        key_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_pair(message.context_id, message.epoch_id)
        prep_id = read_id(message.preproc_id)
        if key_id in self._table("key"):
            raise RefusedStart(Status.ALREADY_EXISTS)
        await self._result("preprocessing", _SHORT_POLL, bytes(RequestId(request_id=prep_id.hex())))
        info = KeyInfo(
            key_id=RequestId(request_id=key_id.hex()),
            preproc_id=RequestId(request_id=prep_id.hex()),
            key_digests=[
                KeyDigest(key_type=name, digest=self.digest(name, key_id))
                for name in _types_of(message.keyset_config)
            ],
        )
        self._begin("key", key_id, partial(self._finish_key, domain, info, message.extra_data))
        del self._table("preprocessing")[prep_id]
        self._preprocessed[key_id] = prep_id
        return b""

    def _start_crs(self, request: bytes) -> bytes:
        message = decode(CrsGenRequest, request)
        crs_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_parameters(message.params)
        bits = _MOST_BITS if message.max_num_bits is None else message.max_num_bits
        if not 0 < bits <= _MOST_BITS or bits & (bits - 1):
            raise Invalid("the size of a CRS is a power of two up to 2048")
        self._check_pair(message.context_id, None)
        info = CrsInfo(
            crs_id=RequestId(request_id=crs_id.hex()), crs_digest=self.digest(f"CRS {bits}", crs_id)
        )
        made = self._crs_result(domain, info, bits, message.extra_data)
        self._begin("crs", crs_id, partial(bytes, made))
        return b""

    def _abort_key(self, request: bytes) -> bytes:
        prep_id = read_id(decode(RequestId, request))
        keys = [key for key, prep in self._preprocessed.items() if prep == prep_id]
        jobs = [self._table("preprocessing").get(prep_id), *(self._table("key").get(key) for key in keys)]
        return self._abort(jobs)

    def _abort_crs(self, request: bytes) -> bytes:
        return self._abort([self._table("crs").get(read_id(decode(RequestId, request)))])

    def _abort(self, jobs: list[Running | None]) -> bytes:
        now = trio.current_time()
        running = [job for job in jobs if job is not None and not job.aborted and job.ready_at > now]
        if not running:
            raise RefusedStart(Status.NOT_FOUND)
        for job in running:
            job.aborted, job.ready_at = True, now
        self._uptime.stir()
        return b""

    def _new_context(self, request: bytes) -> bytes:
        context = decode(NewMpcContextRequest, request).new_context
        if context is None:
            raise Invalid("the context is absent")
        context_id = read_id(context.context_id)
        _check_context(context)
        if context_id in self.contexts:
            raise RefusedStart(Status.ALREADY_EXISTS)
        self.contexts.add(context_id)
        self._signers[context_id] = {node.signer_address or b"" for node in context.mpc_nodes}
        return b""

    def _new_epoch(self, request: bytes) -> bytes:
        message = decode(NewMpcEpochRequest, request)
        context_id, epoch_id = read_id(message.context_id), read_id(message.epoch_id)
        if epoch_id in self.epochs:
            raise Invalid("the epoch exists") if self.node.degree else RefusedStart(Status.ALREADY_EXISTS)
        if message.previous_epoch is not None:
            self._check_resharing(context_id, message.previous_epoch)
        if context_id not in self.contexts:
            raise RefusedStart(Status.NOT_FOUND)
        self.on_start(epoch_id)
        self._begin("epoch", epoch_id, partial(self._finish_epoch, message))
        if self._is_member(context_id):
            self.epochs.add(epoch_id)
        return b""

    def _check_resharing(self, context_id: bytes, previous: PreviousEpochInfo) -> None:
        """See that this Core has part in it: who was a node must have the epoch, who was none must become one."""
        old_id = read_id(previous.context_id)
        if old_id not in self.contexts:
            raise Invalid("the context of what is to be reshared is not here")
        if self._is_member(old_id) and read_id(previous.epoch_id) not in self.epochs:
            raise Invalid("what is to be reshared is not here")
        if not self._is_member(old_id) and not self._is_member(context_id):
            raise Invalid("this is a node of neither context")

    def _is_member(self, context_id: bytes) -> bool:
        return self.node.key.address in self._signers.get(context_id, {self.node.key.address})

    def at_work(self, kind: str, identifier: bytes) -> bool:
        """Tell whether a preparation (``preprocessing``), ``key``, ``crs`` or ``epoch`` is being made."""
        job = self._table(kind).get(identifier)
        return job is not None and not job.aborted and job.ready_at > trio.current_time()

    def _destroy_context(self, request: bytes) -> bytes:
        message = decode(DestroyMpcContextRequest, request)
        self.epochs.difference_update(read_id(epoch) for epoch in message.epoch_ids)
        self.contexts.discard(read_id(message.context_id))
        return b""

    def _destroy_epoch(self, request: bytes) -> bytes:
        epoch_id = read_id(decode(DestroyMpcEpochRequest, request).epoch_id)
        if epoch_id not in self.epochs:
            raise RefusedStart(Status.NOT_FOUND)
        self.epochs.discard(epoch_id)
        return b""

    async def _result(self, kind: str, longest: float, request: bytes) -> bytes:
        """Wait for a result as long as the real Core does, and return it. Raises Refused."""
        job = self._table(kind).get(read_id(decode(RequestId, request)))
        if job is None:
            raise RefusedStart(Status.NOT_FOUND)
        until = trio.current_time() + longest
        await self._uptime.wait(lambda: min(job.ready_at, until))
        if job.aborted:
            raise RefusedStart(Status.ABORTED)
        if job.ready_at > trio.current_time():
            raise RefusedStart(Status.UNAVAILABLE)
        return job.make()

    def _begin(self, kind: str, identifier: bytes, make: Callable[[], bytes]) -> None:
        if identifier in self._table(kind):
            raise RefusedStart(Status.ALREADY_EXISTS)
        self.on_start(identifier)
        self._table(kind)[identifier] = Running(trio.current_time() + self.computing(), make)

    def _finish_key(self, domain: Domain, info: KeyInfo, extra_data: bytes) -> bytes:
        self.keys.add(read_id(info.key_id))
        return bytes(self._key_result(domain, info, extra_data))

    def _finish_epoch(self, message: NewMpcEpochRequest) -> bytes:
        previous = message.previous_epoch
        if previous is None:
            return bytes(EpochResultResponse())
        domain, extra = read_domain(message.domain), message.extra_data
        self.keys.update(read_id(info.key_id) for info in previous.keys_info)
        return bytes(
            EpochResultResponse(
                reshare_responses=[self._key_result(domain, info, extra) for info in previous.keys_info],
                crs_responses=[
                    self._crs_result(domain, info, self._bits_of(info), extra) for info in previous.crs_info
                ],
            )
        )

    def _bits_of(self, info: CrsInfo) -> int:
        """Return the size of a CRS that this Core made, by its digest."""
        crs_id = read_id(info.crs_id)
        sizes = [1 << power for power in range(12)]
        return next(
            (size for size in sizes if self.digest(f"CRS {size}", crs_id) == info.crs_digest), _MOST_BITS
        )

    def _key_result(self, domain: Domain, info: KeyInfo, extra_data: bytes) -> KeyGenResult:
        prep_id, key_id = read_id(info.preproc_id), read_id(info.key_id)
        digests = tuple((_CODES[part.key_type], part.digest) for part in info.key_digests)
        hashed = keygen_hash(int.from_bytes(prep_id), int.from_bytes(key_id), digests, extra_data)
        return KeyGenResult(
            request_id=RequestId(request_id=key_id.hex()),
            preprocessing_id=RequestId(request_id=prep_id.hex()),
            key_digests=list(info.key_digests),
            external_signature=self._sign(domain, hashed),
        )

    def _crs_result(self, domain: Domain, info: CrsInfo, bits: int, extra_data: bytes) -> CrsGenResult:
        crs_id = read_id(info.crs_id)
        hashed = crsgen_hash(int.from_bytes(crs_id), bits, info.crs_digest, extra_data)
        return CrsGenResult(
            request_id=RequestId(request_id=crs_id.hex()),
            crs_digest=info.crs_digest,
            max_num_bits=bits,
            external_signature=self._sign(domain, hashed),
        )

    def _sign(self, domain: Domain, struct_hash: bytes) -> bytes:
        return self.node.key.sign(signing_digest(domain, struct_hash))

    def _check_parameters(self, params: int | None) -> None:
        if params not in {0, 1}:
            raise Invalid("unknown parameters")

    def _check_pair(
        self, context: RequestId | None, epoch: RequestId | None, *, threshold_only: bool = False
    ) -> None:
        """Look context and epoch up, where they are named. Raises Refused."""
        named = [(context, self.contexts), (epoch, self.epochs)]
        unknown = any(name is not None and read_id(name) not in known for name, known in named)
        if unknown and (self.node.degree or not threshold_only):
            raise RefusedStart(Status.NOT_FOUND)

    def _table(self, kind: str) -> dict[bytes, Running]:
        return self._jobs.setdefault(kind, {})


def _check_context(context: MpcContext) -> None:
    """Check a new context as the Core does (6.6). Raises Invalid."""
    count, threshold = len(context.mpc_nodes), context.threshold
    if count != (3 * threshold + 1 if count > 1 else 1) or (count == 1 and threshold):
        raise Invalid("one node has threshold 0, a set has three times its threshold and one")
    parties = {node.party_id for node in context.mpc_nodes}
    if parties != set(range(1, count + 1)) or len({n.mpc_identity for n in context.mpc_nodes}) != count:
        raise Invalid("party ids are 1 to n, and identities differ")
    if any(
        node.ca_cert is not None and b"BEGIN CERTIFICATE" not in node.ca_cert for node in context.mpc_nodes
    ):
        raise Invalid("a certificate is PEM text, or absent")


def _types_of(config: KeySetConfig | None) -> tuple[str, ...]:
    """Return the names of what makes up a key set; without a configuration it is compressed."""
    standard = None if config is None else config.standard_keyset_config
    whole = standard is not None and standard.compressed_key_config == CompressedKeyConfig.CompressedNone
    return KEY_TYPES if whole else COMPRESSED_KEY_TYPES


def _later(call: Callable[[bytes], bytes]) -> Callable[[bytes], Awaitable[bytes]]:
    async def answer(request: bytes) -> bytes:
        await trio.lowlevel.checkpoint()
        return call(request)

    return answer


async def _guarded(label: str, call: Callable[[bytes], Awaitable[bytes]], request: bytes) -> bytes:
    """Run a call, and put what goes wrong into a status with the Core's one shape of text (5.4)."""
    try:
        return await call(request)
    except Undecodable as error:
        raise GrpcFailure(Status.INTERNAL, "failed to decode Protobuf message") from error
    except Invalid as error:
        raise GrpcFailure(Status.INVALID_ARGUMENT, _text(label)) from error
    except RefusedStart as error:
        raise GrpcFailure(error.status, _text(label)) from error


def _text(label: str) -> str:
    return f"Failed on requestID {'01' + '00' * 31} with metric {label}"
