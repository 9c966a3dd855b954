"""The contracts of fhevm 0.14 and 0.15 as ABI objects, read once from the package's copy, and questions to them with typed answers.

They decide little: what an invalid context means for a reply. GatewayConfig says the same of a context that it does not know and of one
that was destroyed (3.9); numbers tell them apart. Source: fhevm-0.14.md, section 3, annexes A and E.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from enum import IntEnum
from operator import itemgetter
from typing import Any, NoReturn

import attrs

from kmsconn.config.networks import protocol_config_instead_of
from kmsconn.errors import ContextInvalid, Undecodable, WrongContract
from kmsconn.ethereum.abi import Abi, ContractEvent, Function, Log
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address, checksum
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, counter_of, id_hex, tag_of
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import FHEVM
from kmsconn.protocols.deployments import read_contracts, union_of_errors
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.profile import Coprocessor, Version
from kmsconn.protocols.queries import (
    ContractQuery,
    ContractViews,
    Instead,
    QueryPlan,
    base_slot,
    content_slot,
    flag,
    mapping_slot,
    stored,
    view_call,
    viewed,
)

_groups = read_contracts(FHEVM)
_later = _groups["later"]
CONTRACTS: dict[str, Abi] = _groups["contracts"]
"""Every contract by its name."""

DECRYPTION = CONTRACTS["Decryption"]
GATEWAY_CONFIG = CONTRACTS["GatewayConfig"]
KMS_GENERATION = CONTRACTS["KMSGeneration"]
PROTOCOL_CONFIG = CONTRACTS["ProtocolConfig"]
ACL = CONTRACTS["ACL"]
ERC1271 = CONTRACTS["IERC1271"]

LATER_KMS_GENERATION = _later["KMSGeneration"]
"""KMSGeneration 0.3.0, whose requests name the key that they migrate (fhevm-0.15.md, 1.1)."""


def _topics(*signatures: str) -> frozenset[bytes]:
    return frozenset(keccak256(signature.encode()) for signature in signatures)


_UPKEEP = _topics(
    "Initialized(uint64)",
    "Upgraded(address)",
    "AdminChanged(address,address)",
    "BeaconUpgraded(address)",
    "EIP712DomainChanged()",
    "OwnershipTransferStarted(address,address)",
    "OwnershipTransferred(address,address)",
    "Paused(address)",
    "Unpaused(address)",
)
"""Topics of what OpenZeppelin's contracts say of themselves, which the published ABIs leave out."""

_FOR_OTHERS = _topics(
    "CoprocessorUpgradeProposed(uint256,string,(uint64,uint64,uint64)[],uint64)",
    "PublicDecryptionThresholdUpdated(uint256,uint256)",
    "UserDecryptionThresholdUpdated(uint256,uint256)",
    "KmsGenThresholdUpdated(uint256,uint256)",
    "MpcThresholdUpdated(uint256,uint256)",
)
"""Topics of what ProtocolConfig tells others than nodes, which the published ABI leaves out."""

KMS_GENERATION_TOPICS = (
    _UPKEEP | KMS_GENERATION.events_by_topic.keys() | LATER_KMS_GENERATION.events_by_topic.keys()
)
PROTOCOL_CONFIG_TOPICS = _UPKEEP | _FOR_OTHERS | PROTOCOL_CONFIG.events_by_topic.keys()
"""Every topic that a release of the contract emits."""

ALL_ERRORS: dict[bytes, Function] = union_of_errors([*CONTRACTS.values(), LATER_KMS_GENERATION])
"""Errors of all contracts by selector: an error of a called contract comes through unchanged (annex A)."""

LATER_EVENTS: dict[bytes, ContractEvent] = _later["Decryption"].events_by_topic
"""Request events of the next generation by topic0: they name the handles only, and stand beside the others (annex C)."""

DECRYPTION_TOPICS = _UPKEEP | DECRYPTION.events_by_topic.keys() | LATER_EVENTS.keys()
"""Every topic that a release of Decryption emits."""


_VERIFIERS_CONFIG = Function.named("getProtocolConfigAddress()", "(address)")

DECRYPTION_BASE = base_slot("fhevm_gateway.storage.Decryption")


# ProtocolConfig on Ethereum


