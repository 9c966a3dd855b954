"""What a user decryption request must satisfy on the Gateway: window, contracts, the user's signature. Stores nothing.

Source: fhevm-0.14.md, 1.6 and 2.4. For unified requests neither signature nor ownership is looked at.
"""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from kmsconn.emulator.contracts.contract import recover_strictly
from kmsconn.emulator.contracts.gateway_config import chain_of
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.protocols.fhevm.abi import DECRYPTION

MAX_CONTRACTS = 10
MAX_DAYS = 365
SECONDS_PER_DAY = 86_400
DIRECT_TYPE = (
    "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,"
    "uint256 startTimestamp,uint256 durationDays,bytes extraData)"
)
DELEGATED_TYPE = (
    "DelegatedUserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,"
    "address delegatorAddress,uint256 startTimestamp,uint256 durationDays,bytes extraData)"
)
UNIFIED_TYPE = (
    "UserDecryptRequestVerification(address userAddress,bytes publicKey,address[] allowedContracts,"
    "uint256 startTimestamp,uint256 durationSeconds,bytes extraData)"
)

Pairs = Sequence[tuple[bytes, Address]]
Entries = Sequence[tuple[bytes, Address, Address]]
Validity = tuple[int, int]


def request_domain(decryption: Address, host_chain: int) -> Domain:
    """Return the domain that users sign under: the Gateway's contract with the host chain's id."""
    return Domain("Decryption", "1", host_chain, decryption)


@attrs.frozen
class LegacyRequest:
    """A legacy user request; ``user`` is the delegate and ``delegator`` the owner when it is delegated."""

    pairs: Pairs
    validity: Validity
    chain_id: int
    contracts: tuple[Address, ...]
    user: Address
    delegator: Address | None
    public_key: bytes
    signature: bytes
    extra_data: bytes

    def check(self, frame: Frame) -> None:
        """Refuse what the contract refuses: lists, window, the owner among the contracts, signature. Raises Reverted."""
        if not self.pairs:
            revert(DECRYPTION.error("EmptyCtHandleContractPairs"))
        if not self.contracts:
            revert(DECRYPTION.error("EmptyContractAddresses"))
        _check_number(self.contracts)
        self._check_window(frame)
        self._check_owner()
        self._check_pairs()
        self._check_signature(frame.address)

    def _check_window(self, frame: Frame) -> None:
        start, days = self.validity
        if days == 0:
            revert(DECRYPTION.error("InvalidNullDurationDays"))
        if days > MAX_DAYS:
            revert(DECRYPTION.error("MaxDurationDaysExceeded"), MAX_DAYS, days)
        _check_begun(frame, start)
        if frame.block.timestamp > start + days * SECONDS_PER_DAY:
            revert(DECRYPTION.error("UserDecryptionRequestExpired"), frame.block.timestamp, self.validity)

    def _check_owner(self) -> None:
        if self.delegator is None and self.user in self.contracts:
            revert(DECRYPTION.error("UserAddressInContractAddresses"), self.user, self.contracts)
        if self.delegator in self.contracts:
            revert(DECRYPTION.error("DelegatorAddressInContractAddresses"), self.delegator, self.contracts)

    def _check_pairs(self) -> None:
        for handle, contract in self.pairs:
            _check_chain(handle, self.chain_id)
            if contract not in self.contracts:
                revert(DECRYPTION.error("ContractNotInContractAddresses"), contract, self.contracts)

    def _check_signature(self, decryption: Address) -> None:
        digest = signing_digest(request_domain(decryption, self.chain_id), self._struct_hash())
        if recover_strictly(digest, self.signature) != self.user:
            revert(DECRYPTION.error("InvalidUserSignature"), self.signature)

    def _struct_hash(self) -> bytes:
        tail = (*self.validity, self.extra_data)
        if self.delegator is None:
            return hash_struct(DIRECT_TYPE, self.public_key, self.contracts, *tail)
        return hash_struct(DELEGATED_TYPE, self.public_key, self.contracts, self.delegator, *tail)


def check_unified(frame: Frame, entries: Entries, contracts: Sequence[Address], validity: Validity) -> None:
    """Refuse what the contract refuses of a unified request: lists, window, several chains. Raises Reverted."""
    if not entries:
        revert(DECRYPTION.error("EmptyHandles"))
    _check_number(contracts)
    start, seconds = validity
    if seconds == 0:
        revert(DECRYPTION.error("InvalidNullDurationSeconds"))
    if seconds > MAX_DAYS * SECONDS_PER_DAY:
        revert(DECRYPTION.error("MaxDurationSecondsExceeded"), MAX_DAYS * SECONDS_PER_DAY, seconds)
    _check_begun(frame, start)
    if frame.block.timestamp > start + seconds:
        revert(DECRYPTION.error("UserDecryptionRequestExpiredSeconds"), frame.block.timestamp, validity)
    for handle, _, _ in entries:
        _check_chain(handle, chain_of(entries[0][0]))


def _check_number(contracts: Sequence[Address]) -> None:
    if len(contracts) > MAX_CONTRACTS:
        revert(DECRYPTION.error("ContractAddressesMaxLengthExceeded"), MAX_CONTRACTS, len(contracts))


def _check_begun(frame: Frame, start: int) -> None:
    if start > frame.block.timestamp:
        revert(DECRYPTION.error("StartTimestampInFuture"), frame.block.timestamp, start)


def _check_chain(handle: bytes, chain_id: int) -> None:
    if chain_of(handle) != chain_id:
        error = DECRYPTION.error("CtHandleChainIdDiffersFromContractChainId")
        revert(error, handle, chain_of(handle), chain_id)
