"""Puts the parts of a connector together: opens what has to be closed, builds the rest, starts nothing that works on requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from kmsconn.app.core_health import CoreHealth
from kmsconn.app.held import Held
from kmsconn.app.passage import Passage
from kmsconn.app.pipeline import Pipeline
from kmsconn.app.pools import WorkerPool
from kmsconn.app.pulse import Pulse
from kmsconn.app.stages import Stages
from kmsconn.app.state_alerts import CONNECTION
from kmsconn.app.taken import TakenIds
from kmsconn.checks.checker import Checker
from kmsconn.checks.contexts import Contexts
from kmsconn.checks.identity import NodeIdentity
from kmsconn.checks.second_look import SecondLook
from kmsconn.ciphertexts.attested import Attested
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.ciphertexts.counting import BucketCounts
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.lookup import Lookup
from kmsconn.ciphertexts.places import Substitute
from kmsconn.ciphertexts.port import Directory, Gatherer
from kmsconn.ciphertexts.quorum import AttestationQuorum
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.sdk import Sdk, open_sdk
from kmsconn.ciphertexts.shadow import Shadow
from kmsconn.ciphertexts.sources import BothForms, ByPlace, Sources
from kmsconn.ciphertexts.urls import BucketPolicy
from kmsconn.config.settings import AttestationMode, Chain, Settings
from kmsconn.core_client.client import CoreClient, open_core
from kmsconn.journal.binding import Binding
from kmsconn.journal.journal import Journal
from kmsconn.journal.opening import open_journal
from kmsconn.model.events import CiphertextMismatch, OnEvent, ignore
from kmsconn.model.requests import IN_ORDER, Kind, PoolName
from kmsconn.protocols.fhevm_014.profile import Fhevm014
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.port import Profile
from kmsconn.rpc.endpoint import Endpoint, open_endpoint
from kmsconn.rpc.heads import HeadTracker
from kmsconn.transport.dialling import dial_sockets, sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Dial, Ports
from kmsconn.transport.proxying import Way
from kmsconn.transport.wake_up import WakeUp
from kmsconn.txmanager.broadcasts import REPLACE_AFTER
from kmsconn.txmanager.wallet import Wallet, open_wallet

PROFILES: Mapping[str, Callable[[Settings], Profile]] = {"fhevm-0.14": Fhevm014, "httpz-rc7": HttpzRc7}
"""The generations by the names that the option ``profile`` has for them."""


@attrs.frozen
class Links:
    """What has to be closed: the journal, and the ways to every dependency."""

    journal: Journal
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
    profile: Profile
    wallet: Wallet
    links: Links
    directory: Directory
    shadow: Shadow | None
    core_health: CoreHealth
    pulse: Pulse
    chain_contexts: Mapping[int, ChainContext]
    pools: Mapping[PoolName, WorkerPool]
    pipeline: Pipeline
    on_event: OnEvent
    buckets: BucketCounts

    @property
    def journal(self) -> Journal:
        """The memory of the connector."""
        return self.links.journal

    @property
    def gateway(self) -> ChainContext:
        """The Gateway, where decryptions are asked for and answered."""
        return self.chain_contexts[self.settings.gateway.chain_id]

    def pool_for(self, kind: Kind) -> WorkerPool:
        """Return the pool that works on a kind of request."""
        return self.pools[self.profile.operations[kind].pool]


@asynccontextmanager
async def open_components(settings: Settings, ports: Ports, on_event: OnEvent) -> AsyncIterator[Components]:
    """Open journal, chains and Core links, and build what stands on them.

    Raises StartRefused for a journal that is foreign or in use, and for a wallet that cannot be used. Of the dependencies only AWS KMS is
    asked yet, where the wallet's key lies there: whose journal it is depends on the wallet's address.
    """
    ports = attrs.evolve(ports, proxies=settings.proxies)
    async with AsyncExitStack() as stack:
        profile = PROFILES[settings.profile](settings)
        wallet = await stack.enter_async_context(open_wallet(settings, on_event))
        links = await _open_links(stack, settings, ports, profile, wallet=wallet, on_event=on_event)
        yield _build(settings, ports, links, profile=profile, wallet=wallet, on_event=on_event)


async def _open_links(
    stack: AsyncExitStack,
    settings: Settings,
    ports: Ports,
    profile: Profile,
    *,
    wallet: Wallet,
    on_event: OnEvent,
) -> Links:
    async def chain(chain: Chain, name: str, tell: OnEvent = on_event) -> Endpoint:
        http = await stack.enter_async_context(open_http(ports))
        return await stack.enter_async_context(open_endpoint(chain, name, ports, http, tell))

    hosts = [host.chain for host in settings.host_chains]
    shards = len(settings.core_endpoints)
    journal = open_journal(
        settings.journal, _binding(settings, wallet), ports.offload, ports.wall, shards=shards
    )
    policy = _policy(settings)
    to_buckets = Way(ports, _bucket_dial(ports.dial, policy), settings.s3_connect_timeout)
    gateway = await chain(settings.gateway, "gateway")
    one = settings.ethereum.chain_id == settings.gateway.chain_id
    return Links(
        journal=await stack.enter_async_context(journal),
        gateway=gateway,
        ethereum=gateway if one else await chain(settings.ethereum, "ethereum"),
        traces={
            one.chain_id: await chain(one, f"traces of chain {one.chain_id}", ignore)
            for one in {chain.chain_id: chain for chain in (settings.ethereum, settings.gateway)}.values()
        },
        hosts={one.chain_id: await chain(one, f"host chain {one.chain_id}") for one in hosts},
        core=await stack.enter_async_context(
            open_core(settings.core_endpoints, ports, settings.core_tls, settings.core_reply_budget)
        ),
        buckets=await stack.enter_async_context(open_http(ports, way=to_buckets, judge=policy.check)),
        attestations=await stack.enter_async_context(open_http(ports, way=to_buckets, judge=policy.check)),
        sdk=None
        if profile.has_attestations
        else await stack.enter_async_context(open_sdk(ports.offload, ports.proxies)),
    )


def _build(
    settings: Settings, ports: Ports, links: Links, *, profile: Profile, wallet: Wallet, on_event: OnEvent
) -> Components:
    chain_contexts = _chain_contexts(settings, links, profile)
    heads = {chain_id: chain_context.head for chain_id, chain_context in chain_contexts.items()}
    directory = _directory(settings, links, profile, on_event)
    quorum = _quorum(settings, links, directory)
    sources, buckets = _sources(settings, links, directory), BucketCounts()
    stages = _stages(
        settings,
        ports,
        links,
        profile=profile,
        wallet=wallet,
        gatherer=_gatherer(settings, ports, sources, quorum, on_event=on_event, counts=buckets),
        heads=heads,
    )
    shadow = _shadow(settings, quorum, on_event)
    held = Held(on_event)
    pipeline = Pipeline(
        profile=profile,
        stages=stages if shadow is None else attrs.evolve(stages, shadow=shadow.hand),
        journal=links.journal,
        heads=heads,
        txmanager_wake_ups={
            chain_id: chain_context.wake_up for chain_id, chain_context in chain_contexts.items()
        },
        contexts=stages.checker.contexts,
        budgets=_budgets(settings),
        deadlines=settings.deadlines,
        held=held,
        taken=TakenIds(held),
        passage=Passage(),
        wall=ports.wall,
        random=ports.random,
        on_event=on_event,
    )
    return Components(
        settings,
        ports,
        profile,
        wallet,
        links,
        directory,
        shadow,
        CoreHealth(
            links.core,
            settings.healthcheck_timeout,
            on_recovery=lambda name: pipeline.passage.forgive(name, CONNECTION),
        ),
        Pulse(trio.current_time),
        chain_contexts,
        _pools(settings, profile),
        pipeline,
        on_event,
        buckets,
    )


def _chain_contexts(settings: Settings, links: Links, profile: Profile) -> Mapping[int, ChainContext]:
    """Make the context of each chain that is listened to; the Gateway comes last, for generations where it is Ethereum too."""
    known = (
        ChainContext(
            "ethereum",
            links.ethereum,
            settings.key_management_polling,
            settings.kms_operation_from_block_number,
            settings.ethereum_tx_required_confirmations,
            settings.ethereum_tx_get_receipt_timeout,
            links.traces[settings.ethereum.chain_id],
        ),
        ChainContext(
            "gateway",
            links.gateway,
            settings.decryption_polling,
            settings.decryption_from_block_number,
            settings.gateway_tx_required_confirmations,
            traces=links.traces[settings.gateway.chain_id],
        ),
    )
    listened = {subscription.chain_id for subscription in profile.subscriptions()}
    return {
        chain_context.endpoint.chain_id: chain_context
        for chain_context in known
        if chain_context.endpoint.chain_id in listened
    }


def _pools(settings: Settings, profile: Profile) -> Mapping[PoolName, WorkerPool]:
    """Make a pool for each that the generation's table names."""
    operations = profile.operations.values()
    names = dict.fromkeys(operation.pool for operation in operations)
    kinds = {name: tuple(one.kind for one in operations if one.pool is name) for name in names}
    return {name: _pool(settings, name, kinds[name]) for name in names}


