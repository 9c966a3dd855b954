"""Epochs: new shares of the keys, in a new context or in the same (E7), and the end of one. Their order stands in ``contexts``.

Source: fhevm-0.14.md, 1.4, 1.5, 2.5, 3.7, 5.4, annexes A and E.2; kms-core-grpc.md, 3.3-3.5; fhevm-0.15.md, 1.9.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken, NotYet, Rejected
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import EPOCH_TAG, id_hex
from kmsconn.model.life import Answer
from kmsconn.model.requests import Content, Kind, Order
from kmsconn.protocols.core_messages import DEPENDENCY, domain_message, read_message, signature_of, signer_of
from kmsconn.protocols.deployments import SIGNATURE
from kmsconn.protocols.fhevm.contexts import SELDOM, UNTIL_DONE
from kmsconn.protocols.fhevm.contracts import PROTOCOL_CONFIG, KeyViews, Standing
from kmsconn.protocols.fhevm.key_management import (
    COMPLETING_GAS,
    LOST_SOON,
    PARAMETERS,
    ProtocolConfigOperation,
    crs_digest,
    expect_epoch,
    final,
    id_of,
    is_issued,
    was_destroyed,
)
from kmsconn.protocols.fhevm.keygen import (
    COMPRESSED_KEY_SET,
    KEY_TYPES,
    digests_of,
    key_digest,
    unknown_key_type,
)
from kmsconn.protocols.fhevm.operations import (
    SIGNING_SCHEMES,
    build_extra_data,
    request_id,
)
from kmsconn.protocols.port import (
    CoreCall,
    Meaning,
    RequestEvent,
    Revert,
    Verdict,
    id_in_topic,
)
from kmsconn.protocols.queries import ContractQuery, QueryPlan

CONFIRM = PROTOCOL_CONFIG.function("confirmEpochActivation")
OLD_CONFIG = "have ProtocolConfig deployed again from a release that knows it; no epoch becomes active before"
OVERRIDE = "the option preprocessing_ids names others, and must do so alike at all nodes"
_START = {"INVALID_ARGUMENT": Meaning.UNCERTAIN, "FAILED_PRECONDITION": Meaning.WAIT}
"""An epoch may be there already; and the Core begins none while it destroys one, or a context (0.15: 2.4)."""


@attrs.frozen
class NewEpoch(Content):
    """New shares of the keys as of ``material_block``, in a new context or in the same."""

    context_id: int
    id: int
    previous_context_id: int
    previous_epoch_id: int
    material_block: int

    kind = Kind.NEW_KMS_EPOCH

    @property
    def order(self) -> Order:
        """It waits for its context, and holds up what needs its shares."""
        context = frozenset({self.context_id})
        inside = self.previous_context_id == self.context_id
        reshared = frozenset({self.previous_epoch_id}) if inside else frozenset()
        return Order(under=context | {self.id}, holds=context | reshared, behind=context)


@attrs.frozen
class KeyMaterial:
    """One key as the contract knows it: its ids, parameters, and digests with their types' numbers."""

    prep_id: int
    id: int
    params: int
    digests: tuple[tuple[int, bytes], ...]


@attrs.frozen
class EpochMaterial:
    """What an epoch reshares: keys, and common reference strings with their digests, each in the contract's order."""

    keys: tuple[KeyMaterial, ...]
    crs: tuple[tuple[int, bytes], ...]


