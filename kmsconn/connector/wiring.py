"""Puts the parts of a connector together: opens what has to be closed, builds the rest, starts nothing that works on requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.ciphertexts.fetch import BucketCounts, Fetcher
from kmsconn.ciphertexts.places import BucketPolicy, Substitute
from kmsconn.ciphertexts.quorum import AttestationQuorum, Comparer
from kmsconn.ciphertexts.registry import Directory, Lookup, Registry
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.ciphertexts.sources import BothForms, ByPlace, Sources
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.config.values import AttestationMode
from kmsconn.connector.following import Topics, recovered, take_pauses, wake_by
from kmsconn.core.client import open_core
from kmsconn.errors import JournalFailed, JournalUnreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.journal import outbox
from kmsconn.journal.binding import Binding
from kmsconn.journal.journal import Journal, until_kept
from kmsconn.journal.opening import open_journal
from kmsconn.model.alerts import Board
from kmsconn.model.events import CiphertextMismatch, OnEvent, ignore
from kmsconn.model.profiles import FHEVM, HTTPZ_RC7
from kmsconn.model.requests import DECRYPTION_KINDS, IN_ORDER, Kind, PoolName, Request
from kmsconn.model.trace_ids import trace_of
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.profile import Profile
from kmsconn.replies.wallet import Wallet, open_tx_sender
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.components import ChainContext, CiphertextParts, Components, Links
from kmsconn.requests.contexts import Contexts, Destruction, Suspicions
from kmsconn.requests.core_health import CoreHealth
from kmsconn.requests.dispatcher import WorkerPool
from kmsconn.requests.heartbeats import Heartbeats
from kmsconn.requests.http_decryption import HttpDecryptions, HttpWaiters
from kmsconn.requests.identity import NodeIdentity
from kmsconn.requests.membership import Membership, SoleMember
from kmsconn.requests.pipeline import Pipeline
from kmsconn.requests.row_outcomes import RowOutcomes
from kmsconn.requests.stage_runner import RequestTracker, StageRunner
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

    @property
    def tx_sender(self) -> Address:
        """The account that sends the node's replies."""
        return self.sender.address if isinstance(self.sender, Wallet) else self.sender

    @property
    def policy(self) -> BucketPolicy:
        """Which addresses a bucket may have."""
        return BucketPolicy(
            self.settings.ciphertexts.allow_http_buckets, self.settings.ciphertexts.allow_private_buckets
        )


@asynccontextmanager
async def open_components(
    settings: Settings, ports: Ports, on_event: OnEvent, waiters: HttpWaiters
) -> AsyncIterator[Components]:
    """Open journal, chains and Core links, and build what stands on them.

    Raises StartRefused for a journal that is foreign or in use, and for a wallet that cannot be used. Of the dependencies only AWS KMS is
    asked yet, where the wallet's key lies there: whose journal it is depends on the wallet's address.
    """
    ports, topics = attrs.evolve(ports, proxies=settings.proxies), Topics()
    async with AsyncExitStack() as stack:
        profile = PROFILES[settings.protocol.profile](settings)
        sender = await stack.enter_async_context(open_tx_sender(settings, on_event))
        base = _Base(settings, ports, profile, sender, on_event)
        components = _build(base, await _open_links(stack, base, topics), waiters)
        await until_kept(lambda: take_pauses(components))  # before anything is dispatched
        wake_by(topics, components)
        yield components


