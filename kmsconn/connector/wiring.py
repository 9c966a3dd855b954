"""Puts the parts of a connector together: opens what has to be closed, builds the rest, starts nothing that works on requests."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint, open_endpoint
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.sdk import open_sdk
from kmsconn.config.parties import Chain
from kmsconn.config.settings import Settings
from kmsconn.connector.contracts import PROFILES
from kmsconn.connector.following import Topics, recovered, take_pauses, wake_by
from kmsconn.core.client import open_core
from kmsconn.errors import JournalFailed, JournalUnreachable, StartRefused
from kmsconn.journal import audit
from kmsconn.journal.database import Binding
from kmsconn.journal.journal import Journal, open_journal, until_kept
from kmsconn.model.events import OnEvent, ignore
from kmsconn.replies.wallet import open_tx_sender
from kmsconn.requests.components import Components, Resources
from kmsconn.requests.http_decryption import HttpWaiters
from kmsconn.requests.membership import Membership
from kmsconn.serving.decryptions import HttpApiService
from kmsconn.transport.certificates import TlsFault
from kmsconn.transport.dialling import Way, dial_sockets, sockets
from kmsconn.transport.http import HttpClient, open_http
from kmsconn.transport.ports import Ports

BUCKET_CONNECTIONS = 32
"""To one bucket, which nearly all GETs of a block go to at once: with eight, waiting for a place took 3 to 10 % of CPU."""


@asynccontextmanager
async def open_components(
    settings: Settings, ports: Ports, on_event: OnEvent, waiters: HttpWaiters
) -> AsyncIterator[Components]:
    """Open journal, chains and Core links, and build what stands on them; ``waiters`` are woken by ``on_event``.

    Raises StartRefused for a journal that is foreign or in use, and for a wallet that cannot be used. Of the dependencies only AWS KMS is
    asked yet, where the wallet's key lies there: whose journal it is depends on the wallet's address.
    """
    async with AsyncExitStack() as stack:
        topics: Topics = {}
        base = Resources(
            settings=settings,
            ports=attrs.evolve(ports, proxies=settings.proxies),
            profile=PROFILES[settings.protocol.profile](settings),
            sender=await stack.enter_async_context(open_tx_sender(settings, on_event)),
            on_event=on_event,
            waiters=waiters,
        )
        components = await _open_links(stack, base, topics)
        components.core_health.on_recovery = partial(recovered, components.pipeline, components.pools)
        await until_kept(lambda: take_pauses(components))  # before anything is dispatched
        wake_by(topics, components)
        yield components


async def _open_links(stack: AsyncExitStack, base: Resources, topics: Topics) -> Components:
    settings, ports, policy = base.settings, base.ports, base.policy

    async def chain(chain: Chain, name: str, tell: OnEvent = base.on_event) -> Endpoint:
        http = await stack.enter_async_context(open_http(ports))
        return await stack.enter_async_context(open_endpoint(chain, name, ports, http, tell))

    async def buckets() -> HttpClient:
        return await stack.enter_async_context(open_buckets(settings, ports, policy))

    answered = {one.chain_id: one for one in (settings.chains.ethereum, settings.chains.gateway)}
    to_gateway = await chain(settings.chains.gateway, "gateway")
    journal, membership = await _open_journal(stack, base, topics)
    return Components(
        **attrs.asdict(base, recurse=False),
        journal=journal,
        membership=membership,
        to_gateway=to_gateway,
        to_ethereum=to_gateway if len(answered) == 1 else await chain(settings.chains.ethereum, "ethereum"),
        traces={
            chain_id: await chain(one, f"traces of chain {chain_id}", ignore)
            for chain_id, one in answered.items()
        },
        to_hosts={
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


async def _open_journal(stack: AsyncExitStack, base: Resources, topics: Topics) -> tuple[Journal, Membership]:
    """Open the journal and become a member; from the first change on, transitions go into the outbox of the audit log, if there is one.

    Raises JournalUnreachable, as while it is opened, where the database fails just then.
    """
    settings, ports = base.settings, base.ports
    journal = await stack.enter_async_context(
        open_journal(
            settings.storage.journal,
            Binding.of(settings, base.tx_sender),
            ports.offload,
            ports.wall,
            shards=base.shards,
            readers=settings.storage.database_pool_size,
        )
    )
    audited = settings.storage.audit_log is not None
    try:
        membership = await _open_membership(stack, base, topics, journal)
        await journal.run(audit.capture, wanted=audited)
    except JournalFailed as error:
        raise JournalUnreachable(str(error)) from error
    return journal, membership


async def _open_membership(
    stack: AsyncExitStack, base: Resources, topics: Topics, journal: Journal
) -> Membership:
    """Become one of the processes over the journal: the only one of a file."""
    if isinstance(base.settings.storage.journal, Path):
        return Membership(journal)
    from kmsconn.connector.members import open_member

    member = open_member(journal, base.settings, base.ports, topics, base.on_event)
    return await stack.enter_async_context(member)


def open_buckets(
    settings: Settings, ports: Ports, policy: BucketPolicy
) -> AbstractAsyncContextManager[HttpClient]:
    """Open a client of buckets: a name in an address must not lead to a forbidden address, whatever its DNS says."""
    dial = sockets(allow=policy.allows_address) if ports.dial is dial_sockets else ports.dial
    way = Way(ports, dial, settings.ciphertexts.s3_connect_timeout)
    return open_http(ports, BUCKET_CONNECTIONS, way=way, judge=policy.check)


HttpServing = tuple[HttpApiService, Sequence[trio.abc.Listener[trio.abc.Stream]]]
"""The server of decryptions and its listeners."""


@asynccontextmanager
async def open_http_serving(components: Components) -> AsyncIterator[HttpServing | None]:
    """Listen where decryptions are served over HTTP while the block lasts; ``serving`` accepts. None where nothing is served.

    Raises StartRefused for an address that cannot be had or a certificate that cannot be used any more.
    """
    settings = components.settings.http_api
    if settings is None:
        yield None
        return
    ports = components.ports
    try:
        service = HttpApiService(
            settings, components.http_decryptions, ports.offload, components.on_event, ports.wall
        )
        listeners = await ports.listen(settings.endpoint)
    except TlsFault as error:
        raise StartRefused(f"http_endpoint {settings.endpoint} cannot be served: {error}") from error
    except OSError as error:
        raise StartRefused(
            f"http_endpoint {settings.endpoint} cannot be listened to: {error.strerror or error}"
        ) from error
    async with AsyncExitStack() as stack:
        for listener in listeners:
            await stack.enter_async_context(listener)
        yield service, listeners


@asynccontextmanager
async def serving(http: HttpServing | None) -> AsyncIterator[None]:
    """Serve while the block lasts; leaving it listens no more and waits for the answers of open requests, for a bounded time."""
    if http is None:
        yield
        return
    async with trio.open_nursery() as nursery:
        service, listeners = http
        await nursery.start(service.run, listeners)
        yield
        service.close()
