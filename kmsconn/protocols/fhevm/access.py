"""Questions to the access control lists of host chains, about the handles of a request. Never asks them itself.

An answer "no" raises Denied: the request is asked about again, ever more rarely.
Source: fhevm-0.14.md, 3.2-3.4; outcomes: rows "check".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.errors import Denied, Misconfigured, Rejected
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.handles import Handle
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.fhevm import views
from kmsconn.protocols.queries import ViewCall


@attrs.frozen
class AccessControl:
    """The lists of the configured host chains: chain id → ACL. Raises Misconfigured for a handle of another chain."""

    acls: Mapping[int, Address]

    def public(self, handle: Handle) -> ViewCall[None]:
        """Ask whether everybody may see a value."""
        view = views.is_allowed_for_decryption(*self.of(handle), handle.raw)
        return _required(view, f"handle {handle.raw.hex()} is not allowed for public decryption")

    def allowed(self, handle: Handle, account: Address) -> ViewCall[None]:
        """Ask whether an account may use a handle."""
        view = views.is_allowed(*self.of(handle), handle.raw, account)
        return _required(view, f"handle {handle.raw.hex()} is not allowed for {account.hex()}")

    def delegated(
        self, handle: Handle, delegator: Address, delegate: Address, contract: Address
    ) -> ViewCall[None]:
        """Ask whether a delegate may see the delegator's value through a contract."""
        view = views.is_delegated(
            *self.of(handle), delegator=delegator, delegate=delegate, contract=contract, handle=handle.raw
        )
        return _required(view, f"handle {handle.raw.hex()} is not delegated by {delegator.hex()}")

    def allowed_for_one(self, handle: Handle, contracts: Sequence[Address]) -> list[ViewCall[None]]:
        """Ask whether at least one of the contracts may use a handle."""
        found = _OneOf(len(contracts), f"handle {handle.raw.hex()} is allowed for no contract of the request")
        return [found.ask(views.is_allowed(*self.of(handle), handle.raw, one)) for one in contracts]

    def of(self, handle: Handle) -> tuple[int, Address]:
        """Return the chain of a handle and its list."""
        acl = self.acls.get(handle.chain_id)
        if acl is None:
            raise Misconfigured(f"host chain {handle.chain_id} is not configured (host_chains)").of(
                f"host chain {handle.chain_id}", "not-configured"
            )
        return handle.chain_id, acl


def handles_of(references: Sequence[CiphertextReference]) -> list[Handle]:
    """Return the handles of a request. Raises Rejected where there is none, or one is malformed."""
    handles = [_parse(reference.handle) for reference in references]
    if not handles:
        raise Rejected("the request names no ciphertext")
    return handles


class _OneOf:
    """Several questions of which one "yes" is enough; in whatever order their answers come."""

    def __init__(self, count: int, message: str) -> None:
        self._open, self._met, self._message = count, False, message

    def ask(self, view: ViewCall[bool]) -> ViewCall[None]:
        def read(data: bytes) -> None:
            self._met |= view.read(data)
            self._open -= 1
            if not self._met and not self._open:
                raise Denied(self._message)

        return ViewCall(view.chain_id, view.to, view.data, read)


def _parse(raw: bytes) -> Handle:
    try:
        return Handle.parse(raw)
    except ValueError as error:
        raise Rejected(f"malformed handle {raw.hex()}: {error}") from error


def _required(view: ViewCall[bool], message: str) -> ViewCall[None]:
    def read(data: bytes) -> None:
        if not view.read(data):
            raise Denied(message)

    return ViewCall(view.chain_id, view.to, view.data, read)
