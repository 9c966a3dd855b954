"""Watches which release of fhevm the network is of, as far as the connector goes by it: when decryptions expire."""

from __future__ import annotations

import attrs
import trio

from kmsconn.checks.expiry import DecryptionExpiry
from kmsconn.errors import Retryable
from kmsconn.protocols.port import Profile
from kmsconn.rpc.asking import ask
from kmsconn.rpc.port import Rpc

AGAIN = 1.0  # seconds between questions while nobody has answered
INTERVAL = 600.0  # seconds between looks


@attrs.define
class NetworkRelease:
    """The watch over the release of a network."""

    profile: Profile
    gateway: Rpc
    expiry: DecryptionExpiry

    async def run(self) -> None:
        """Look for ever; not at all where the option decides, or the generation has one release. Cancellation: at any time."""
        if self.expiry.option is not None or self.profile.is_later_network() is None:
            return
        while True:
            wait = await self._look()
            await trio.sleep(wait)

    async def _look(self) -> float:
        """Look once; return the seconds until the next time. A chain that does not answer has an alert of its own."""
        question = self.profile.is_later_network()
        assert question is not None, "a profile always has this question, or never"
        try:
            self.expiry.later = await ask(self.gateway, question)
        except Retryable:
            return AGAIN if self.expiry.later is None else INTERVAL
        return INTERVAL
