"""The calls of a Core that make keys and CRS and abort them. Source: kms-core-grpc.md, 3.3 to 3.5 and 5."""

from __future__ import annotations

from functools import partial

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    CrsGenRequest,
    CrsInfo,
    KeyDigest,
    KeyGenPreprocRequest,
    KeyGenPreprocResult,
    KeyGenRequest,
    KeyInfo,
    KeySetConfig,
    RequestId,
)
from kmsconn.emulator.core_jobs import SHORT_POLL, KeyJobs, RefusedStart
from kmsconn.emulator.core_known import CoreIds
from kmsconn.emulator.core_requests import Invalid, read_domain, read_id
from kmsconn.emulator.core_results import COMPRESSED_KEY_TYPES, KEY_TYPES, MOST_BITS, KeyResults
from kmsconn.emulator.generation_hashes import prep_keygen_hash
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.status import Status


@attrs.define(eq=False)
class KeyCalls:
    """The calls, on what one Core has and works on."""

    known: CoreIds
    results: KeyResults
    jobs: KeyJobs
    _preprocessed: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    """Of each running key: the preprocessing it was made from."""

    def start_preprocessing(self, request: bytes) -> bytes:
        """Begin a preparation. Raises Invalid or RefusedStart."""
        message = decode(KeyGenPreprocRequest, request)
        request_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_parameters(message.params)
        if message.keyset_config is None or message.keyset_config.standard_keyset_config is None:
            raise Invalid("a standard key set has a configuration")
        self._check_pair(message.context_id, message.epoch_id, threshold_only=True)
        struct_hash = prep_keygen_hash(int.from_bytes(request_id), message.extra_data)
        result = KeyGenPreprocResult(
            preprocessing_id=RequestId(request_id=request_id.hex()),
            external_signature=self.results.sign(domain, struct_hash),
        )
        self.jobs.begin("preprocessing", request_id, partial(bytes, result))
        return b""

    async def start_key(self, request: bytes) -> bytes:
        """Begin a key from a preparation, once that is ready. Raises Invalid or RefusedStart."""
        message = decode(KeyGenRequest, request)
        key_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_pair(message.context_id, message.epoch_id)
        prep_id = read_id(message.preproc_id)
        if key_id in self.jobs.table("key"):
            raise RefusedStart(Status.ALREADY_EXISTS)
        await self.jobs.result("preprocessing", SHORT_POLL, bytes(RequestId(request_id=prep_id.hex())))
        info = KeyInfo(
            key_id=RequestId(request_id=key_id.hex()),
            preproc_id=RequestId(request_id=prep_id.hex()),
            key_digests=[
                KeyDigest(key_type=name, digest=self.results.digest(name, key_id))
                for name in _types_of(message.keyset_config)
            ],
        )
        self.jobs.begin("key", key_id, partial(self._finish_key, domain, info, message.extra_data))
        del self.jobs.table("preprocessing")[prep_id]
        self._preprocessed[key_id] = prep_id
        return b""

    def start_crs(self, request: bytes) -> bytes:
        """Begin a CRS. Raises Invalid or RefusedStart."""
        message = decode(CrsGenRequest, request)
        crs_id, domain = read_id(message.request_id), read_domain(message.domain)
        self._check_parameters(message.params)
        bits = MOST_BITS if message.max_num_bits is None else message.max_num_bits
        if not 0 < bits <= MOST_BITS or bits & (bits - 1):
            raise Invalid("the size of a CRS is a power of two up to 2048")
        self._check_pair(message.context_id, None)
        info = CrsInfo(
            crs_id=RequestId(request_id=crs_id.hex()), crs_digest=self.results.digest(f"CRS {bits}", crs_id)
        )
        made = self.results.crs_result(domain, info, bits, message.extra_data)
        self.jobs.begin("crs", crs_id, partial(bytes, made))
        return b""

    def abort_key(self, request: bytes) -> bytes:
        """Abort a preparation, and the key that is made from it. Raises RefusedStart where none runs."""
        prep_id = read_id(decode(RequestId, request))
        keys = [key for key, prep in self._preprocessed.items() if prep == prep_id]
        jobs = [
            self.jobs.table("preprocessing").get(prep_id),
            *(self.jobs.table("key").get(key) for key in keys),
        ]
        return self.jobs.abort(jobs)

    def abort_crs(self, request: bytes) -> bytes:
        """Abort a CRS. Raises RefusedStart where none runs."""
        return self.jobs.abort([self.jobs.table("crs").get(read_id(decode(RequestId, request)))])

    def _finish_key(self, domain: Domain, info: KeyInfo, extra_data: bytes) -> bytes:
        self.known.keys.add(read_id(info.key_id))
        return bytes(self.results.key_result(domain, info, extra_data))

    def _check_parameters(self, params: int | None) -> None:
        if params not in {0, 1}:
            raise Invalid("unknown parameters")

    def _check_pair(
        self, context: RequestId | None, epoch: RequestId | None, *, threshold_only: bool = False
    ) -> None:
        """Look context and epoch up, where they are named. Raises RefusedStart."""
        named = [(context, self.known.contexts), (epoch, self.known.epochs)]
        unknown = any(name is not None and read_id(name) not in known for name, known in named)
        if unknown and (self.results.node().degree or not threshold_only):
            raise RefusedStart(Status.NOT_FOUND)


def _types_of(config: KeySetConfig | None) -> tuple[str, ...]:
    """Return the names of what makes up a key set; without a configuration it is compressed."""
    standard = None if config is None else config.standard_keyset_config
    whole = standard is not None and standard.compressed_key_config == CompressedKeyConfig.CompressedNone
    return KEY_TYPES if whole else COMPRESSED_KEY_TYPES
