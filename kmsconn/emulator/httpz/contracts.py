"""The three contracts of the first generation, HTTPZ, DecryptionManager and KeyManager, by the real rules. Know no node and no block.

HTTPZ says who the nodes and the coprocessors are, and how many nodes may fail; it takes no transaction. DecryptionManager takes requests
and replies, and counts these; what users sign is not looked at. KeyManager numbers key requests and takes the answers, ids alone and no
signature; it makes no key. Answers are counted by request (preparations, CRS) or by what was produced (keys, switching keys), and that an
answer is a sender's first is told by what was produced. Which requests are made when, and which key coprocessors activate, is not looked
at. Storage that somebody may look at is laid out as in the real contract. Source: httpz-rc7.md, 1.2, 1.3, 2.1, 2.2, 3.4, 4.2, annex C.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import attrs

from kmsconn.emulator.contracts.gateway_config import NO_COPROCESSOR, NO_NODE, EmulatedCoprocessor, KmsNode
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
from kmsconn.ethereum.abi import Abi, Domain
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import HANDLE_BYTES
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.protocols.httpz_rc7 import contracts, decryptions
from kmsconn.protocols.httpz_rc7.messages import public_digest, user_digest
from kmsconn.protocols.httpz_rc7.profile import OPERATIONS
from kmsconn.protocols.queries import mapping_slot


@attrs.frozen
class Revision:
    """One state of the interfaces.

    ``numeric``: handles are numbers. ``long``: nodes and coprocessors have a ``daUrl`` too. ``roles``: a stranger is refused
    by the name of the role that he has not.
    """

    manager: Abi
    httpz: Abi
    coprocessor: str
    node: str
    senders: str
    numeric: bool = False
    long: bool = False
    roles: bool = False


_FIRST = ("coprocessors", "kmsNodes", "getAllCoprocessorTxSenderAddresses")
_RC7: Final = contracts.RC7
_RENAMED = ("getCoprocessor", "getKmsNode", "getCoprocessorTxSenders")

REVISIONS: Final = {
    "main": Revision(contracts.DECRYPTION_MANAGER, contracts.HTTPZ, *_FIRST),
    "rc7": Revision(_RC7["DecryptionManager"], _RC7["HTTPZ"], *_FIRST, numeric=True, long=True, roles=True),
    "rc9": Revision(contracts.DECRYPTION_MANAGER, contracts.RC9, *_RENAMED),
}
"""27 March (rc7), 7 April (main, the one that the connector of that era was built for) and 9 April (rc9)."""


_NODE_ROLE = keccak256(b"KMS_TX_SENDER_ROLE")
_ROLE_ERROR = "AccessControlUnauthorizedAccount"
(_WITHOUT_ROLE,) = (one for one in contracts.ALL_ERRORS.values() if one.name == _ROLE_ERROR)


class HttpzContract(AbiContract):
    """The registry, read by the names of a ``revision``: main, rc7 or rc9."""

    def __init__(self, address: Address, revision: str = "main") -> None:
        self.revision = REVISIONS[revision]
        views: dict[str, Handler] = {
            self.revision.coprocessor: lambda frame, who: (self._coprocessor(frame, who),),
            self.revision.node: lambda frame, who: (self._node(frame, who),),
            self.revision.senders: lambda frame: (tuple(c.tx_sender for c in self.coprocessors(frame)),),
        }
        super().__init__(address, self.revision.httpz, views)

    def set_nodes(self, frame: Frame, nodes: Sequence[KmsNode], threshold: int = 0) -> None:
        """Replace the nodes; ``threshold`` of them may fail."""
        frame.write(tuple(nodes), "nodes")
        frame.write(threshold, "threshold")

    def set_coprocessors(self, frame: Frame, coprocessors: Sequence[EmulatedCoprocessor]) -> None:
        """Replace the coprocessors."""
        frame.write(tuple(coprocessors), "coprocessors")

    def nodes(self, frame: Frame) -> tuple[KmsNode, ...]:
        """Return the nodes."""
        found: tuple[KmsNode, ...] = frame.at(self.address).read("nodes", default=())
        return found

    def coprocessors(self, frame: Frame) -> tuple[EmulatedCoprocessor, ...]:
        """Return the coprocessors."""
        found: tuple[EmulatedCoprocessor, ...] = frame.at(self.address).read("coprocessors", default=())
        return found

    def threshold(self, frame: Frame) -> int:
        """Return how many nodes may fail."""
        return int(frame.at(self.address).read("threshold", default=0))

    def check_sender(self, frame: Frame) -> None:
        """Refuse all but nodes. Raises Reverted."""
        if frame.sender not in {node.tx_sender for node in self.nodes(frame)}:
            self._refuse(frame.sender, "NotKmsTxSender", _NODE_ROLE)

    def check_signer(self, frame: Frame, signer: Address) -> None:
        """Refuse what no node signed; that it is the sender's own signature is not looked at. Raises Reverted."""
        if signer not in {node.signer for node in self.nodes(frame)}:
            revert(contracts.HTTPZ.error("NotKmsSigner"), signer)

    def _refuse(self, who: Address, error: str, role: bytes) -> NoReturn:
        if self.revision.roles:
            revert(_WITHOUT_ROLE, who, role)
        revert(contracts.HTTPZ.error(error), who)

    def _coprocessor(self, frame: Frame, who: Address) -> tuple[Any, ...]:
        found = (one for one in self.coprocessors(frame) if one.tx_sender == who)
        one = next(found, NO_COPROCESSOR)
        return (one.tx_sender, one.signer, *self._long(one.da_url), one.bucket_url)

    def _node(self, frame: Frame, who: Address) -> tuple[Any, ...]:
        found = (one for one in self.nodes(frame) if one.tx_sender == who)
        one = next(found, NO_NODE)
        return (one.tx_sender, one.signer, one.ip_address, *self._long(one.storage_url))

    def _long(self, da_url: str) -> tuple[str, ...]:
        return (da_url,) if self.revision.long else ()


