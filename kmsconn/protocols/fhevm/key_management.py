"""What key management has in common: contracts on Ethereum that are read once they are final, and nodes by ProtocolConfig.

Here too: generation of a common reference string (E3), and the aborts of a key's generation (E4) and of a string's (E5), to which nobody
replies. Source: fhevm-0.14.md, 1.5, 2.4, 3.5-3.9, 5.4, 5.5, annexes A and E.2.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Aborted, Broken, ContextInvalid, Destroyed, NotYet, Undecodable
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CONTEXT_TAG, CRS_TAG, EPOCH_TAG, counter_of, id_hex, id_name, tag_of
from kmsconn.model.life import Answer
from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.protocols.core_messages import DEPENDENCY, expect_id, read_message, signature_of, signer_of
from kmsconn.protocols.deployments import SIGNATURE
from kmsconn.protocols.fhevm.contracts import FINALIZED, KMS_GENERATION, KeyViews, Standing
from kmsconn.protocols.fhevm.operations import (
    FhevmOperation,
    UnderContext,
    request_id,
    under_context,
)
from kmsconn.protocols.port import Meaning, RequestEvent, Verdict, id_in_data
from kmsconn.protocols.queries import ContractQuery, QueryPlan

COMPLETING_GAS = 500_000
"""Recorded were 176,000 more for the reply that completes a CRS of four nodes, 66,000 for an epoch. What is not used is not paid."""

LOST_SOON = 5.0
"""Seconds between tries where the Core keeps a result in memory only (L10)."""

LONG_POLL = {"answer": 315.0}
"""The Core holds the call for 300 s (5.1)."""

NOTHING_RUNS = {"NOT_FOUND": Meaning.SUCCESS}
"""Of what is to be stopped or destroyed: that the Core has none is as good."""

PARAMETERS = {0, 1}
"""The numbers of FHE parameters: default and test."""

C = TypeVar("C", bound=Content)
G = TypeVar("G", bound=UnderContext)


class EthereumOperation(FhevmOperation[C]):
    """A row of key management."""

    finalized = True

    @property
    def ask(self) -> KeyViews:
        """The questions to both contracts."""
        return self.deployment.keys

    def replying_context(self, content: C) -> int | Sequence[ContractQuery[int]]:
        """Return the context of extraData, or else ask for the current one."""
        named, _ = content.context
        return (self.ask.config.current_context(),) if named is None else named

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask ProtocolConfig for the signer of a tx sender in a context, pending ones too."""
        return self.ask.config.node_signer(context_id, tx_sender)


class KmsGenerationOperation(EthereumOperation[C]):
    """A row whose event is one of KMSGeneration."""

    @property
    def contract(self) -> tuple[int, Address]:
        """KMSGeneration on Ethereum."""
        return self.ask.chain_id, self.ask.generation.address


class ProtocolConfigOperation(EthereumOperation[C]):
    """A row whose event is one of ProtocolConfig. Contexts, epochs and their ends are worked on in order.

    They go to every endpoint of the Core: the 0.14 connector told one of them, and not always the same (P4).
    """

    pool = PoolName.PROTOCOL_CONFIG
    everywhere = True

    @property
    def contract(self) -> tuple[int, Address]:
        """ProtocolConfig on Ethereum."""
        return self.ask.chain_id, self.ask.config.address


