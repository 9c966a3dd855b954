"""Key management as the profile sees it: which rule, message and reply belongs to which content. Never holds one of its own.

Source: fhevm-0.14.md, 3.5-3.9, 5.4, 5.5, annex E.2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import attrs

from kmsconn._generated.fhevm_014.kms.v1 import KeySetConfig
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import CONTEXT_TAG, CRS_TAG, EPOCH_TAG, PREP_KEYGEN_TAG
from kmsconn.model.requests import Kind
from kmsconn.model.steps import Answer
from kmsconn.protocols.fhevm_014 import extra_data, views
from kmsconn.protocols.fhevm_014 import key_inquiries as inquiries
from kmsconn.protocols.fhevm_014 import key_messages as messages
from kmsconn.protocols.fhevm_014 import key_replies as replies
from kmsconn.protocols.fhevm_014.key_events import (
    CONFIG_TOPICS,
    GENERATION_TOPICS,
    AbortCrsgen,
    AbortKeygen,
    ContextDestroyed,
    Crsgen,
    EpochDestroyed,
    KeyContent,
    Keygen,
    NewContext,
    NewEpoch,
    PrepKeygen,
)
from kmsconn.protocols.fhevm_014.key_messages import Ids
from kmsconn.protocols.fhevm_014.key_views import FINALIZED, KeyViews
from kmsconn.protocols.fhevm_014.messages import long_poll
from kmsconn.protocols.port import CoreCall, Inquiry, Numbering, Question, Revert, Subscription, Verdict

Generation = PrepKeygen | Keygen | Crsgen


@attrs.frozen
class KeyManagement:
    """The two contracts on Ethereum, and the domains under which the Core signs for them."""

    ask: KeyViews
    generation: Domain
    config: Domain
    key_set: KeySetConfig = messages.KEY_SET

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return both contracts, read up to the finalized block."""
        chain = self.ask.chain_id
        return (
            Subscription(chain, self.ask.generation, GENERATION_TOPICS, finalized=True),
            Subscription(chain, self.ask.config, CONFIG_TOPICS, finalized=True),
        )

    def numberings(self, contract: Address) -> tuple[Numbering, ...]:
        """Return the counters of what has an event for each number; a key has one only if its preparation succeeds (annex E.2)."""
        if contract == self.ask.generation:
            return (
                Numbering(Kind.PREP_KEYGEN, PREP_KEYGEN_TAG, self.ask.newest_prep_id()),
                Numbering(Kind.CRSGEN, CRS_TAG, self.ask.newest_crs_id()),
            )
        epochs = attrs.evolve(self.ask.newest_epoch_id(), block=FINALIZED)
        return (  # the first of each is made by the contract itself
            Numbering(Kind.NEW_KMS_CONTEXT, CONTEXT_TAG, self.ask.newest_context_id(), before_first=1),
            Numbering(Kind.NEW_KMS_EPOCH, EPOCH_TAG, epochs, before_first=1),
        )

    def context_of(self, content: KeyContent) -> Ids:
        """Return the context and epoch that a generation names. Raises Rejected."""
        return extra_data.parse(content.extra_data) if isinstance(content, Generation) else (None, None)

    def standing(self, content: KeyContent, tx_sender: Address) -> Inquiry[bool] | None:
        """Ask whether a request still stands; what only tells the Core of an end needs no question."""
        match content:
            case PrepKeygen() | Keygen() | Crsgen():
                return inquiries.generation_stands(self.ask, content.id)
            case NewContext():
                return inquiries.context_stands(self.ask, content)
            case NewEpoch():
                return inquiries.epoch_stands(self.ask, content, tx_sender)
            case _:
                return None

    def inquiry(self, content: KeyContent) -> Inquiry[Any] | None:
        """Ask for what the Core is to be told beside the event."""
        match content:
            case NewContext():
                return inquiries.previous_context(self.ask, content)
            case NewEpoch():
                return inquiries.epoch_material(self.ask, content)
            case ContextDestroyed():
                return inquiries.epochs_of(self.ask, content)
            case _:
                return None

    def replying_context(self, content: KeyContent) -> int | Sequence[Question[int]]:
        """Return the context whose node answers: that of extraData, of the epoch, or else the current one."""
        if isinstance(content, NewEpoch):
            return content.context_id
        named, _ = self.context_of(content)
        return (self.ask.current_context(),) if named is None else named

    def node_signer(self, context_id: int, tx_sender: Address) -> Question[Address]:
        """Ask ProtocolConfig for the signer of a tx sender in a context, pending ones too."""
        return views.node_signer(self.ask.chain_id, self.ask.config, context_id, tx_sender)

    def has_answered(
        self, content: KeyContent, signer: Address | None, tx_sender: Address
    ) -> Question[bool] | None:
        """Ask whether this node's answer is in the contract; a context is confirmed by sender, all else is signed."""
        if isinstance(content, NewContext):
            return self.ask.has_confirmed_context(content.id, tx_sender)
        if signer is None:
            return None
        if isinstance(content, NewEpoch):
            return self.ask.has_confirmed_epoch(content.id, signer)
        return self.ask.has_answered(content.id, signer)

    def start_calls(self, content: KeyContent, ids: Ids, found: Any) -> tuple[CoreCall, ...]:
        """Build the calls that hand a request over; the previous context, if it lives, is told before the new one. Raises Rejected."""
        if isinstance(content, NewContext):
            known = (content,) if found is None else (found, content)
            return tuple(messages.new_context(context) for context in known)
        if isinstance(content, Generation):
            return (self._generate(content, ids),)
        return (self._tell(content, found),)

    def _generate(self, content: Generation, ids: Ids) -> CoreCall:
        match content:
            case PrepKeygen():
                return messages.prep_keygen(self.generation, content, ids, self.key_set)
            case Keygen():
                return messages.keygen(self.generation, content, ids, self.key_set)
            case Crsgen():
                return messages.crsgen(self.generation, content, ids)

    def _tell(
        self, content: AbortKeygen | AbortCrsgen | NewEpoch | ContextDestroyed | EpochDestroyed, found: Any
    ) -> CoreCall:
        match content:
            case AbortKeygen():
                return messages.abort("AbortKeyGen", content.id)
            case AbortCrsgen():
                return messages.abort("AbortCrsGen", content.id)
            case NewEpoch():
                return messages.new_epoch(self.config, content, found)
            case ContextDestroyed():
                return messages.destroy_context(content.id, found)
            case EpochDestroyed():
                return messages.destroy_epoch(content.id)

    def result_call(self, content: KeyContent) -> CoreCall | None:
        """Build the long poll of what has a result; it goes where the start went (5.5)."""
        match content:
            case PrepKeygen():
                return long_poll("GetKeyGenPreprocResult", content.id, content.id)
            case Keygen():
                return long_poll("GetKeyGenResult", content.id, content.prep_id)
            case Crsgen():
                return long_poll("GetCrsGenResult", content.id, content.id)
            case NewEpoch():
                return long_poll("GetEpochResult", content.id, content.id)
            case _:
                return None

    def read_answer(self, content: KeyContent, reply: bytes) -> Answer | None:
        """Read an answer strictly; None for what nobody replies to. Raises Broken, Rejected."""
        match content:
            case PrepKeygen():
                return replies.read_prep(self.generation, content, reply)
            case Keygen():
                return replies.read_key(self.generation, content, reply)
            case Crsgen():
                return replies.read_crs(self.generation, content, reply)
            case NewEpoch():
                return replies.read_epoch(self.config, content, reply)
            case NewContext():
                return replies.confirm_context(content)
            case _:
                return None

    def explained(self, kind: Kind, revert: Revert) -> Revert:
        """Return a revert with the question that tells what it means, where its name alone does not (annex A)."""
        inquiry = _FOLLOW_UPS.get((kind, revert.name))
        if inquiry is None:
            return revert
        identifier = int(revert.arguments[0], 16)
        return attrs.evolve(revert, inquiry=lambda: inquiry(self.ask, identifier))


_FOLLOW_UPS: dict[tuple[Kind, str], Callable[[KeyViews, int], Inquiry[Verdict]]] = {
    (Kind.NEW_KMS_CONTEXT, "KmsContextNotPending"): inquiries.after_no_pending_context,
    (Kind.NEW_KMS_EPOCH, "InvalidKmsEpoch"): inquiries.after_no_pending_epoch,
    **{
        (kind, "InvalidKmsContext"): inquiries.after_invalid_context
        for kind in (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN)
    },
}
