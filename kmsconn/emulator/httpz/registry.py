"""HTTPZ: who the nodes and the coprocessors are, and how many nodes may fail; takes no transaction. And KeyManager, by the real rules.

KeyManager numbers key requests and takes the answers, ids alone and no signature; it makes no key. Answers are counted by request
(preparations, CRS) or by what was produced (keys, switching keys), and that an answer is a sender's first is told by what was produced.
Which requests are made when, and which key coprocessors activate, is not looked at. Storage that somebody may look at is laid out as in
the real contract. Source: httpz-rc7.md, 1.3, 2.1, 2.2, 4.2 and annex C.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, Final, NoReturn

import attrs

from kmsconn.emulator.contracts.gateway_config import NO_COPROCESSOR, NO_NODE, EmulatedCoprocessor, KmsNode
from kmsconn.emulator.execution import AbiContract, Frame, Handler, count, is_set, revert, set_once
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7 import contracts
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
_RENAMED = ("getCoprocessor", "getKmsNode", "getCoprocessorTxSenders")

REVISIONS: Final = {
    "main": Revision(contracts.DECRYPTION_MANAGER, contracts.HTTPZ, *_FIRST),
    "rc7": Revision(
        contracts.RC7["DecryptionManager"],
        contracts.RC7["HTTPZ"],
        *_FIRST,
        numeric=True,
        long=True,
        roles=True,
    ),
    "rc9": Revision(contracts.DECRYPTION_MANAGER, contracts.RC9, *_RENAMED),
}
"""27 March (rc7), 7 April (main, the one that the connector of that era was built for) and 9 April (rc9)."""


_NODE_ROLE = keccak256(b"KMS_TX_SENDER_ROLE")
(_WITHOUT_ROLE,) = (
    one for one in contracts.ALL_ERRORS.values() if one.name == "AccessControlUnauthorizedAccount"
)


class HttpzContract(AbiContract):
    """The registry, read by the names of a ``revision``: main, rc7 or rc9."""

    def __init__(self, address: Address, revision: str = "main") -> None:
        self.revision = REVISIONS[revision]
        super().__init__(
            address,
            self.revision.httpz,
            {
                self.revision.coprocessor: lambda frame, who: (self._coprocessor(frame, who),),
                self.revision.node: lambda frame, who: (self._node(frame, who),),
                self.revision.senders: lambda frame: (
                    tuple(one.tx_sender for one in self.coprocessors(frame)),
                ),
            },
        )

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


_BASE = contracts.KEY_MANAGER_BASE
_CURRENT_KEY = _BASE + 27
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
        values = rest if operation.counter is None else (count(frame, _BASE + operation.counter), *rest)
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
        return is_set(frame, _BASE + _OPERATIONS[kind].done, produced)

    def _take(self, kind: Kind, frame: Frame, asked: int, produced: int) -> None:
        frame.meter.burn(_GAS)
        self._httpz.check_sender(frame)
        operation = _OPERATIONS[kind]
        if not set_once(frame, mapping_slot(_BASE + operation.answered, produced), frame.sender):
            revert(contracts.KEY_MANAGER.error(f"{_title(kind)}KmsNodeAlreadyResponded"), produced)
        counted = asked if operation.by_request else produced
        answers = count(frame, mapping_slot(_BASE + operation.counts, counted))
        if answers > self._httpz.threshold(frame) and not self.is_done(frame, kind, produced):
            self._finish(frame, kind, asked, produced)

    def _finish(self, frame: Frame, kind: Kind, asked: int, produced: int) -> None:
        frame.store(mapping_slot(_BASE + _OPERATIONS[kind].done, produced), 1)
        digest = frame.read("parameters", kind, asked, default=_NO_DIGEST)
        if kind in _PREPARES:
            frame.write(digest, "parameters", _PREPARES[kind], produced)
        told = () if kind in _PREPARES else (digest,)
        frame.emit(contracts.KEY_MANAGER.event(f"{_title(kind)}Response"), asked, produced, *told)


def _title(kind: Kind) -> str:
    """Return the name of a kind as events and errors write it."""
    name = _NAMES[kind]
    return name[0].upper() + name[1:]
