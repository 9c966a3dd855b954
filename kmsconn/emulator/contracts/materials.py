"""What the Gateway knows about ciphertexts, and whether handles may be asked for together. Keeps no request.

Stands for ``CiphertextCommits`` and the conformance checks of ``Decryption`` (fhevm-0.14.md, 1.6).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kmsconn.emulator.contracts.gateway_config import GatewayConfig
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.abi import Error
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.handles import FHE_TYPE_NAMES, PLAINTEXT_BITS
from kmsconn.protocols.fhevm.abi import DECRYPTION

MAX_BITS = 2048
_CHAIN, _TYPE = slice(22, 30), 30
_NOT_FOUND = Error.from_item(
    {"type": "error", "name": "CiphertextMaterialNotFound", "inputs": [{"type": "bytes32"}]}
)


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
    if fhe_type not in FHE_TYPE_NAMES:
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