def is_protocol_config(
    version: ContractQuery[Version | None], known: str | None
) -> ContractQuery[Version | None]:
    """Let a question for the version of ProtocolConfig go on where another contract answers, to find the address to use.

    The charts of 0.14 name KMSVerifier instead, which knows its ProtocolConfig (annex D). ``known`` is the address in a known network, for
    a contract that names none.
    """
    other = _protocol_config_of_verifier(version.chain_id, version.to, known)

    def or_other(judge: Callable[..., Version | None]) -> Callable[..., Version | None]:
        def judged(*said: Any) -> Version | None:
            try:
                return judge(*said)
            except WrongContract:
                raise Instead(other) from None

        return judged

    return attrs.evolve(version, understand=or_other(version.understand), refused=or_other(version.refused))


def naming(address: str | None, version: ContractQuery[Version | None]) -> ContractQuery[Version | None]:
    """Let the refusal of another contract name the address where the network is known to have the right one; None: it is not known."""
    if address is None:
        return version

    def or_named(judge: Callable[..., Version | None]) -> Callable[..., Version | None]:
        def judged(*said: Any) -> Version | None:
            try:
                return judge(*said)
            except WrongContract as error:
                found, _, _ = str(error).rpartition("; ")
                raise WrongContract(f"{found}; use {address}") from None

        return judged

    return attrs.evolve(version, understand=or_named(version.understand), refused=or_named(version.refused))


def _protocol_config_of_verifier(chain_id: int, address: Address, known: str | None) -> ContractQuery[None]:
    """Ask what may be a KMSVerifier for its ProtocolConfig. Raises WrongContract, whatever it says."""
    right = protocol_config_instead_of(address) or known

    def refuse(found: str | None) -> NoReturn:
        told = f"protocol_config_contract.address: there is no ProtocolConfig at {checksum(address)}"
        raise WrongContract(f"{told}; {f'use {found}' if found else 'name the one on Ethereum'}")

    def read(data: bytes) -> None:
        try:
            refuse(checksum(Address(_VERIFIERS_CONFIG.decode_result(data)[0])))
        except Undecodable:
            refuse(right)

    def refused(message: str, data: bytes | None) -> None:
        if data or "revert" in message.lower():
            refuse(right)

    return attrs.evolve(view_call(chain_id, address, _VERIFIERS_CONFIG.encode(), read), refused=refused)


# Decryption


@attrs.frozen
class DecryptionViews(ContractViews):
    """Questions to the contract Decryption, by the ids of requests (annex E.1)."""

    has_answered = stored(DECRYPTION_BASE + 1, flag)
    """Ask whether a signer's answer to a request is in the contract."""
    newest_public_id = stored(DECRYPTION_BASE + 6)
    """Ask which public request is the newest; 0 or the bare tag before the first."""
    newest_user_id = stored(DECRYPTION_BASE + 8)
    """Ask which user request is the newest; 0 or the bare tag before the first."""
    pinned_context = stored(DECRYPTION_BASE + 9)
    """Ask which context was pinned with a request; 0 for requests older than pinning."""


GENERATION_BASE = base_slot("fhevm.storage.KMSGeneration")
CONFIG_BASE = base_slot("fhevm.storage.ProtocolConfig")
_EXTRA_DATA = GENERATION_BASE + 14  # requestExtraData
_EXTRA_DATA_WORDS = 3  # version, context and epoch

_NEW_CONTEXT = PROTOCOL_CONFIG.event("NewKmsContext")
_CURRENT = PROTOCOL_CONFIG.function("getCurrentKmsContextAndEpoch")
_NODE = GATEWAY_CONFIG.function("getKmsNodeForContext")
_INVALID_CONTEXT = GATEWAY_CONFIG.error("InvalidKmsContext")
_RECENT = 8  # contexts; two or three are valid at a time, and the Gateway may skip numbers

FINALIZED = "finalized"


class Standing(IntEnum):
    """The state of a context or epoch. 0 has two meanings: not issued yet, and destroyed."""

    NONE = 0
    PENDING = 1
    CREATED = 2  # of an epoch: active
    ACTIVE = 3


