"""The contracts of fhevm 0.14 and 0.15 as ABI objects, read once from the package's copy, and questions to them with typed answers.

Never decides what an answer means for a request. Source: fhevm-0.14.md, section 3 and annex E.
"""

from __future__ import annotations

from typing import Any, NoReturn, TypeVar

import attrs

from kmsconn.config.networks import protocol_config_instead_of
from kmsconn.errors import ContextInvalid, Undecodable, WrongContract
from kmsconn.ethereum.abi import Abi, Error, Event, Function
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.ethereum.ids import id_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import FHEVM
from kmsconn.protocols.deployments import as_contracts, read_groups, union_of_errors
from kmsconn.protocols.profile import Coprocessor, Version
from kmsconn.protocols.queries import Instead, StorageRead, ViewCall, base_slot, flag, mapping_slot, view

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


T = TypeVar("T")
MAGIC_VALUE = ERC1271.function("isValidSignature").selector
"""What a wallet answers for a signature that it takes (ERC-1271)."""

_INVALID_CONTEXT = GATEWAY_CONFIG.error("InvalidKmsContext")
_CURRENT = PROTOCOL_CONFIG.function("getCurrentKmsContextAndEpoch")
_VERIFIERS_CONFIG = Function.from_item(
    {"name": "getProtocolConfigAddress", "inputs": (), "outputs": ({"type": "address"},)}
)

DECRYPTION_BASE = base_slot("fhevm_gateway.storage.Decryption")
_ANSWERED, _PUBLIC_COUNTER, _USER_COUNTER, _PINNED = 1, 6, 8, 9


# Access control list of a host chain


def is_allowed_for_decryption(chain_id: int, acl: Address, handle: bytes) -> ViewCall[bool]:
    """Ask whether everybody may see the value of a handle (3.2)."""
    return view(chain_id, acl, _function(ACL, "isAllowedForDecryption"), handle)


def is_allowed(chain_id: int, acl: Address, handle: bytes, account: Address) -> ViewCall[bool]:
    """Ask whether an account may use a handle (3.3)."""
    return view(chain_id, acl, _function(ACL, "isAllowed"), handle, account)


def is_delegated(
    chain_id: int, acl: Address, *, delegator: Address, delegate: Address, contract: Address, handle: bytes
) -> ViewCall[bool]:
    """Ask whether a delegate may see the value of the delegator's handle through a contract (3.3)."""
    function = _function(ACL, "isHandleDelegatedForUserDecryption")
    return view(chain_id, acl, function, delegator, delegate, contract, handle)


def signature_invalidated_before(chain_id: int, acl: Address, user: Address) -> ViewCall[int]:
    """Ask before which start, in Unix seconds, signatures of a user no longer count (3.4)."""
    return view(chain_id, acl, _function(ACL, "decryptionSignatureInvalidatedBefore"), user)


def is_valid_signature(
    chain_id: int, wallet: Address, digest: bytes, signature: bytes, *, gas: int
) -> ViewCall[bytes]:
    """Ask a contract wallet whether it takes a signature; the answer is its raw return data (3.4, ERC-1271)."""
    calldata = ERC1271.function("isValidSignature").encode(digest, signature)
    return ViewCall(chain_id, wallet, calldata, bytes, gas=gas)


# ProtocolConfig on Ethereum


def is_valid_context(chain_id: int, protocol_config: Address, context_id: int) -> ViewCall[bool]:
    """Ask whether a context is active (3.5)."""
    return view(chain_id, protocol_config, _function(PROTOCOL_CONFIG, "isValidKmsContext"), context_id)


def is_valid_epoch(chain_id: int, protocol_config: Address, context_id: int, epoch_id: int) -> ViewCall[bool]:
    """Ask whether an epoch is active in a context (3.5)."""
    function = _function(PROTOCOL_CONFIG, "isValidEpochForContext")
    return view(chain_id, protocol_config, function, context_id, epoch_id)


def current_context_and_epoch(chain_id: int, protocol_config: Address) -> ViewCall[tuple[int, int]]:
    """Ask which context and epoch are current (3.1)."""
    return ViewCall(
        chain_id, protocol_config, _CURRENT.encode(), lambda data: _pair(_CURRENT.decode_result(data))
    )


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


# GatewayConfig


def coprocessor_senders(chain_id: int, gateway_config: Address) -> ViewCall[tuple[Address, ...]]:
    """Ask which accounts commit ciphertexts (3.1)."""
    return view(chain_id, gateway_config, _function(GATEWAY_CONFIG, "getCoprocessorTxSenders"))


