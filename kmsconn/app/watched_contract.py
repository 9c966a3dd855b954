"""A contract whose logs are read: where it is, up to which block it is read, and what is raised when that fails for long. Data only."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from kmsconn.app.components import ChainContext, Components
from kmsconn.app.stalled_alert import StalledAlert
from kmsconn.ethereum.addresses import checksum
from kmsconn.journal.journal import Journal
from kmsconn.protocols.profile import Subscription
from kmsconn.rpc.endpoint import Endpoint
from kmsconn.rpc.heads import HeadTracker
from kmsconn.rpc.logs import FINALIZED, LATEST


@attrs.frozen
class WatchedContract:
    """One contract. ``head`` is what is known of the block up to which is read, ``tag`` the name of that block."""

    components: Components
    journal: Journal
    subscription: Subscription
    chain_context: ChainContext
    endpoint: Endpoint
    head: HeadTracker
    tag: str
    name: str
    """Its address as text."""

    @classmethod
    def of(cls, components: Components, subscription: Subscription) -> WatchedContract:
        """Find the chain of a subscription."""
        chain, name = components.chain_contexts[subscription.chain_id], checksum(subscription.contract)
        head, tag = (chain.finalized, FINALIZED) if subscription.finalized else (chain.head, LATEST)
        return cls(components, components.journal, subscription, chain, chain.endpoint, head, tag, name)

    @property
    def window(self) -> int:
        """The reorg window in blocks, with those that a chain may have made faster than usual."""
        return self.head.blocks_to_suspect(self.components.settings.reading.reorg_window)

    def stepped_back(self, next_block: int, origin: int) -> int:
        """Return a block below the cursor: while nobody read, the last answer may have hidden something that no later one shows."""
        window = self.head.blocks_in(self.components.settings.reading.reorg_window)
        return max(min(origin, next_block), next_block - window)

    def stalled_alert(self, what: str) -> StalledAlert:
        """Make the alert for reading that has failed for a while; a chain that is down has an alert of its own, and so has the journal."""
        name, endpoint, journal = f"{self.endpoint.name} {self.name}", self.endpoint, self.journal
        return StalledAlert(
            name, what, self.components.on_event, lambda: endpoint.is_down or bool(journal.failure)
        )


def watched_contracts(components: Components) -> Iterator[WatchedContract]:
    """Yield each contract whose logs are read."""
    return (WatchedContract.of(components, one) for one in components.profile.subscriptions())
