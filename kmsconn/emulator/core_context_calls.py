"""The calls of a Core that change contexts and epochs.

Source: kms-core-grpc.md, 3.3 to 3.5, 5 and 6.6; fhevm-0.15.md, 1.9, 2.3, 2.4 and 4.5.
"""

from __future__ import annotations

from functools import partial

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    DestroyMpcContextRequest,
    DestroyMpcContextResponse,
    DestroyMpcEpochRequest,
    EpochResultResponse,
    MpcContext,
    MpcNode,
    NewMpcContextRequest,
    NewMpcEpochRequest,
    PreviousEpochInfo,
    RequestId,
)
from kmsconn.emulator.core_jobs import CoreJobs, RefusedCall
from kmsconn.emulator.core_keys import KeyResults, KeyStore
from kmsconn.emulator.core_requests import (
    DEFAULT_CONTEXT,
    ECDSA256K1,
    CoreIds,
    CoreRelease,
    Invalid,
    check_schemes,
    read_domain,
    read_id,
)
from kmsconn.emulator.grpc_server import CutConnection
from kmsconn.ethereum.addresses import ADDRESS_BYTES
from kmsconn.protocols.protobuf import decode
from kmsconn.transport.grpc.framing import Status


@attrs.define(eq=False)
class ContextCalls:
    """The calls, on what one Core has and works on."""

    known: CoreIds
    results: KeyResults
    jobs: CoreJobs
    store: KeyStore
    _signers: dict[bytes, set[bytes]] = attrs.field(factory=dict, init=False, repr=False)
    """Of each context that was told: the addresses of its nodes. Of the default one every Core is a node that knows it."""
    _contexts: dict[bytes, bytes] = attrs.field(factory=dict, init=False, repr=False)
    """Of each epoch but the first: its context."""

    @property
    def _release(self) -> CoreRelease:
        return self.results.node().release

    def new_context(self, request: bytes) -> bytes:
        """Take a context. Raises Invalid or RefusedCall."""
        context = decode(NewMpcContextRequest, request).new_context
        if context is None:
            raise Invalid("the context is absent")
        context_id = read_id(context.context_id)
        _check_context(context)
        signers = {_address_of(node, self._release) for node in context.mpc_nodes}
        if context_id in self.known.contexts:
            raise RefusedCall(Status.ALREADY_EXISTS)
        self.known.contexts.add(context_id)
        self._signers[context_id] = signers
        return b""

    def new_epoch(self, request: bytes) -> bytes:
        """Begin an epoch, perhaps by resharing another one. Raises Invalid or RefusedCall."""
        message = decode(NewMpcEpochRequest, request)
        context_id, epoch_id = read_id(message.context_id), read_id(message.epoch_id)
        if epoch_id in self.known.epochs:
            known = Invalid("the epoch exists"), RefusedCall(Status.ALREADY_EXISTS)
            raise known[not self.results.node().degree]
        check_schemes(self._release, message.signing_schemes)
        if message.previous_epoch is not None:
            self._check_resharing(context_id, message.previous_epoch)
        if context_id not in self.known.contexts:
            raise RefusedCall(Status.NOT_FOUND)
        self.jobs.begin("epoch", epoch_id, partial(self._finish_epoch, message))
        self._contexts[epoch_id] = context_id
        if self._is_member(context_id):
            self.known.epochs.add(epoch_id)
        return b""

    def _check_resharing(self, context_id: bytes, previous: PreviousEpochInfo) -> None:
        """See that this Core has part in it: who was a node must have the epoch, who was none must become one."""
        old_id = read_id(previous.context_id)
        if old_id not in self.known.contexts:
            raise Invalid("the context of what is to be reshared is not here")
        if self._is_member(old_id) and read_id(previous.epoch_id) not in self.known.epochs:
            raise Invalid("what is to be reshared is not here")
        if not self._is_member(old_id) and not self._is_member(context_id):
            raise Invalid("this is a node of neither context")
        if any(self.store.differs(info, self._release) for info in previous.keys_info):
            raise Invalid("a key is recorded with another preprocessing")

    def _is_member(self, context_id: bytes) -> bool:
        own = self.results.node().key.address
        return own in self._signers.get(context_id, {own})

    def destroy_context(self, request: bytes) -> bytes:
        """Forget a context and its epochs; until 0.14 those that are listed. Raises Invalid or RefusedCall."""
        message = decode(DestroyMpcContextRequest, request)
        context_id = read_id(message.context_id)
        if self._release is CoreRelease.V0_14:
            self.known.epochs.difference_update(read_id(epoch) for epoch in message.epoch_ids)
            self.known.contexts.discard(context_id)
            return b""
        if context_id not in self.known.contexts:
            raise RefusedCall(Status.NOT_FOUND)
        epochs = {one for one in self.known.epochs if self._contexts.get(one, DEFAULT_CONTEXT) == context_id}
        self._expect_others(self.known.contexts, {context_id})
        if self.results.node().degree:
            self._expect_others(self.known.epochs, epochs)
        self.known.epochs -= epochs
        self.known.contexts.discard(context_id)
        told = sorted(epochs) if self.results.node().degree else []
        return bytes(DestroyMpcContextResponse([RequestId(one.hex()) for one in told]))

    def _expect_others(self, known: set[bytes], gone: set[bytes]) -> None:
        """Refuse to destroy the last ones of their kind, or an epoch that is being made. Raises RefusedCall."""
        being_made = any(self.jobs.at_work("epoch", one) for one in gone)
        if being_made or (gone and known <= gone):
            raise RefusedCall(Status.FAILED_PRECONDITION)

    def destroy_epoch(self, request: bytes) -> bytes:
        """Forget an epoch; a centralised Core crashes over it from 0.15 on. Raises RefusedCall or CutConnection."""
        epoch_id = read_id(decode(DestroyMpcEpochRequest, request).epoch_id)
        later = self._release is not CoreRelease.V0_14
        if later and not self.results.node().degree:
            raise CutConnection
        if epoch_id not in self.known.epochs:
            raise RefusedCall(Status.NOT_FOUND)
        if later:
            self._expect_others(self.known.epochs, {epoch_id})
        self.known.epochs.discard(epoch_id)
        return b""

    def _finish_epoch(self, message: NewMpcEpochRequest) -> bytes:
        previous = message.previous_epoch
        if previous is None:
            return bytes(EpochResultResponse())
        domain, extra, schemes = read_domain(message.domain), message.extra_data, message.signing_schemes
        self.known.keys.update(read_id(info.key_id) for info in previous.keys_info)
        for info in previous.keys_info:
            self.store.preprocessings[read_id(info.key_id)] = read_id(info.preproc_id)
        results, kept = self.results, previous.crs_info
        keys = [results.reshared(domain, info, extra, schemes) for info in previous.keys_info]
        crs = [results.crs_result(domain, info, results.bits_of(info), extra, schemes) for info in kept]
        return bytes(EpochResultResponse(reshare_responses=keys, crs_responses=crs))


