"""DecryptionManager: takes requests and replies, and counts these, by the real rules. Knows no node and no block.

Storage that somebody may look at is laid out as in the real contract; what users sign is not looked at.
Source: httpz-rc7.md, 1.2, 2.2, 3.4 and annex C.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from kmsconn.emulator.execution import (
    AbiContract,
    Frame,
    Handler,
    Reverted,
    count,
    domain_teller,
    is_set,
    recover_strictly,
    revert,
    set_once,
)
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.ethereum.abi import Domain
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import HANDLE_BYTES
from kmsconn.model.requests import CiphertextReference
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.httpz_rc7 import contracts, decryptions
from kmsconn.protocols.httpz_rc7.messages import public_digest, user_digest
from kmsconn.protocols.queries import mapping_slot

_BASE = contracts.DECRYPTION_MANAGER_BASE
_PUBLIC_COUNTER, _PUBLIC_ANSWERED, _PUBLIC_HANDLES, _PUBLIC_DONE = (_BASE + n for n in (1, 2, 4, 5))
_USER_COUNTER, _USER_ANSWERED, _USER_REQUEST, _USER_DONE = (_BASE + n for n in (6, 7, 9, 10))
_REPLY_GAS, _REQUEST_GAS = 150_000, 200_000
_ANY_DIGEST = b""


@attrs.frozen
class _Reply:
    """What is answered: request, storage of who answered, what is signed, and under what it is counted."""

    number: int
    answered: int
    digest: bytes
    counted: tuple[str, bytes]


class DecryptionManager(AbiContract):
    """The contract. The methods without underscore are knobs (for ``EmulatedEvm.set_up`` and ``ActorQueue.act``).

    ``counts_shares``: users' answers are counted by request. The real one counts them by digest, which differs from node to node, so
    that its event never fires where a node may fail.
    """

    def __init__(
        self, address: Address, chain_id: int, httpz: HttpzContract, *, counts_shares: bool = False
    ) -> None:
        self.domain = Domain("DecryptionManager", "1", chain_id, address)
        self.numeric = httpz.revision.numeric
        self._httpz, self._counts_shares = httpz, counts_shares
        handlers: dict[str, Handler] = {
            "publicDecryptionRequest": self._public_request,
            "userDecryptionRequest": lambda frame, pairs, _validity, _chain, _contracts, user, key, _signature: (
                self._ask(frame, self._pairs(pairs), user, key)
            ),
            "delegatedUserDecryptionRequest": lambda frame, pairs, _validity, both, _chain, _contracts, key, _signature: (
                self._ask(frame, self._pairs(pairs), both[0], key)
            ),
            "publicDecryptionResponse": self.public_reply,
            "userDecryptionResponse": self.user_reply,
            "isPublicDecryptionDone": lambda frame, i: (is_set(frame, _PUBLIC_DONE, i),),
            "isUserDecryptionDone": lambda frame, i: (is_set(frame, _USER_DONE, i),),
        }
        super().__init__(address, httpz.revision.manager, handlers)
        self.offer(DECRYPTION.function("eip712Domain"), domain_teller(self.domain))

    def commit(self, frame: Frame, material: CiphertextReference) -> None:
        """Let the coprocessors have committed a ciphertext."""
        frame.write(material, "material", material.handle)

    def allow(self, frame: Frame, handle: bytes, account: Address | None = None) -> None:
        """Give an account the right to a ciphertext; None: let everybody know it."""
        frame.write(True, "allowed", handle, account)

    def ask_public(self, frame: Frame, materials: Sequence[CiphertextReference]) -> None:
        """Emit a public request; nobody contests its right here."""
        number = count(frame, _PUBLIC_COUNTER)
        frame.store(mapping_slot(_PUBLIC_HANDLES, number), len(materials))
        frame.write(tuple(one.handle for one in materials), "public", number)
        frame.emit(
            decryptions.NUMERIC_PUBLIC_EVENT if self.numeric else decryptions.PUBLIC_EVENT,
            number,
            self._as_abi(materials),
        )

    def ask_user(
        self, frame: Frame, materials: Sequence[CiphertextReference], user: Address, key: bytes
    ) -> None:
        """Emit a user's request; nobody contests its right here."""
        number = count(frame, _USER_COUNTER)
        frame.store(mapping_slot(_USER_REQUEST, number) + 1, len(materials))
        frame.write((tuple(one.handle for one in materials), key), "user", number)
        event = decryptions.NUMERIC_USER_EVENT if self.numeric else decryptions.USER_EVENT
        frame.emit(event, number, self._as_abi(materials), user, key)

    def _public_request(self, frame: Frame, handles: tuple[Any, ...]) -> None:
        frame.meter.burn(_REQUEST_GAS)
        ours = self._handles(handles)
        for handle in ours:
            self._check_allowed(frame, handle, None)
        self.ask_public(frame, self._materials(frame, ours))

    def _ask(self, frame: Frame, pairs: tuple[tuple[bytes, Address], ...], user: Address, key: bytes) -> None:
        frame.meter.burn(_REQUEST_GAS)
        for handle, contract in pairs:
            for account in (user, contract):
                self._check_allowed(frame, handle, account)
        self.ask_user(frame, self._materials(frame, [handle for handle, _ in pairs]), user, key)

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
                revert(contracts.DECRYPTION_MANAGER.error("DifferentKeyIdsNotAllowed"), one.key_id)
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

    def public_reply(self, frame: Frame, number: int, result: bytes, signature: bytes) -> None:
        """Take a reply for everybody; enough of them for one result complete the request. Raises Reverted."""
        handles = frame.read("public", number, default=())
        digest = public_digest(self.domain, handles, result, numeric=self.numeric)
        reply = _Reply(number, _PUBLIC_ANSWERED, digest, ("public", digest))
        replies = self._take(frame, reply, (signature,))
        needed = self._httpz.threshold(frame) + 1
        if len(replies) >= needed and set_once(frame, _PUBLIC_DONE, number):
            event = contracts.DECRYPTION_MANAGER.event("PublicDecryptionResponse")
            frame.emit(event, number, result, tuple(one[0] for one in replies))

    def user_reply(self, frame: Frame, number: int, share: bytes, signature: bytes) -> None:
        """Take a reply with a user's share; enough that count together complete the request. Raises Reverted."""
        handles, key = frame.read("user", number, default=((), b""))
        digest = user_digest(self.domain, key, handles, share, numeric=self.numeric)
        counted = "user", _ANY_DIGEST if self._counts_shares else digest
        replies = self._take(frame, _Reply(number, _USER_ANSWERED, digest, counted), (share, signature))
        needed = 2 * self._httpz.threshold(frame) + 1
        if len(replies) >= needed and set_once(frame, _USER_DONE, number):
            event = contracts.DECRYPTION_MANAGER.event("UserDecryptionResponse")
            frame.emit(event, number, tuple(one[0] for one in replies), tuple(one[1] for one in replies))

    def _take(self, frame: Frame, to: _Reply, reply: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
        """Check sender, signature, signer and that it is the signer's first; note the reply and return all that count with it."""
        frame.meter.burn(_REPLY_GAS)
        self._httpz.check_sender(frame)
        signer = recover_strictly(to.digest, reply[-1])
        self._httpz.check_signer(frame, signer)
        if not set_once(frame, mapping_slot(to.answered, to.number), signer):
            revert(contracts.DECRYPTION_MANAGER.error("KmsSignerAlreadyResponded"), to.number, signer)
        where = ("replies", *to.counted, to.number)
        replies: tuple[tuple[bytes, ...], ...] = (*frame.read(*where, default=()), reply)
        frame.write(replies, *where)
        return replies
