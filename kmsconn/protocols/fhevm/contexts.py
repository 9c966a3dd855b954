"""Contexts: a new set of nodes (E6), and the end of one (E8).

What contexts and epochs wait for, and what ends them. The contract has one change of contexts or epochs open at a time, and an epoch
becomes active only once *every* node of its context has confirmed it. A node may still be behind: down for a day, or with a Core that
cannot do what is asked. So:

- A *context* waits for nothing. Its Core is told of the one before it too, unless that was destroyed.
- An *epoch* needs its context in the Core, and the shares of the epochs before it: it waits for what makes its context, or another
  epoch of it, and was asked for earlier.
- The *end of an epoch* waits for an earlier epoch that is still made of it in the same context: its shares are needed. An epoch that
  takes them over into another context is not waited for: activated, it has them; else the chain wants it no more.
- The *end of a context* waits for nothing.
- An end waits for no end, and nothing waits for an end: what a Core cannot destroy holds up nobody.
- An end *ends* what makes the same context or epoch, or an epoch of that context, and is still open: that can never be wanted again.
- With a context its epochs are over: those that the chain names, and those that the Core answers with.

Source: fhevm-0.15.md, section 2; fhevm-0.14.md, 1.4, 1.5, 3.6, 5.4, annexes A and E.2; kms-core-grpc.md, 3.3-3.5 and 6.6; outcomes: "Key
management".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken, NotYet, Rejected, Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, counter_of, id_hex, make_id, tag_of
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.life import Answer
from kmsconn.model.requests import Content, Kind, Order
from kmsconn.protocols.fhevm.contracts import PROTOCOL_CONFIG, Standing
from kmsconn.protocols.fhevm.key_management import (
    COMPLETING_GAS,
    NOTHING_RUNS,
    ProtocolConfigOperation,
    final,
    id_of,
    was_destroyed,
)
from kmsconn.protocols.fhevm.operations import request_id
from kmsconn.protocols.port import (
    CoreCall,
    Meaning,
    RequestEvent,
    Verdict,
    id_in_topic,
)
from kmsconn.protocols.protobuf import decode
from kmsconn.protocols.queries import ContractQuery, QueryPlan

EVENT = PROTOCOL_CONFIG.event("NewKmsContext")
CONFIRM = PROTOCOL_CONFIG.function("confirmKmsContextCreation")
NO_PREDECESSOR = make_id(CONTEXT_TAG, 0)
"""What the first context, and one that an upgrade of the contract announces again, have as their previous one (0.2)."""

UNTIL_DONE = {
    **NOTHING_RUNS,
    **dict.fromkeys(("FAILED_PRECONDITION", "OUT_OF_RANGE", "DATA_LOSS", "INTERNAL"), Meaning.WAIT),
    "INVALID_ARGUMENT": Meaning.REFUSED,
}
"""Shares of what was destroyed must not stay on a node, so it is asked for until the Core has done it.

