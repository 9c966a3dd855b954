"""The parts of a connector: the connections to its dependencies, the chains that it reads, and every component. Data only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.heads import HeadTracker
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.ciphertexts.fetch import BucketCounts
from kmsconn.ciphertexts.quorum import Comparer
from kmsconn.ciphertexts.registry import Directory
from kmsconn.ciphertexts.sdk import Sdk
from kmsconn.config.settings import Settings
from kmsconn.core.client import CoreClient
from kmsconn.ethereum.addresses import Address
from kmsconn.journal.journal import Journal
from kmsconn.model.alerts import Board
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.profile import Profile
from kmsconn.replies.broadcasts import REPLACE_AFTER
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
class Links:
    """The resources that are closed at the end: the journal with the place of this process among others over it, and the connections."""

    journal: Journal
    membership: Membership
    gateway: Endpoint
    ethereum: Endpoint
    traces: Mapping[int, Endpoint]
    """Ways of their own to the chains of replies: a trace may take long."""
    hosts: Mapping[int, Endpoint]
    core: CoreClient
    buckets: HttpClient
    attestations: HttpClient
    sdk: Sdk | None
    """For generations whose buckets may want credentials."""

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All chains, each once."""
        several = (self.gateway, self.ethereum, *self.hosts.values())
        return tuple({id(one): one for one in several}.values())

    @property
    def chains(self) -> Mapping[int, Endpoint]:
        """All chains by id; where Ethereum is a host chain too, the way of that one."""
        return {self.gateway.chain_id: self.gateway, self.ethereum.chain_id: self.ethereum, **self.hosts}


@attrs.frozen
class CiphertextParts:
    """The parts about ciphertexts: registry of buckets, check of attestations, bucket counts, and a memory budget for each Core shard."""

    directory: Directory
    shadow: Comparer | None
    buckets: BucketCounts
    budgets: Sequence[ByteBudget]

    def statistics(self) -> CiphertextStatistics:
        """Return a snapshot."""
        return CiphertextStatistics(
            bytes_held=sum(budget.used for budget in self.budgets),
            fetched=self.buckets.fetched,
            bucket_attempts=dict(self.buckets.attempts),
            bucket_failures=dict(self.buckets.failures),
            attestations_skipped=0 if self.shadow is None else self.shadow.skipped,
        )


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


@attrs.frozen
class Components:
    """Everything one connector is made of."""

    settings: Settings
    ports: Ports
    sender: Wallet | Address
    """What sends the replies; of a shadow, which sends none, the address alone."""
    links: Links
    ciphertexts: CiphertextParts
    core_health: CoreHealth
    heartbeats: Heartbeats
    chain_contexts: Mapping[int, ChainContext]
    pools: Mapping[PoolName, WorkerPool]
    pipeline: Pipeline
    http: HttpDecryptions
    """The second source of requests, whether or not anything is served over HTTP."""
    board: Board

    @property
    def on_event(self) -> OnEvent:
        """Takes what happens."""
        return self.board.on_event

    @property
    def profile(self) -> Profile:
        """The generation that the network speaks."""
        return self.pipeline.profile

    @property
    def journal(self) -> Journal:
        """The memory of the connector."""
        return self.links.journal

    @property
    def membership(self) -> Membership:
        """The place of this process among those over the journal."""
        return self.links.membership

    @property
    def tx_sender(self) -> Address:
        """The account that sends the replies of the node."""
        return self.sender.address if isinstance(self.sender, Wallet) else self.sender

    @property
    def checker(self) -> Checker:
        """What checks requests, and knows when decryptions expire."""
        return self.pipeline.stages.checker

    @property
    def expiry(self) -> DecryptionExpiry:
        """When decryptions expire."""
        return self.checker.expiry

    @property
    def gateway(self) -> ChainContext:
        """The Gateway, where decryptions are asked for and answered."""
        return self.chain_contexts[self.settings.chains.gateway.chain_id]

    def pool_for(self, kind: Kind) -> WorkerPool:
        """Return the pool that works on a kind of request."""
        return self.pools[self.profile.operations[kind].pool]
