"""The parts of a connector: the connections to its dependencies, the chains that it reads, and every component. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.heads import HeadTracker
from kmsconn.ciphertexts.fetch import BucketCounts
from kmsconn.ciphertexts.quorum import Comparer
from kmsconn.ciphertexts.registry import Directory
from kmsconn.config.settings import Settings
from kmsconn.core.client import CoreClient
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.journal import Journal
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import REPLACE_AFTER
from kmsconn.replies.wallet import Wallet
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.heartbeats import Heartbeats
from kmsconn.requests.http_decryption import HttpDecryptions
from kmsconn.requests.membership import Membership
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.snapshot import CiphertextStatistics
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import WakeUp


@attrs.frozen
class ChainContext:
    """A chain that is listened to and answered: its ways, what is known of its head, and how it is read.

    ``finalized`` is the last finalized block as reads saw it, for contracts that are read no further. ``wake_up`` wakes the
    transaction manager, whose are ``confirmations``, ``replace_after`` and ``traces``, a way of its own to the same node.
    """

    name: str
    endpoint: Endpoint
    polling: float
    from_block: int | None
    confirmations: int = 0
    replace_after: float = REPLACE_AFTER
    traces: Endpoint | None = None
    head: HeadTracker = attrs.field(factory=HeadTracker)
    finalized: HeadTracker = attrs.field(factory=HeadTracker)
    wake_up: WakeUp = attrs.field(factory=WakeUp)


def sender_address(sender: Wallet | Address) -> Address:
    """Return the account that sends the replies of the node."""
    return sender.address if isinstance(sender, Wallet) else sender


@attrs.frozen
class Resources:
    """What the parts of one connector are built from. ``endpoints`` are all chains, each once, and ``chains`` the ways to them by id."""

    settings: Settings
    ports: Ports
    profile: Profile
    sender: Wallet | Address
    """What sends the replies; of a shadow, which sends none, the address alone."""
    on_event: OnEvent
    journal: Journal
    membership: Membership
    """The place of this process among those over the journal."""
    endpoints: Sequence[Endpoint]
    chains: Mapping[int, Endpoint]
    core: CoreClient
    buckets: HttpClient

    @property
    def tx_sender(self) -> Address:
        """The account that sends the replies of the node."""
        return sender_address(self.sender)


@attrs.frozen
class Components(Resources):
    """Everything one connector is made of."""

    directory: Directory
    comparer: Comparer | None
    """What compares attestations beside the requests, where that is wanted."""
    fetches: BucketCounts
    core_health: CoreHealth
    heartbeats: Heartbeats
    chain_contexts: Mapping[int, ChainContext]
    pools: Mapping[PoolName, WorkerPool]
    pipeline: Pipeline
    checker: Checker
    expiry: DecryptionExpiry
    http: HttpDecryptions
    """The second source of requests, whether or not anything is served over HTTP."""
    board: Board

    @property
    def gateway(self) -> ChainContext:
        """The Gateway, where decryptions are asked for and answered."""
        return self.chain_contexts[self.settings.chains.gateway.chain_id]

    def pool_for(self, kind: Kind) -> WorkerPool:
        """Return the pool that works on a kind of request."""
        return self.pools[self.profile.operations[kind].pool]

    def ciphertext_statistics(self) -> CiphertextStatistics:
        """Return a snapshot."""
        return CiphertextStatistics(
            bytes_held=sum(budget.used for budget in self.pipeline.budgets),
            fetched=self.fetches.fetched,
            bucket_attempts=dict(self.fetches.attempts),
            bucket_failures=dict(self.fetches.failures),
            attestations_skipped=0 if self.comparer is None else self.comparer.skipped,
        )
