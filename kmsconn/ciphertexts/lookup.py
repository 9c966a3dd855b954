"""Which coprocessor keeps its ciphertexts where, asked for one by one when requests name them, and remembered for a while.

For a generation whose contract may know nothing but that. Nothing here stands in a request's way: a coprocessor that cannot be looked
up is told once and left out, and what it said before goes on counting. Source: httpz-rc7.md, 4.2 and 4.7.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import attrs
import trio

from kmsconn.errors import Retryable, Unreachable
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent
from kmsconn.protocols.port import Profile
from kmsconn.rpc.asking import ask
from kmsconn.rpc.port import Rpc
from kmsconn.transport.together import together


@attrs.define
class Lookup:
    """Answers from memory for ``refresh`` seconds; ``now`` only grows."""

    profile: Profile
    gateway: Rpc
    refresh: float
    on_event: OnEvent
    now: Callable[[], float] = trio.current_time
    _known: dict[Address, tuple[float, str]] = attrs.field(factory=dict)
    _alerts: Alerts = attrs.field(
        default=attrs.Factory(lambda self: Alerts(self.on_event), takes_self=True), init=False
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
        """Do nothing for ever."""
        await trio.sleep_forever()

    async def _bucket(self, sender: Address) -> str | None:
        """Return a coprocessor's bucket, empty where it has none, None where nobody says so."""
        seen, known = self._known.get(sender, (0.0, None))
        if known is not None and self.now() - seen < self.refresh:
            await trio.lowlevel.checkpoint()
            return known
        try:
            bucket = (await ask(self.gateway, self.profile.coprocessor(sender))).bucket
        except Retryable as error:
            self._alerts.raise_(_name(sender), "unreachable", str(error))
            return known
        self._alerts.clear(_name(sender), "unreachable")
        self._alerts.put(_name(sender), "no-bucket", "" if bucket else "has no bucket registered")
        if bucket:
            self._known[sender] = (self.now(), bucket)
        return bucket


def _name(sender: Address) -> str:
    return f"coprocessor {checksum(sender)}"