@attrs.frozen
class NodeViews(ContractViews):
    """Questions about the nodes of contexts, which GatewayConfig and ProtocolConfig answer alike."""

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Ask who signs for the node that sends as ``tx_sender`` in a context; zero when it is no member (3.9).

        Its answer raises NotYet for a context that the contract does not know, or no longer (GatewayConfig).
        """

        def unknown(_message: str, data: bytes | None) -> None:
            if _is_invalid_context(data):
                raise ContextInvalid(f"context {id_hex(context_id)} is unknown to the contract, or destroyed")

        return attrs.evolve(self._node_signer(context_id, tx_sender), refused=unknown)

    node_storage = viewed(_NODE, lambda values: values[0][3])
    """Ask where the public storage of a node is, by context and tx sender; empty when it is no member of the context."""
    _node_signer = viewed(_NODE, lambda values: Address(values[0][1]))


@attrs.frozen
class GatewayViews(NodeViews):
    """Questions to the contract GatewayConfig (3.1, 3.9)."""

    current_context = viewed(GATEWAY_CONFIG.function("getCurrentKmsContextId"))
    """Ask which context is current on the Gateway."""
    coprocessor_senders = viewed(GATEWAY_CONFIG.function("getCoprocessorTxSenders"))
    """Ask which accounts commit ciphertexts."""
    coprocessor_threshold = viewed(GATEWAY_CONFIG.function("getCoprocessorMajorityThreshold"))
    """Ask how many coprocessors are a majority."""
    coprocessor = viewed(GATEWAY_CONFIG.function("getCoprocessor"), lambda values: Coprocessor(*values[0]))
    """Ask where a coprocessor keeps its ciphertexts, by its tx sender."""

    def is_member(self, tx_sender: Address, known: Collection[int]) -> QueryPlan[bool]:
        """Ask whether a tx sender is a node of the current context, one just before it, or a ``known`` one, that is still valid."""
        [current] = yield [self.current_context()]
        recent = {one for one in range(current - _RECENT + 1, current + 1) if _is_context(one)}
        signers = yield [self._signer_if_valid(one, tx_sender) for one in sorted(recent | {*known})]
        return any(signer != ZERO_ADDRESS for signer in signers)

    def after_invalid(self, context_id: int) -> QueryPlan[Verdict]:
        """Say what "invalid context" means for a reply: final for one that was issued, and so was destroyed since (annex A, bounded)."""
        [current] = yield [self.current_context()]
        was_there = _is_context(context_id) and context_id <= current
        return Verdict.FINAL if was_there else Verdict.RETRY

    def _signer_if_valid(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        def gone(_message: str, data: bytes | None) -> Address | None:
            return ZERO_ADDRESS if _is_invalid_context(data) else None

        return attrs.evolve(self._node_signer(context_id, tx_sender), refused=gone)


def _is_invalid_context(data: bytes | None) -> bool:
    """Say whether a contract refuses a context: it does not know it, or no longer (GatewayConfig)."""
    return data is not None and data[:4] == _INVALID_CONTEXT.selector


def _is_context(identifier: int) -> bool:
    return tag_of(identifier) == CONTEXT_TAG and counter_of(identifier) > 0


def _standing(word: bytes) -> Standing:
    try:
        return Standing(int.from_bytes(word))
    except ValueError as error:
        raise Undecodable(f"a state of {word.hex()}") from error


@attrs.frozen
class GenerationViews(ContractViews):
    """Questions to the contract KMSGeneration, by the ids of what is generated; its views as of a block, or as of now (3.7, annex E.2)."""

    has_answered = stored(GENERATION_BASE, flag)
    """Ask whether a signer's answer to a preparation, key or CRS is in the contract."""
    is_over = stored(GENERATION_BASE + 1, flag)
    """Ask whether a generation reached consensus or was aborted."""
    has_consensus = stored(GENERATION_BASE + 3, any)  # a digest
    """Ask whether a generation reached consensus, so that it was not aborted."""
    newest_prep_id = stored(GENERATION_BASE + 4, block=FINALIZED)
    """Ask which preparation is the newest."""
    key_pair = stored(GENERATION_BASE + 6)
    """Ask for the key of a preparation, or the preparation of a key; both are given together. 0: none."""
    newest_crs_id = stored(GENERATION_BASE + 9, block=FINALIZED)
    """Ask which common reference string is the newest."""
    migration = stored(GENERATION_BASE + 18)
    """Ask for the newest request that migrates a key, since 0.3.0. 0: none."""
    active_key = viewed(KMS_GENERATION.function("getActiveKeyId"))
    """Ask which key is in use; 0 before the first."""
    active_crs = viewed(KMS_GENERATION.function("getActiveCrsId"))
    """Ask which common reference string is in use; 0 before the first."""
    completed_keys = viewed(KMS_GENERATION.function("getCompletedKeyIds"))
    """Ask which keys there are, in the order in which an activation lists them."""
    completed_crs = viewed(KMS_GENERATION.function("getCompletedCrsIds"))
    """Ask which common reference strings there are, in the order of an activation."""
    key = viewed(KMS_GENERATION.function("getKeyInfo"))
    """Ask for a key's preparation, id, parameters and digests."""
    crs_digest = viewed(KMS_GENERATION.function("getCrsMaterials"), itemgetter(1))
    """Ask for the digest of a common reference string."""

    def extra_data(self, request: int) -> QueryPlan[bytes]:
        """Ask for the extraData of a request; empty if it is shorter than a word, and so names no context."""
        slot = mapping_slot(_EXTRA_DATA, request)
        first = content_slot(slot)
        size, *words = yield [
            self.slot(slot),
            *(self.slot(first + place, read=bytes) for place in range(_EXTRA_DATA_WORDS)),
        ]
        is_long = size & 1
        return b"".join(words)[: size // 2] if is_long else b""


@attrs.frozen
class ConfigViews(NodeViews):
    """Questions to the contract ProtocolConfig, by the ids of contexts and epochs (3.1, 3.5, 3.6, annex E.2)."""

    newest_context_id = stored(CONFIG_BASE, block=FINALIZED)
    """Ask which context is the newest that was issued."""
    is_context_destroyed = stored(CONFIG_BASE + 10, flag)
    """Ask whether a context was destroyed."""
    newest_epoch_id = stored(CONFIG_BASE + 12)
    """Ask which epoch is the newest that was issued."""
    context_standing = stored(CONFIG_BASE + 14, _standing)
    """Ask for the state of a context."""
    epoch_standing = stored(CONFIG_BASE + 15, _standing)
    """Ask for the state of an epoch."""
    context_of_epoch = stored(CONFIG_BASE + 16)
    """Ask for the context of an epoch."""
    has_confirmed_context = stored(CONFIG_BASE + 17, flag)
    """Ask whether a sender's confirmation of a context is in the contract."""
    has_confirmed_epoch = stored(CONFIG_BASE + 18, flag)
    """Ask whether a signer's activation of an epoch is in the contract."""
    current_context = viewed(_CURRENT)
    """Ask which context is current."""
    current_context_and_epoch = viewed(_CURRENT, tuple)
    """Ask which context and epoch are current."""
    is_valid_context = viewed(PROTOCOL_CONFIG.function("isValidKmsContext"))
    """Ask whether a context is active."""
    is_valid_epoch = viewed(PROTOCOL_CONFIG.function("isValidEpochForContext"))
    """Ask whether an epoch is active in a context."""
    anchor = viewed(PROTOCOL_CONFIG.function("getKmsContextAnchor"), tuple)
    """Ask in which block a context was announced, and for the hash of what was said then."""

    def announcements(self, context_id: int, block: int) -> ContractQuery[Sequence[Log]]:
        """Ask for the events that announced a context; by its id, since another may stand in the same block (P6)."""
        topics, at = [to_hex(_NEW_CONTEXT.topic0), to_hex(context_id.to_bytes(32))], quantity(block)
        wanted = {"address": to_hex(self.address), "topics": topics, "fromBlock": at, "toBlock": at}
        return ContractQuery(*self.at, "eth_getLogs", (wanted,), tuple)


@attrs.frozen
class KeyViews:
    """Questions to both contracts."""

    generation: GenerationViews
    config: ConfigViews

    @classmethod
    def at(cls, chain_id: int, generation: Address, config: Address) -> KeyViews:
        """Return the questions to the contracts at these addresses of one chain."""
        return cls(GenerationViews(chain_id, generation), ConfigViews(chain_id, config))

    @property
    def chain_id(self) -> int:
        """The chain of both contracts."""
        return self.config.chain_id
