"""Which coprocessor keeps its ciphertexts where: a snapshot of the chain's registry (3.1), or one look-up for each that a request names."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Sequence
from functools import partial

import attrs
import trio

from kmsconn.chain.asking import ask
from kmsconn.chain.port import Rpc
from kmsconn.errors import Down, NotYet, Retryable, StartRefused, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.protocols.profile import Coprocessor, Profile
from kmsconn.transport.waiting import together

NAME = "coprocessor registry"
MOST = 1_000  # coprocessors; each is asked for, and there are five
RETRY = 2.0  # seconds between tries while there is no snapshot at all

Find = Callable[[Sequence[Address]], Awaitable[list[str]]]
"""Returns the bucket addresses of coprocessors, by their tx senders, in this order. Raises Retryable. Repeating: reads only."""


@attrs.define
class Registry:
    """The last good snapshot; empty before the first."""

    profile: Profile
    gateway: Rpc
    refresh: float
    on_event: OnEvent
    _coprocessors: dict[Address, Coprocessor] = attrs.field(factory=dict)
    threshold: int = 0
    """How many coprocessors are a quorum; 0 before the first snapshot."""
    _loaded: trio.Event = attrs.field(factory=trio.Event)

    async def find(self, tx_senders: Sequence[Address]) -> list[str]:
        """Return the bucket addresses of these coprocessors in this order, unknown and empty ones left out; at once, from the snapshot."""
        known = (self._coprocessors.get(sender) for sender in tx_senders)
        return [found.bucket for found in known if found is not None and found.bucket]

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

    async def load(self) -> None:
        """Read the registry.

        Raises StartRefused for a threshold of zero before the first snapshot, NotYet for one later and where no bucket is registered,
        Unreachable.
        """
        threshold = await ask(self.gateway, self.profile.registry.coprocessor_threshold())
        if threshold == 0:
            reason = "the coprocessor quorum threshold on chain is 0: no ciphertext could be trusted"
            # one wild answer must not end what runs with a good snapshot
            raise NotYet(reason) if self._coprocessors else StartRefused(reason)
        senders = await ask(self.gateway, self.profile.registry.coprocessor_senders())
        if len(senders) > MOST:
            raise Unreachable(f"the registry names {len(senders)} coprocessors, more than {MOST}")
        found = await together(
            [partial(ask, self.gateway, self.profile.registry.coprocessor(sender)) for sender in senders]
        )
        if not any(coprocessor.bucket for coprocessor in found):
            raise NotYet("no coprocessor has a bucket registered")
        self._coprocessors = {coprocessor.tx_sender: coprocessor for coprocessor in found}
        self.threshold = threshold
        self._loaded.set()

    async def wait_loaded(self) -> None:
        """Return once there is a snapshot."""
        await self._loaded.wait()

    async def run(self) -> None:
        """Refresh for ever; a refresh that fails keeps the old snapshot. Raises StartRefused as ``load``."""
        board = Board(self.on_event, trio.current_time)
        while True:
            fresh, told = False, ""
            try:
                await self.load()
                fresh = True
            except Down:
                pass  # the gateway's own alert says it
            except Retryable as error:
                told = str(error)
            board.set("unreadable", NAME, told)
            await trio.sleep(self.refresh if fresh else RETRY)


@attrs.define
class Lookup:
    """Looks each coprocessor up when a request names it, and remembers it for ``refresh`` seconds; ``now`` only grows.

    For a generation whose contract may know nothing but that (httpz-rc7.md, 4.2 and 4.7). Nothing here stands in a request's way: a
    coprocessor that cannot be looked up is told once and left out, and what it said before goes on counting.
    """

    profile: Profile
    gateway: Rpc
    refresh: float
    on_event: OnEvent
    now: Callable[[], float] = trio.current_time
    _known: dict[Address, tuple[float, str]] = attrs.field(factory=dict)
    _told: set[Address] = attrs.field(factory=set)
    _board: Board = attrs.field(
        default=attrs.Factory(lambda self: Board(self.on_event, trio.current_time), takes_self=True),
        init=False,
    )

    async def find(self, tx_senders: Sequence[Address]) -> list[str]:
        """Return the bucket addresses of these coprocessors in this order, each once; those without one are left out.

        Raises Unreachable when none could be looked up. Repeating: reads only.
        """
        several = list(dict.fromkeys(tx_senders))
        found = await together([partial(self._bucket, sender) for sender in several])
        if several and None in found and not any(found):
            raise Unreachable("the coprocessors of a ciphertext are unknown")
        return list(dict.fromkeys(bucket for bucket in found if bucket))

    async def wait_loaded(self) -> None:
        """Return at once: there is nothing to load before it is asked for."""
        await trio.lowlevel.checkpoint()

    async def run(self) -> None:
        """Look those up again for ever of whom an alert is told: no request may name them any more."""
        while True:
            await trio.sleep(self.refresh)
            for sender in tuple(self._told):
                await self._bucket(sender)

    async def _bucket(self, sender: Address) -> str | None:
        """Return a coprocessor's bucket, empty where it has none, None where nobody says so."""
        seen, known = self._known.get(sender, (0.0, None))
        if known is not None and self.now() - seen < self.refresh:
            await trio.lowlevel.checkpoint()
            return known
        try:
            bucket = (await ask(self.gateway, self.profile.registry.coprocessor(sender))).bucket
        except Retryable as error:
            self._told.add(sender)
            self._board.set("unreachable", _name(sender), str(error), critical=False)
            return known
        self._board.set("unreachable", _name(sender), None)
        self._board.set("no-bucket", _name(sender), None if bucket else "has no bucket registered")
        if bucket:
            self._told.discard(sender)
            self._known[sender] = (self.now(), bucket)
        else:
            self._told.add(sender)
        return bucket


def _name(sender: Address) -> str:
    return f"coprocessor {checksum(sender)}"
