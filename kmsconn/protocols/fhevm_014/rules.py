"""What must hold before a request is answered, as questions to its host chains. Never asks them itself.

Where a request can be judged from its own bytes, no question is made: Rejected when it can never be answered, NotYet
when it can later. An answer "no" of an access control list raises Denied; every other "no" NotYet, unless it can never become "yes".
Source: fhevm-0.14.md, 3.2-3.4; outcomes: rows "check".
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import lru_cache

import attrs

from kmsconn.errors import Denied, Misconfigured, NotYet, Rejected, SignatureNotTaken, WrongSignature
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.handles import Handle
from kmsconn.ethereum.signing import recover
from kmsconn.model.requests import (
    Decryption,
    HandleEntry,
    LegacyUserDecryption,
    PublicDecryption,
    UnifiedUserDecryption,
)
from kmsconn.protocols.fhevm_014 import views
from kmsconn.protocols.fhevm_014.legacy import LegacyCall, read_call
from kmsconn.protocols.port import Facts, View

UNIFIED_TYPE = (
    "UserDecryptRequestVerification(address userAddress,bytes publicKey,address[] allowedContracts,"
    "uint256 startTimestamp,uint256 durationSeconds,bytes extraData)"
)
WALLET_PATIENCE = 600.0  # seconds that a contract wallet may say no to its user's signature
_MAGIC_WORD = 32


@attrs.frozen
class Rules:
    """The rules over configured host chains: chain id → ACL. ``domain`` is that of Decryption on the Gateway."""

    domain: Domain
    acls: Mapping[int, Address]
    erc1271_gas: int

    def questions(self, content: Decryption, facts: Facts) -> tuple[View[None], ...]:
        """Return all that the host chains must be asked, in the order of the specification.

        Raises Rejected, NotYet, Misconfigured for a host chain without configuration.
        """
        handles = [_parse(material.handle) for material in content.materials]
        if not handles:
            raise Rejected("the request names no ciphertext")
        if isinstance(content, PublicDecryption):
            return tuple(self._public(handle) for handle in handles)
        if isinstance(content, LegacyUserDecryption):
            call = read_call(self.domain.verifying_contract, facts.to, facts.input)
            return tuple(question for handle in handles for question in self._legacy(content, handle, call))
        return tuple(self._unified(content, handles, facts))

    def _public(self, handle: Handle) -> View[None]:
        view = views.is_allowed_for_decryption(*self._acl(handle), handle.raw)
        return _required(view, f"handle {handle.raw.hex()} is not allowed for public decryption")

    def _legacy(
        self, content: LegacyUserDecryption, handle: Handle, call: LegacyCall
    ) -> Iterator[View[None]]:
        contracts = call.contracts_of(handle.raw)
        if call.delegator is not None:
            for contract in contracts:
                yield self._delegated(handle, call.delegator, content.user, contract)
            return
        for account in (content.user, *contracts):
            yield self._allowed(handle, account)

    def _unified(
        self, content: UnifiedUserDecryption, handles: list[Handle], facts: Facts
    ) -> Iterator[View[None]]:
        check_unified(content, handles, facts.chain_time)
        chain_id, acl = self._acl(handles[0])
        yield from self._wallet(content, chain_id, facts.age)
        yield _not_invalidated(content, views.signature_invalidated_before(chain_id, acl, content.user))
        for handle, entry in zip(handles, content.handles, strict=True):
            yield self._owned(content, handle, entry)
        for handle in handles:
            yield from self._in_allowed_contract(content, handle)

    def _wallet(self, content: UnifiedUserDecryption, chain_id: int, age: float) -> Iterator[View[None]]:
        """Ask the user's contract about the signature, where the user's own key did not make it."""
        digest = unified_digest(self.domain, chain_id, content)
        if recover(digest, content.signature) != content.user:
            view = views.is_valid_signature(
                chain_id, content.user, digest, content.signature, gas=self.erc1271_gas
            )
            yield _wallet_agrees(view, age)

    def _owned(self, content: UnifiedUserDecryption, handle: Handle, entry: HandleEntry) -> View[None]:
        if entry.owner == content.user:
            return self._allowed(handle, content.user)
        return self._delegated(handle, entry.owner, content.user, entry.contract)

    def _in_allowed_contract(self, content: UnifiedUserDecryption, handle: Handle) -> Iterator[View[None]]:
        found = _OneOf(
            len(content.allowed_contracts),
            f"handle {handle.raw.hex()} is allowed for no contract of the request",
        )
        for contract in content.allowed_contracts:
            view = views.is_allowed(*self._acl(handle), handle.raw, contract)
            yield found.ask(view)

    def _allowed(self, handle: Handle, account: Address) -> View[None]:
        view = views.is_allowed(*self._acl(handle), handle.raw, account)
        return _required(view, f"handle {handle.raw.hex()} is not allowed for {account.hex()}")

    def _delegated(
        self, handle: Handle, delegator: Address, delegate: Address, contract: Address
    ) -> View[None]:
        view = views.is_delegated(
            *self._acl(handle), delegator=delegator, delegate=delegate, contract=contract, handle=handle.raw
        )
        return _required(view, f"handle {handle.raw.hex()} is not delegated by {delegator.hex()}")

    def _acl(self, handle: Handle) -> tuple[int, Address]:
        acl = self.acls.get(handle.chain_id)
        if acl is None:
            raise Misconfigured(f"host chain {handle.chain_id} is not configured (host_chains)").of(
                f"host chain {handle.chain_id}", "not-configured"
            )
        return handle.chain_id, acl


def check_unified(content: UnifiedUserDecryption, handles: list[Handle], chain_time: float) -> None:
    """Judge a unified request from its own bytes (3.4). Raises Rejected, or NotYet before its validity begins."""
    if [entry.handle for entry in content.handles] != [handle.raw for handle in handles]:
        raise Rejected("handles and ciphertext materials of the request are not the same")
    if len({handle.chain_id for handle in handles}) > 1:
        raise Rejected("the handles of the request are of several host chains")
    if content.user in content.allowed_contracts:
        raise Rejected("the user is among the allowed contracts")
    if chain_time > content.start + content.duration:
        raise Rejected(f"expired: the request was valid until {content.start + content.duration}")
    if chain_time < content.start:
        raise NotYet(f"the request is valid from {content.start} on")


def unified_digest(gateway: Domain, chain_id: int, content: UnifiedUserDecryption) -> bytes:
    """Return what the user signs: under the host chain's id, extraData as in the event (3.4, vector B.8)."""
    domain = _on_host(gateway, chain_id)
    struct_hash = hash_struct(
        UNIFIED_TYPE,
        content.user,
        content.public_key,
        content.allowed_contracts,
        content.start,
        content.duration,
        content.extra_data,
    )
    return signing_digest(domain, struct_hash)


