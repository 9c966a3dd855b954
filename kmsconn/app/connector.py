"""The tree: four nested nurseries that stop from the inside out. No flags, no service manager.

services   stop last: registry, attestations, head listeners, start-up probes (journal, links, connections are resources around it)
└ txmanagers  third: end when nothing is answered or signed, or at the grace's deadline
  └ pools  second: cancelled; only an answer that has just arrived is still kept
    ├ reading  first: subscriptions, their proofs of completeness, dispatchers
    └ HTTP server  beside it: listens no more, and lets the answers of open requests out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.app.alerting import show_alerts
from kmsconn.app.auditing import Auditing
from kmsconn.app.completeness import Completeness
from kmsconn.app.components import ChainContext, Components
from kmsconn.app.dependency_checks import (
    CONTRACTS_INTERVAL,
    HOST_CONTRACTS_INTERVAL,
    ContractWatch,
    wait_for_dependencies,
)
from kmsconn.app.dispatcher import OrderedDispatcher, run_dispatcher
from kmsconn.app.event_hook import EventHook
from kmsconn.app.foreign_replies import ForeignReplies
from kmsconn.app.http_serving import HttpServing, open_http_serving, serving
from kmsconn.app.journal_watch import JournalWatch
from kmsconn.app.key_management_alerts import FailedKeyManagement, OverdueRequests
from kmsconn.app.migrated_key_sets import migrated_key_sets
from kmsconn.app.network_release import NetworkRelease
from kmsconn.app.open_agreements import OpenAgreements
from kmsconn.app.pools import WorkerPool
from kmsconn.app.range_reader import RangeReader
from kmsconn.app.reader import LogReader, follow_heads
from kmsconn.app.retaining import Retaining
from kmsconn.app.shadowing import ShadowFindings, shadow_of
from kmsconn.app.snapshot import ChainStatistics, QueueStatistics, Statistics
from kmsconn.app.unknown_events import unknown_events
from kmsconn.app.watched_contract import WatchedContract
from kmsconn.app.wiring import open_components
from kmsconn.config.settings import PostgresAddress, Settings
from kmsconn.http_api.port import Decryptions
from kmsconn.journal.sqlite import free_bytes
from kmsconn.model.alerts import Alerts
from kmsconn.model.events import OnEvent, ignore
from kmsconn.model.requests import IN_ORDER
from kmsconn.rpc.endpoint import Endpoint
from kmsconn.shadow.manager import ShadowManager, run_shadow
from kmsconn.transport.ports import Ports
from kmsconn.transport.real import real_ports
from kmsconn.txmanager.manager import TxConfig, TxEndpoint, TxManager, run_txmanager
from kmsconn.txmanager.wallet import Wallet


@attrs.define
class Connector:
    """A running connector. Made by ``open_connector``."""

    components: Components
    hook: EventHook
    watch: JournalWatch
    foreign_replies: ForeignReplies | ShadowFindings
    http: HttpServing | None = None
    _ready: trio.Event = attrs.field(factory=trio.Event)
    _draining: trio.Event = attrs.field(factory=trio.Event)
    _drained: trio.Event = attrs.field(factory=trio.Event)
    _txmanagers_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _ranges: list[RangeReader] = attrs.field(factory=list)
    _proofs: list[Completeness] = attrs.field(factory=list)
    _txmanagers: dict[str, TxManager] = attrs.field(factory=dict)

    def drain(self) -> None:
        """Begin to drain: hear nothing new, give the work back to the journal, broadcast and confirm answers. Repeating: no effect."""
        self._draining.set()

    def hurry(self) -> None:
        """End a drain at once: what is answered but not included waits in the journal for the next start."""
        self._draining.set()
        self._txmanagers_scope.cancel()

    async def wait_ready(self) -> None:
        """Return once every dependency has answered."""
        await self._ready.wait()

    async def wait_drained(self) -> None:
        """Return once a drain has ended."""
        await self._drained.wait()

    @property
    def decryptions(self) -> Decryptions:
        """Decrypts what does not come from a chain: the port of the HTTP server, and of a program that serves its own clients."""
        return self.components.http

    def statistics(self) -> Statistics:
        """Return a snapshot."""
        components = self.components
        return Statistics(
            ready=self._ready.is_set(),
            draining=self._draining.is_set(),
            queue=QueueStatistics(
                counts=self.watch.counts,
                busy={name.value: len(pool.busy) for name, pool in components.pools.items()},
                places={name.value: pool.size for name, pool in components.pools.items()},
                gaps=sum(proof.missing for proof in self._proofs),
                running=Counter(stage for stage, _ in components.pipeline.runner.running.values()),
            ),
            chains={one.name: self._chain_statistics(one) for one in components.links.endpoints},
            cores=components.core_health.statistics(),
            cursors={one.contract.name: one.next_block for one in self._ranges if one.next_block is not None},
            ciphertexts=components.ciphertexts.statistics(),
            transactions={name: manager.statistics() for name, manager in self._txmanagers.items()},
            stalled=components.heartbeats.stalled(),
            paused=tuple(one for pool in components.pools.values() for one in pool.paused.values()),
            http=None if self.http is None else self.http.statistics(),
            journal_free=self.watch.free,
        )

    def _chain_statistics(self, endpoint: Endpoint) -> ChainStatistics:
        reconnects = max(0, endpoint.links - 1)
        known = self.components.chain_contexts.get(endpoint.chain_id)
        if known is None or known.endpoint is not endpoint:
            return ChainStatistics(
                reconnects=reconnects, chain_id=endpoint.chain_id, endpoint=endpoint.in_use
            )
        head, now = known.head, self.components.ports.wall()
        return ChainStatistics(
            head.number,
            head.timestamp,
            _age(head.timestamp, now),
            _age(known.finalized.timestamp, now),
            reconnects,
            endpoint.chain_id,
            known.finalized.number,
            endpoint.in_use,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until drained. Raises what no stage may raise, as a group; StartRefused when running would be unsafe.

        Cancellation: everything stops where it is; the journal goes on from there.
        """
        components = self.components
        async with trio.open_nursery() as services:
            services.start_soon(self.hook.watch)
            services.start_soon(components.ciphertexts.directory.run)
            if components.ciphertexts.shadow is not None:
                services.start_soon(components.ciphertexts.shadow.run)
            for chain_context in components.chain_contexts.values():
                services.start_soon(follow_heads, chain_context, components.on_event)
            services.start_soon(wait_for_dependencies, components, self._ready)
            for endpoint in components.links.endpoints:
                heard = endpoint.chain_id in components.chain_contexts
                interval = CONTRACTS_INTERVAL if heard else HOST_CONTRACTS_INTERVAL
                services.start_soon(
                    ContractWatch(components.profile, endpoint, components.on_event, interval).run
                )
            services.start_soon(
                NetworkRelease(components.profile, components.links.gateway, components.expiry).run
            )
            services.start_soon(self.watch.run)
            if components.settings.storage.audit_log is not None:
                services.start_soon(Auditing.of(components).run)
            services.start_soon(
                Retaining(
                    components.settings,
                    components.profile,
                    components.journal,
                    components.chain_contexts,
                    components.ports,
                ).run
            )
            services.start_soon(components.core_health.run)
            services.start_soon(show_alerts, components, self.foreign_replies)
            services.start_soon(
                OverdueRequests(
                    components.profile, components.journal, components.ports, components.on_event
                ).run
            )
            services.start_soon(FailedKeyManagement(components.journal, components.on_event).run)
            key_sets = migrated_key_sets(components)
            if key_sets is not None:
                services.start_soon(key_sets.run)
            services.start_soon(OpenAgreements.of(components).run)
            for watch in unknown_events(self._contracts()):
                services.start_soon(watch.run)
            with self._txmanagers_scope:
                async with trio.open_nursery() as txmanagers:
                    managers = self._start_managers(txmanagers)
                    async with trio.open_nursery() as pools:
                        for pool in components.pools.values():
                            pools.start_soon(
                                pool.run, components.pipeline.run, components.journal, components.on_event
                            )
                        async with serving(self.http), trio.open_nursery() as reading:
                            self._start_reading(reading)
                            task_status.started()
                            await self._draining.wait()
                            reading.cancel_scope.cancel()
                        pools.cancel_scope.cancel()
                    components.http.close()
                    for manager in managers:
                        manager.closing.set()
                        manager.wake.notify()
                    txmanagers.cancel_scope.deadline = (
                        trio.current_time() + components.settings.work.drain_grace
                    )
            services.cancel_scope.cancel()
        self._drained.set()

    def _contracts(self) -> Iterator[WatchedContract]:
        components = self.components
        return (WatchedContract.of(components, one) for one in components.profile.subscriptions())

    def _start_managers(self, nursery: trio.Nursery) -> Sequence[TxManager | ShadowManager]:
        """Start one transaction manager per chain, or the shadow of one, in their nursery."""
        components = self.components
        contexts = components.chain_contexts.values()
        if components.settings.is_shadow:
            shadows = [shadow_of(components, one) for one in contexts]
            for shadow in shadows:
                nursery.start_soon(run_shadow, shadow)
            return shadows
        self._txmanagers = {one.name: self._txmanager(one) for one in contexts}
        for manager in self._txmanagers.values():
            nursery.start_soon(run_txmanager, manager)
        return [*self._txmanagers.values()]

    def _start_reading(self, nursery: trio.Nursery) -> None:
        """Start one task per contract, its proof of completeness, and one dispatcher per kind in the reading nursery."""
        components = self.components
        for contract in self._contracts():
            reader = LogReader.of(contract)
            self._ranges.append(reader.ranges)
            nursery.start_soon(reader.run)
            self._proofs.append(Completeness.of(reader.ranges))
            nursery.start_soon(self._proofs[-1].run)
        for pool in components.pools.values():
            if pool.name in IN_ORDER:
                nursery.start_soon(self._ordered(pool).run)
            else:
                nursery.start_soon(
                    run_dispatcher, pool, components.journal, components.ports.wall, self._dispatches(pool)
                )

    def _ordered(self, pool: WorkerPool) -> OrderedDispatcher:
        components = self.components
        return OrderedDispatcher(
            pool,
            components.journal,
            components.profile,
            components.ports.wall,
            components.pipeline.outcomes.end_destroyed,
            self._dispatches(pool),
        )

    def _dispatches(self, pool: WorkerPool) -> Callable[[], None]:
        return self.components.heartbeats.part(f"dispatcher of {pool.name}", "journal")

    def _txmanager(self, chain_context: ChainContext) -> TxManager:
        components, wallet = self.components, self.components.sender
        assert isinstance(wallet, Wallet), "only a shadow has none"
        return TxManager(
            endpoint=TxEndpoint(
                chain_context.endpoint, chain_context.head, chain_context.name, chain_context.traces
            ),
            journal=components.journal,
            wallet=wallet,
            profile=components.profile,
            wake=chain_context.wake_up,
            settings=components.settings,
            ports=components.ports,
            on_event=components.on_event,
            config=TxConfig(
                confirmations=chain_context.confirmations, replace_after=chain_context.replace_after
            ),
            beat=components.heartbeats.part(f"txmanager {chain_context.name}", chain_context.name),
        )


