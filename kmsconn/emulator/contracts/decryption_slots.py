"""Where ``Decryption`` keeps what, and which context a request names. Source: fhevm-0.14.md, 6.2 and E.1."""

from __future__ import annotations

from kmsconn.emulator.contracts.gateway_config import GatewayConfig
from kmsconn.emulator.execution import Frame, revert
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.queries import base_slot

BASE = base_slot("fhevm_gateway.storage.Decryption")
DONE, ANSWERED, DIGEST, PINNED = BASE, BASE + 1, BASE + 3, BASE + 9
PUBLIC_COUNTER, USER_COUNTER = BASE + 6, BASE + 8
_CONTEXT_END = 33


def named_context(frame: Frame, config: GatewayConfig, extra_data: bytes) -> int:
    """Return the context that extraData names; the current one for version 0 (6.2). Raises Reverted."""
    version = extra_data[0] if extra_data else 0
    if version == 0:
        return config.current(frame)
    if version not in {1, 2}:
        revert(DECRYPTION.error("UnsupportedExtraDataVersion"), version)
    if len(extra_data) < _CONTEXT_END:
        revert(DECRYPTION.error("InvalidExtraDataLength"), len(extra_data), _CONTEXT_END)
    context_id = int.from_bytes(extra_data[1:_CONTEXT_END])
    if not context_id:
        revert(DECRYPTION.error("InvalidNullContextId"))
    return context_id
