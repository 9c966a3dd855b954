"""The functions of ``Decryption`` that take requests, with the real rules; they emit G1 to G3.

The order of the checks is that of annex A of fhevm-0.14.md.
"""

from __future__ import annotations

from typing import Any

import attrs

from kmsconn.emulator.contracts import decryption_slots as at
from kmsconn.emulator.contracts.contract import Handler
from kmsconn.emulator.contracts.decryption_slots import named_context
from kmsconn.emulator.contracts.gateway_config import GatewayConfig
from kmsconn.emulator.contracts.materials import check_handles, read_materials
from kmsconn.emulator.contracts.user_rules import LegacyRequest, check_unified
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.protocols.fhevm.abi import DECRYPTION, LATER_EVENTS
from kmsconn.protocols.queries import mapping_slot

DIRECT_CALL = "userDecryptionRequest((bytes32,address)[],(uint256,uint256),(uint256,address[]),address,bytes,bytes,bytes)"
UNIFIED_CALL = (
    "userDecryptionRequest((bytes32,address,address)[],address,bytes,address[],(uint256,uint256),bytes,bytes)"
)
_MATERIALS = "(bytes32,uint256,bytes32,address[])[]"
_PAYLOAD = "(address,bytes,address[],(uint256,uint256),bytes,bytes)"
_G1 = DECRYPTION.event("PublicDecryptionRequest")
_G2 = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},address,bytes,bytes)")
_G3 = DECRYPTION.event(f"UserDecryptionRequest(uint256,{_MATERIALS},(bytes32,address,address)[],{_PAYLOAD})")
_LATER = {event.signature: event for event in LATER_EVENTS.values()}
_G1_LATER = _LATER["PublicDecryptionRequest(uint256,bytes32[],bytes)"]
_G2_LATER = _LATER["UserDecryptionRequest(uint256,bytes32[],address,bytes,bytes)"]
_G3_LATER = _LATER[f"UserDecryptionRequest(uint256,(bytes32,address,address)[],{_PAYLOAD})"]

# Seen on the real contract, without calldata and logs (fhevm-0.14.md, E.1, and the proofs of the vectors).
_PUBLIC_REQUEST_GAS, _USER_REQUEST_GAS = 150_000, 250_000
_HANDLE_GAS = 2_300


@attrs.frozen
class DecryptionRequests:
    """The handlers of every form of request; contexts are those of ``config``."""

    _config: GatewayConfig

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by the functions of the contract."""
        return {
            "publicDecryptionRequest": self.public_request,
            DIRECT_CALL: self.direct_request,
            "delegatedUserDecryptionRequest": self.delegated_request,
            UNIFIED_CALL: self.unified_request,
        }

    def public_request(self, frame: Frame, handles: tuple[bytes, ...], extra_data: bytes) -> None:
        """Take a request for everybody. Raises Reverted."""
        self._check_open(frame)
        if not handles:
            revert(DECRYPTION.error("EmptyCtHandles"))
        frame.meter.burn(_PUBLIC_REQUEST_GAS + _HANDLE_GAS * len(handles))
        decryption_id, materials = self._record(
            frame, at.PUBLIC_COUNTER, PUBLIC_DECRYPTION_TAG, handles, extra_data
        )
        _emit_forms(
            frame,
            (_G1, decryption_id, materials, extra_data),
            (_G1_LATER, decryption_id, handles, extra_data),
        )

    def direct_request(self, frame: Frame, *arguments: Any) -> None:
        """Take a user's request in its first form. Raises Reverted."""
        pairs, validity, (chain_id, contracts), user, public_key, signature, extra_data = arguments
        legacy = LegacyRequest(
            pairs, validity, chain_id, contracts, user, None, public_key, signature, extra_data
        )
        self._legacy_request(frame, legacy)

    def delegated_request(self, frame: Frame, *arguments: Any) -> None:
        """Take a delegate's request. Raises Reverted."""
        pairs, validity, accounts, (chain_id, contracts), public_key, signature, extra_data = arguments
        delegator, delegate = accounts
        legacy = LegacyRequest(
            pairs, validity, chain_id, contracts, delegate, delegator, public_key, signature, extra_data
        )
        self._legacy_request(frame, legacy)

    def _legacy_request(self, frame: Frame, request: LegacyRequest) -> None:
        self._check_open(frame)
        frame.meter.burn(_USER_REQUEST_GAS + _HANDLE_GAS * len(request.pairs))
        request.check(frame)
        handles = tuple(handle for handle, _ in request.pairs)
        decryption_id, materials = self._record_user(frame, handles, request.public_key, request.extra_data)
        rest = (request.user, request.public_key, request.extra_data)
        _emit_forms(frame, (_G2, decryption_id, materials, *rest), (_G2_LATER, decryption_id, handles, *rest))

    def unified_request(self, frame: Frame, *arguments: Any) -> None:
        """Take a request in the unified form. Raises Reverted."""
        entries, user, public_key, contracts, validity, signature, extra_data = arguments
        self._check_open(frame)
        frame.meter.burn(_USER_REQUEST_GAS + _HANDLE_GAS * len(entries))
        check_unified(frame, entries, contracts, validity)
        handles = tuple(entry[0] for entry in entries)
        decryption_id, materials = self._record_user(frame, handles, public_key, extra_data)
        payload = (user, public_key, contracts, validity, extra_data, signature)
        _emit_forms(
            frame,
            (_G3, decryption_id, materials, entries, payload),
            (_G3_LATER, decryption_id, entries, payload),
        )

    def _check_open(self, frame: Frame) -> None:
        if frame.read("paused"):
            revert(DECRYPTION.error("EnforcedPause"))

    def _record_user(
        self, frame: Frame, handles: tuple[bytes, ...], public_key: bytes, extra_data: bytes
    ) -> tuple[int, tuple[Any, ...]]:
        recorded = self._record(frame, at.USER_COUNTER, USER_DECRYPTION_TAG, handles, extra_data)
        frame.write(public_key, "public_key", recorded[0])
        return recorded

    def _record(
        self, frame: Frame, counter: int, tag: int, handles: tuple[bytes, ...], extra_data: bytes
    ) -> tuple[int, tuple[Any, ...]]:
        """Give a request its id, pin its context and keep its handles; return the id and the materials."""
        check_handles(frame, self._config, handles)
        materials = read_materials(frame, handles)
        context_id = named_context(frame, self._config, extra_data)
        self._config.committee(frame, context_id)
        decryption_id = (frame.load(counter) or make_id(tag, 0)) + 1
        frame.store(counter, decryption_id)
        frame.store(mapping_slot(at.PINNED, decryption_id), context_id)
        frame.write(handles, "handles", decryption_id)
        return decryption_id, tuple(material.as_abi for material in materials)


def _emit_forms(frame: Frame, first: tuple[Any, ...], later: tuple[Any, ...]) -> None:
    """Emit a request in the forms that the contract is set to; each an event with its values."""
    if not frame.read("only later"):
        frame.emit(*first)
    if frame.read("later"):
        frame.emit(*later)
