"""DecryptionManager, HTTPZ and KeyManager with their acceptance rules, for an emulated chain. No rule of a user's request is here.

Storage that somebody may look at is laid out as in the real contracts. Source: httpz-rc7.md, 2.2 and annex C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from kmsconn.emulator.contracts.contract import AbiContract
from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.model.requests import Kind, Material
from kmsconn.protocols.httpz_rc7 import abi, events, operations, views
from kmsconn.protocols.httpz_rc7.typed_data import public_digest, user_digest
from kmsconn.protocols.storage import mapping_slot

DAY = 86_400
_MANAGER, _KEYS = views.DECRYPTION_MANAGER_BASE, views.KEY_MANAGER_BASE
_COUNTERS = {Kind.PREP_KEYGEN: 1, Kind.PREP_KSKGEN: 9, Kind.CRSGEN: 20}
_ANSWERED = {Kind.PREP_KEYGEN: 4, Kind.KEYGEN: 6, Kind.PREP_KSKGEN: 12, Kind.KSKGEN: 16, Kind.CRSGEN: 22}
_GAS = 150_000


@attrs.frozen
class Node:
    """A node of the one set: who sends, and who signs."""

    tx_sender: Address
    signer: Address


@attrs.frozen
class _Reply:
    """What is answered: request, storage of answers, what they are counted under, and what is signed."""

    number: int
    at: int
    where: tuple[str, bytes]
    digest: bytes


class Httpz(AbiContract):
    """Who the nodes and the coprocessors are, read by the names of a ``revision``: main, rc7 or rc9."""

    def __init__(self, address: Address, revision: str = "main") -> None:
        contract, names, tail = {
            "main": (abi.HTTPZ, ("coprocessors", "kmsNodes", "getAllCoprocessorTxSenderAddresses"), ()),
            "rc7": (
                abi.RC7["HTTPZ"],
                ("coprocessors", "kmsNodes", "getAllCoprocessorTxSenderAddresses"),
                ("da",),
            ),
            "rc9": (abi.RC9, ("getCoprocessor", "getKmsNode", "getCoprocessorTxSenders"), ()),
        }[revision]
        coprocessor, node, senders = names
        super().__init__(
            address,
            contract,
            {
                coprocessor: lambda frame, who: (self._coprocessor(frame, who, tail),),
                node: lambda frame, who: (self._node(frame, who, tail),),
                senders: lambda frame: (tuple(frame.read("coprocessors", default={})),),
            },
        )

    def set_nodes(self, frame: Frame, nodes: Sequence[Node], threshold: int = 0) -> None:
        """Replace the nodes; ``threshold`` of them may fail."""
        frame.write(tuple(nodes), "nodes")
        frame.write(threshold, "threshold")

    def set_buckets(self, frame: Frame, buckets: dict[Address, str]) -> None:
        """Replace the coprocessors: tx sender → bucket."""
        frame.write(dict(buckets), "coprocessors")

    def nodes(self, frame: Frame) -> tuple[Node, ...]:
        """Return the nodes."""
        found: tuple[Node, ...] = frame.at(self.address).read("nodes", default=())
        return found

    def threshold(self, frame: Frame) -> int:
        """Return how many nodes may fail."""
        return int(frame.at(self.address).read("threshold", default=0))

    def check_sender(self, frame: Frame) -> None:
        """Revert unless a node's wallet sends."""
        if frame.sender not in {node.tx_sender for node in self.nodes(frame)}:
            revert(abi.HTTPZ.error("NotKmsTxSender"), frame.sender)

    def _coprocessor(self, frame: Frame, who: Address, tail: tuple[str, ...]) -> tuple[Any, ...]:
        bucket = frame.read("coprocessors", default={}).get(who)
        if bucket is None:
            return (ZERO_ADDRESS, ZERO_ADDRESS, *("" for _ in tail), "")
        return (who, who, *tail, bucket)

    def _node(self, frame: Frame, who: Address, tail: tuple[str, ...]) -> tuple[Any, ...]:
        signer = next((node.signer for node in self.nodes(frame) if node.tx_sender == who), None)
        return (who if signer else ZERO_ADDRESS, signer or ZERO_ADDRESS, "ip" if signer else "", *tail)


