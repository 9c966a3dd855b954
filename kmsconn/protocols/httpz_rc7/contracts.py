"""DecryptionManager, HTTPZ and KeyManager: their ABIs with the revisions before and after, and questions to them with typed answers.

The main revision has ``bytes32`` handles; on the wire they are the same 32 bytes as the ``uint256`` handles of rc7. Getters of HTTPZ were
renamed on 9 April: where one is refused, or answers nothing, the other is asked instead. Structs grew and shrank too: the offset of the
first text tells them apart. Never decides what an answer means for a request.
Source: httpz-rc7.md, sections 0, 2.1, 4.2 and annex C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import attrs

from kmsconn.ethereum.abi import Abi, Function
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.model.requests import HTTPZ_RC7
from kmsconn.protocols.deployments import as_contracts, read_groups, union_of_errors
from kmsconn.protocols.profile import Coprocessor
from kmsconn.protocols.queries import (
    ContractViews,
    Instead,
    StorageRead,
    ViewCall,
    base_slot,
    flag,
    mapping_slot,
    viewed,
)

_groups = {name: as_contracts(group) for name, group in read_groups(HTTPZ_RC7).items()}
CONTRACTS: dict[str, Abi] = _groups["contracts"]
"""Every contract of the main revision by its name."""

DECRYPTION_MANAGER = CONTRACTS["DecryptionManager"]
HTTPZ = CONTRACTS["HTTPZ"]
KEY_MANAGER = CONTRACTS["KeyManager"]
CURRENT_KEY = KEY_MANAGER.function("getCurrentKeyId")
"""Tells the key in use; 0 before the first."""

RC4: dict[str, Abi] = _groups["rc4"]
"""The interfaces of 14 March: no user address in user requests, flat values from getters."""

RC7: dict[str, Abi] = _groups["rc7"]
"""The interfaces of 27 March: handles are numbers, coprocessors and nodes have a ``daUrl``."""

RC9 = _groups["rc9_getters"]["HTTPZ"]
"""The getters of HTTPZ from 9 April on; nothing else changed."""

ALL_ERRORS: dict[bytes, Function] = union_of_errors(
    contract for group in _groups.values() for contract in group.values()
)
"""Errors of all contracts and revisions by selector: an error of a called contract comes through unchanged."""


T = TypeVar("T")

DECRYPTION_MANAGER_BASE = base_slot("httpz_gateway.storage.DecryptionManager")
KEY_MANAGER_BASE = base_slot("httpz_gateway.storage.KeyManager")

_WORD = 32
_TUPLE = (_WORD).to_bytes(_WORD)
_FIRST_TEXT = slice(3 * _WORD, 4 * _WORD)
_TEXT_AFTER_FOUR = (4 * _WORD).to_bytes(_WORD)


@attrs.frozen
class RequestViews(ContractViews):
    """Questions to DecryptionManager or KeyManager by slots of their namespace, which begins at ``base`` (annex C)."""

    base: int

    def newest(self, counter: int) -> StorageRead[int]:
        """Ask which request is the newest, by the slot of its counter; 0 before the first."""
        return StorageRead(*self.at, self.base + counter, int.from_bytes)

    def has_answered(self, answers: int, identifier: int, account: Address) -> StorageRead[bool]:
        """Ask whether an account's answer to a request, or to what it made, is in the contract."""
        slot = mapping_slot(mapping_slot(self.base + answers, identifier), account)
        return StorageRead(*self.at, slot, flag)


@attrs.frozen
class HttpzViews(ContractViews):
    """Questions to the contract HTTPZ."""

    def coprocessor(self, tx_sender: Address) -> ViewCall[Coprocessor]:
        """Ask for one coprocessor; its bucket is empty for an address that is none."""
        names = HTTPZ.function("coprocessors"), RC9.function("getCoprocessor")
        return self._either(names, (tx_sender,), _coprocessor)

    def coprocessor_senders(self) -> ViewCall[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        names = HTTPZ.function("getAllCoprocessorTxSenderAddresses"), RC9.function("getCoprocessorTxSenders")
        return self._either(names, (), lambda data: names[0].decode_result(data)[0])

    coprocessor_threshold = viewed(HTTPZ.function("getCoprocessorMajorityThreshold"))
    """Ask how many coprocessors are a majority."""

    def node_signer(self, tx_sender: Address) -> ViewCall[Address]:
        """Ask who signs for the node that sends as ``tx_sender``; zero when it is no node."""
        names = HTTPZ.function("kmsNodes"), RC9.function("getKmsNode")
        return self._either(names, (tx_sender,), _node_signer)

    def _either(
        self, names: tuple[Function, Function], values: tuple[Any, ...], read: Callable[[bytes], T]
    ) -> ViewCall[T]:
        """Ask by the first name, and by the second where there is none of the first."""
        first, second = (function.encode(*values) for function in names)
        other = ViewCall(*self.at, second, read)

        def understand(data: bytes) -> T:
            if not data:
                raise Instead(other)
            return read(data)

        def refused(message: str, data: bytes | None) -> T | None:
            if "revert" in message and not data:
                raise Instead(other)
            return None

        return ViewCall(*self.at, first, understand, on_error=refused)


def _coprocessor(data: bytes) -> Coprocessor:
    if data[:_WORD] != _TUPLE:
        sender, _, _, bucket = RC4["HTTPZ"].function("coprocessors").decode_result(data)
        return Coprocessor(sender, ZERO_ADDRESS, bucket)
    if data[_FIRST_TEXT] == _TEXT_AFTER_FOUR:
        ((sender, signer, _, bucket),) = RC7["HTTPZ"].function("coprocessors").decode_result(data)
        return Coprocessor(sender, signer, bucket)
    return Coprocessor(*HTTPZ.function("coprocessors").decode_result(data)[0])


def _node_signer(data: bytes) -> Address:
    revision = RC7["HTTPZ"] if data[_FIRST_TEXT] == _TEXT_AFTER_FOUR else HTTPZ
    return Address(revision.function("kmsNodes").decode_result(data)[0][1])
