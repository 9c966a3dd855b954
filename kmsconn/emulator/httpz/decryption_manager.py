"""DecryptionManager: takes requests by the real rules; replies are taken in ``manager_replies``. Knows no node and no block.

Storage that somebody may look at is laid out as in the real contract. Source: httpz-rc7.md, 1.2, 2.2 and annex C.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from kmsconn.emulator.contracts.contract import AbiContract, Handler
from kmsconn.emulator.execution import Frame, Reverted, revert
from kmsconn.emulator.httpz.manager_replies import ManagerReplies
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.emulator.httpz.user_requests import UserRequest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.httpz_rc7 import abi, public_decryption, user_decryption, views
from kmsconn.protocols.httpz_rc7.messages import HANDLE_BYTES
from kmsconn.protocols.queries import mapping_slot

_BASE = views.DECRYPTION_MANAGER_BASE
_PUBLIC_COUNTER, _PUBLIC_HANDLES = _BASE + 1, _BASE + 4
_USER_COUNTER, _USER_REQUEST = _BASE + 6, _BASE + 9
_REQUEST_GAS = 200_000
_EIP_712_DOMAIN = DECRYPTION.function("eip712Domain")  # EIP-5267: the same of every contract
_NAME_VERSION_CHAIN_CONTRACT = b"\x0f"


class DecryptionManager(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``).

    ``counts_shares``: users' answers are counted by request. The real one counts them by digest, which differs from node to node, so
    that its event never fires where a node may fail.
    """

    def __init__(
        self, address: Address, chain_id: int, httpz: HttpzContract, *, counts_shares: bool = False
    ) -> None:
        self.domain = Domain("DecryptionManager", "1", chain_id, address)
        self.numeric = httpz.revision.numeric
        replies = ManagerReplies(self.domain, httpz, counts_shares=counts_shares)
        requests: dict[str, Handler] = {
            "publicDecryptionRequest": self._public_request,
            "userDecryptionRequest": self._user_request,
            "delegatedUserDecryptionRequest": self._delegated_request,
        }
        super().__init__(address, httpz.revision.manager, requests | replies.handlers)
        self.offer(_EIP_712_DOMAIN, lambda _: _as_eip_5267(self.domain))

    def commit(self, frame: Frame, material: CiphertextReference) -> None:
        """Let the coprocessors have committed a ciphertext."""
        frame.write(material, "material", material.handle)

    def allow(self, frame: Frame, handle: bytes, account: Address | None = None) -> None:
        """Give an account the right to a ciphertext; None: let everybody know it."""
        frame.write(True, "allowed", handle, account)

    def ask_public(self, frame: Frame, materials: Sequence[CiphertextReference]) -> None:
        """Emit a public request; nobody contests its right here."""
        number = _count(frame, _PUBLIC_COUNTER)
        frame.store(mapping_slot(_PUBLIC_HANDLES, number), len(materials))
        frame.write(tuple(one.handle for one in materials), "public", number)
        frame.emit(
            public_decryption.NUMERIC_EVENT if self.numeric else public_decryption.EVENT,
            number,
            self._as_abi(materials),
        )

    def ask_user(
        self, frame: Frame, materials: Sequence[CiphertextReference], user: Address, key: bytes
    ) -> None:
        """Emit a user's request; nobody contests its right here."""
        number = _count(frame, _USER_COUNTER)
        frame.store(mapping_slot(_USER_REQUEST, number) + 1, len(materials))
        frame.write((tuple(one.handle for one in materials), key), "user", number)
        event = user_decryption.NUMERIC_EVENT if self.numeric else user_decryption.EVENT
        frame.emit(event, number, self._as_abi(materials), user, key)

    def _public_request(self, frame: Frame, handles: tuple[Any, ...]) -> None:
        frame.meter.burn(_REQUEST_GAS)
        ours = self._handles(handles)
        for handle in ours:
            self._check_allowed(frame, handle, None)
        self.ask_public(frame, self._materials(frame, ours))

    def _user_request(self, frame: Frame, *arguments: Any) -> None:
        pairs, validity, chain_id, contracts, user, key, signature = arguments
        self._ask(frame, UserRequest(self._pairs(pairs), validity, chain_id, contracts, user, key), signature)

    def _delegated_request(self, frame: Frame, *arguments: Any) -> None:
        pairs, validity, (user, delegate), chain_id, contracts, key, signature = arguments
        asked = UserRequest(self._pairs(pairs), validity, chain_id, contracts, user, key, delegate)
        self._ask(frame, asked, signature)

    def _ask(self, frame: Frame, asked: UserRequest, signature: bytes) -> None:
        frame.meter.burn(_REQUEST_GAS)
        asked.check(self.domain, signature)
        for handle, contract in asked.pairs:
            for account in (asked.user, contract):
                self._check_allowed(frame, handle, account)
        materials = self._materials(frame, [handle for handle, _ in asked.pairs])
        self.ask_user(frame, materials, asked.user, asked.public_key)

    def _check_allowed(self, frame: Frame, handle: bytes, account: Address | None) -> None:
        """Refuse what the ACLManager refuses, whose errors no connector sees. Raises Reverted."""
        if not frame.read("allowed", handle, account, default=False):
            raise Reverted

    def _materials(self, frame: Frame, handles: Iterable[bytes]) -> list[CiphertextReference]:
        """Return what was committed. Raises Reverted for what was not, and for ciphertexts under different keys."""
        found = [frame.read("material", handle) for handle in handles]
        if None in found:
            raise Reverted
        for one in found[1:]:
            if one.key_id != found[0].key_id:
                revert(abi.DECRYPTION_MANAGER.error("DifferentKeyIdsNotAllowed"), one.key_id)
        return found

    def _handles(self, handles: Iterable[Any]) -> list[bytes]:
        return [handle.to_bytes(HANDLE_BYTES) if self.numeric else handle for handle in handles]

    def _pairs(self, pairs: Iterable[tuple[Any, Address]]) -> tuple[tuple[bytes, Address], ...]:
        handles, contracts = zip(*pairs, strict=True) if pairs else ((), ())
        return tuple(zip(self._handles(handles), contracts, strict=True))

    def _as_abi(self, materials: Iterable[CiphertextReference]) -> tuple[Any, ...]:
        return tuple(
            (int.from_bytes(m.handle) if self.numeric else m.handle, m.key_id, m.digest, m.coprocessors)
            for m in materials
        )


def _as_eip_5267(domain: Domain) -> tuple[Any, ...]:
    where = (domain.name, domain.version, domain.chain_id, domain.verifying_contract)
    return (_NAME_VERSION_CHAIN_CONTRACT, *where, bytes(32), ())


def _count(frame: Frame, slot: int) -> int:
    number = frame.load(slot) + 1
    frame.store(slot, number)
    return number