But for ``INVALID_ARGUMENT``: the id cannot be read, which is a mistake of this program, and the same request is never taken (0.15: 2.4).
"""

SELDOM = 600.0
"""Seconds between two tries of an end at the most: a centralised Core crashes over the end of an epoch (0.15: 2.4)."""

_INT32 = 1 << 31
_MOST_EPOCHS = 1024  # what the Core takes in one call


@attrs.frozen
class ContextNode:
    """A member of a context."""

    tx_sender: Address
    signer: Address
    ip_address: str
    storage_url: str
    party_id: int
    mpc_identity: str
    ca_cert: bytes
    storage_prefix: str


@attrs.frozen
class NewContext(Content):
    """A new set of nodes. ``threshold`` is that of the MPC protocol; the contract counts by the other three."""

    id: int
    previous_id: int
    nodes: tuple[ContextNode, ...]
    threshold: int
    software_version: str
    pcr_values: tuple[tuple[bytes, bytes, bytes], ...]

    kind = Kind.NEW_KMS_CONTEXT

    @property
    def order(self) -> Order:
        """It waits for nothing, and holds up what comes behind it."""
        made = frozenset({self.id})
        return Order(under=made, holds=made)

    @classmethod
    def read(cls, *values: Any) -> NewContext:
        """Return the context that an event announces."""
        identifier, previous_id, nodes, thresholds, software_version, pcr_values = values
        _public, _user, _generation, mpc = thresholds
        return cls(
            identifier,
            previous_id,
            tuple(ContextNode(*node) for node in nodes),
            mpc,
            software_version,
            pcr_values,
        )

    @classmethod
    def read_successor(cls, *values: Any) -> NewContext | None:
        """Return what the event asks for; None for a context without predecessor, from which there is nothing to reshare."""
        content = cls.read(*values)
        return None if content.previous_id == NO_PREDECESSOR else content


class NewContexts(ProtocolConfigOperation[NewContext]):
    """The row of new contexts. That the Core took one is all that a confirmation says, so nobody signs it."""

    kind = Kind.NEW_KMS_CONTEXT
    events = (RequestEvent(EVENT, NewContext.read_successor, id_in_topic(1)),)
    signed = False
    spare_gas = COMPLETING_GAS
    start = "NewMpcContext"
    reply = CONFIRM
    in_doubt = "KmsContextNotPending"
    counter = CONTEXT_TAG, lambda at: at.keys.config.newest_context_id()
    before_first = 1  # which the contract makes itself
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsContextCreationAlreadyConfirmed": Verdict.DONE,
        "KmsContextNotPending": Verdict.RETRY,  # done where the context turns out to be live: the caller asks
        "KmsContextCreationUnauthorized": Verdict.SKIP,
    }

    def standing(self, content: NewContext, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether it was destroyed: its Core needs it until then, confirmed or not. Raises Destroyed."""
        [destroyed] = yield [final(self.ask.config.is_context_destroyed(content.id))]
        if destroyed:
            raise was_destroyed(content.id)
        return True

    def plan(self, content: NewContext) -> QueryPlan[NewContext | None]:
        """Find the announcement of the previous context, of which the Core is told first, and see that it is the one that was hashed (3.6).

        None where that context was destroyed: its Core is to forget it, and must not be told of it again.
        Raises NotYet when it is not there, or another.
        """
        [destroyed] = yield [final(self.ask.config.is_context_destroyed(content.previous_id))]
        if destroyed:
            return None
        [(block, digest)] = yield [self.ask.config.anchor(content.previous_id)]
        [logs] = yield [self.ask.config.announcements(content.previous_id, block)]
        return _announced(content.previous_id, logs, digest)

    def has_answered(
        self, content: NewContext, signer: Address | None, tx_sender: Address
    ) -> ContractQuery[bool]:
        """Ask whether this node's confirmation is in the contract."""
        return self.ask.config.has_confirmed_context(content.id, tx_sender)

    def request(self, content: NewContext, gathered: Any) -> kms.NewMpcContextRequest:
        """Return the announcement of a context. Raises Rejected for a threshold that is no int32."""
        if not -_INT32 <= content.threshold < _INT32:
            raise Rejected(f"an MPC threshold of {content.threshold} cannot be encoded for the Core")
        told = kms.MpcContext(
            mpc_nodes=[_node(node) for node in content.nodes],
            context_id=request_id(content.id),
            software_version=content.software_version,
            threshold=content.threshold,
            pcr_values=[kms.PcrValues(*values) for values in content.pcr_values],
        )
        return kms.NewMpcContextRequest(told)

    def start_calls(self, content: NewContext, gathered: NewContext | None) -> tuple[CoreCall, ...]:
        """Return the announcements; the previous context, if it lives, is told before the new one. Raises Rejected."""
        told = super().start_calls(content, None)
        return told if gathered is None else super().start_calls(gathered, None) + told

    def read_answer(self, content: NewContext, reply: bytes | None, expected: Address | None) -> Answer:
        """Return the confirmation."""
        return Answer(CONFIRM.encode(content.id), None)

    def verdict_on(self, identifier: int) -> QueryPlan[Verdict]:
        """Say what "not pending" means for a confirmation: done where the context lives, final where it was destroyed (annex A)."""
        standing, destroyed = yield [
            self.ask.config.context_standing(identifier),
            self.ask.config.is_context_destroyed(identifier),
        ]
        if destroyed:
            return Verdict.FINAL
        return Verdict.DONE if standing in {Standing.CREATED, Standing.ACTIVE} else Verdict.RETRY