def _pool(settings: Settings, name: PoolName, kinds: tuple[Kind, ...]) -> WorkerPool:
    """Make a pool with a place for each shard of the Core at least; what goes in order is not shared among them."""
    shards = 1 if name in IN_ORDER else len(settings.core_endpoints)
    return WorkerPool(name, kinds, max(getattr(settings.pools, name.value), shards), WakeUp(), shards)


def _stages(
    settings: Settings,
    ports: Ports,
    links: Links,
    *,
    profile: Profile,
    wallet: Wallet,
    gatherer: Gatherer,
    heads: Mapping[int, HeadTracker],
) -> Stages:
    identity = NodeIdentity(profile, links.chains, wallet.address)
    second_look = SecondLook(heads)
    checker = Checker(
        profile=profile,
        chains=links.chains,
        heads=heads,
        identity=identity,
        contexts=Contexts(profile, links.ethereum, trio.current_time, second_look),
        second_look=second_look,
        expiry=settings.decryption_expiry,
        reorg_window=settings.reorg_window,
    )
    return Stages(profile, links.chains, checker, identity, gatherer, links.core, ports.random)


def _gatherer(
    settings: Settings,
    ports: Ports,
    sources: Sources,
    quorum: AttestationQuorum | None,
    *,
    on_event: OnEvent,
    counts: BucketCounts,
) -> Gatherer:
    fetcher = Fetcher(
        sources,
        _policy(settings),
        ports.offload,
        settings.max_ciphertext_size,
        lambda handle, reason: on_event(CiphertextMismatch(handle, reason)),
        settings.httpz.tolerant_digests,
        counts,
    )
    if quorum is None:
        return fetcher
    return Attested(fetcher, quorum, settings.attestation is AttestationMode.ENFORCE)