@lru_cache
def _on_host(gateway: Domain, chain_id: int) -> Domain:
    return attrs.evolve(gateway, chain_id=chain_id)


class _OneOf:
    """Several questions of which one "yes" is enough; in whatever order their answers come."""

    def __init__(self, count: int, message: str) -> None:
        self._open, self._met, self._message = count, False, message

    def ask(self, view: View[bool]) -> View[None]:
        def read(data: bytes) -> None:
            self._met |= view.read(data)
            self._open -= 1
            if not self._met and not self._open:
                raise Denied(self._message)

        return View(view.chain_id, view.to, view.data, read)


def _parse(raw: bytes) -> Handle:
    try:
        return Handle.parse(raw)
    except ValueError as error:
        raise Rejected(f"malformed handle {raw.hex()}: {error}") from error


def _required(view: View[bool], message: str) -> View[None]:
    def read(data: bytes) -> None:
        if not view.read(data):
            raise Denied(message)

    return View(view.chain_id, view.to, view.data, read)


def _not_invalidated(content: UnifiedUserDecryption, view: View[int]) -> View[None]:
    def read(data: bytes) -> None:
        if content.start < view.read(data):
            raise WrongSignature("the user has invalidated signatures of that time")

    return View(view.chain_id, view.to, view.data, read)


def _wallet_agrees(view: View[bytes], age: float) -> View[None]:
    def refuse(what: str) -> None:
        if age > WALLET_PATIENCE:
            raise WrongSignature(f"{what}, for {WALLET_PATIENCE:g} s by now")
        raise SignatureNotTaken(what)

    def read(data: bytes) -> None:
        if not data:
            raise WrongSignature("the signature is not the user's, and the user is no contract")
        if len(data) < _MAGIC_WORD or data[:4] != views.MAGIC_VALUE:
            refuse("the user's contract does not take the signature")

    def on_error(message: str, data: bytes | None) -> None:
        if data is not None and "revert" in message:
            refuse("the user's contract reverts on the signature")
        if _OUT_OF_GAS.search(message):
            refuse(
                f"the user's contract needs more than {view.gas} gas for the signature (erc1271_gas_limit)"
            )

    return View(view.chain_id, view.to, view.data, read, gas=view.gas, on_error=on_error)


# How nodes say that the gas of an eth_call was used up, or does not even pay for the calldata: geth and nitro ("out of gas", "intrinsic
# gas too low", "insufficient gas for floor data gas cost"), reth and anvil ("OutOfGas", "gas required exceeds"), besu
# ("INSUFFICIENT_GAS"), nethermind ("OutOfGas").
_OUT_OF_GAS = re.compile(
    r"out[ _]?of[ _]?gas|intrinsic gas|insufficient[ _]gas|gas required exceeds|gas too low", re.IGNORECASE
)
