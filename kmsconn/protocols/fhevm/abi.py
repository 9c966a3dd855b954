"""The contracts of fhevm 0.14 and 0.15 as ABI objects, read once from the package's copy. Never asks a chain."""

from __future__ import annotations

from kmsconn.ethereum.abi import Abi, Error, Event
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.profiles import FHEVM
from kmsconn.protocols.published import as_contracts, read_groups, union_of_errors

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

ALL_ERRORS: dict[bytes, Error] = union_of_errors([*CONTRACTS.values(), LATER_KMS_GENERATION])
"""Errors of all contracts by selector: an error of a called contract comes through unchanged (annex A)."""

LATER_EVENTS: dict[bytes, Event] = _later["Decryption"].events_by_topic
"""Request events of the next generation by topic0: they name the handles only, and stand beside the others (annex C)."""

DECRYPTION_TOPICS = _UPKEEP | DECRYPTION.events_by_topic.keys() | LATER_EVENTS.keys()
"""Every topic that a release of Decryption emits."""
