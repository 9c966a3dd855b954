"""The contracts of fhevm 0.14 and 0.15 as ABI objects, read once from the package's copy, and questions to them with typed answers.

Never decides what an answer means for a request. Source: fhevm-0.14.md, section 3 and annex E.
"""

from __future__ import annotations

from typing import NoReturn

import attrs

from kmsconn.config.networks import protocol_config_instead_of
from kmsconn.errors import Undecodable, WrongContract
from kmsconn.ethereum.abi import Abi, ContractEvent, Function
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import FHEVM
from kmsconn.protocols.deployments import as_contracts, read_groups, union_of_errors
from kmsconn.protocols.profile import Version
from kmsconn.protocols.queries import (
    ContractViews,
    Instead,
    ViewCall,
    base_slot,
    flag,
    stored,
)

_groups = read_groups(FHEVM)
_later = as_contracts(_groups["later"])
CONTRACTS: dict[str, Abi] = as_contracts(_groups["contracts"])
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


_VERIFIERS_CONFIG = Function.from_item(
    {"name": "getProtocolConfigAddress", "inputs": (), "outputs": ({"type": "address"},)}
)

DECRYPTION_BASE = base_slot("fhevm_gateway.storage.Decryption")


# ProtocolConfig on Ethereum


def is_protocol_config(version: ViewCall[Version | None]) -> ViewCall[Version | None]:
    """Let a question for the version of ProtocolConfig go on where another contract answers, to find the address to use.

    The charts of 0.14 name KMSVerifier instead, which knows its ProtocolConfig (annex D).
    """
    other = _protocol_config_of_verifier(version.chain_id, version.to)

    def read(data: bytes) -> Version | None:
        try:
            return version.read(data)
        except WrongContract:
            raise Instead(other) from None

    def on_error(message: str, data: bytes | None) -> Version | None:
        try:
            return version.refused(message, data)
        except WrongContract:
            raise Instead(other) from None

    return attrs.evolve(version, read=read, on_error=on_error)


def _protocol_config_of_verifier(chain_id: int, address: Address) -> ViewCall[None]:
    """Ask what may be a KMSVerifier for its ProtocolConfig. Raises WrongContract, whatever it says."""

    def refuse(found: str | None) -> NoReturn:
        told = f"protocol_config_contract.address: there is no ProtocolConfig at {checksum(address)}"
        raise WrongContract(f"{told}; {f'use {found}' if found else 'name the one on Ethereum'}")

    def read(data: bytes) -> None:
        try:
            refuse(checksum(Address(_VERIFIERS_CONFIG.decode_result(data)[0])))
        except Undecodable:
            refuse(protocol_config_instead_of(address))

    def on_error(message: str, data: bytes | None) -> None:
        if data or "revert" in message.lower():
            refuse(protocol_config_instead_of(address))

    return ViewCall(chain_id, address, _VERIFIERS_CONFIG.encode(), read, on_error=on_error)


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
