"""Whether a user may see a value: questions to the ACLs of host chains, the calldata of legacy requests, the word of a user's contract.

Never asks anybody itself. An answer "no" raises Denied: the request is asked about again, ever more rarely. Calldata is read as a contract
reads it, so that what the Gateway took is understood here too: bytes left over are no fault.
Source: fhevm-0.14.md, 3.2-3.4; outcomes: rows "check".
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import partial
from typing import Any, NoReturn

import attrs

from kmsconn.errors import (
    Denied,
    Misconfigured,
    NotYet,
    Rejected,
    SignatureNotTaken,
    Undecodable,
    WrongSignature,
)
from kmsconn.ethereum.abi import SELECTOR_BYTES, Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import FHE_TYPES, HANDLE_BYTES, chain_id_of, fhe_type_of, is_of_solana
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.fhevm.contracts import ACL, DECRYPTION, ERC1271
from kmsconn.protocols.queries import ContractQuery, ContractViews, view_call

_PUBLIC, _USE = ACL.function("isAllowedForDecryption"), ACL.function("isAllowed")
_DELEGATED = ACL.function("isHandleDelegatedForUserDecryption")
_INVALIDATED = ACL.function("decryptionSignatureInvalidatedBefore")


@attrs.frozen
class AccessControl:
    """The lists of the configured host chains: chain id → ACL. Raises Misconfigured for a handle of another chain.

    ``not_served``: chains that are configured, and of a kind without such a list.
    """

    acls: Mapping[int, Address]
    not_served: Collection[int] = ()

    def public(self, handle: bytes) -> ContractQuery[None]:
        """Ask whether everybody may see a value (3.2)."""
        return self._required(_PUBLIC, handle, "is not allowed for public decryption", handle)

    def allowed(self, handle: bytes, account: Address) -> ContractQuery[None]:
        """Ask whether an account may use a handle (3.3)."""
        return self._required(_USE, handle, f"is not allowed for {account.hex()}", handle, account)

    def delegated(
        self, handle: bytes, delegator: Address, delegate: Address, contract: Address
    ) -> ContractQuery[None]:
        """Ask whether a delegate may see the delegator's value through a contract (3.3)."""
        denied = f"is not delegated by {delegator.hex()}"
        return self._required(_DELEGATED, handle, denied, delegator, delegate, contract, handle)

    def allowed_for_one(self, handle: bytes, several: Sequence[Address]) -> list[ContractQuery[None]]:
        """Ask whether at least one of the contracts may use a handle, in whatever order the answers come."""
        noes: list[None] = []

        def one_of(values: tuple[bool]) -> None:
            noes.extend(() if values[0] else (None,))
            if len(noes) == len(several):
                raise Denied(f"handle {handle.hex()} is allowed for no contract of the request")

        return [self.of(handle).view(_USE, handle, one, of=one_of) for one in several]

    def not_invalidated(self, handle: bytes, user: Address, start: int) -> ContractQuery[None]:
        """Ask whether signatures of a user that begin to count at ``start``, in Unix seconds, still do (3.4)."""

        def judge(values: tuple[int]) -> None:
            if start < values[0]:
                raise WrongSignature("the user has invalidated signatures of that time")

        return self.of(handle).view(_INVALIDATED, user, of=judge)

    def _required(self, function: Function, handle: bytes, denied: str, *values: Any) -> ContractQuery[None]:
        def judge(said: tuple[bool]) -> None:
            if not said[0]:
                raise Denied(f"handle {handle.hex()} {denied}")

        return self.of(handle).view(function, *values, of=judge)

    def of(self, handle: bytes) -> ContractViews:
        """Return the questions to the list of the chain of a handle."""
        chain_id = chain_id_of(handle)
        acl = self.acls.get(chain_id)
        if acl is not None:
            return ContractViews(chain_id, acl)
        name = f"host chain {chain_id}"
        if chain_id in self.not_served or is_of_solana(chain_id):
            raise Misconfigured(f"{name} is of Solana, which is not served by this version").of(
                name, "not-served"
            )
        raise Misconfigured(f"{name} is not configured (host_chains)").of(name, "not-configured")


def handles_of(references: Sequence[CiphertextReference]) -> list[bytes]:
    """Return the handles of a request. Raises Rejected where there is none, or one is malformed."""
    handles = [reference.handle for reference in references]
    if not handles:
        raise Rejected("the request names no ciphertext")
    for one in handles:
        if len(one) != HANDLE_BYTES:
            raise Rejected(f"malformed handle {one.hex()}: a handle has {HANDLE_BYTES} bytes, not {len(one)}")
        if fhe_type_of(one) not in FHE_TYPES:
            raise Rejected(f"malformed handle {one.hex()}: FHE type {fhe_type_of(one)} is not known")
    return handles


