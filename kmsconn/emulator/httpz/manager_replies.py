"""The functions of DecryptionManager that take replies and count them as the real one does.

Source: httpz-rc7.md, 2.2 and annex C.
"""

from __future__ import annotations

import attrs

from kmsconn.emulator.contracts.contract import Handler
from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Frame, revert
from kmsconn.emulator.httpz.registry import HttpzContract
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.protocols.httpz_rc7 import abi, views
from kmsconn.protocols.httpz_rc7.messages import public_digest, user_digest
from kmsconn.protocols.queries import mapping_slot

_BASE = views.DECRYPTION_MANAGER_BASE
_PUBLIC_ANSWERED, _PUBLIC_DONE, _USER_ANSWERED, _USER_DONE = (_BASE + n for n in (2, 5, 7, 10))
_REPLY_GAS = 150_000
_ANY_DIGEST = b""


@attrs.frozen
class _Reply:
    """What is answered: request, storage of who answered, what is signed, and under what it is counted."""

    number: int
    answered: int
    digest: bytes
    counted: tuple[str, bytes]


@attrs.frozen
class ManagerReplies:
    """The handlers of both kinds of reply; what is signed is under ``domain``, signers are those of ``httpz``."""

    _domain: Domain
    _httpz: HttpzContract
    _counts_shares: bool = attrs.field(kw_only=True)

    @property
    def handlers(self) -> dict[str, Handler]:
        """The handlers by the functions of the contract."""
        return {
            "publicDecryptionResponse": self.public_reply,
            "userDecryptionResponse": self.user_reply,
            "isPublicDecryptionDone": lambda frame, i: (_is_set(frame, _PUBLIC_DONE, i),),
            "isUserDecryptionDone": lambda frame, i: (_is_set(frame, _USER_DONE, i),),
        }

    @property
    def _numeric(self) -> bool:
        return self._httpz.revision.numeric

    def public_reply(self, frame: Frame, number: int, result: bytes, signature: bytes) -> None:
        """Take a reply for everybody; enough of them for one result complete the request. Raises Reverted."""
        handles = frame.read("public", number, default=())
        digest = public_digest(self._domain, handles, result, numeric=self._numeric)
        reply = _Reply(number, _PUBLIC_ANSWERED, digest, ("public", digest))
        replies = self._take(frame, reply, (signature,))
        needed = self._httpz.threshold(frame) + 1
        if len(replies) >= needed and _set_once(frame, _PUBLIC_DONE, number):
            event = abi.DECRYPTION_MANAGER.event("PublicDecryptionResponse")
            frame.emit(event, number, result, tuple(one[0] for one in replies))

    def user_reply(self, frame: Frame, number: int, share: bytes, signature: bytes) -> None:
        """Take a reply with a user's share; enough that count together complete the request. Raises Reverted."""
        handles, key = frame.read("user", number, default=((), b""))
        digest = user_digest(self._domain, key, handles, share, numeric=self._numeric)
        counted = "user", _ANY_DIGEST if self._counts_shares else digest
        replies = self._take(frame, _Reply(number, _USER_ANSWERED, digest, counted), (share, signature))
        needed = 2 * self._httpz.threshold(frame) + 1
        if len(replies) >= needed and _set_once(frame, _USER_DONE, number):
            event = abi.DECRYPTION_MANAGER.event("UserDecryptionResponse")
            frame.emit(event, number, tuple(one[0] for one in replies), tuple(one[1] for one in replies))

    def _take(self, frame: Frame, to: _Reply, reply: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
        """Check sender, signature, signer and that it is the signer's first; note the reply and return all that count with it."""
        frame.meter.burn(_REPLY_GAS)
        self._httpz.check_sender(frame)
        signer = recover_strictly(to.digest, reply[-1])
        self._httpz.check_signer(frame, signer)
        if not _set_once(frame, mapping_slot(to.answered, to.number), signer):
            revert(abi.DECRYPTION_MANAGER.error("KmsSignerAlreadyResponded"), to.number, signer)
        where = ("replies", *to.counted, to.number)
        replies: tuple[tuple[bytes, ...], ...] = (*frame.read(*where, default=()), reply)
        frame.write(replies, *where)
        return replies


def _is_set(frame: Frame, mapping: int, key: int) -> bool:
    return bool(frame.load(mapping_slot(mapping, key)))


def _set_once(frame: Frame, mapping: int, key: int | Address) -> bool:
    """Set a flag of a mapping; False where it was set before."""
    slot = mapping_slot(mapping, key)
    was = frame.load(slot)
    frame.store(slot, 1)
    return not was
