"""``GatewayConfig``: the registry of coprocessors, host chains and KMS contexts on the Gateway, and what it knows about ciphertexts.

The latter stands for ``CiphertextCommits`` and the conformance checks of ``Decryption`` (fhevm-0.14.md, 1.6). Decides no request.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kmsconn.emulator.execution import AbiContract, Frame, Handler, recover_strictly, revert, told
from kmsconn.ethereum.abi import Abi, Function
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.ids import FHE_TYPES, PLAINTEXT_BITS
from kmsconn.protocols.fhevm.contracts import DECRYPTION, GATEWAY_CONFIG


@attrs.frozen
class KmsNode:
    """One node of a committee, as both registries know it."""

    tx_sender: Address
    signer: Address
    ip_address: str = ""
    storage_url: str = ""

    @property
    def as_abi(self) -> tuple[Any, ...]:
        """Return the struct ``KmsNode``."""
        return (self.tx_sender, self.signer, self.ip_address, self.storage_url)


NO_NODE = KmsNode(ZERO_ADDRESS, ZERO_ADDRESS)


@attrs.frozen
class EmulatedCoprocessor:
    """One coprocessor."""

    tx_sender: Address
    signer: Address
    bucket_url: str
    da_url: str = ""
    """Of the first generation."""

    @property
    def as_abi(self) -> tuple[Any, ...]:
        """Return the struct ``EmulatedCoprocessor``."""
        return (self.tx_sender, self.signer, self.bucket_url)


NO_COPROCESSOR = EmulatedCoprocessor(ZERO_ADDRESS, ZERO_ADDRESS, "")


@attrs.frozen
class Thresholds:
    """How many nodes a result needs."""

    public: int = 1
    user: int = 1
    kms_gen: int = 1
    mpc: int = 0


@attrs.frozen
class Committee:
    """A KMS context: its nodes and thresholds."""

    nodes: tuple[KmsNode, ...]
    thresholds: Thresholds = attrs.field(factory=Thresholds)

    def of_sender(self, tx_sender: Address) -> KmsNode:
        """Return the node with this wallet, or ``NO_NODE``."""
        return next((node for node in self.nodes if node.tx_sender == tx_sender), NO_NODE)

    def signer_of(self, frame: Frame, digest: bytes, signature: bytes, errors: Abi) -> Address:
        """Return who signed a reply: a node, and the one that sent it. Raises Reverted with the errors of a contract."""
        signer = recover_strictly(digest, signature)
        if signer not in {node.signer for node in self.nodes}:
            revert(errors.error("NotKmsSigner"), signer)
        if self.of_sender(frame.sender).signer != signer:
            revert(errors.error("KmsSignerDoesNotMatchTxSender"), signer, frame.sender)
        return signer


class GatewayConfig(AbiContract):
    """The contract.

    The methods that take a frame are knobs (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``) and other contracts' reads.
    """

    def __init__(self, address: Address) -> None:
        views: dict[str, Handler] = {
            "getCoprocessorSigners": lambda frame: (tuple(c.signer for c in self._coprocessors(frame)),),
            "getCoprocessorTxSenders": lambda frame: (tuple(c.tx_sender for c in self._coprocessors(frame)),),
            "getCoprocessorMajorityThreshold": told("coprocessor_threshold"),
            "getCoprocessor": self._coprocessor,
            "getCurrentKmsContextId": told("current"),
            "isValidKmsContext": lambda frame, i: (self.is_valid(frame, i),),
            "getKmsNodeForContext": lambda f, i, who: (self.committee(f, i).of_sender(who).as_abi,),
            "getVersion": lambda _: ("GatewayConfig v0.7.0",),
        }
        super().__init__(address, GATEWAY_CONFIG, views)

    def set_coprocessors(
        self, frame: Frame, coprocessors: Sequence[EmulatedCoprocessor], threshold: int
    ) -> None:
        """Replace the registered coprocessors, in this order."""
        frame.write(tuple(coprocessors), "coprocessors")
        frame.write(threshold, "coprocessor_threshold")
        event = GATEWAY_CONFIG.event("UpdateCoprocessors")
        frame.emit(event, tuple(c.as_abi for c in coprocessors), threshold)

    def set_host_chains(self, frame: Frame, chain_ids: Sequence[int]) -> None:
        """Register these host chains; before the first call every chain counts as registered."""
        frame.write(frozenset(chain_ids), "host_chains")

    def set_context(self, frame: Frame, context_id: int, committee: Committee) -> None:
        """Register a KMS context and make it the current one."""
        frame.write(committee, "context", context_id)
        frame.write(context_id, "current")
        frame.write(None, "destroyed", context_id)
        limits = committee.thresholds
        nodes = tuple(node.as_abi for node in committee.nodes)
        values = (nodes, limits.mpc, limits.public, limits.user, limits.kms_gen)
        frame.emit(GATEWAY_CONFIG.event("UpdateKmsContext"), context_id, *values)

    def destroy_context(self, frame: Frame, context_id: int) -> None:
        """Destroy a KMS context."""
        frame.write(True, "destroyed", context_id)
        frame.emit(GATEWAY_CONFIG.event("DestroyKmsContext"), context_id)

    def current(self, frame: Frame) -> int:
        """Return the current context id."""
        return int(frame.at(self.address).read("current", default=0))

    def is_valid(self, frame: Frame, context_id: int) -> bool:
        """Tell whether the context exists and was not destroyed."""
        here = frame.at(self.address)
        return here.read("context", context_id) is not None and not here.read("destroyed", context_id)

    def committee(self, frame: Frame, context_id: int) -> Committee:
        """Return the nodes of a context. Raises Reverted with InvalidKmsContext for an unknown or destroyed one."""
        if not self.is_valid(frame, context_id):
            revert(GATEWAY_CONFIG.error("InvalidKmsContext"), context_id)
        found: Committee = frame.at(self.address).read("context", context_id)
        return found

    def is_host_chain(self, frame: Frame, chain_id: int) -> bool:
        """Tell whether a host chain is registered."""
        registered = frame.at(self.address).read("host_chains")
        return registered is None or chain_id in registered

    def _coprocessors(self, frame: Frame) -> tuple[EmulatedCoprocessor, ...]:
        found: tuple[EmulatedCoprocessor, ...] = frame.read("coprocessors", default=())
        return found

    def _coprocessor(self, frame: Frame, tx_sender: Address) -> tuple[Any, ...]:
        found = (c for c in self._coprocessors(frame) if c.tx_sender == tx_sender)
        return (next(found, NO_COPROCESSOR).as_abi,)


MAX_BITS = 2048
_CHAIN, _TYPE = slice(22, 30), 30
_ITEM = {"type": "error", "name": "CiphertextMaterialNotFound", "inputs": [{"type": "bytes32"}]}
_NOT_FOUND = Function.from_item(_ITEM)


@attrs.frozen
class Material:
    """The struct ``SnsCiphertextMaterial``: a committed ciphertext and the coprocessors that agreed on it."""

    handle: bytes
    key_id: int
    digest: bytes
    tx_senders: tuple[Address, ...]

    @property
    def as_abi(self) -> tuple[Any, ...]:
        """Return the struct."""
        return (self.handle, self.key_id, self.digest, self.tx_senders)


def chain_of(handle: bytes) -> int:
    """Return the host chain id in a handle."""
    return int.from_bytes(handle[_CHAIN])


def check_handles(frame: Frame, config: GatewayConfig, handles: Sequence[bytes]) -> None:
    """Refuse types that cannot be decrypted, more than 2048 bits, chains that are not registered. Raises Reverted."""
    total = sum(_bits(handle) for handle in handles)
    if total > MAX_BITS:
        revert(DECRYPTION.error("MaxDecryptionRequestBitSizeExceeded"), MAX_BITS, total)
    for handle in handles:
        if not config.is_host_chain(frame, chain_of(handle)):
            revert(DECRYPTION.error("HostChainNotRegistered"), chain_of(handle))


def _bits(handle: bytes) -> int:
    fhe_type = handle[_TYPE]
    if fhe_type not in FHE_TYPES:
        revert(DECRYPTION.error("InvalidFHEType"), fhe_type)
    if fhe_type not in PLAINTEXT_BITS:
        revert(DECRYPTION.error("UnsupportedFHEType"), fhe_type)
    return PLAINTEXT_BITS[fhe_type]


def read_materials(frame: Frame, handles: Sequence[bytes]) -> tuple[Material, ...]:
    """Return the committed materials in order, all under one key. Raises Reverted."""
    found = tuple(_material(frame, handle) for handle in handles)
    for other in found[1:]:
        if other.key_id != found[0].key_id:
            revert(DECRYPTION.error("DifferentKeyIdsNotAllowed"), found[0].as_abi, other.as_abi)
    return found


def _material(frame: Frame, handle: bytes) -> Material:
    found: Material | None = frame.read("material", handle)
    if found is None:
        revert(_NOT_FOUND, handle)
    return found