@attrs.frozen
class ContextDestroyed(Content):
    """A context is over."""

    id: int

    kind = Kind.KMS_CONTEXT_DESTROYED

    @property
    def order(self) -> Order:
        """It ends what is asked for under the context."""
        return Order(ends=frozenset({self.id}))


class ContextEnds(ProtocolConfigOperation[ContextDestroyed]):
    """The row of contexts that are over."""

    kind = Kind.KMS_CONTEXT_DESTROYED
    start, means = "DestroyMpcContext", UNTIL_DONE
    events = (RequestEvent(PROTOCOL_CONFIG.event("KmsContextDestroyed"), ContextDestroyed),)
    signed = False
    longest_wait = SELDOM
    for_good = True

    def standing(self, content: ContextDestroyed, tx_sender: Address) -> QueryPlan[bool]:
        """Ask whether the context is over, whatever a log says. Raises NotYet."""
        [destroyed] = yield [final(self.ask.config.is_context_destroyed(content.id))]
        if not destroyed:
            raise NotYet("the contract does not say that the context is destroyed")
        return True

    def plan(self, content: ContextDestroyed) -> QueryPlan[tuple[int, ...]]:
        """Find the epochs that the context had, the newest of them if there are too many for one call."""
        [newest] = yield [self.ask.config.newest_epoch_id()]
        last = counter_of(newest) if tag_of(newest) == EPOCH_TAG else 0
        ids = [make_id(EPOCH_TAG, counter) for counter in range(max(1, last - _MOST_EPOCHS + 1), last + 1)]
        contexts = yield [self.ask.config.context_of_epoch(one) for one in ids]
        return tuple(one for one, context in zip(ids, contexts, strict=True) if context == content.id)

    def request(self, content: ContextDestroyed, gathered: Sequence[int]) -> kms.DestroyMpcContextRequest:
        """Return the end of a context and of its epochs, which a Core of 0.14 must be told of."""
        return kms.DestroyMpcContextRequest(request_id(content.id), [request_id(one) for one in gathered])

    def over(
        self, content: ContextDestroyed, gathered: Sequence[int], replies: Sequence[bytes]
    ) -> frozenset[int]:
        """Return the epochs of the context: those of the chain, and those that Cores since 0.15 tell."""
        return frozenset(gathered).union(*map(_epochs_told, replies))


def _epochs_told(reply: bytes) -> frozenset[int]:
    """Return the epochs in an answer; none where it cannot be read, since the chain knows them too."""
    try:
        told = decode(kms.DestroyMpcContextResponse, reply).epoch_ids
        return frozenset(id_of(one) for one in told)
    except (Undecodable, Broken):
        return frozenset()


def _node(node: ContextNode) -> kms.MpcNode:
    """Return a node. A certificate that is empty is left out: the Core refuses one that is present and no PEM (6.6).

    Cores until 0.15 read the signer from ``signer_address``, from 0.15 on by its scheme: the two must be the same (0.15: 4.5).
    """
    return kms.MpcNode(
        mpc_identity=node.mpc_identity,
        party_id=node.party_id,
        signer_address=node.signer,
        external_url=node.ip_address,
        ca_cert=node.ca_cert or None,
        public_storage_url=node.storage_url,
        public_storage_prefix=node.storage_prefix,
        extra_signer_addresses=[node.tx_sender],
        scheme_digests=[kms.SchemeDigest(kms.SigningSchemeType.ECDSA256K1, node.signer)],
    )


def _announced(context_id: int, logs: Sequence[Log], digest: bytes) -> NewContext:
    if len(logs) != 1:
        raise NotYet(
            f"context {id_hex(context_id)} has {len(logs)} announcements in the block that the contract names"
        )
    if keccak256(logs[0].data) != digest:
        raise NotYet(
            f"the announcement of context {id_hex(context_id)} is not the one that the contract hashed"
        )
    try:
        return NewContext.read(*EVENT.decode(logs[0].topics, logs[0].data))
    except Undecodable as error:
        raise NotYet(f"the announcement of context {id_hex(context_id)} cannot be read: {error}") from error