MAGIC_VALUE = ERC1271.function("isValidSignature").selector
"""What a wallet answers for a signature that it takes (ERC-1271)."""

DELEGATED = DECRYPTION.function("delegatedUserDecryptionRequest")
DIRECT = DECRYPTION.function(
    "userDecryptionRequest((bytes32,address)[],(uint256,uint256),(uint256,address[]),address,bytes,bytes,bytes)"
)


@attrs.frozen
class LegacyCall:
    """Handle → contracts it is listed for, in the order of the call; the delegator of a delegated request."""

    contracts: dict[bytes, tuple[Address, ...]]
    delegator: Address | None

    def contracts_of(self, handle: bytes) -> tuple[Address, ...]:
        """Return the contracts of a handle, each once. Raises Rejected when the call does not list it."""
        found = self.contracts.get(handle)
        if found is None:
            raise Rejected(f"handle {handle.hex()} is not in the call data of the request")
        return found


def read_call(decryption: Address, to: Address | None, calldata: bytes) -> LegacyCall:
    """Read the transaction of a legacy request. Raises Rejected: other receiver, other function, unreadable."""
    if to != decryption:
        raise Rejected("the transaction of the request does not go to the Decryption contract")
    selector = calldata[:SELECTOR_BYTES]
    try:
        if selector == DELEGATED.selector:
            pairs, _, (delegator, _), *_ = DELEGATED.decode(calldata, exact=False)
            return LegacyCall(_group(pairs), delegator)
        if selector == DIRECT.selector:
            return LegacyCall(_group(DIRECT.decode(calldata, exact=False)[0]), None)
    except Undecodable as error:
        raise Rejected(f"the call data of the request cannot be read: {error}") from error
    raise Rejected("the transaction of the request calls no legacy request function")


def _group(pairs: Iterable[tuple[bytes, Address]]) -> dict[bytes, tuple[Address, ...]]:
    found: dict[bytes, tuple[Address, ...]] = {}
    for handle, contract in pairs:
        known = found.get(handle, ())
        found[handle] = known if contract in known else (*known, contract)
    return found


WALLET_SIGNATURE_GRACE = 600.0  # seconds that a contract wallet may say no to its user's signature
_MAGIC_WORD = 32


def wallet_agrees(
    chain_id: int,
    wallet: Address,
    digest: bytes,
    signature: bytes,
    *,
    gas: int,
    age: float,
    domain_confirmed: bool,
) -> ContractQuery[None]:
    """Ask a contract wallet whether it takes a signature (3.4, ERC-1271).

    Raises SignatureNotTaken at first, WrongSignature once a request has that ``age``. Under a domain that its contract has not confirmed
    no signature is wrong: the request waits.
    """
    end = partial(_end, domain_confirmed)

    def refuse(what: str) -> NoReturn:
        if age > WALLET_SIGNATURE_GRACE:
            end(f"{what}, for {WALLET_SIGNATURE_GRACE:g} s by now")
        raise SignatureNotTaken(what)

    def read(data: bytes) -> None:
        if not data:
            end("the signature is not the user's, and the user is no contract")
        if len(data) < _MAGIC_WORD or data[:4] != MAGIC_VALUE:
            refuse("the user's contract refuses the signature")

    def refused(message: str, data: bytes | None) -> None:
        if data is not None and "revert" in message:
            refuse("the user's contract reverts on the signature")
        if _OUT_OF_GAS.search(message):
            refuse(f"the user's contract needs more than {gas} gas for the signature (erc1271_gas_limit)")

    calldata = ERC1271.function("isValidSignature").encode(digest, signature)
    return attrs.evolve(view_call(chain_id, wallet, calldata, read, gas=gas), refused=refused)


def _end(domain_confirmed: bool, what: str) -> NoReturn:
    if not domain_confirmed:
        raise NotYet(f"{what}; but Decryption has not confirmed its EIP-712 domain within an hour")
    raise WrongSignature(what)


# How nodes say that the gas of an eth_call was used up, or does not even pay for the calldata: geth and nitro ("out of gas", "intrinsic
# gas too low", "insufficient gas for floor data gas cost"), reth and anvil ("OutOfGas", "gas required exceeds"), besu
# ("INSUFFICIENT_GAS"), nethermind ("OutOfGas").
_OUT_OF_GAS = re.compile(
    r"out[ _]?of[ _]?gas|intrinsic gas|insufficient[ _]gas|gas required exceeds|gas too low", re.IGNORECASE
)
