"""Which coprocessor keeps its ciphertexts where: a snapshot of the chain's registry, refreshed while the connector runs (3.1)."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import partial

import attrs
import trio

from kmsconn.errors import Down, NotYet, Retryable, StartRefused, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent
from kmsconn.protocols.port import Coprocessor, Profile
from kmsconn.rpc.asking import ask
from kmsconn.rpc.port import Rpc
from kmsconn.transport.together import together

NAME = "coprocessor registry"
MOST = 1_000  # coprocessors; each is asked for, and there are five
RETRY = 2.0  # seconds between tries while there is no snapshot at all


@attrs.define
class Registry:
    """The last good snapshot; empty before the first."""

    profile: Profile
    gateway: Rpc
    refresh: float
    on_event: OnEvent
    _coprocessors: dict[Address, Coprocessor] = attrs.field(factory=dict)
    _threshold: int = 0
    _loaded: trio.Event = attrs.field(factory=trio.Event)

    def buckets(self, tx_senders: Sequence[Address]) -> list[str]:
        """Return the bucket addresses of these coprocessors in this order, unknown and empty ones left out."""
        known = (self._coprocessors.get(sender) for sender in tx_senders)
        return [found.bucket for found in known if found is not None and found.bucket]

    async def find(self, tx_senders: Sequence[Address]) -> list[str]:
        """Return what ``buckets`` does, at once: everything is in the snapshot."""
        return self.buckets(tx_senders)

    @property
    def all_buckets(self) -> tuple[str, ...]:
        """Every bucket of the registry, each once."""
        return tuple(dict.fromkeys(found.bucket for found in self._coprocessors.values() if found.bucket))

    @property
    def signers(self) -> frozenset[Address]:
        """The keys that attest ciphertexts."""
        return frozenset(found.signer for found in self._coprocessors.values())

    def senders_of(self, signers: Collection[Address]) -> tuple[Address, ...]:
        """Return the tx senders of the coprocessors that attest with these keys."""
        return tuple(one.tx_sender for one in self._coprocessors.values() if one.signer in signers)

    @property
    def threshold(self) -> int:
        """How many coprocessors are a quorum; 0 before the first snapshot."""
        return self._threshold

    async def load(self) -> None:
        """Read the registry.

        Raises StartRefused for a threshold of zero before the first snapshot, NotYet for one later and where no bucket is registered,
        Unreachable.
        """
        threshold = await ask(self.gateway, self.profile.coprocessor_threshold())
        if threshold == 0:
            raise self._zero_threshold()
        senders = await ask(self.gateway, self.profile.coprocessor_senders())
        if len(senders) > MOST:
            raise Unreachable(f"the registry names {len(senders)} coprocessors, more than {MOST}")
        found = await together(
            [partial(ask, self.gateway, self.profile.coprocessor(sender)) for sender in senders]
        )
        if not any(coprocessor.bucket for coprocessor in found):
            raise NotYet("no coprocessor has a bucket registered")
        self._coprocessors = {coprocessor.tx_sender: coprocessor for coprocessor in found}
        self._threshold = threshold
        self._loaded.set()

    def _zero_threshold(self) -> StartRefused | NotYet:
        """Return what a threshold of 0 means: one wild answer must not end what runs with a good snapshot."""
        reason = "the coprocessor quorum threshold on chain is 0: no ciphertext could be trusted"
        return NotYet(reason) if self._coprocessors else StartRefused(reason)

    async def wait_loaded(self) -> None:
        """Return once there is a snapshot."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Refresh for ever; a refresh that fails keeps the old snapshot. Raises StartRefused as ``load``."""
        alerts = Alerts(self.on_event)
        while True:
            fresh, told = False, ""
            try:
                await self.load()
                fresh = True
            except Down:
                pass  # the gateway's own alert says it
            except Retryable as error:
                told = str(error)
            alerts.put(NAME, "unreadable", told)
            await trio.sleep(self.refresh if fresh else RETRY)
