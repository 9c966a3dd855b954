"""HTTPZ: who the nodes and the coprocessors are, and how many nodes may fail. Takes no transaction.

Source: httpz-rc7.md, 2.1, 2.2 and 4.2.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NoReturn

import attrs

from kmsconn.emulator.contracts.contract import AbiContract
from kmsconn.emulator.contracts.gateway_config import NO_COPROCESSOR, NO_NODE, EmulatedCoprocessor, KmsNode
from kmsconn.emulator.execution import Frame, revert
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.protocols.httpz_rc7 import contracts


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