class NewEpochs(ProtocolConfigOperation[NewEpoch]):
    """The row of new epochs. Nodes of the previous context send shares and activate nothing (P13)."""

    kind = Kind.NEW_KMS_EPOCH
    events = (RequestEvent(PROTOCOL_CONFIG.event("NewKmsEpoch"), NewEpoch, id_in_topic(2)),)
    outsiders = True
    agreed = True
    stages: ClassVar[Mapping[str, float]] = {"submit": 300.0}
    longest_wait = LOST_SOON
    spare_gas = COMPLETING_GAS
    start, result, means = "NewMpcEpoch", "GetEpochResult", _START
    reply = CONFIRM
    in_doubt = "InvalidKmsEpoch"
    counter = EPOCH_TAG, lambda at: final(at.keys.config.newest_epoch_id())
    before_first = 1  # which the contract makes itself
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "EpochActivationAlreadyConfirmed": Verdict.DONE,
        "InvalidKmsEpoch": Verdict.RETRY,  # done where the epoch turns out to be active: the caller asks
        "EpochActivationUnauthorized": Verdict.SKIP,
        "KmsContextNotCreated": Verdict.RETRY,
        "InvalidKmsContext": Verdict.FINAL,
        "EmptyEpochActivationAttestation": Verdict.FINAL,
        "EpochActivationSignerDoesNotMatchTxSender": Verdict.FINAL,
        **SIGNATURE,
    }

    def explain_silence(self, calldata: bytes) -> Revert | None:
        """Say that the contract does not know key type 3, where the reply has a digest of it."""
        _, keys, _ = CONFIRM.decode(calldata)
        return unknown_key_type((digests for _, _, digests, _ in keys), OLD_CONFIG)

    def standing(self, content: NewEpoch, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether it is still made, with this node. Raises Destroyed once it, or its context, was.

        It needs the nodes of both contexts. The Core of any other node refuses it for ever, and would hold up what comes behind.
        """
        config = self.ask.config
        destroyed, standing, *signers = yield [
            final(config.is_context_destroyed(content.context_id)),
            config.epoch_standing(content.id),
            *(
                config.node_signer(one, tx_sender)
                for one in (content.previous_context_id, content.context_id)
            ),
        ]
        if destroyed:
            raise was_destroyed(content.context_id)
        yield from expect_epoch(self.ask, content.id)
        return standing is not Standing.CREATED and any(signer != ZERO_ADDRESS for signer in signers)

    def plan(self, content: NewEpoch) -> QueryPlan[EpochMaterial]:
        """Read what is reshared, as of the block that the event names (3.7). Raises Rejected for a type that is not known.

        The preparation of a key is the one that an operator names, or else that of its migration, or else that of the contract.
        """
        ask, block = self.ask.generation, content.material_block
        key_ids, crs_ids = yield [ask.completed_keys(block=block), ask.completed_crs(block=block)]
        found = yield [
            *(ask.key(key_id, block=block) for key_id in key_ids),
            *(ask.crs_digest(crs_id, block=block) for crs_id in crs_ids),
        ]
        keys = [KeyMaterial(*key) for key in found[: len(key_ids)]]
        for key in keys:
            if key.params not in PARAMETERS or not {kind for kind, _ in key.digests} <= KEY_TYPES.keys():
                raise Rejected(f"key {id_hex(key.id)} has parameters or digests of a type that is not known")
        named = {**(yield from recorded_preparations(self.ask, keys)), **self.deployment.preprocessing_ids}
        return EpochMaterial(
            tuple(attrs.evolve(key, prep_id=named.get(key.id, key.prep_id)) for key in keys),
            tuple(zip(crs_ids, found[len(key_ids) :], strict=True)),
        )

    def replying_context(self, content: NewEpoch) -> int:
        """Return the context of the epoch."""
        return content.context_id

    def has_answered(
        self, content: NewEpoch, signer: Address | None, tx_sender: Address
    ) -> ContractQuery[bool] | None:
        """Ask whether this node's activation is in the contract."""
        return None if signer is None else self.ask.config.has_confirmed_epoch(content.id, signer)

    def request(self, content: NewEpoch, gathered: EpochMaterial) -> kms.NewMpcEpochRequest:
        """Return the start of an epoch."""
        previous = kms.PreviousEpochInfo(
            context_id=request_id(content.previous_context_id),
            epoch_id=request_id(content.previous_epoch_id),
            keys_info=[_key(key) for key in gathered.keys],
            crs_info=[kms.CrsInfo(request_id(crs_id), digest) for crs_id, digest in gathered.crs],
        )
        return kms.NewMpcEpochRequest(
            context_id=request_id(content.context_id),
            epoch_id=request_id(content.id),
            previous_epoch=previous,
            domain=domain_message(kms, self.deployment.config),
            extra_data=build_extra_data(content.context_id, content.id),
            signing_schemes=SIGNING_SCHEMES,
        )

    def start_calls(self, content: NewEpoch, gathered: EpochMaterial) -> tuple[CoreCall, ...]:
        """Return the start of an epoch. INVALID_ARGUMENT may say that it is there already: its result tells (L8)."""
        [call] = super().start_calls(content, gathered)
        return (attrs.evolve(call, hint=_hint(gathered)),)

    def read_answer(self, content: NewEpoch, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the reshared keys. The contract hashes the arrays in their order, which is that of the answer (2.5).

        Raises Broken; Rejected for one without a key or without a CRS, which no contract takes.
        """
        carried = build_extra_data(content.context_id, content.id)
        keys, crs, signers = _reshared(self.deployment.config, carried, reply or b"")
        if not keys or not crs:
            raise Rejected(
                "an epoch without a key, or without a common reference string, cannot be activated"
            )
        if len(signers) != 1:
            raise Broken(DEPENDENCY, f"the epoch's keys are signed by {len(signers)} different signers")
        [signer] = signers
        return Answer(CONFIRM.encode(content.id, keys, crs), signer)

    def verdict_on(self, identifier: int) -> QueryPlan[Verdict]:
        """Say what "not pending" means for an activation: done where the epoch is active, final where it was destroyed (annex A)."""
        standing, newest = yield [
            self.ask.config.epoch_standing(identifier),
            self.ask.config.newest_epoch_id(),
        ]
        if standing is Standing.CREATED:
            return Verdict.DONE
        destroyed = standing is Standing.NONE and is_issued(identifier, newest)
        return Verdict.FINAL if destroyed else Verdict.RETRY


@attrs.frozen
class EpochDestroyed(Content):
    """An epoch is over (1.5; listened to against P1)."""

    id: int

    kind = Kind.KMS_EPOCH_DESTROYED

    @property
    def order(self) -> Order:
        """It ends what makes the epoch, and waits for what is made of its shares."""
        ended = frozenset({self.id})
        return Order(ends=ended, behind=ended)


class EpochEnds(ProtocolConfigOperation[EpochDestroyed]):
    """The row of epochs that are over."""

    kind = Kind.KMS_EPOCH_DESTROYED
    start, means = "DestroyMpcEpoch", UNTIL_DONE
    events = (RequestEvent(PROTOCOL_CONFIG.event("KmsEpochDestroyed"), EpochDestroyed),)
    signed = False
    longest_wait = SELDOM
    for_good = True

    def standing(self, content: EpochDestroyed, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether the epoch is over, whatever a log says. Raises NotYet."""
        config = self.ask.config
        standing, newest = yield [final(config.epoch_standing(content.id)), final(config.newest_epoch_id())]
        if standing is not Standing.NONE or not is_issued(content.id, newest):
            raise NotYet("the contract does not say that the epoch is destroyed")
        return True

    def request(self, content: EpochDestroyed, gathered: Any) -> kms.DestroyMpcEpochRequest:
        """Return the end of an epoch."""
        return kms.DestroyMpcEpochRequest(request_id(content.id))


def recorded_preparations(ask: KeyViews, keys: Sequence[KeyMaterial]) -> QueryPlan[dict[int, int]]:
    """Find the preparations of the migrations of keys: the Core has recorded them, the contract names the original ones (1.9 of 0.15).

    A Core of 0.15 refuses an epoch whose keys come with other preparations than it has recorded (inferred, never run). Of a key whose
    migration is open or aborted nothing is returned.
    """
    compressed = [key.id for key in keys if any(kind == COMPRESSED_KEY_SET for kind, _ in key.digests)]
    if not compressed:
        return {}
    requests = yield [ask.generation.migration(key_id) for key_id in compressed]
    agreed = [ask.generation.has_consensus(request) for request in requests]
    found = yield [*agreed, *(ask.generation.key_pair(request) for request in requests)]
    told = zip(compressed, found[: len(requests)], found[len(requests) :], strict=True)
    return {key: prep for key, is_made, prep in told if is_made and prep}


def _reshared(domain: Domain, carried: bytes, reply: bytes) -> tuple[list[Any], list[Any], set[Address]]:
    """Return what an epoch's answer comes to: both arrays of the reply in the answer's order, and who signed their members."""
    message = read_message(kms.EpochResultResponse, reply)
    keys, crs, signers = [], [], set()
    for one in message.reshare_responses:
        prep_id, identifier, digests = id_of(one.preprocessing_id), id_of(one.request_id), digests_of(one)
        signature = signature_of(one)
        signers.add(signer_of(key_digest(domain, prep_id, identifier, digests, carried), signature))
        keys.append((prep_id, identifier, digests, signature))
    for one in message.crs_responses:
        identifier, bits, digest = id_of(one.request_id), one.max_num_bits, one.crs_digest
        signature = signature_of(one)
        signers.add(signer_of(crs_digest(domain, identifier, bits, digest, carried), signature))
        crs.append((identifier, bits, digest, signature))
    return keys, crs, signers


def _hint(found: EpochMaterial) -> str:
    """Say what else than an epoch that is there INVALID_ARGUMENT may mean: the Core knows other preparations of keys.

    Of plain keys too: a Core that was done with a migration before its abort has recorded that one's.
    """
    told = ", ".join(f"0x{id_hex(key.prep_id)} for key 0x{id_hex(key.id)}" for key in found.keys)
    return f"a Core of 0.15 says so too where it has recorded other preprocessing ids than it was told ({told}): {OVERRIDE}"


def _key(key: KeyMaterial) -> kms.KeyInfo:
    return kms.KeyInfo(
        key_id=request_id(key.id),
        preproc_id=request_id(key.prep_id),
        key_parameters=kms.FheParameter(key.params),
        key_digests=[kms.KeyDigest(KEY_TYPES[kind], digest) for kind, digest in key.digests],
    )
