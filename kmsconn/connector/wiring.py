"""Puts the parts of a connector together: opens what has to be closed, builds the rest, starts nothing that works on requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cached_property, partial
from pathlib import Path

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.ciphertexts.fetch import ByteBudget, Fetcher
from kmsconn.ciphertexts.places import BucketPolicy, Substitute
from kmsconn.ciphertexts.quorum import AttestationQuorum, Comparer
from kmsconn.ciphertexts.registry import Directory, Lookup, Registry
from kmsconn.ciphertexts.sdk import Sdk, open_sdk
from kmsconn.ciphertexts.sources import BothForms, ByPlace, Sources
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.config.values import AttestationMode
from kmsconn.connector.following import Topics, recovered, take_pauses, wake_by
from kmsconn.core.client import CoreClient, open_core
from kmsconn.errors import JournalFailed, JournalUnreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import outbox
from kmsconn.journal.database import Binding
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.opening import open_journal
from kmsconn.model.alerts import Board
from kmsconn.model.events import CiphertextMismatch, OnEvent, ignore
from kmsconn.model.requests import (
    DECRYPTION_KINDS,
    FHEVM,
    HTTPZ_RC7,
    IN_ORDER,
    Kind,
    PoolName,
    Request,
    trace_of,
)
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.profile import Profile
from kmsconn.replies.wallet import Wallet, open_tx_sender
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.components import ChainContext, Components, sender_address
from kmsconn.requests.contexts import Contexts, Destruction, Suspicions
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.heartbeats import Heartbeats
from kmsconn.requests.http_decryption import HttpDecryptions, HttpWaiters
from kmsconn.requests.identity import NodeIdentity
from kmsconn.requests.membership import Membership, SoleMember
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.stage_runner import StageRunner
from kmsconn.requests.stages import Metadata, Stages
from kmsconn.transport.dialling import dial_sockets, sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Dial, Ports
from kmsconn.transport.proxying import Way
from kmsconn.transport.waiting import WakeUp

PROFILES: Mapping[str, Callable[[Settings], Profile]] = {FHEVM: Fhevm, HTTPZ_RC7: HttpzRc7}
"""The generations by the names that the option ``profile`` has for them."""


@attrs.frozen
class _Base:
    """The values that every component is built from."""

    settings: Settings
    ports: Ports
    profile: Profile
    sender: Wallet | Address
    on_event: OnEvent
    waiters: HttpWaiters
    topics: Topics = attrs.field(factory=Topics)

    @property
    def policy(self) -> BucketPolicy:
        """Which addresses a bucket may have."""
        return BucketPolicy(
            self.settings.ciphertexts.allow_http_buckets, self.settings.ciphertexts.allow_private_buckets
        )

    @property
    def shards(self) -> int:
        """How many shards the Core has."""
        return len(self.settings.core.core_endpoints)


@asynccontextmanager
async def open_components(
    settings: Settings, ports: Ports, on_event: OnEvent, waiters: HttpWaiters
) -> AsyncIterator[Components]:
    """Open journal, chains and Core links, and build what stands on them; ``waiters`` are woken by ``on_event``.

    Raises StartRefused for a journal that is foreign or in use, and for a wallet that cannot be used. Of the dependencies only AWS KMS is
    asked yet, where the wallet's key lies there: whose journal it is depends on the wallet's address.
    """
    async with AsyncExitStack() as stack:
        profile = PROFILES[settings.protocol.profile](settings)
        sender = await stack.enter_async_context(open_tx_sender(settings, on_event))
        ports = attrs.evolve(ports, proxies=settings.proxies)
        base = _Base(settings, ports, profile, sender, on_event, waiters)
        components = (await _open_links(stack, base)).components()
        await until_kept(lambda: take_pauses(components))  # before anything is dispatched
        wake_by(base.topics, components)
        yield components


async def _open_links(stack: AsyncExitStack, base: _Base) -> _Builder:
    settings, ports, policy = base.settings, base.ports, base.policy
    to_buckets = Way(ports, _bucket_dial(ports.dial, policy), settings.ciphertexts.s3_connect_timeout)

    async def chain(chain: Chain, name: str, tell: OnEvent = base.on_event) -> Endpoint:
        http = await stack.enter_async_context(open_http(ports))
        return await stack.enter_async_context(open_endpoint(chain, name, ports, http, tell))

    async def buckets() -> HttpClient:
        return await stack.enter_async_context(open_http(ports, way=to_buckets, judge=policy.check))

    answered = {one.chain_id: one for one in (settings.chains.ethereum, settings.chains.gateway)}
    gateway = await chain(settings.chains.gateway, "gateway")
    journal, membership = await _open_journal(stack, base)
    return _Builder(
        base,
        journal=journal,
        membership=membership,
        gateway=gateway,
        ethereum=gateway if len(answered) == 1 else await chain(settings.chains.ethereum, "ethereum"),
        traces={
            chain_id: await chain(one, f"traces of chain {chain_id}", ignore)
            for chain_id, one in answered.items()
        },
        hosts={
            host.chain.chain_id: await chain(host.chain, f"host chain {host.chain.chain_id}")
            for host in settings.chains.host_chains
        },
        core=await stack.enter_async_context(
            open_core(
                settings.core.core_endpoints, ports, settings.core.core_tls, settings.core.core_reply_budget
            )
        ),
        buckets=await buckets(),
        attestations=await buckets(),
        sdk=None
        if base.profile.has_attestations
        else await stack.enter_async_context(open_sdk(ports.offload, ports.proxies)),
    )


async def _open_journal(stack: AsyncExitStack, base: _Base) -> tuple[Journal, Membership]:
    """Open the journal and become a member; from the first change on, transitions go into the outbox of the audit log, if there is one.

    Raises JournalUnreachable, as while it is opened, where the database fails just then.
    """
    settings, ports = base.settings, base.ports
    journal = await stack.enter_async_context(
        open_journal(
            settings.storage.journal,
            Binding.of(settings, sender_address(base.sender)),
            ports.offload,
            ports.wall,
            shards=base.shards,
            readers=settings.storage.database_pool_size,
        )
    )
    audited = settings.storage.audit_log is not None
    try:
        membership = await _open_membership(stack, base, journal)
        await journal.run(outbox.capture if audited else outbox.stop_capturing)
    except JournalFailed as error:
        raise JournalUnreachable(str(error)) from error
    return journal, membership


async def _open_membership(stack: AsyncExitStack, base: _Base, journal: Journal) -> Membership:
    """Become one of the processes over the journal: the only one of a file."""
    if isinstance(base.settings.storage.journal, Path):
        return SoleMember(journal)
    from kmsconn.connector.members import open_member

    member = open_member(journal, base.settings, base.ports, base.topics, base.on_event)
    return await stack.enter_async_context(member)


@attrs.frozen(slots=False, kw_only=True)
class _Builder:
    """Makes every part once, each from what was opened and from those that it needs.

    ``traces``: ways of their own to the chains of replies, since a trace may take long. ``sdk``: for generations whose buckets may want
    credentials.
    """

    base: _Base = attrs.field(kw_only=False)
    journal: Journal
    membership: Membership
    gateway: Endpoint
    ethereum: Endpoint
    traces: Mapping[int, Endpoint]
    hosts: Mapping[int, Endpoint]
    core: CoreClient
    buckets: HttpClient
    attestations: HttpClient
    sdk: Sdk | None

    def components(self) -> Components:
        base = self.base
        several = (self.gateway, self.ethereum, *self.hosts.values())
        self.health.on_recovery = partial(recovered, self.pipeline, self.pools)
        return Components(
            settings=base.settings,
            ports=base.ports,
            profile=base.profile,
            sender=base.sender,
            on_event=base.on_event,
            journal=self.journal,
            membership=self.membership,
            endpoints=tuple({id(one): one for one in several}.values()),
            chains=self.chains,
            core=self.core,
            buckets=self.buckets,
            directory=self.directory,
            comparer=self.comparer,
            fetches=self.fetcher.counts,
            core_health=self.health,
            heartbeats=Heartbeats(trio.current_time),
            chain_contexts=self.chain_contexts,
            pools=self.pools,
            pipeline=self.pipeline,
            checker=self.checker,
            expiry=self.checker.expiry,
            http=self.http,
            board=Board(base.on_event, trio.current_time),
        )

    @property
    def chains(self) -> Mapping[int, Endpoint]:
        """All chains by id; where Ethereum is a host chain too, the way of that one."""
        return {self.gateway.chain_id: self.gateway, self.ethereum.chain_id: self.ethereum, **self.hosts}

    @cached_property
    def chain_contexts(self) -> Mapping[int, ChainContext]:
        """The context of each chain that is listened to; the Gateway comes last, for generations where it is Ethereum too."""
        reading, transactions = self.base.settings.reading, self.base.settings.transactions
        known = (
            ChainContext(
                "ethereum",
                self.ethereum,
                reading.key_management_polling,
                reading.kms_operation_from_block_number,
                transactions.ethereum_tx_required_confirmations,
                transactions.ethereum_tx_get_receipt_timeout,
                self.traces[self.ethereum.chain_id],
            ),
            ChainContext(
                "gateway",
                self.gateway,
                reading.decryption_polling,
                reading.decryption_from_block_number,
                transactions.gateway_tx_required_confirmations,
                traces=self.traces[self.gateway.chain_id],
            ),
        )
        listened = {subscription.chain_id for subscription in self.base.profile.subscriptions()}
        return {one.endpoint.chain_id: one for one in known if one.endpoint.chain_id in listened}

    @cached_property
    def directory(self) -> Directory:
        """Reads the whole registry, or, in a generation without attestations, only what requests name."""
        base = self.base
        kind = Registry if base.profile.has_attestations else Lookup
        return kind(base.profile, self.gateway, base.settings.ciphertexts.registry_refresh, base.on_event)

    @cached_property
    def quorum(self) -> AttestationQuorum | None:
        if not isinstance(self.directory, Registry):
            return None
        timeout = self.base.settings.ciphertexts.attestation_head_timeout
        return AttestationQuorum(self.attestations, self.directory, self.base.policy, timeout)

    @cached_property
    def comparer(self) -> Comparer | None:
        compares = self.base.settings.ciphertexts.attestation is AttestationMode.SHADOW
        return Comparer(self.quorum, self.base.on_event) if compares and self.quorum is not None else None

    def sources(self) -> Sources:
        """Know where a generation keeps its objects: under two names each, or at the places of the first one."""
        if self.sdk is None:
            return BothForms(self.buckets, self.directory)
        s3 = self.base.settings.protocol.httpz.s3
        instead = None if s3 is None else Substitute(s3.region, s3.bucket, s3.endpoint or "")
        return ByPlace(self.buckets, self.directory, self.sdk, instead)

    @cached_property
    def fetcher(self) -> Fetcher:
        base, settings = self.base, self.base.settings
        return Fetcher(
            self.sources(),
            base.policy,
            base.ports.offload,
            settings.ciphertexts.max_ciphertext_size,
            lambda handle, reason: base.on_event(CiphertextMismatch(handle, reason)),
            settings.protocol.httpz.tolerant_digests,
            quorum=self.quorum,
            enforced=settings.ciphertexts.attestation is AttestationMode.ENFORCE,
        )

    @cached_property
    def checker(self) -> Checker:
        base, heads = self.base, {chain_id: one.head for chain_id, one in self.chain_contexts.items()}
        settings, suspicions = base.settings, Suspicions(heads)
        return Checker(
            profile=base.profile,
            chains=self.chains,
            heads=heads,
            identity=NodeIdentity(base.profile, self.chains, sender_address(base.sender)),
            contexts=Contexts(base.profile, self.ethereum, trio.current_time, suspicions),
            suspicions=suspicions,
            # as far as is known before the network was asked
            expiry=DecryptionExpiry(
                settings.work.decryption_expiry, None if base.profile.later_network else False
            ),
            reorg_window=settings.reading.reorg_window,
            shadow=settings.is_shadow,
        )

    def stages(self) -> Stages:
        base, checker = self.base, self.checker
        stages = Stages(
            base.profile,
            self.chains,
            checker,
            checker.identity,
            self.fetcher,
            self.core,
            base.ports.random,
            reading_only=base.settings.is_shadow,
            context=_trace_context(base.settings),
        )
        return stages if self.comparer is None else attrs.evolve(stages, shadow=self.comparer.hand)

    @cached_property
    def health(self) -> CoreHealth:
        return CoreHealth(self.core, self.base.settings.core.healthcheck_timeout)

    @cached_property
    def pipeline(self) -> Pipeline:
        base, checker, journal = self.base, self.checker, self.journal
        profile, ports, heads = base.profile, base.ports, checker.heads
        runner = StageRunner(profile, self.health, base.shards, base.on_event, journal.note_stage)
        outcomes = RowOutcomes(profile, journal, heads, runner, ports.wall, ports.random, base.on_event)
        budget = base.settings.ciphertexts.ciphertext_budget // base.shards
        return Pipeline(
            profile=profile,
            stages=self.stages(),
            journal=journal,
            heads=heads,
            txmanager_wake_ups={chain_id: one.wake_up for chain_id, one in self.chain_contexts.items()},
            destruction=Destruction(profile, journal, heads, checker.contexts, outcomes.end_destroyed),
            budgets=tuple(ByteBudget(budget) for _ in range(base.shards)),
            deadlines=base.settings.work.deadlines,
            runner=runner,
            outcomes=outcomes,
        )

    @cached_property
    def pools(self) -> Mapping[PoolName, WorkerPool]:
        """A pool for each that the generation's table names."""
        operations = self.base.profile.operations.values()
        names = dict.fromkeys(operation.pool for operation in operations)
        return {
            name: self.pool(name, tuple(one.kind for one in operations if one.pool is name)) for name in names
        }

    def pool(self, name: PoolName, kinds: tuple[Kind, ...]) -> WorkerPool:
        """Make a pool with a place for each shard of the Core at least; what goes in order is not shared among them."""
        shards = 1 if name in IN_ORDER else self.base.shards
        size = max(getattr(self.base.settings.work.pools, name.value), shards)
        pool = WorkerPool(name, kinds, size, WakeUp(), shards)
        if DECRYPTION_KINDS.issuperset(kinds):  # key management fetches nothing
            pool.gone = lambda: self.health.gone
        return pool

    @cached_property
    def http(self) -> HttpDecryptions:
        base, pools = self.base, self.pools
        return HttpDecryptions(
            profile=base.profile,
            journal=self.journal,
            head=self.checker.heads[base.settings.chains.gateway.chain_id],
            wall=base.ports.wall,
            expiry=self.checker.expiry,
            dispatch=lambda name: pools[name].wake_up.notify(),
            on_event=base.on_event,
            waiters=base.waiters,
        )


def _trace_context(settings: Settings) -> Callable[[Request], Metadata] | None:
    """Tell the Core the trace of a request where traces are on, as W3C Trace Context does."""
    tracing, deployment = settings.monitoring.tracing, settings.chains.gateway.chain_id
    if tracing is None:
        return None

    def context(request: Request) -> Metadata:
        trace = trace_of(deployment, request.kind, request.id)
        return ((b"traceparent", trace.traceparent(sampled=tracing.samples(trace.trace_id)).encode()),)

    return context


def _bucket_dial(dial: Dial, policy: BucketPolicy) -> Dial:
    """A name in a bucket's address must not lead to a forbidden address, whatever its DNS says."""
    return sockets(allow=policy.allows_address) if dial is dial_sockets else dial