class GenerationOperation(KmsGenerationOperation[G]):
    """A row that makes a key, its preparation, or a common reference string."""

    pool = PoolName.KEY_GENERATION
    agreed = True
    longest_wait = LOST_SOON
    spare_gas = COMPLETING_GAS
    in_doubt = "InvalidKmsContext"

    def standing(self, content: G, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether it still waits for answers. Raises Aborted."""
        over, consensus = yield [
            self.ask.generation.is_over(content.id),
            self.ask.generation.has_consensus(content.id),
        ]
        if over and not consensus:
            raise Aborted("it was aborted on chain")
        return not over

    def has_answered(
        self, content: G, signer: Address | None, tx_sender: Address
    ) -> ContractQuery[bool] | None:
        """Ask whether this node's answer is in the contract."""
        return None if signer is None else self.ask.generation.has_answered(content.id, signer)

    def verdict_on(self, identifier: int) -> QueryPlan[Verdict]:
        """Say what "invalid context" means for an answer: final once it was destroyed (annex A, bounded)."""
        [destroyed] = yield [self.ask.config.is_context_destroyed(identifier)]
        return Verdict.FINAL if destroyed and tag_of(identifier) == CONTEXT_TAG else Verdict.RETRY


def generation_verdicts(operation: str) -> Mapping[str, Verdict]:
    """Return what KMSGeneration says to replies of an operation that it does not take."""
    return {
        f"KmsAlreadySignedFor{operation}": Verdict.DONE,
        f"{operation}NotRequested": Verdict.RETRY,
        "NotKmsTxSender": Verdict.FINAL,
        "NotKmsSigner": Verdict.FINAL,
        "KmsSignerDoesNotMatchTxSender": Verdict.FINAL,
        "DeserializingExtraDataFail": Verdict.FINAL,
        "UnsupportedExtraDataVersion": Verdict.FINAL,
        "InvalidKmsContext": Verdict.RETRY,
        **SIGNATURE,
    }


def expect_parameters(params: int) -> int:
    """Return the number of FHE parameters. Raises Undecodable for one that has no name."""
    if params not in PARAMETERS:
        raise Undecodable(f"parameters of type {params} are not known")
    return params


# --- ids in answers of the Core


def id_of(message: Any) -> int:
    """Return the id in a RequestId. Raises Broken where there is none."""
    text = "" if message is None else message.request_id
    if len(text) != _DIGITS or not set(text) <= set("0123456789abcdef"):
        raise Broken(DEPENDENCY, "the answer lacks an id")
    return int(text, 16)


_DIGITS = 64


# --- what still stands


def valid_pair(ask: KeyViews, context_id: int, epoch_id: int | None) -> QueryPlan[None]:
    """Ask whether a context is active, and an epoch in it (3.5).

    Raises Destroyed, NotYet for what is not valid. What was destroyed in a block that is not final is not valid yet, or any more: only
    the finalized block ends a request for good. A destroyed epoch looks like one that is not issued yet, but for its number, which the
    counter has passed.
    """
    destroyed, valid, *epoch_valid = yield [
        final(ask.config.is_context_destroyed(context_id)),
        ask.config.is_valid_context(context_id),
        *([] if epoch_id is None else [ask.config.is_valid_epoch(context_id, epoch_id)]),
    ]
    if destroyed:
        raise was_destroyed(context_id)
    if epoch_id is not None and not all(epoch_valid):
        yield from expect_epoch(ask, epoch_id)
        raise ContextInvalid(
            f"epoch {id_hex(epoch_id)} of context {id_hex(context_id)} is not valid on chain"
        )
    if not valid:
        raise ContextInvalid(f"context {id_hex(context_id)} is not valid on chain")


def final(slot: ContractQuery[Any]) -> ContractQuery[Any]:
    """Ask for a slot as of the finalized block."""
    return attrs.evolve(slot, parameters=(*slot.parameters[:2], FINALIZED))


def was_destroyed(identifier: int) -> Destroyed:
    """Return the error of a context or epoch that is over."""
    return Destroyed(id_name(identifier), identifier)


def expect_epoch(ask: KeyViews, epoch_id: int) -> QueryPlan[None]:
    """Raise Destroyed for an epoch that was destroyed, as of the finalized block."""
    standing, newest = yield [final(ask.config.epoch_standing(epoch_id)), final(ask.config.newest_epoch_id())]
    if standing is Standing.NONE and is_issued(epoch_id, newest):
        raise was_destroyed(epoch_id)


def is_issued(epoch_id: int, newest: int) -> bool:
    """Say whether an epoch's number is not above the newest one's."""
    return tag_of(epoch_id) == EPOCH_TAG == tag_of(newest) and 0 < counter_of(epoch_id) <= counter_of(newest)


RESPONSE = KMS_GENERATION.function("crsgenResponse")
SIGNED_TYPE = "CrsgenVerification(uint256 crsId,uint256 maxBitLength,bytes crsDigest,bytes extraData)"
_LOW_32_BITS = (1 << 32) - 1


@attrs.frozen
class Crsgen(UnderContext):
    """A request to generate a common reference string for up to ``max_bits`` bits."""

    id: int
    max_bits: int
    params: int
    extra_data: bytes

    kind = Kind.CRSGEN

    @classmethod
    def read(cls, identifier: int, max_bits: int, params: int, extra_data: bytes) -> Crsgen:
        """Return what the event asks for. Raises Undecodable for parameters that have no name."""
        return cls(identifier, max_bits, expect_parameters(params), extra_data)


class Crsgens(GenerationOperation[Crsgen]):
    """The row of common reference strings."""

    kind = Kind.CRSGEN
    events = (RequestEvent(KMS_GENERATION.event("CrsgenRequest"), Crsgen.read, id_in_data),)
    counter = CRS_TAG, lambda at: at.keys.generation.newest_crs_id()
    start, result = "CrsGen", "GetCrsGenResult"
    reply = RESPONSE
    verdicts = generation_verdicts("Crsgen")

    def request(self, content: Crsgen, gathered: Any) -> kms.CrsGenRequest:
        """Return the start of the generation."""
        return kms.CrsGenRequest(
            **under_context(content, self.deployment.generation),
            params=kms.FheParameter(content.params),
            max_num_bits=content.max_bits & _LOW_32_BITS,
            extra_data=content.extra_data,
        )

    def read_answer(self, content: Crsgen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the digest and the signature; its size must be the requested one, which the contract hashes. Raises Broken."""
        message = read_message(kms.CrsGenResult, reply or b"")
        expect_id(message.request_id, content.id)
        if message.max_num_bits != content.max_bits:
            raise Broken(DEPENDENCY, f"the CRS is for {message.max_num_bits} bits, not {content.max_bits}")
        digest, signature = message.crs_digest, signature_of(message)
        signed = crs_digest(
            self.deployment.generation, content.id, content.max_bits, digest, content.extra_data
        )
        return Answer(RESPONSE.encode(content.id, digest, signature), signer_of(signed, signature))


def crs_digest(domain: Domain, identifier: int, max_bits: int, digest: bytes, carried: bytes) -> bytes:
    """Return what a node signs for a common reference string; ``carried`` is the event's extraData (2.4)."""
    return signing_digest(domain, hash_struct(SIGNED_TYPE, identifier, max_bits, digest, carried))


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
    """A row of aborts. That nothing runs is as good. The Core is told once the contract's own state says so, whatever a log says."""

    pool = PoolName.ABORTS
    signed = False
    means = NOTHING_RUNS
    for_good = True

    def is_aborted(self, identifier: int) -> QueryPlan[bool]:
        """Ask whether a key or CRS is over without a result, as of the finalized block. Raises NotYet."""
        generation = self.ask.generation
        over, consensus = yield [
            final(generation.is_over(identifier)),
            final(generation.has_consensus(identifier)),
        ]
        if consensus or not over:
            raise NotYet("the contract does not say that the generation is aborted")
        return True

    def request(self, content: A, gathered: Any) -> kms.RequestId:
        """Return the id of what is aborted."""
        return request_id(content.id)


class KeygenAborts(Aborts[AbortKeygen]):
    """The row of aborted keys."""

    kind = Kind.ABORT_KEYGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortKeygen"), AbortKeygen),)
    start = "AbortKeyGen"

    def standing(self, content: AbortKeygen, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether the key is aborted: an abort ends it even where its preparation has reached consensus. Raises NotYet."""
        [key_id] = yield [final(self.ask.generation.key_pair(content.id))]
        return (yield from self.is_aborted(key_id))


class CrsgenAborts(Aborts[AbortCrsgen]):
    """The row of aborted common reference strings."""

    kind = Kind.ABORT_CRSGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortCrsgen"), AbortCrsgen),)
    start = "AbortCrsGen"

    def standing(self, content: AbortCrsgen, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether the common reference string is aborted. Raises NotYet."""
        return self.is_aborted(content.id)