def _check_context(context: MpcContext) -> None:
    """Check a new context as the Core does (6.6). Raises Invalid."""
    count, threshold = len(context.mpc_nodes), context.threshold
    if count != (3 * threshold + 1 if count > 1 else 1) or (count == 1 and threshold):
        raise Invalid("one node has threshold 0, a set has three times its threshold and one")
    parties = {node.party_id for node in context.mpc_nodes}
    if parties != set(range(1, count + 1)) or len({n.mpc_identity for n in context.mpc_nodes}) != count:
        raise Invalid("party ids are 1 to n, and identities differ")
    if any(n.ca_cert is not None and b"BEGIN CERTIFICATE" not in n.ca_cert for n in context.mpc_nodes):
        raise Invalid("a certificate is PEM text, or absent")


def _address_of(node: MpcNode, release: CoreRelease) -> bytes:
    """Return the signer of a node: until 0.14 from the old field, in 0.16 from the list, between them from both. Raises Invalid."""
    old = node.signer_address or b""
    listed = [one.digest for one in node.scheme_digests if one.scheme == ECDSA256K1]
    if release is CoreRelease.V0_14:
        return old
    named = {*listed, *([old] if old and release is CoreRelease.V0_15 else [])}
    if len(named) != 1 or len(address := named.pop()) != ADDRESS_BYTES:
        raise Invalid("a node has one signer, an address")
    return address
