"""The parts of one connector: what was opened for it, and every component, made once, each from those that it needs.

Opens nothing and starts nothing: ``connector.wiring`` opens, ``connector.connector`` starts.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import cached_property
from typing import TypeVar

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.follower import Durable, Follower, HeadTracker
from kmsconn.chain.witness import WITNESSES, Witness, witnesses
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.places import BucketPolicy, Substitute
from kmsconn.ciphertexts.quorum import AttestationQuorum, Comparer
from kmsconn.ciphertexts.registry import Find, Lookup, Registry
from kmsconn.ciphertexts.sdk import Sdk
from kmsconn.ciphertexts.sources import BothForms, ByPlace, Sources
from kmsconn.config.description import AttestationMode
from kmsconn.config.settings import Settings
from kmsconn.core.client import CoreClient
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import queries, retention
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.model.alerts import Board
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.events import CiphertextMismatch, OnEvent
from kmsconn.model.requests import DECRYPTION_KINDS, IN_ORDER, Kind, PoolName, Request, trace_of
from kmsconn.protocols.profile import Profile
from kmsconn.replies.answers import REPLACE_AFTER
from kmsconn.replies.wallet import Wallet
from kmsconn.requests.attesting import AttestedChecker
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.contexts import Contexts, Destruction, Suspicions
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.http_decryption import HttpIntake, HttpWaiters
from kmsconn.requests.identity import NodeIdentity
from kmsconn.requests.membership import Membership
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.snapshot import CiphertextStatistics
from kmsconn.requests.stage_runner import StageRunner
from kmsconn.requests.stages import Metadata, Stages
from kmsconn.transport.http import HttpClient
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import Heartbeats, WakeUp


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
    follower: Follower
    confirmations: int = 0
    replace_after: float = REPLACE_AFTER
    traces: Endpoint | None = None
    finalized: HeadTracker = attrs.field(factory=HeadTracker)
    head: HeadTracker = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.follower.head, takes_self=True)
    )
    wake_up: WakeUp = attrs.field(
        init=False, default=attrs.Factory(lambda self: self.follower.wake_up, takes_self=True)
    )

    @property
    def witnesses(self) -> tuple[Witness, ...]:
        """Other nodes of the chain."""
        return witnesses(self.endpoint.chain_id, self.endpoint.name, self.endpoint.keeper, self.follower)


T = TypeVar("T")


def follow(
    rpc: Endpoint, journal: Journal, reorg_window: float, wall: Callable[[], float], on_event: OnEvent
) -> Follower:
    """Make what follows a chain with the memory of a journal."""

    def durable(operation: Callable[..., T]) -> Callable[..., Awaitable[T]]:
        return lambda *rest: until_kept(lambda: journal.run(operation, rpc.chain_id, *rest))

    forget, rewind = durable(retention.forget), durable(retention.rewind)
    memory = Durable(durable(queries.followed), durable(retention.note_doubt), forget, rewind)
    return Follower(rpc, rpc.name, memory, HeadTracker(), reorg_window, wall, on_event, WakeUp())


@attrs.frozen(slots=False, kw_only=True)
class Resources:
    """The values that everything is built from."""

    settings: Settings
    ports: Ports
    profile: Profile
    sender: Wallet | Address
    """What sends the replies; of a shadow, which sends none, the address alone."""
    on_event: OnEvent
    waiters: HttpWaiters

    @property
    def tx_sender(self) -> Address:
        """The account that sends the replies of the node."""
        return self.sender.address if isinstance(self.sender, Wallet) else self.sender

    @property
    def policy(self) -> BucketPolicy:
        """Which addresses a bucket may have."""
        return policy_of(self.settings)

    @property
    def shards(self) -> int:
        """How many shards the Core has."""
        return len(self.settings.core.core_endpoints)

    @cached_property
    def board(self) -> Board:
        """The alerts of the connector."""
        return Board(self.on_event, trio.current_time)

    @cached_property
    def heartbeats(self) -> Heartbeats:
        """What makes progress."""
        return Heartbeats(trio.current_time)


@attrs.frozen(slots=False, kw_only=True)
class OpenedResources(Resources):
    """What has to be closed, the journal and the ways to the dependencies, and what fetches ciphertexts."""

    journal: Journal
    membership: Membership
    """The place of this process among those over the journal."""
    to_gateway: Endpoint
    to_ethereum: Endpoint
    traces: Mapping[int, Endpoint]
    """Ways of their own to the chains of replies, since a trace may take long."""
    to_hosts: Mapping[int, Endpoint]
    core: CoreClient
    buckets: HttpClient
    attestations: HttpClient
    sdk: Sdk | None
    """For generations whose buckets may want credentials."""

    @property
    def endpoints(self) -> Sequence[Endpoint]:
        """All chains, each once."""
        several = (self.to_gateway, self.to_ethereum, *self.to_hosts.values())
        return tuple({id(one): one for one in several}.values())

    @cached_property
    def chains(self) -> Mapping[int, Endpoint]:
        """All chains by id; where Ethereum is a host chain too, the way of that one."""
        return {one.chain_id: one for one in (self.to_gateway, self.to_ethereum)} | dict(self.to_hosts)

    @cached_property
    def chain_contexts(self) -> Mapping[int, ChainContext]:
        """The context of each chain that is listened to; the Gateway comes last, for generations where it is Ethereum too."""
        reading, transactions = self.settings.reading, self.settings.transactions
        known = (
            ChainContext(
                "ethereum", self.to_ethereum, reading.key_management_polling, reading.kms_operation_from_block_number,
                self._follow(self.to_ethereum), transactions.ethereum_tx_required_confirmations,
                transactions.ethereum_tx_get_receipt_timeout, self.traces[self.to_ethereum.chain_id],
            ),
            ChainContext(
                "gateway", self.to_gateway, reading.decryption_polling, reading.decryption_from_block_number,
                self._follow(self.to_gateway), transactions.gateway_tx_required_confirmations,
                traces=self.traces[self.to_gateway.chain_id],
            ),
        )  # fmt: skip
        listened = {subscription.chain_id for subscription in self.profile.subscriptions()}
        return {one.endpoint.chain_id: one for one in known if one.endpoint.chain_id in listened}

    def _follow(self, endpoint: Endpoint) -> Follower:
        window = self.settings.reading.reorg_window
        return follow(endpoint, self.journal, window, self.ports.wall, self.on_event)

    @property
    def gateway(self) -> ChainContext:
        """The Gateway, where decryptions are asked for and answered."""
        return self.chain_contexts[self.settings.chains.gateway.chain_id]

    @cached_property
    def directory(self) -> Registry | Lookup:
        """Reads the whole registry, or, in a generation without attestations, only what requests name."""
        kind = Registry if self.profile.has_attestations else Lookup
        refresh = self.settings.ciphertexts.registry_refresh
        return kind(self.profile, self.to_gateway, refresh, self.on_event)

    @cached_property
    def quorum(self) -> AttestationQuorum | None:
        """Asks coprocessors what they attest."""
        if not isinstance(self.directory, Registry):
            return None
        timeout = self.settings.ciphertexts.attestation_head_timeout
        return AttestationQuorum(self.attestations, self.directory, self.policy, timeout)

    @cached_property
    def comparer(self) -> Comparer | None:
        """What compares attestations beside the requests, where that is wanted."""
        compares = self.settings.ciphertexts.attestation is AttestationMode.SHADOW
        return Comparer(self.quorum, self.on_event) if compares and self.quorum is not None else None

    @cached_property
    def fetcher(self) -> Fetcher:
        """Fetches ciphertexts."""
        settings, on_event = self.settings, self.on_event
        return Fetcher(
            sources_of(settings, self.buckets, self.sdk, self.directory.find),
            self.policy,
            self.ports.offload,
            settings.ciphertexts.max_ciphertext_size,
            lambda handle, reason: on_event(CiphertextMismatch(handle, reason)),
            settings.protocol.httpz.tolerant_digests,
            quorum=self.quorum,
            enforced=settings.ciphertexts.attestation is AttestationMode.ENFORCE,
        )

    @cached_property
    def budgets(self) -> tuple[ByteBudget, ...]:
        """The bytes of ciphertexts that each shard may hold."""
        budget = self.settings.ciphertexts.ciphertext_budget // self.shards
        return tuple(ByteBudget(budget) for _ in range(self.shards))

    def ciphertext_statistics(self) -> CiphertextStatistics:
        """Return a snapshot."""
        fetches = self.fetcher.counts
        return CiphertextStatistics(
            bytes_held=sum(budget.used for budget in self.budgets),
            fetched=fetches.fetched,
            bucket_attempts=dict(fetches.attempts),
            bucket_failures=dict(fetches.failures),
            attestations_skipped=0 if self.comparer is None else self.comparer.skipped,
        )


@attrs.frozen(slots=False, kw_only=True)
class Components(OpenedResources):
    """Everything one connector is made of."""

    @cached_property
    def checker(self) -> Checker:
        """Checks whether requests may be answered."""
        heads = {chain_id: one.head for chain_id, one in self.chain_contexts.items()}
        settings, profile = self.settings, self.profile
        suspicions = Suspicions(heads, max(CONFIRMING, settings.reading.reorg_window))
        later = None if profile.later_network else False  # as far as is known before the network was asked
        return Checker(
            profile=profile,
            chains=self.chains,
            identity=NodeIdentity(profile, self.chains, self.tx_sender, self.witnesses[:WITNESSES]),
            contexts=Contexts(
                profile,
                self.to_ethereum,
                trio.current_time,
                suspicions,
                [one[self.to_ethereum.chain_id] for one in self.witnesses],
            ),
            suspicions=suspicions,
            expiry=DecryptionExpiry(settings.work.decryption_expiry, later),
            reorg_window=settings.reading.reorg_window,
            shadow=settings.is_shadow,
            wall=self.ports.wall,
        )

    @cached_property
    def witnesses(self) -> Sequence[Mapping[int, Witness]]:
        """Other nodes of all chains."""
        followed = self.chain_contexts
        several = {
            number: followed[number].witnesses
            if number in followed
            else witnesses(number, one.name, one.keeper)
            for number, one in self.chains.items()
        }
        most = max(map(len, several.values()))
        return [
            {number: every[place % len(every)] for number, every in several.items()} for place in range(most)
        ]

    def _stages(self) -> Stages:
        stages = Stages(
            profile=self.profile,
            chains=self.chains,
            checker=self.checker,
            attested=AttestedChecker(self.checker, self.witnesses),
            identity=self.checker.identity,
            fetcher=self.fetcher,
            core=self.core,
            random=self.ports.random,
            reading_only=self.settings.is_shadow,
            trace_metadata=_trace_context(self.settings),
        )
        if self.comparer is None:
            return stages
        return attrs.evolve(stages, compare_attestations=self.comparer.hand)

    @cached_property
    def core_health(self) -> CoreHealth:
        """The watch over the Core."""
        return CoreHealth(self.core, self.settings.core.healthcheck_timeout)

    @cached_property
    def pipeline(self) -> Pipeline:
        """Leads a request through its stages."""
        profile, journal, ports, checker = self.profile, self.journal, self.ports, self.checker
        heads = checker.suspicions.heads
        runner = StageRunner(profile, self.core_health, self.shards, self.on_event, journal.note_stage)
        wake_ups = {chain_id: one.wake_up for chain_id, one in self.chain_contexts.items()}
        outcomes = RowOutcomes(
            profile,
            journal,
            heads,
            runner,
            ports.wall,
            ports.random,
            self.on_event,
            checker.contexts,
            wake_ups,
        )
        return Pipeline(
            profile=profile,
            stages=self._stages(),
            journal=journal,
            heads=heads,
            destruction=Destruction(profile, journal, heads, checker.contexts, outcomes.end_destroyed),
            budgets=self.budgets,
            deadlines=self.settings.work.deadlines,
            runner=runner,
            outcomes=outcomes,
            expiry=checker.expiry,
        )

    @cached_property
    def pools(self) -> Mapping[PoolName, WorkerPool]:
        """A pool for each that the generation's table names."""
        operations = self.profile.operations.values()
        kinds: dict[PoolName, tuple[Kind, ...]] = {}
        for one in operations:
            kinds[one.pool] = (*kinds.get(one.pool, ()), one.kind)
        return {name: self._pool(name, its) for name, its in kinds.items()}

    def _pool(self, name: PoolName, kinds: tuple[Kind, ...]) -> WorkerPool:
        """Make a pool with a place for each shard of the Core at least; what goes in order is not shared among them."""
        shards = 1 if name in IN_ORDER else self.shards
        size = max(getattr(self.settings.work.pools, name.value), shards)
        pool = WorkerPool(name, kinds, size, WakeUp(), shards)
        if DECRYPTION_KINDS.issuperset(kinds):  # key management fetches nothing
            pool.gone = lambda: self.core_health.gone
        return pool

    @cached_property
    def pool_for(self) -> Mapping[Kind, WorkerPool]:
        """The pool that works on each kind of request."""
        return {kind: pool for pool in self.pools.values() for kind in pool.kinds}

    @cached_property
    def http_decryptions(self) -> HttpIntake:
        """The second source of requests, whether or not anything is served over HTTP."""
        pools = self.pools
        return HttpIntake(
            profile=self.profile,
            journal=self.journal,
            head=self.checker.suspicions.heads[self.settings.chains.gateway.chain_id],
            wall=self.ports.wall,
            expiry=self.checker.expiry,
            notify_pool=lambda name: pools[name].wake_up.notify(),
            on_event=self.on_event,
            waiters=self.waiters,
        )


def policy_of(settings: Settings) -> BucketPolicy:
    """Return which addresses a bucket may have."""
    ciphertexts = settings.ciphertexts
    return BucketPolicy(ciphertexts.allow_http_buckets, ciphertexts.allow_private_buckets)


def sources_of(settings: Settings, http: HttpClient, sdk: Sdk | None, find: Find) -> Sources:
    """Know where a generation keeps its objects: under two names each, or at the places of the first one, which needs an SDK."""
    if sdk is None:
        return BothForms(http, find)
    s3 = settings.protocol.httpz.s3
    instead = None if s3 is None else Substitute(s3.region, s3.bucket, s3.endpoint or "")
    return ByPlace(http, find, sdk, instead)


def _trace_context(settings: Settings) -> Callable[[Request], Metadata] | None:
    """Tell the Core the trace of a request where traces are on, as W3C Trace Context does."""
    tracing, deployment = settings.monitoring.tracing, settings.chains.gateway.chain_id
    if tracing is None:
        return None

    def context(request: Request) -> Metadata:
        trace = trace_of(deployment, request.kind, request.id)
        return ((b"traceparent", trace.traceparent(sampled=tracing.samples(trace.trace_id)).encode()),)

    return context