class DecryptionManager(AbiContract):
    """Takes replies by the real rules. ``numeric``: handles are numbers. User consensus counts shares, which the real one does not."""

    def __init__(self, address: Address, chain_id: int, httpz: Httpz, *, numeric: bool = False) -> None:
        super().__init__(
            address,
            abi.DECRYPTION_MANAGER,
            {"publicDecryptionResponse": self._public, "userDecryptionResponse": self._user},
        )
        self.domain = Domain("DecryptionManager", "1", chain_id, address)
        self._httpz, self.numeric = httpz, numeric

    def ask_public(self, frame: Frame, materials: Sequence[Material]) -> None:
        """Emit a public request."""
        number = _count(frame, _MANAGER + 1)
        frame.store(mapping_slot(_MANAGER + 4, number), len(materials))
        frame.write(tuple(one.handle for one in materials), "public", number)
        event = events.NUMERIC_PUBLIC if self.numeric else events.PUBLIC
        frame.emit(event, number, self._as_abi(materials))

    def ask_user(self, frame: Frame, materials: Sequence[Material], user: Address, key: bytes) -> None:
        """Emit a user's request, whose right nobody doubts here."""
        number = _count(frame, _MANAGER + 6)
        frame.store(mapping_slot(_MANAGER + 9, number) + 1, len(materials))
        frame.write((tuple(one.handle for one in materials), key), "user", number)
        event = events.NUMERIC_USER if self.numeric else events.USER
        frame.emit(event, number, self._as_abi(materials), user, key)

    def _as_abi(self, materials: Sequence[Material]) -> tuple[Any, ...]:
        return tuple(
            (
                int.from_bytes(one.handle) if self.numeric else one.handle,
                one.key_id,
                one.digest,
                one.coprocessors,
            )
            for one in materials
        )

    def _public(self, frame: Frame, number: int, result: bytes, signature: bytes) -> None:
        handles = frame.read("public", number, default=())
        digest = public_digest(self.domain, handles, result, numeric=self.numeric)
        replies = self._take(frame, _Reply(number, 2, ("public", digest), digest), (signature,))
        if len(replies) == self._httpz.threshold(frame) + 1 and not frame.load(
            mapping_slot(_MANAGER + 5, number)
        ):
            frame.store(mapping_slot(_MANAGER + 5, number), 1)
            event = abi.DECRYPTION_MANAGER.event("PublicDecryptionResponse")
            frame.emit(event, number, result, tuple(one[0] for one in replies))

    def _user(self, frame: Frame, number: int, share: bytes, signature: bytes) -> None:
        handles, key = frame.read("user", number, default=((), b""))
        digest = user_digest(self.domain, key, handles, share, numeric=self.numeric)
        replies = self._take(frame, _Reply(number, 7, ("user", b""), digest), (share, signature))
        if len(replies) == 2 * self._httpz.threshold(frame) + 1:
            frame.store(mapping_slot(_MANAGER + 10, number), 1)
            event = abi.DECRYPTION_MANAGER.event("UserDecryptionResponse")
            frame.emit(event, number, tuple(one[0] for one in replies), tuple(one[1] for one in replies))

    def _take(self, frame: Frame, to: _Reply, reply: tuple[bytes, ...]) -> tuple[tuple[bytes, ...], ...]:
        """Check sender, signature, signer and that it is the signer's first; note the reply and return all of its kind."""
        frame.meter.burn(_GAS)
        self._httpz.check_sender(frame)
        signer = recover_strictly(to.digest, reply[-1])
        if signer not in {node.signer for node in self._httpz.nodes(frame)}:
            revert(abi.HTTPZ.error("NotKmsSigner"), signer)
        slot = mapping_slot(mapping_slot(_MANAGER + to.at, to.number), signer)
        if frame.load(slot):
            revert(abi.DECRYPTION_MANAGER.error("KmsSignerAlreadyResponded"), to.number, signer)
        frame.store(slot, 1)
        replies: tuple[tuple[bytes, ...], ...] = (
            *frame.read("replies", *to.where, to.number, default=()),
            reply,
        )
        frame.write(replies, "replies", *to.where, to.number)
        return replies


class KeyManager(AbiContract):
    """Numbers requests and takes the five replies by the real rules, ids alone and no signature."""

    def __init__(self, address: Address, httpz: Httpz) -> None:
        replies = {operations.REPLIES[kind]: self._reply(kind) for kind in _ANSWERED}
        super().__init__(address, abi.KEY_MANAGER, replies)
        self._httpz = httpz

    def ask(self, frame: Frame, kind: Kind, *rest: Any) -> None:
        """Emit a request; one that has a number of its own is given the next."""
        names = {reply[: -len("Response")]: each for each, reply in operations.REPLIES.items()}
        (name,) = [one for one, each in names.items() if each is kind]
        identifier = (_count(frame, _KEYS + _COUNTERS[kind]),) if kind in _COUNTERS else ()
        frame.emit(abi.KEY_MANAGER.event(f"{name[0].upper()}{name[1:]}Request"), *identifier, *rest)

    def _reply(self, kind: Kind) -> Any:
        name = operations.REPLIES[kind]
        title = name[0].upper() + name[1:]
        already = abi.KEY_MANAGER.error(f"{title[: -len('Response')]}KmsNodeAlreadyResponded")

        def take(frame: Frame, asked: int, produced: int) -> None:
            frame.meter.burn(_GAS)
            self._httpz.check_sender(frame)
            slot = mapping_slot(mapping_slot(_KEYS + _ANSWERED[kind], produced), frame.sender)
            if frame.load(slot):
                revert(already, produced)
            frame.store(slot, 1)
            count = frame.read("count", kind, asked, default=0) + 1
            frame.write(count, "count", kind, asked)
            if count == self._httpz.threshold(frame) + 1:
                event = abi.KEY_MANAGER.event(title)
                digest = () if kind in {Kind.PREP_KEYGEN, Kind.PREP_KSKGEN} else (bytes(32),)
                frame.emit(event, asked, produced, *digest)

        return take


def _count(frame: Frame, slot: int) -> int:
    number = frame.load(slot) + 1
    frame.store(slot, number)
    return number
