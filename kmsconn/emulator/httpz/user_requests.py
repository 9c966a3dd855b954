"""What a user decryption request must satisfy at the DecryptionManager, and how a user signs it. Stores nothing.

Source: httpz-rc7.md, 3.4.
"""

from __future__ import annotations

import attrs

from kmsconn.emulator.execution import revert
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.signing import recover
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER

MAX_CONTRACTS = 10
MAX_DAYS = 365
DIRECT_TYPE = (
    "UserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,uint256 contractsChainId,"
    "uint256 startTimestamp,uint256 durationDays)"
)
DELEGATED_TYPE = (
    "DelegatedUserDecryptRequestVerification(bytes publicKey,address[] contractAddresses,address delegatedAccount,"
    "uint256 contractsChainId,uint256 startTimestamp,uint256 durationDays)"
)


@attrs.frozen
class UserRequest:
    """What a user asks for and signs; with a ``delegate``, it is for that one."""

    pairs: tuple[tuple[bytes, Address], ...]
    """Handle and contract of each ciphertext."""
    validity: tuple[int, int]
    """Unix time of its beginning, and days."""
    chain_id: int
    contracts: tuple[Address, ...]
    user: Address
    public_key: bytes
    delegate: Address | None = None

    def digest(self, domain: Domain) -> bytes:
        """Return what the user signs, the owner of the values, for a delegate too."""
        rest = (self.chain_id, *self.validity)
        if self.delegate is None:
            return signing_digest(domain, hash_struct(DIRECT_TYPE, self.public_key, self.contracts, *rest))
        struct = hash_struct(DELEGATED_TYPE, self.public_key, self.contracts, self.delegate, *rest)
        return signing_digest(domain, struct)

    def check(self, domain: Domain, signature: bytes) -> None:
        """Refuse what the contract refuses: lists, window, signature. Raises Reverted."""
        if len(self.contracts) > MAX_CONTRACTS:
            error = DECRYPTION_MANAGER.error("ContractAddressesMaxLengthExceeded")
            revert(error, MAX_CONTRACTS, len(self.contracts))
        if self.validity[1] > MAX_DAYS:
            revert(DECRYPTION_MANAGER.error("MaxDurationDaysExceeded"), MAX_DAYS, self.validity[1])
        for _, contract in self.pairs:
            if contract not in self.contracts:
                error = DECRYPTION_MANAGER.error("ContractNotInContractAddresses")
                revert(error, contract, self.contracts)
        if recover(self.digest(domain), signature) != self.user:
            revert(DECRYPTION_MANAGER.error("InvalidUserSignature"), signature)

    def calldata(self, manager: Abi, signature: bytes, *, numeric: bool = False) -> bytes:
        """Return the call that asks for it by an interface; ``numeric``: by one whose handles are numbers."""
        pairs = [(int.from_bytes(handle) if numeric else handle, owner) for handle, owner in self.pairs]
        rest = (self.chain_id, self.contracts)
        if self.delegate is None:
            function, who = manager.function("userDecryptionRequest"), (*rest, self.user)
            return function.encode(pairs, self.validity, *who, self.public_key, signature)
        function = manager.function("delegatedUserDecryptionRequest")
        accounts = (self.user, self.delegate)
        return function.encode(pairs, self.validity, accounts, *rest, self.public_key, signature)
