"""Puts the parts of a connector together: opens what has to be closed, builds the rest, starts nothing that works on requests."""

from __future__ import annotations

import random
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager

import attrs
import trio

from kmsconn.chain.doorbell import Doorbell
from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.chain.heads import HeadTracker
from kmsconn.checks.checker import Checker
from kmsconn.checks.committee import Committee
from kmsconn.checks.contexts import Contexts
from kmsconn.ciphertexts.budget import ByteBudget
from kmsconn.ciphertexts.fetch import Fetcher
from kmsconn.ciphertexts.registry import Registry
from kmsconn.ciphertexts.urls import BucketPolicy
from kmsconn.config.settings import Settings
from kmsconn.journal.port import Journal
from kmsconn.journal.sqlite import Binding, open_journal
from kmsconn.kms.core import CoreClient, open_core
from kmsconn.model.events import OnEvent
from kmsconn.model.requests import Kind
from kmsconn.net.dialling import dial_sockets, sockets, within
from kmsconn.net.http import open_http
from kmsconn.net.offloading import offload_to_threads
from kmsconn.net.ports import Dial, Ports
from kmsconn.protocols.fhevm_014.profile import Fhevm014
from kmsconn.protocols.port import Profile
from kmsconn.sending.wallet import Wallet
from kmsconn.service.pipeline import Pipeline
from kmsconn.service.pools import Pool
from kmsconn.service.stages import Stages
from kmsconn.service.troubles import Troubles


def real_ports() -> Ports:
    """Return sockets, threads, the wall clock and the system's randomness."""
    return Ports(dial_sockets, offload_to_threads, time.time, random.random)


@attrs.frozen
class House:
    """Everything one connector is made of."""

    settings: Settings
    ports: Ports
    profile: Profile
    wallet: Wallet
    journal: Journal
    gateway: Endpoint
    ethereum: Endpoint
    hosts: Mapping[int, Endpoint]
    core: CoreClient
    registry: Registry
    gateway_head: HeadTracker
    lane_bell: Doorbell
    pools: Mapping[Kind, Pool]
    pipeline: Pipeline
    on_event: OnEvent

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All chains, each once."""
        return (self.gateway, self.ethereum, *self.hosts.values())


@asynccontextmanager
async def open_house(settings: Settings, ports: Ports, on_event: OnEvent) -> AsyncIterator[House]:
    """Open journal, chains and Core links, and build what stands on them.

    Raises StartRefused for a journal that is foreign or in use. Nobody is dialled yet.
    """
    profile = Fhevm014(settings)
    wallet = Wallet.from_hex(settings.private_key)
    async with AsyncExitStack() as stack:
        journal = await stack.enter_async_context(
            open_journal(settings.journal, _binding(settings, wallet), ports.offload, ports.wall)
        )
        http = await stack.enter_async_context(open_http(ports))
        policy = BucketPolicy(settings.allow_http_buckets, settings.allow_private_buckets)
        bucket_ports = attrs.evolve(ports, dial=_bucket_dial(ports.dial, policy, settings.s3_connect_timeout))
        buckets = await stack.enter_async_context(open_http(bucket_ports))
        gateway = await stack.enter_async_context(
            open_endpoint(settings.gateway, "gateway", ports, http, on_event)
        )
        ethereum = await stack.enter_async_context(
            open_endpoint(settings.ethereum, "ethereum", ports, http, on_event)
        )
        hosts = {
            host.chain.chain_id: await stack.enter_async_context(
                open_endpoint(host.chain, f"host chain {host.chain.chain_id}", ports, http, on_event)
            )
            for host in settings.host_chains
        }
        core = await stack.enter_async_context(open_core(settings.core_endpoints, ports, settings.core_tls))
        head = HeadTracker()
        registry = Registry(profile, gateway, settings.registry_refresh, on_event)
        committee = Committee(profile, gateway, wallet.address)
        contexts = Contexts(profile, ethereum, trio.current_time)
        checker = Checker(
            profile, gateway, hosts, head, committee, contexts, settings.decryption_expiry, settings.overlap
        )
        fetcher = Fetcher(buckets, registry, policy, ports.offload, settings.max_ciphertext_size)
        lane_bell = Doorbell()
        stages = Stages(profile, checker, committee, fetcher, core, ports.random)
        pipeline = Pipeline(
            profile,
            stages,
            journal,
            head,
            lane_bell,
            ByteBudget(settings.ciphertext_budget),
            settings.deadlines,
            Troubles(on_event),
            ports.wall,
            ports.random,
            on_event,
        )
        pools = {kind: Pool(kind, getattr(settings.pools, kind.value), Doorbell()) for kind in Kind}
        yield House(
            settings,
            ports,
            profile,
            wallet,
            journal,
            gateway,
            ethereum,
            hosts,
            core,
            registry,
            head,
            lane_bell,
            pools,
            pipeline,
            on_event,
        )


def _bucket_dial(dial: Dial, policy: BucketPolicy, seconds: float) -> Dial:
    """A name in a bucket's address must not lead to a forbidden address, whatever its DNS says."""
    return within(sockets(allow=policy.allows_address) if dial is dial_sockets else dial, seconds)


def _binding(settings: Settings, wallet: Wallet) -> Binding:
    return Binding(
        profile=settings.profile,
        gateway_chain_id=settings.gateway.chain_id,
        ethereum_chain_id=settings.ethereum.chain_id,
        decryption_contract=settings.decryption_contract.address,
        sender=wallet.address,
    )
