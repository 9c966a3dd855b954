"""Generation 0.14 as the pipeline sees it. Never holds a rule or an encoding of its own; it only knows who does."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from kmsconn.config.settings import Settings
from kmsconn.errors import NotYet, Rejected
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, id_hex
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import (
    Content,
    Decryption,
    Kind,
    LegacyUserDecryption,
    Material,
    PublicDecryption,
    UnifiedUserDecryption,
)
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.fhevm_014 import events, extra_data, replies, reverts, views
from kmsconn.protocols.fhevm_014.core_messages import CoreMessages, result_call
from kmsconn.protocols.fhevm_014.operations import OPERATIONS
from kmsconn.protocols.fhevm_014.rules import Rules
from kmsconn.protocols.port import (
    Coprocessor,
    CoreCall,
    Facts,
    Inquiry,
    Numbering,
    Operation,
    Question,
    Revert,
    Slot,
    Subscription,
    View,
)


class Fhevm014:
    """The profile ``fhevm-0.14`` over the addresses, domains and chains of the settings."""

    name = "fhevm-0.14"
    has_attestations = True
    operations: Mapping[Kind, Operation] = OPERATIONS

    def __init__(self, settings: Settings) -> None:
        contract = settings.decryption_contract
        gateway = settings.gateway.chain_id
        self._gateway, self._ethereum = gateway, settings.ethereum.chain_id
        self._decryption = contract.address
        self._gateway_config = settings.gateway_config_contract.address
        self._protocol_config = settings.protocol_config_contract.address
        self._domain = Domain(contract.domain_name, contract.domain_version, gateway, contract.address)
        self._messages = CoreMessages(self._domain)
        acls = {host.chain.chain_id: host.acl for host in settings.host_chains}
        self._rules = Rules(self._domain, acls, settings.erc1271_gas_limit)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the Decryption contract with its three request events."""
        return (Subscription(self._gateway, self._decryption, events.TOPICS),)

    def decode(self, log: Log) -> Content:
        """Read a request event. Raises Undecodable."""
        return events.decode(log)

    def digest(self, log: Log) -> bytes:
        """Return the Keccak-256 of topics and data."""
        return events.content_digest(log)

    def numberings(self, subscription: Subscription) -> tuple[Numbering, ...]:
        """Return the two counters; the three forms of user requests share one (0.2)."""
        where = (subscription.chain_id, subscription.contract)
        return (
            Numbering(Kind.PUBLIC_DECRYPTION, PUBLIC_DECRYPTION_TAG, views.newest_public_id(*where)),
            Numbering(Kind.USER_DECRYPTION, USER_DECRYPTION_TAG, views.newest_user_id(*where)),
        )

    def id_of(self, log: Log) -> int | None:
        """Return the id, which every request event has as its first topic."""
        return int.from_bytes(log.topics[1]) if len(log.topics) > 1 else None

    def deployment_checks(self) -> tuple[Question[None], ...]:
        """Ask whether ProtocolConfig is where it should be: the charts of 0.14 name another contract (annex D)."""
        return (views.is_protocol_config(self._ethereum, self._protocol_config),)

    def context_of(self, content: Content) -> tuple[int | None, int | None]:
        """Return context and epoch as extraData names them. Raises Rejected."""
        return extra_data.parse(_decryption(content).extra_data)

    def materials(self, content: Content) -> tuple[Material, ...]:
        """Return the ciphertexts of a decryption, in event order."""
        return _decryption(content).materials

    def inquiry(self, content: Content) -> tuple[int, Inquiry[Any]] | None:  # noqa: ARG002 - no request needs one
        """Return None: a decryption has all in its event, its transaction and the buckets."""
        return None

    def valid_until(self, content: Content) -> int | None:
        """Return the end of a unified user request's window (3.4)."""
        return content.start + content.duration if isinstance(content, UnifiedUserDecryption) else None

    def needs_transaction(self, content: Content) -> bool:
        """Say whether it is a legacy user request, whose owners and contracts stand in its transaction."""
        return isinstance(content, LegacyUserDecryption)

    def checks(self, content: Content, facts: Facts) -> tuple[Question[None], ...]:
        """Return the questions of ``rules``. Raises Rejected, NotYet, Misconfigured."""
        return self._rules.questions(_decryption(content), facts)

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> tuple[Question[None], ...]:
        """Ask whether the context was destroyed (never again), is active, and the epoch is active in it (3.5)."""
        if context_id is None:
            return ()
        where = (self._ethereum, self._protocol_config)
        destroyed = _not_destroyed(views.is_context_destroyed(*where, context_id), context_id)
        valid = _valid(views.is_valid_context(*where, context_id), f"context {id_hex(context_id)}")
        if epoch_id is None:
            return destroyed, valid
        epoch = views.is_valid_epoch(*where, context_id, epoch_id)
        return destroyed, valid, _valid(epoch, f"epoch {id_hex(epoch_id)} of context {id_hex(context_id)}")

    def replying_context(self, content: Content) -> int | Sequence[Question[int]]:
        """Return the context of extraData; else ask for the one pinned at request time, or the Gateway's current one."""
        named, _ = self.context_of(content)
        if named is not None:
            return named
        pinned = views.pinned_context(self._gateway, self._decryption, content.id)
        return pinned, views.current_context(self._gateway, self._gateway_config)

    def node_signer(self, kind: Kind, context_id: int, tx_sender: Address) -> Question[Address]:  # noqa: ARG002 - all are answered there
        """Ask GatewayConfig for the signer of a tx sender in a context."""
        return views.node_signer(self._gateway, self._gateway_config, context_id, tx_sender)

    def has_answered(self, content: Content, signer: Address, tx_sender: Address) -> Question[bool] | None:  # noqa: ARG002 - told by signer
        """Ask whether a signer's answer is in the contract."""
        return views.has_answered(self._gateway, self._decryption, content.id, signer)

    def coprocessor_senders(self) -> Question[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        return views.coprocessor_senders(self._gateway, self._gateway_config)

    def coprocessor(self, tx_sender: Address) -> Question[Coprocessor]:
        """Ask for one coprocessor."""
        return views.coprocessor(self._gateway, self._gateway_config, tx_sender)

    def coprocessor_threshold(self) -> Question[int]:
        """Ask for the majority threshold."""
        return views.coprocessor_threshold(self._gateway, self._gateway_config)

    def start_calls(
        self,
        content: Content,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
        found: Any,  # noqa: ARG002 - no request has an inquiry
    ) -> tuple[CoreCall, ...]:
        """Build the start call. Raises Rejected for a request without ciphertexts."""
        return (self._messages.start(_decryption(content), context_id, epoch_id, ciphertexts),)

    def result_call(self, content: Content) -> CoreCall | None:
        """Build the long poll."""
        return result_call(_decryption(content))

    def read_answer(self, content: Content, reply: bytes | None, expected: Address | None) -> Answer | None:  # noqa: ARG002 - one way to read
        """Read an answer strictly. Raises Broken."""
        return replies.read_answer(self._domain, _decryption(content), reply or b"")

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        """Name a revert of this kind's reply and say what it means."""
        return reverts.read(reverts.FUNCTIONS[kind], data)


def _decryption(content: Content) -> Decryption:
    """Return the content as what this generation's events are decoded to."""
    assert isinstance(content, PublicDecryption | LegacyUserDecryption | UnifiedUserDecryption)
    return content


def _not_destroyed(slot: Slot[bool], context_id: int) -> Slot[None]:
    def read(word: bytes) -> None:
        if slot.read(word):
            raise Rejected(f"context {id_hex(context_id)} was destroyed")

    return Slot(slot.chain_id, slot.to, slot.slot, read)


def _valid(view: View[bool], what: str) -> View[None]:
    def read(data: bytes) -> None:
        if not view.read(data):
            raise NotYet(f"{what} is not valid on chain")

    return View(view.chain_id, view.to, view.data, read)