def _age(timestamp: float | None, now: float) -> float | None:
    return None if timestamp is None else max(0.0, now - timestamp)


def _measure(journal: Path | PostgresAddress) -> Callable[[], int | None]:
    """Return what measures the room that is left for a journal; that of a database server is not for its clients to see."""
    return partial(free_bytes, journal) if isinstance(journal, Path) else lambda: None


@asynccontextmanager
async def open_connector(
    settings: Settings, *, ports: Ports | None = None, on_event: OnEvent = ignore
) -> AsyncIterator[Connector]:
    """Run a connector while the block lasts; leaving the block drains it.

    Opens no port but that of ``http_endpoint``, installs no signal handler, configures no logging. The block begins before the dependencies
    have answered: see ``wait_ready``. Raises, as a group from inside, StartRefused when running would be unsafe, and whatever
    ``on_event`` raised.
    Cancellation: stops at once; nothing is lost. Repeating: the same journal goes on where the last run ended.
    """
    foreign_replies = ShadowFindings() if settings.is_shadow else ForeignReplies()
    hook = EventHook(on_event, foreign_replies.note)
    async with (
        open_components(settings, ports or real_ports(), hook) as components,
        open_http_serving(components) as http,
    ):
        watch = JournalWatch(
            components.journal,
            components.ports.wall,
            Alerts(hook),
            components.heartbeats.part("journal", "journal"),
            measure=_measure(settings.storage.journal),
        )
        connector = Connector(components, hook, watch, foreign_replies, http)
        async with trio.open_nursery() as nursery:
            await nursery.start(connector.run)
            yield connector
            connector.drain()


async def serve(
    settings: Settings,
    *,
    ports: Ports | None = None,
    on_event: OnEvent = ignore,
    task_status: trio.TaskStatus[Connector] = trio.TASK_STATUS_IGNORED,
) -> None:
    """Run a connector until it is drained, for ``nursery.start``: started means that every dependency has answered once.

    Raises as ``open_connector``; the caller's deadline around ``nursery.start`` ends a start that takes too long.
    """
    async with open_connector(settings, ports=ports, on_event=on_event) as connector:
        await connector.wait_ready()
        task_status.started(connector)
        await connector.wait_drained()