async def _open_links(stack: AsyncExitStack, base: _Base, topics: Topics) -> Links:
    settings, ports, policy = base.settings, base.ports, base.policy
    to_buckets = Way(ports, _bucket_dial(ports.dial, policy), settings.ciphertexts.s3_connect_timeout)

    async def chain(chain: Chain, name: str, tell: OnEvent = base.on_event) -> Endpoint:
        http = await stack.enter_async_context(open_http(ports))
        return await stack.enter_async_context(open_endpoint(chain, name, ports, http, tell))

    async def buckets() -> HttpClient:
        return await stack.enter_async_context(open_http(ports, way=to_buckets, judge=policy.check))

    answered = {one.chain_id: one for one in (settings.chains.ethereum, settings.chains.gateway)}
    gateway = await chain(settings.chains.gateway, "gateway")
    journal, membership = await _open_journal(stack, base, topics)
    return Links(
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


async def _open_journal(stack: AsyncExitStack, base: _Base, topics: Topics) -> tuple[Journal, Membership]:
    """Open the journal and become a member; from the first change on, transitions go into the outbox of the audit log, if there is one.

    Raises JournalUnreachable, as while it is opened, where the database fails just then.
    """
    journal = await stack.enter_async_context(_journal(base))
    audited = base.settings.storage.audit_log is not None
    try:
        membership = await _open_membership(stack, base, journal, topics)
        await journal.run(outbox.capture if audited else outbox.stop_capturing)
    except JournalFailed as error:
        raise JournalUnreachable(str(error)) from error
    return journal, membership


async def _open_membership(
    stack: AsyncExitStack, base: _Base, journal: Journal, topics: Topics
) -> Membership:
    """Become one of the processes over the journal: the only one of a file."""
    if isinstance(base.settings.storage.journal, Path):
        return SoleMember(journal)
    from kmsconn.connector.members import open_member

    member = open_member(journal, base.settings, base.ports, topics, base.on_event)
    return await stack.enter_async_context(member)


def _journal(base: _Base) -> AbstractAsyncContextManager[Journal]:
    settings, ports = base.settings, base.ports
    shards = len(settings.core.core_endpoints)
    readers = settings.storage.database_pool_size
    return open_journal(
        settings.storage.journal,
        Binding.of(settings, base.tx_sender),
        ports.offload,
        ports.wall,
        shards=shards,
        readers=readers,
    )


def _build(base: _Base, links: Links, waiters: HttpWaiters) -> Components:
    """Make every part, each from those before it."""
    chain_contexts = _chain_contexts(base, links)
    directory = _directory(base, links)
    quorum = _quorum(base, links, directory)
    shadow = _shadow(base, quorum)
    buckets = BucketCounts()
    fetcher = _fetcher(base, _sources(base, links, directory), quorum, buckets)
    checker = _checker(base, links, chain_contexts)
    stages = _stages(base, links, checker, fetcher, shadow)
    health = CoreHealth(links.core, base.settings.core.healthcheck_timeout)
    pipeline = _pipeline(base, links, chain_contexts, stages, health)
    pools = _pools(base, health)
    health.on_recovery = partial(recovered, links, pipeline, pools)
    return Components(
        settings=base.settings,
        ports=base.ports,
        sender=base.sender,
        links=links,
        ciphertexts=CiphertextParts(directory, shadow, buckets, pipeline.budgets),
        core_health=health,
        heartbeats=Heartbeats(trio.current_time),
        chain_contexts=chain_contexts,
        pools=pools,
        pipeline=pipeline,
        http=_http(base, links, checker, pools, waiters),
        board=Board(base.on_event, trio.current_time),
    )


def _chain_contexts(base: _Base, links: Links) -> Mapping[int, ChainContext]:
    """Make the context of each chain that is listened to; the Gateway comes last, for generations where it is Ethereum too."""
    settings = base.settings
    known = (
        ChainContext(
            "ethereum",
            links.ethereum,
            settings.reading.key_management_polling,
            settings.reading.kms_operation_from_block_number,
            settings.transactions.ethereum_tx_required_confirmations,
            settings.transactions.ethereum_tx_get_receipt_timeout,
            links.traces[settings.chains.ethereum.chain_id],
        ),
        ChainContext(
            "gateway",
            links.gateway,
            settings.reading.decryption_polling,
            settings.reading.decryption_from_block_number,
            settings.transactions.gateway_tx_required_confirmations,
            traces=links.traces[settings.chains.gateway.chain_id],
        ),
    )
    listened = {subscription.chain_id for subscription in base.profile.subscriptions()}
    return {one.endpoint.chain_id: one for one in known if one.endpoint.chain_id in listened}


# --- ciphertexts


def _directory(base: _Base, links: Links) -> Directory:
    """Read the whole registry, or, in a generation without attestations, only what requests name."""
    kind = Registry if base.profile.has_attestations else Lookup
    return kind(base.profile, links.gateway, base.settings.ciphertexts.registry_refresh, base.on_event)


def _quorum(base: _Base, links: Links, directory: Directory) -> AttestationQuorum | None:
    if not isinstance(directory, Registry):
        return None
    return AttestationQuorum(
        links.attestations, directory, base.policy, base.settings.ciphertexts.attestation_head_timeout
    )


def _shadow(base: _Base, quorum: AttestationQuorum | None) -> Comparer | None:
    if quorum is None or base.settings.ciphertexts.attestation is not AttestationMode.SHADOW:
        return None
    return Comparer(quorum, base.on_event)


def _sources(base: _Base, links: Links, directory: Directory) -> Sources:
    """Know where a generation keeps its objects: under two names each, or at the places of the first one."""
    if links.sdk is None:
        return BothForms(links.buckets, directory)
    s3 = base.settings.protocol.httpz.s3
    instead = None if s3 is None else Substitute(s3.region, s3.bucket, s3.endpoint or "")
    return ByPlace(links.buckets, directory, links.sdk, instead)


def _fetcher(
    base: _Base, sources: Sources, quorum: AttestationQuorum | None, counts: BucketCounts
) -> Fetcher:
    settings = base.settings
    return Fetcher(
        sources,
        base.policy,
        base.ports.offload,
        settings.ciphertexts.max_ciphertext_size,
        lambda handle, reason: base.on_event(CiphertextMismatch(handle, reason)),
        settings.protocol.httpz.tolerant_digests,
        counts,
        quorum,
        settings.ciphertexts.attestation is AttestationMode.ENFORCE,
    )


# --- requests


def _checker(base: _Base, links: Links, chain_contexts: Mapping[int, ChainContext]) -> Checker:
    heads = {chain_id: one.head for chain_id, one in chain_contexts.items()}
    suspicions = Suspicions(heads)
    return Checker(
        profile=base.profile,
        chains=links.chains,
        heads=heads,
        identity=NodeIdentity(base.profile, links.chains, base.tx_sender),
        contexts=Contexts(base.profile, links.ethereum, trio.current_time, suspicions),
        suspicions=suspicions,
        expiry=_expiry(base),
        reorg_window=base.settings.reading.reorg_window,
        shadow=base.settings.is_shadow,
    )


def _expiry(base: _Base) -> DecryptionExpiry:
    """Return when decryptions expire, as far as is known before the network was asked."""
    return DecryptionExpiry(
        base.settings.work.decryption_expiry, None if base.profile.later_network else False
    )


def _stages(base: _Base, links: Links, checker: Checker, fetcher: Fetcher, shadow: Comparer | None) -> Stages:
    stages = Stages(
        base.profile,
        links.chains,
        checker,
        checker.identity,
        fetcher,
        links.core,
        base.ports.random,
        reading_only=base.settings.is_shadow,
        context=_trace_context(base.settings),
    )
    return stages if shadow is None else attrs.evolve(stages, shadow=shadow.hand)


def _trace_context(settings: Settings) -> Callable[[Request], Metadata] | None:
    """Tell the Core the trace of a request where traces are on, as W3C Trace Context does."""
    tracing, deployment = settings.monitoring.tracing, settings.chains.gateway.chain_id
    if tracing is None:
        return None

    def context(request: Request) -> Metadata:
        trace = trace_of(deployment, request.kind, request.id)
        return ((b"traceparent", trace.traceparent(sampled=tracing.samples(trace.trace_id)).encode()),)

    return context


def _pipeline(
    base: _Base,
    links: Links,
    chain_contexts: Mapping[int, ChainContext],
    stages: Stages,
    health: CoreHealth,
) -> Pipeline:
    tracker, heads, journal = (
        RequestTracker(),
        stages.checker.heads,
        links.journal,
    )
    outcomes = RowOutcomes(
        base.profile, journal, heads, tracker, base.ports.wall, base.ports.random, base.on_event
    )
    return Pipeline(
        profile=base.profile,
        stages=stages,
        journal=journal,
        heads=heads,
        txmanager_wake_ups={chain_id: one.wake_up for chain_id, one in chain_contexts.items()},
        destruction=Destruction(
            base.profile, journal, heads, stages.checker.contexts, outcomes.end_destroyed
        ),
        budgets=_budgets(base.settings),
        deadlines=base.settings.work.deadlines,
        runner=StageRunner(
            base.profile,
            tracker,
            health,
            len(base.settings.core.core_endpoints),
            base.on_event,
            journal.note_stage,
        ),
        tracker=tracker,
        outcomes=outcomes,
    )


def _budgets(settings: Settings) -> tuple[ByteBudget, ...]:
    """Return the budget of ciphertexts in equal parts, one for each shard."""
    shards = len(settings.core.core_endpoints)
    return (*(ByteBudget(settings.ciphertexts.ciphertext_budget // shards) for _ in range(shards)),)


def _pools(base: _Base, health: CoreHealth) -> Mapping[PoolName, WorkerPool]:
    """Make a pool for each that the generation's table names."""
    operations = base.profile.operations.values()
    names = dict.fromkeys(operation.pool for operation in operations)
    kinds = {name: tuple(one.kind for one in operations if one.pool is name) for name in names}
    found = {name: _pool(base.settings, name, kinds[name]) for name in names}
    for pool in found.values():
        if DECRYPTION_KINDS.issuperset(pool.kinds):  # key management fetches nothing
            pool.gone = lambda: health.gone
    return found


def _pool(settings: Settings, name: PoolName, kinds: tuple[Kind, ...]) -> WorkerPool:
    """Make a pool with a place for each shard of the Core at least; what goes in order is not shared among them."""
    shards = 1 if name in IN_ORDER else len(settings.core.core_endpoints)
    return WorkerPool(name, kinds, max(getattr(settings.work.pools, name.value), shards), WakeUp(), shards)


def _http(
    base: _Base,
    links: Links,
    checker: Checker,
    pools: Mapping[PoolName, WorkerPool],
    waiters: HttpWaiters,
) -> HttpDecryptions:
    return HttpDecryptions(
        profile=base.profile,
        journal=links.journal,
        head=checker.heads[base.settings.chains.gateway.chain_id],
        wall=base.ports.wall,
        expiry=checker.expiry,
        dispatch=lambda name: pools[name].wake_up.notify(),
        on_event=base.on_event,
        waiters=waiters,
    )


def _bucket_dial(dial: Dial, policy: BucketPolicy) -> Dial:
    """A name in a bucket's address must not lead to a forbidden address, whatever its DNS says."""
    return sockets(allow=policy.allows_address) if dial is dial_sockets else dial
