"""Generation 0.14 as the pipeline sees it. Never holds a rule or an encoding of its own; it only knows who does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import attrs

from kmsconn.config.settings import Settings
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG
from kmsconn.ethereum.keccak import keccak256
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
from kmsconn.protocols.deployments import has_version
from kmsconn.protocols.fhevm_014 import events, extra_data, key_events, replies, reverts, views
from kmsconn.protocols.fhevm_014.core_messages import CoreMessages, result_call
from kmsconn.protocols.fhevm_014.key_events import KeyContent
from kmsconn.protocols.fhevm_014.key_inquiries import valid_pair
from kmsconn.protocols.fhevm_014.key_management import KeyManagement
from kmsconn.protocols.fhevm_014.key_messages import COMPRESSED_KEY_SET, KEY_SET
from kmsconn.protocols.fhevm_014.key_order import order_of
from kmsconn.protocols.fhevm_014.key_views import KeyViews
from kmsconn.protocols.fhevm_014.members import GatewayContexts
from kmsconn.protocols.fhevm_014.operations import OPERATIONS
from kmsconn.protocols.fhevm_014.rules import Rules
from kmsconn.protocols.port import (
    Coprocessor,
    CoreCall,
    Facts,
    Numbering,
    Operation,
    Order,
    Question,
    Revert,
    Rounds,
    Subscription,
)

_DECRYPTIONS = frozenset({Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION})


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
        self._contexts = GatewayContexts(gateway, self._gateway_config)
        self._domain = Domain(contract.domain_name, contract.domain_version, gateway, contract.address)
        self._messages = CoreMessages(self._domain)
        self._keys = _key_management(settings)
        self._acls = {host.chain.chain_id: host.acl for host in settings.host_chains}
        self._rules = Rules(self._domain, self._acls, settings.erc1271_gas_limit)

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the Decryption contract with its request events in both forms, and the two contracts of key management."""
        return Subscription(self._gateway, self._decryption, events.TOPICS), *self._keys.subscriptions()

    def decode(self, log: Log) -> Content | None:
        """Read a request event; None for a context that replaces none. Raises Undecodable."""
        return key_events.decode(log) if key_events.is_key_event(log) else events.decode(log)

    def digest(self, log: Log) -> bytes:
        """Return the Keccak-256 of topics and data; of a decryption one that both forms of its event have in common."""
        if key_events.is_key_event(log):
            return keccak256(b"".join(log.topics) + log.data)
        return events.content_digest(log)

    def numberings(self, subscription: Subscription) -> tuple[Numbering, ...]:
        """Return the counters of a contract; the three forms of user requests share one (0.2)."""
        if subscription.contract != self._decryption:
            return self._keys.numberings(subscription.contract)
        where = (subscription.chain_id, subscription.contract)
        return (
            Numbering(Kind.PUBLIC_DECRYPTION, PUBLIC_DECRYPTION_TAG, views.newest_public_id(*where)),
            Numbering(Kind.USER_DECRYPTION, USER_DECRYPTION_TAG, views.newest_user_id(*where)),
        )

    def id_of(self, log: Log) -> int | None:
        """Return the id, which every decryption event has as its first topic."""
        if key_events.is_key_event(log):
            return key_events.id_of(log)
        return int.from_bytes(log.topics[1]) if len(log.topics) > 1 else None

    def deployment_checks(self) -> tuple[Question[None], ...]:
        """Ask each configured contract what it is. Where ProtocolConfig is meant, the charts of 0.14 name another one (annex D)."""
        gateway, ethereum = self._gateway, self._ethereum
        return (
            has_version("Decryption", "decryption_contract.address", gateway, self._decryption),
            has_version("GatewayConfig", "gateway_config_contract.address", gateway, self._gateway_config),
            has_version(
                "KMSGeneration", "kms_generation_contract.address", ethereum, self._keys.ask.generation
            ),
            views.is_protocol_config(ethereum, self._keys.ask.config),
            *(
                has_version("ACL", f"host_chains[{place}].acl_address", chain_id, acl)
                for place, (chain_id, acl) in enumerate(self._acls.items())
            ),
        )

    def order_of(self, content: Content) -> Order:
        """Return how contexts and epochs follow each other; everything else just ends with those that it names."""
        if isinstance(content, KeyContent) and (order := order_of(content)) is not None:
            return order
        return Order(under=frozenset(one for one in self.context_of(content) if one is not None))

    def context_of(self, content: Content) -> tuple[int | None, int | None]:
        """Return context and epoch as extraData names them. Raises Rejected."""
        if isinstance(content, KeyContent):
            return self._keys.context_of(content)
        return extra_data.parse(_decryption(content).extra_data)

    def materials(self, content: Content) -> tuple[Material, ...]:
        """Return the ciphertexts of a decryption, in event order."""
        return () if isinstance(content, KeyContent) else _decryption(content).materials

    def standing(self, content: Content, tx_sender: Address) -> Rounds[bool] | None:
        """Ask whether key management still stands."""
        inquiry = self._keys.standing(content, tx_sender) if isinstance(content, KeyContent) else None
        return None if inquiry is None else (self._ethereum, inquiry)

    def inquiry(self, content: Content) -> Rounds[Any] | None:
        """Ask for what key management needs; a decryption has all in its event, its transaction and the buckets."""
        inquiry = self._keys.inquiry(content) if isinstance(content, KeyContent) else None
        return None if inquiry is None else (self._ethereum, inquiry)

    def valid_until(self, content: Content) -> int | None:
        """Return the end of a unified user request's window (3.4)."""
        return content.start + content.duration if isinstance(content, UnifiedUserDecryption) else None

    def needs_transaction(self, content: Content) -> bool:
        """Say whether it is a legacy user request, whose owners and contracts stand in its transaction."""
        return isinstance(content, LegacyUserDecryption)

    def checks(self, content: Content, facts: Facts) -> tuple[Question[None], ...]:
        """Return the questions of ``rules``. Raises Rejected, NotYet, Misconfigured."""
        return () if isinstance(content, KeyContent) else self._rules.questions(_decryption(content), facts)

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> Rounds[None] | None:
        """Ask whether context and epoch are active, or were destroyed (3.5)."""
        if context_id is None:
            return None
        return self._ethereum, valid_pair(self._keys.ask, context_id, epoch_id)

    def replying_context(self, content: Content) -> int | Sequence[Question[int]]:
        """Return the context of extraData; else ask for the one pinned at request time, or the Gateway's current one."""
        if isinstance(content, KeyContent):
            return self._keys.replying_context(content)
        named, _ = self.context_of(content)
        if named is not None:
            return named
        pinned = views.pinned_context(self._gateway, self._decryption, content.id)
        return pinned, views.current_context(self._gateway, self._gateway_config)

    def node_signer(self, kind: Kind, context_id: int, tx_sender: Address) -> Question[Address]:
        """Ask the contract of the request's chain for the signer of a tx sender in a context."""
        if kind not in _DECRYPTIONS:
            return self._keys.node_signer(context_id, tx_sender)
        return views.node_signer(self._gateway, self._gateway_config, context_id, tx_sender)

    def memberships(self, tx_sender: Address, known: Collection[int]) -> Rounds[bool]:
        """Ask the Gateway about its current context, a few before it, and the known ones."""
        return self._gateway, self._contexts.is_member(tx_sender, known)

    def has_answered(
        self, content: Content, signer: Address | None, tx_sender: Address
    ) -> Question[bool] | None:
        """Ask whether this node's answer is in the contract."""
        if isinstance(content, KeyContent):
            return self._keys.has_answered(content, signer, tx_sender)
        assert signer is not None, "decryptions are signed"
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
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Build the start calls. Raises Rejected for a decryption without ciphertexts, and for what no Core could take."""
        if isinstance(content, KeyContent):
            return self._keys.start_calls(content, (context_id, epoch_id), found)
        return (self._messages.start(_decryption(content), context_id, epoch_id, ciphertexts),)

    def result_call(self, content: Content) -> CoreCall | None:
        """Build the long poll, where there is a result."""
        if isinstance(content, KeyContent):
            return self._keys.result_call(content)
        return result_call(_decryption(content))

    def read_answer(self, content: Content, reply: bytes | None, expected: Address | None) -> Answer | None:  # noqa: ARG002 - one way to read
        """Read an answer strictly. Raises Broken."""
        if isinstance(content, KeyContent):
            return self._keys.read_answer(content, reply or b"")
        return replies.read_answer(self._domain, _decryption(content), reply or b"")

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        """Name a revert of this kind's reply and say what it means."""
        revert = reverts.read(reverts.FUNCTIONS[kind], data)
        if kind not in _DECRYPTIONS:
            return self._keys.explained(kind, revert)
        if revert.name != "InvalidKmsContext":
            return revert
        context_id = int(revert.arguments[0], 16)
        return attrs.evolve(revert, inquiry=lambda: self._contexts.after_invalid(context_id))


def _key_management(settings: Settings) -> KeyManagement:
    chain = settings.ethereum.chain_id
    generation, config = settings.kms_generation_contract, settings.protocol_config_contract
    return KeyManagement(
        KeyViews(chain, generation.address, config.address),
        Domain(generation.domain_name, generation.domain_version, chain, generation.address),
        Domain(config.domain_name, config.domain_version, chain, config.address),
        COMPRESSED_KEY_SET if settings.compressed_key_sets else KEY_SET,
    )


def _decryption(content: Content) -> Decryption:
    """Return the content as what this generation's events are decoded to."""
    assert isinstance(content, PublicDecryption | LegacyUserDecryption | UnifiedUserDecryption)
    return content