def coprocessor_threshold(chain_id: int, gateway_config: Address) -> ViewCall[int]:
    """Ask how many coprocessors are a majority (3.1)."""
    return view(chain_id, gateway_config, _function(GATEWAY_CONFIG, "getCoprocessorMajorityThreshold"))


def coprocessor(chain_id: int, gateway_config: Address, tx_sender: Address) -> ViewCall[Coprocessor]:
    """Ask where a coprocessor keeps its ciphertexts (3.1)."""
    function = _function(GATEWAY_CONFIG, "getCoprocessor")
    calldata = function.encode(tx_sender)
    return ViewCall(
        chain_id, gateway_config, calldata, lambda data: Coprocessor(*function.decode_result(data)[0])
    )


def current_context(chain_id: int, gateway_config: Address) -> ViewCall[int]:
    """Ask which context is current on the Gateway (3.9)."""
    return view(chain_id, gateway_config, _function(GATEWAY_CONFIG, "getCurrentKmsContextId"))


def node_signer(chain_id: int, contract: Address, context_id: int, tx_sender: Address) -> ViewCall[Address]:
    """Ask who signs for the node that sends as ``tx_sender`` in a context; zero when it is no member (3.9).

    ``contract`` is GatewayConfig or ProtocolConfig. Its answer raises NotYet for a context that it does not know, or
    no longer (GatewayConfig).
    """
    function = _function(GATEWAY_CONFIG, "getKmsNodeForContext")

    def unknown(_message: str, data: bytes | None) -> None:
        if is_invalid_context(data):
            raise ContextInvalid(f"context {id_hex(context_id)} is unknown to the contract, or destroyed")

    calldata = function.encode(context_id, tx_sender)
    return ViewCall(
        chain_id,
        contract,
        calldata,
        lambda data: Address(function.decode_result(data)[0][1]),
        on_error=unknown,
    )


def node_storage(chain_id: int, contract: Address, context_id: int, tx_sender: Address) -> ViewCall[str]:
    """Ask where the public storage of a node is; empty when it is no member of the context. ``contract`` as for ``node_signer``."""
    function = _function(GATEWAY_CONFIG, "getKmsNodeForContext")
    calldata = function.encode(context_id, tx_sender)
    return ViewCall(chain_id, contract, calldata, lambda data: str(function.decode_result(data)[0][3]))


def is_invalid_context(data: bytes | None) -> bool:
    """Say whether a contract refuses a context: it does not know it, or no longer (GatewayConfig)."""
    return data is not None and data[:4] == _INVALID_CONTEXT.selector


# Decryption


def newest_public_id(chain_id: int, decryption: Address) -> StorageRead[int]:
    """Ask which public request is the newest; 0 or the bare tag before the first (annex E.1, +6)."""
    return StorageRead(chain_id, decryption, DECRYPTION_BASE + _PUBLIC_COUNTER, _number)


def newest_user_id(chain_id: int, decryption: Address) -> StorageRead[int]:
    """Ask which user request is the newest; 0 or the bare tag before the first (annex E.1, +8)."""
    return StorageRead(chain_id, decryption, DECRYPTION_BASE + _USER_COUNTER, _number)


def has_answered(chain_id: int, decryption: Address, identifier: int, signer: Address) -> StorageRead[bool]:
    """Ask whether a signer's answer to a request is in the contract (annex E.1, +1)."""
    slot = mapping_slot(mapping_slot(DECRYPTION_BASE + _ANSWERED, identifier), signer)
    return StorageRead(chain_id, decryption, slot, flag)


def pinned_context(chain_id: int, decryption: Address, identifier: int) -> StorageRead[int]:
    """Ask which context was pinned with a request; 0 for requests older than pinning (annex E.1, +9)."""
    return StorageRead(chain_id, decryption, mapping_slot(DECRYPTION_BASE + _PINNED, identifier), _number)


def _function(abi: Abi, name: str) -> Function:
    key = (id(abi), name)
    if key not in _functions:
        _functions[key] = abi.function(name)
    return _functions[key]


_functions: dict[tuple[int, str], Function] = {}


def _pair(values: tuple[Any, ...]) -> tuple[int, int]:
    first, second = values
    return first, second


def _number(word: bytes) -> int:
    return int.from_bytes(word)
