"""``DecryptionContract`` on the Gateway: what it is deployed with and set to. Knows no node and no block.

Requests are taken in ``decryption_requests``, replies in ``decryption_replies``. Storage is laid out as in the real contract where
somebody may look (fhevm-0.14.md, E.1).
"""

from __future__ import annotations

from kmsconn.emulator.contracts import decryption_slots as at
from kmsconn.emulator.contracts.contract import AbiContract, Handler, domain_teller
from kmsconn.emulator.contracts.decryption_replies import DecryptionReplies
from kmsconn.emulator.contracts.decryption_requests import DecryptionRequests
from kmsconn.emulator.contracts.gateway_config import GatewayConfig
from kmsconn.emulator.contracts.materials import Material
from kmsconn.emulator.execution import Frame
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG, make_id
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.queries import mapping_slot


class DecryptionContract(AbiContract):
    """The contract. The methods without underscore are knobs (for ``Chain.set_up`` and ``Chain.act``)."""

    def __init__(self, address: Address, chain_id: int, config: GatewayConfig) -> None:
        self.domain = Domain("Decryption", "1", chain_id, address)
        views: dict[str, Handler] = {
            "eip712Domain": domain_teller(self.domain),
            "getVersion": lambda frame: (
                "Decryption v0.7.0" if frame.read("later") else "Decryption v0.6.0",
            ),
        }
        requests, replies = DecryptionRequests(config), DecryptionReplies(self.domain, config)
        super().__init__(address, DECRYPTION, requests.handlers | replies.handlers | views)

    def initialize(self, frame: Frame) -> None:
        """Set the counters to their bare tags, as a fresh deployment does."""
        frame.store(at.PUBLIC_COUNTER, make_id(PUBLIC_DECRYPTION_TAG, 0))
        frame.store(at.USER_COUNTER, make_id(USER_DECRYPTION_TAG, 0))

    def commit(self, frame: Frame, material: Material) -> None:
        """Let the coprocessors have committed a ciphertext."""
        frame.write(material, "material", material.handle)

    def pause(self, frame: Frame, *, paused: bool = True) -> None:
        """Refuse requests, or take them again; replies are always taken."""
        frame.write(paused, "paused")

    def emit_later_events(self, frame: Frame, *, later: bool = True, only: bool = False) -> None:
        """Emit each request a second time in its form of the next generation, as 0.15 does, or in that form ``only`` (annex C)."""
        frame.write(later, "later")
        frame.write(only, "only later")

    def pin(self, frame: Frame, decryption_id: int, context_id: int) -> None:
        """Pin another context; 0 makes the request one from before pinning."""
        frame.store(mapping_slot(at.PINNED, decryption_id), context_id)