def _sources(settings: Settings, links: Links, directory: Directory) -> Sources:
    """Know where a generation keeps its objects: under two names each, or at the places of the first one."""
    if links.sdk is None:
        return BothForms(links.buckets, directory)
    s3 = settings.httpz.s3
    instead = None if s3 is None else Substitute(s3.region, s3.bucket, s3.endpoint or "")
    return ByPlace(links.buckets, directory, links.sdk, instead)


def _budgets(settings: Settings) -> tuple[ByteBudget, ...]:
    """Return the budget of ciphertexts in equal parts, one for each shard."""
    shards = len(settings.core_endpoints)
    return (*(ByteBudget(settings.ciphertext_budget // shards) for _ in range(shards)),)


def _directory(settings: Settings, links: Links, profile: Profile, on_event: OnEvent) -> Directory:
    """Read the whole registry, or, in a generation without attestations, only what requests name."""
    kind = Registry if profile.has_attestations else Lookup
    return kind(profile, links.gateway, settings.registry_refresh, on_event)


def _quorum(settings: Settings, links: Links, directory: Directory) -> AttestationQuorum | None:
    if not isinstance(directory, Registry):
        return None
    return AttestationQuorum(
        links.attestations, directory, _policy(settings), settings.attestation_head_timeout
    )


def _shadow(settings: Settings, quorum: AttestationQuorum | None, on_event: OnEvent) -> Shadow | None:
    if quorum is None or settings.attestation is not AttestationMode.SHADOW:
        return None
    return Shadow(quorum, on_event)


def _policy(settings: Settings) -> BucketPolicy:
    return BucketPolicy(settings.allow_http_buckets, settings.allow_private_buckets)


def _bucket_dial(dial: Dial, policy: BucketPolicy) -> Dial:
    """A name in a bucket's address must not lead to a forbidden address, whatever its DNS says."""
    return sockets(allow=policy.allows_address) if dial is dial_sockets else dial


def _binding(settings: Settings, wallet: Wallet) -> Binding:
    return Binding(
        profile=settings.profile,
        gateway_chain_id=settings.gateway.chain_id,
        ethereum_chain_id=settings.ethereum.chain_id,
        decryption_contract=settings.decryption_contract.address,
        sender=wallet.address,
    )
