"""The first generation as the pipeline sees it. Never holds a rule or an encoding of its own; it only knows who does.

One gateway has it all: the contract checks the users' rights, there are no contexts, and HTTPZ knows coprocessors and nodes.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

from kmsconn.config.settings import Settings
from kmsconn.errors import NotYet, Rejected
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Content, Kind, Material
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.deployments import HasCode, answers, has_domain
from kmsconn.protocols.httpz_rc7 import abi, core_messages, events, key_messages, key_replies, reverts, views
from kmsconn.protocols.httpz_rc7.contents import (
    Decryption,
    Keygen,
    KeyManagement,
    Kskgen,
    PublicDecryption,
    UserDecryption,
    produced_id,
)
from kmsconn.protocols.httpz_rc7.operations import OPERATIONS, REPLIES
from kmsconn.protocols.httpz_rc7.plaintexts import Form
from kmsconn.protocols.httpz_rc7.replies import AUTO, Replies
from kmsconn.protocols.port import (
    Coprocessor,
    CoreCall,
    Facts,
    Inquiry,
    Numbering,
    Operation,
    Order,
    Question,
    Revert,
    Rounds,
    Slot,
    Subscription,
)

_NO_TAG = 0
THE_CONTEXT = 0
"""There is one set of nodes; the contracts give it no number."""

_PREPARED_BY = {Kind.KEYGEN: Kind.PREP_KEYGEN, Kind.KSKGEN: Kind.PREP_KSKGEN}


class HttpzRc7:
    """The profile ``httpz-rc7`` over the addresses and domains of the settings."""

    name = "httpz-rc7"
    has_attestations = False
    operations: Mapping[Kind, Operation] = OPERATIONS

    def __init__(self, settings: Settings) -> None:
        manager, httpz = settings.decryption_contract, settings.gateway_config_contract
        self._gateway = gateway = settings.gateway.chain_id
        self._manager, self._httpz = (gateway, manager.address), (gateway, httpz.address)
        self._keys = (gateway, settings.kms_generation_contract.address)
        self._domain = Domain(manager.domain_name, manager.domain_version, gateway, manager.address)
        self._key_domain = Domain(httpz.domain_name, httpz.domain_version, gateway, httpz.address)
        self._messages = core_messages.CoreMessages(self._domain)
        self._key_messages = key_messages.KeyMessages(self._key_domain, settings.httpz.fhe_parameters)
        self._replies = Replies(self._domain, _forms(settings.httpz.plaintext_encoding))
        self._preprocessing = settings.httpz.preprocessing
        self._final = settings.httpz.key_management_at_finality

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the DecryptionManager, whose requests count at once, and the KeyManager."""
        return (
            Subscription(*self._manager, events.DECRYPTION_TOPICS),
            Subscription(*self._keys, events.KEY_TOPICS, finalized=self._final),
        )

    def decode(self, log: Log) -> Content:
        """Read a request event. Raises Undecodable."""
        return events.decode(log)

    def digest(self, log: Log) -> bytes:
        """Return the Keccak-256 of topics and data."""
        return events.content_digest(log)

    def numberings(self, subscription: Subscription) -> tuple[Numbering, ...]:
        """Return the counters of a contract (annex C); keys and switching keys have none."""
        if subscription.contract == self._keys[1]:
            newest = {kind: views.newest_key_request(*self._keys, kind) for kind in views.NUMBERED}
        else:
            newest = {
                Kind.PUBLIC_DECRYPTION: views.newest_public_id(*self._manager),
                Kind.USER_DECRYPTION: views.newest_user_id(*self._manager),
            }
        return tuple(Numbering(kind, _NO_TAG, question) for kind, question in newest.items())

    def id_of(self, log: Log) -> int | None:
        """Return the id that a request event names."""
        return events.id_of(log)

    def deployment_checks(self) -> tuple[Question[None], ...]:
        """Ask each configured contract for what only its kind has."""
        key_id = abi.KEY_MANAGER.function("getCurrentKeyId")
        return (
            has_domain("DecryptionManager", "decryption_contract.address", *self._manager),
            HasCode("HTTPZ", "gateway_config_contract.address", *self._httpz),  # its getters were renamed
            answers(key_id, "KeyManager", "kms_generation_contract.address", where=self._keys),
        )

    def context_of(self, content: Content) -> tuple[int | None, int | None]:  # noqa: ARG002 - there are none
        """Return nothing: there are no contexts and no epochs."""
        return None, None

    def order_of(self, content: Content) -> Order:  # noqa: ARG002 - nothing is made that others need or end
        """Return nothing: no request waits for another, and nothing is destroyed."""
        return Order()

    def materials(self, content: Content) -> tuple[Material, ...]:
        """Return the ciphertexts of a decryption, in event order."""
        return content.materials if isinstance(content, Decryption) else ()

    def standing(self, content: Content, tx_sender: Address) -> Rounds[bool] | None:  # noqa: ARG002 - none does
        """Return None: nothing is aborted or destroyed in this generation."""
        return None

    def inquiry(self, content: Content) -> Rounds[Any] | None:  # noqa: ARG002 - no request needs one
        """Return None: a request has all in its event and the buckets."""
        return None

    def valid_until(self, content: Content) -> int | None:  # noqa: ARG002 - the event does not tell
        """Return None: the contract has checked the window of a user's request, and does not tell it."""
        return None

    def needs_transaction(self, content: Content) -> bool:  # noqa: ARG002 - none does
        """Return False."""
        return False

    def checks(self, content: Content, facts: Facts) -> tuple[Question[None], ...]:
        """See that the Core can do it; a key is made only once this node has told that it is prepared.

        Raises Rejected for a request without ciphertexts or with an unknown FHE type.
        """
        if isinstance(content, Decryption):
            if not content.materials:
                raise Rejected("the request names no ciphertext")
            core_messages.check_types(content)
            return ()
        if isinstance(content, Keygen | Kskgen) and facts.tx_sender is not None:
            kind = _PREPARED_BY[content.kind]
            told = views.has_answered_key_request(*self._keys, kind, content.id, facts.tx_sender)
            return (_prepared(told, content.id),)
        return ()

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> Rounds[None] | None:  # noqa: ARG002 - there are none
        """Return nothing: there are no contexts and no epochs."""
        return None

    def replying_context(self, content: Content) -> int | Sequence[Question[int]]:  # noqa: ARG002 - there is one
        """Return the one set of nodes."""
        return THE_CONTEXT

    def node_signer(self, kind: Kind, context_id: int, tx_sender: Address) -> Question[Address]:  # noqa: ARG002 - one set for all
        """Ask HTTPZ for the signer of a tx sender."""
        return views.node_signer(*self._httpz, tx_sender)

    def memberships(self, tx_sender: Address, known: Collection[int]) -> Rounds[bool]:  # noqa: ARG002 - one set for all
        """Ask nothing: who is not in the one set of nodes is in none."""
        return self._gateway, _nowhere()

    def has_answered(
        self, content: Content, signer: Address | None, tx_sender: Address
    ) -> Question[bool] | None:
        """Ask whether this node's answer is in the contract: told by signer, or by sender and what was made."""
        if signer is not None and isinstance(content, PublicDecryption):
            return views.has_answered_public(*self._manager, content.id, signer)
        if signer is not None and isinstance(content, UserDecryption):
            return views.has_answered_user(*self._manager, content.id, signer)
        key_request = _key_request(content)
        produced = produced_id(key_request)
        return views.has_answered_key_request(*self._keys, key_request.kind, produced, tx_sender)

    def coprocessor_senders(self) -> Question[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        return views.coprocessor_senders(*self._httpz)

    def coprocessor(self, tx_sender: Address) -> Question[Coprocessor]:
        """Ask for one coprocessor."""
        return views.coprocessor(*self._httpz, tx_sender)

    def coprocessor_threshold(self) -> Question[int]:
        """Ask for the majority threshold."""
        return views.coprocessor_threshold(*self._httpz)

    def start_calls(
        self,
        content: Content,
        context_id: int | None,  # noqa: ARG002 - there are none
        epoch_id: int | None,  # noqa: ARG002 - there are none
        ciphertexts: Sequence[Ciphertext],
        found: Any,  # noqa: ARG002 - no request has an inquiry
    ) -> tuple[CoreCall, ...]:
        """Build the start call; none for a preparation that the Core does not know."""
        if isinstance(content, Decryption):
            return (self._messages.start(content, ciphertexts),)
        return () if self._needs_no_core(content) else (self._key_messages.start(_key_request(content)),)

    def result_call(self, content: Content) -> CoreCall | None:
        """Build the long poll; None for a preparation that the Core does not know."""
        if isinstance(content, Decryption):
            return core_messages.result_call(content)
        return None if self._needs_no_core(content) else key_messages.result_call(_key_request(content))

    def read_answer(self, content: Content, reply: bytes | None, expected: Address | None) -> Answer | None:
        """Read an answer strictly. Raises Broken."""
        if isinstance(content, Decryption):
            assert expected is not None, "decryptions are signed"
            read = self._replies.public if isinstance(content, PublicDecryption) else self._replies.user
            return read(content, reply or b"", expected)  # type: ignore[arg-type]
        return key_replies.read_answer(self._key_domain, _key_request(content), reply or b"", expected)

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        """Name a revert of this kind's reply and say what it means."""
        return reverts.read(REPLIES[kind], data)

    def _needs_no_core(self, content: Content) -> bool:
        return not self._preprocessing and content.kind in _PREPARED_BY.values()


def _nowhere() -> Inquiry[bool]:
    yield from ()
    return False


def _forms(encoding: str) -> tuple[Form, ...]:
    return AUTO if encoding == "auto" else (Form(encoding),)


def _key_request(content: Content) -> KeyManagement:
    """Return the content as what the KeyManager's events are decoded to."""
    assert isinstance(content, KeyManagement)
    return content


def _prepared(told: Slot[bool], identifier: int) -> Slot[None]:
    def read(word: bytes) -> None:
        if not told.read(word):
            raise NotYet(f"this node has not told yet that {id_hex(identifier)} is prepared")

    return Slot(told.chain_id, told.to, told.slot, read)