_KEYS_BASE = contracts.KEY_MANAGER_BASE
_CURRENT_KEY = _KEYS_BASE + 27
_GAS = 150_000
_NO_DIGEST = bytes(32)


@attrs.frozen
class _Operation:
    """The storage of one kind: counter, counts, what is done, who answered; by what answers are counted."""

    counts: int
    done: int
    answered: int
    counter: int | None = None
    by_request: bool = False


_OPERATIONS: Mapping[Kind, _Operation] = {
    Kind.PREP_KEYGEN: _Operation(2, 3, 4, counter=1, by_request=True),
    Kind.KEYGEN: _Operation(7, 8, 6),
    Kind.PREP_KSKGEN: _Operation(10, 11, 12, counter=9, by_request=True),
    Kind.KSKGEN: _Operation(17, 18, 16),
    Kind.CRSGEN: _Operation(21, 23, 22, counter=20, by_request=True),
}
_REPLIES = {row.kind: row.reply.name for row in OPERATIONS}
_NAMES = {kind: _REPLIES[kind].removesuffix("Response") for kind in _OPERATIONS}
_PREPARES = {Kind.PREP_KEYGEN: Kind.KEYGEN, Kind.PREP_KSKGEN: Kind.KSKGEN}


class KeyManager(AbiContract):
    """The contract. Who may ask for keys is not looked at."""

    def __init__(self, address: Address, httpz: HttpzContract) -> None:
        self._httpz = httpz
        replies = {_REPLIES[kind]: partial(self._take, kind) for kind in _OPERATIONS}
        super().__init__(address, contracts.KEY_MANAGER, replies | self._requests())

    def _requests(self) -> dict[str, Handler]:
        named = (Kind.PREP_KEYGEN, Kind.PREP_KSKGEN, Kind.CRSGEN)
        return {f"{_NAMES[kind]}Request": partial(self._ask_named, kind) for kind in named} | {
            "keygenRequest": self._ask_key,
            "kskgenRequest": self._ask_switching_key,
            "getCurrentKeyId": lambda frame: (frame.load(_CURRENT_KEY),),
        }

    def ask(self, frame: Frame, kind: Kind, *rest: Any) -> None:
        """Emit a request, whatever it rests on; ``rest`` is its event's, without the number where it is given one."""
        operation = _OPERATIONS[kind]
        values = rest if operation.counter is None else (count(frame, _KEYS_BASE + operation.counter), *rest)
        frame.write(rest[-1], "parameters", kind, values[0])
        frame.emit(contracts.KEY_MANAGER.event(f"{_title(kind)}Request"), *values)

    def name_parameters(self, frame: Frame, name: str, digest: bytes) -> None:
        """Let FHE parameters have a name."""
        frame.write(digest, "digest", name)

    def _ask_named(self, kind: Kind, frame: Frame, name: str) -> None:
        self.ask(frame, kind, frame.read("digest", name))

    def _ask_key(self, frame: Frame, prepared: int) -> None:
        self.ask(frame, Kind.KEYGEN, prepared, frame.read("parameters", Kind.KEYGEN, prepared))

    def _ask_switching_key(self, frame: Frame, prepared: int, source: int, destination: int) -> None:
        digest = frame.read("parameters", Kind.KSKGEN, prepared)
        self.ask(frame, Kind.KSKGEN, prepared, source, destination, digest)

    def is_done(self, frame: Frame, kind: Kind, produced: int) -> bool:
        """Return whether enough nodes have said that they made this."""
        return is_set(frame, _KEYS_BASE + _OPERATIONS[kind].done, produced)

    def _take(self, kind: Kind, frame: Frame, asked: int, produced: int) -> None:
        frame.meter.burn(_GAS)
        self._httpz.check_sender(frame)
        operation = _OPERATIONS[kind]
        if not set_once(frame, mapping_slot(_KEYS_BASE + operation.answered, produced), frame.sender):
            revert(contracts.KEY_MANAGER.error(f"{_title(kind)}KmsNodeAlreadyResponded"), produced)
        counted = asked if operation.by_request else produced
        answers = count(frame, mapping_slot(_KEYS_BASE + operation.counts, counted))
        if answers > self._httpz.threshold(frame) and not self.is_done(frame, kind, produced):
            self._finish(frame, kind, asked, produced)

    def _finish(self, frame: Frame, kind: Kind, asked: int, produced: int) -> None:
        frame.store(mapping_slot(_KEYS_BASE + _OPERATIONS[kind].done, produced), 1)
        digest = frame.read("parameters", kind, asked, default=_NO_DIGEST)
        if kind in _PREPARES:
            frame.write(digest, "parameters", _PREPARES[kind], produced)
        told = () if kind in _PREPARES else (digest,)
        frame.emit(contracts.KEY_MANAGER.event(f"{_title(kind)}Response"), asked, produced, *told)


def _title(kind: Kind) -> str:
    """Return the name of a kind as events and errors write it."""
    name = _NAMES[kind]
    return name[0].upper() + name[1:]


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
        event = decryptions.NUMERIC_PUBLIC_EVENT if self.numeric else decryptions.PUBLIC_EVENT
        frame.emit(event, number, self._as_abi(materials))

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
        read = int.from_bytes if self.numeric else bytes
        return tuple((read(m.handle), m.key_id, m.digest, m.coprocessors) for m in materials)

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
