"""The tree: four nested nurseries that stop from the inside out. No flags, no service manager.

services   stop last: registry, attestations, head listeners, start-up probes (journal, links, connections are resources around it)
└ txmanagers  third: end when nothing is answered or signed, or at the grace's deadline
  └ pools  second: cancelled; only an answer that has just arrived is still kept
    ├ reading  first: subscriptions, their proofs of completeness, dispatchers
    └ HTTP server  beside it: listens no more, and lets the answers of open requests out
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import trio

from kmsconn.chain.endpoint import Endpoint
from kmsconn.chain.follower import HeadTracker
from kmsconn.config.description import PostgresAddress, Role
from kmsconn.config.settings import Settings
from kmsconn.config.sources import GENERATIONS
from kmsconn.connector.alerting import JournalWatch, show_alerts
from kmsconn.connector.auditing import Auditing
from kmsconn.connector.dependency_checks import ContractWatch, wait_for_dependencies
from kmsconn.connector.event_hook import EventHook, ForeignTransactions, ShadowFindings, in_words_of
from kmsconn.connector.following import follow_pauses, forget_ended
from kmsconn.connector.held_requests import HeldRequests
from kmsconn.connector.upkeep import keep_looking, run_upkeep
from kmsconn.connector.wiring import HttpServing, open_components, open_http_serving, serving
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.alerts import Progress
from kmsconn.model.events import OnEvent, ignore
from kmsconn.model.http_answers import Decryptions
from kmsconn.model.requests import IN_ORDER
from kmsconn.replies.manager import run_txmanager
from kmsconn.replies.state import TxEndpoint, TxManager
from kmsconn.replies.wallet import Wallet
from kmsconn.requests.completeness import Completeness
from kmsconn.requests.components import ChainContext, Components
from kmsconn.requests.dispatcher import OrderedDispatcher, WorkerPool, run_dispatcher
from kmsconn.requests.http_decryption import HttpWaiters
from kmsconn.requests.membership import SENDS
from kmsconn.requests.range_reader import RangeReader, watched_contracts
from kmsconn.requests.reader import LogReader, follow_head, follow_heads
from kmsconn.requests.snapshot import ChainStatistics, JournalStatistics, QueueStatistics, Statistics
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.ports import Ports


@attrs.define
class Connector:
    """A running connector. Made by ``open_connector``."""

    components: Components
    hook: EventHook
    watch: JournalWatch
    foreign_transactions: ForeignTransactions | ShadowFindings
    http_serving: HttpServing | None = None
    _ready: trio.Event = attrs.field(factory=trio.Event)
    _draining: trio.Event = attrs.field(factory=trio.Event)
    _drained: trio.Event = attrs.field(factory=trio.Event)
    _txmanagers_scope: trio.CancelScope = attrs.field(factory=trio.CancelScope)
    _ranges: list[RangeReader] = attrs.field(factory=list)
    _proofs: list[Completeness] = attrs.field(factory=list)
    _managers: dict[str, TxManager] = attrs.field(factory=dict)

    def drain(self) -> None:
        """Begin to drain: hear nothing new, give the work back to the journal, broadcast and confirm answers. Repeating: no effect."""
        self._draining.set()

    def hurry(self) -> None:
        """End a drain at once: what is answered but not included waits in the journal for the next start."""
        self._draining.set()
        self.components.http_decryptions.close()
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
        return self.components.http_decryptions

    def statistics(self) -> Statistics:
        """Return a snapshot."""
        components, membership = self.components, self.components.membership
        return Statistics(
            ready=self._ready.is_set(),
            draining=self._draining.is_set(),
            queue=QueueStatistics(
                counts=self.watch.counts,
                busy={name.value: len(pool.busy) for name, pool in components.pools.items()},
                places={name.value: pool.size for name, pool in components.pools.items()},
                gaps=sum(proof.missing for proof in self._proofs),
                running=Counter(stage for stage, _ in components.pipeline.runner.running.values() if stage),
            ),
            chains={one.name: self._chain_statistics(one) for one in components.endpoints},
            cores=components.core_health.statistics(),
            cursors={one.contract.name: one.next_block for one in self._ranges if one.next_block is not None},
            ciphertexts=components.ciphertext_statistics(),
            transactions={
                name: one.statistics()
                for name, one in self._managers.items()
                if isinstance(one.wallet, Wallet)
            },
            stalled=components.heartbeats.stalled(),
            paused=tuple(one for pool in components.pools.values() for one in pool.paused.values()),
            http=None if self.http_serving is None else self.http_serving[0].statistics(),
            journal=JournalStatistics(self.watch.free, membership.gathering.members, membership.token),
        )

    def _held_up(self) -> Iterator[Progress]:
        """Yield what is held up on its way to an answer, and on the way of each chain to a block."""
        yield self.components.pipeline.runner.progress
        yield from (one.progress for one in self._managers.values())

    def _chain_statistics(self, endpoint: Endpoint) -> ChainStatistics:
        known, now = self.components.chain_contexts.get(endpoint.chain_id), self.components.ports.wall()
        head = finalized = HeadTracker()
        if known is not None and known.endpoint is endpoint:
            head, finalized = known.head, known.finalized
        return ChainStatistics(
            head.number,
            head.timestamp,
            _age(head.timestamp, now),
            _age(finalized.timestamp, now),
            max(0, endpoint.links - 1),
            endpoint.chain_id,
            finalized.number,
            endpoint.in_use,
        )

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run until drained. Raises what no stage may raise, as a group; StartRefused when running would be unsafe.

        Cancellation: everything stops where it is; the journal goes on from there.
        """
        membership = self.components.membership
        async with trio.open_nursery() as services:
            self._start_services(services)
            with self._txmanagers_scope:
                async with trio.open_nursery() as txmanagers:
                    self._start_managers(txmanagers)
                    async with trio.open_nursery() as pools:
                        self._start_pools(pools)
                        async with serving(self.http_serving), trio.open_nursery() as reading:
                            self._start_reading(reading)
                            _start_dispatchers(reading, self.components)
                            task_status.started()
                            await self._draining.wait()
                            reading.cancel_scope.cancel()
                        membership.stop_waiting()
                        pools.cancel_scope.cancel()
                    await membership.give_rows_back()
                    self.components.http_decryptions.close()
                    for manager in self._managers.values():  # each ends once it has nothing left
                        manager.closing.set()
                        manager.wake.notify()
                    grace = 0.0 if membership.has_successor else self.components.settings.work.drain_grace
                    txmanagers.cancel_scope.deadline = trio.current_time() + grace
            services.cancel_scope.cancel()
        self._drained.set()

    def _start_services(self, nursery: trio.Nursery) -> None:
        """Start what every process does, and the tasks that one of them does for all."""
        components = self.components
        nursery.start_soon(self.hook.watch)
        nursery.start_soon(components.directory.run)
        if components.comparer is not None:
            nursery.start_soon(components.comparer.run)
        for chain_context in components.chain_contexts.values():
            nursery.start_soon(follow_heads, chain_context)
        watches = [ContractWatch(components, endpoint) for endpoint in components.endpoints]
        nursery.start_soon(wait_for_dependencies, components, watches, self._ready)
        for one in watches:
            nursery.start_soon(one.keep_looking)
        nursery.start_soon(keep_looking, self.watch.look)
        nursery.start_soon(keep_looking, HeldRequests(components, self._held_up).look)
        if isinstance(components.settings.storage.journal, PostgresAddress):
            nursery.start_soon(follow_pauses, components)
            nursery.start_soon(forget_ended, components.pipeline.runner, components.journal)
        nursery.start_soon(components.core_health.run)
        nursery.start_soon(show_alerts, components, self.foreign_transactions)
        hold = components.membership.hold
        if components.settings.storage.audit_log is not None:
            nursery.start_soon(hold, "audit", Auditing.of(components).run)
        nursery.start_soon(hold, "upkeep", partial(run_upkeep, components))

    def _start_managers(self, nursery: trio.Nursery) -> None:
        """Start one transaction manager per chain, or the shadow of one, in their nursery."""
        components = self.components
        if Role.SEND not in components.settings.work.roles:
            return
        for context in components.chain_contexts.values():
            name = f"{SENDS}{context.endpoint.chain_id} {checksum(components.tx_sender)}"
            nursery.start_soon(components.membership.hold, name, partial(self._manage, context))

    async def _manage(self, chain_context: ChainContext) -> None:
        """Run the transaction manager of one chain, or its shadow, until it is closed and has nothing left."""
        manager = self._managers[chain_context.name] = txmanager_of(self.components, chain_context)
        await run_txmanager(manager)

    def _start_pools(self, nursery: trio.Nursery) -> None:
        """Start the workers; those of an ordered pool once no other process can be at work on its rows."""
        components = self.components
        if Role.WORK not in components.settings.work.roles:
            return
        for pool in components.pools.values():
            run = partial(pool.run, components.pipeline.run, components.pipeline.outcomes.unexpected)
            if pool.name in IN_ORDER:
                nursery.start_soon(components.membership.hold, f"orders {pool.name}", run)
            else:
                nursery.start_soon(run)

    def _start_reading(self, nursery: trio.Nursery) -> None:
        """Start one task per contract with its proof of completeness; what another process reads has its head looked at only."""
        components = self.components
        for contract in watched_contracts(components):
            if Role.HEAR not in components.settings.work.roles:
                nursery.start_soon(follow_head, contract)
                continue
            reader = LogReader.of(contract)
            proof = Completeness(reader.ranges)
            self._ranges.append(reader.ranges)
            self._proofs.append(proof)
            name = f"reads {contract.endpoint.chain_id} {contract.name} {contract.tag}"
            nursery.start_soon(
                components.membership.hold,
                name,
                partial(_read, reader, proof),
                partial(follow_head, contract),
            )


def txmanager_of(components: Components, chain_context: ChainContext) -> TxManager:
    """Return the transaction manager of one chain; it broadcasts only while no other process can have taken over."""
    manager = TxManager(
        endpoint=TxEndpoint(
            chain_context.endpoint,
            chain_context.follower,
            chain_context.name,
            chain_context.traces,
            components.membership.is_valid,
            chain_context.confirmations,
            chain_context.replace_after,
            witnesses=chain_context.witnesses,
            leave=chain_context.endpoint.leave,
        ),
        journal=components.journal,
        wallet=components.sender,
        profile=components.profile,
        wake=chain_context.wake_up,
        settings=components.settings,
        ports=components.ports,
        on_event=components.on_event,
    )
    manager.beat = components.heartbeats.part(manager.name, chain_context.name)
    return manager


def _start_dispatchers(nursery: trio.Nursery, components: Components) -> None:
    """Start one dispatcher per pool, in the nursery that a drain ends first."""
    if Role.WORK not in components.settings.work.roles:
        return
    for pool in components.pools.values():
        if pool.name in IN_ORDER:
            nursery.start_soon(_dispatch_in_order, components, pool)
        else:
            beat = _beat_of(components, pool)
            nursery.start_soon(run_dispatcher, pool, components.membership, components.ports.wall, beat)


async def _dispatch_in_order(components: Components, pool: WorkerPool) -> None:
    """Dispatch the rows of an ordered pool once it has workers, until cancelled."""
    await pool.staffed.wait()
    await OrderedDispatcher(
        pool,
        components.journal,
        components.profile,
        components.ports.wall,
        components.pipeline.outcomes.end_destroyed,
        components.checker.contexts.is_destroyed,
        _beat_of(components, pool),
        components.membership.look_again,
    ).run()


def _beat_of(components: Components, pool: WorkerPool) -> Callable[[], None]:
    return components.heartbeats.part(f"dispatcher of {pool.name}", "journal")


async def _read(reader: LogReader, proof: Completeness) -> None:
    """Read a contract and prove that nothing was missed, until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(reader.run)
        nursery.start_soon(proof.run)


def _age(timestamp: float | None, now: float) -> float | None:
    return None if timestamp is None else max(0.0, now - timestamp)


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
    foreign_transactions = ShadowFindings() if settings.is_shadow else ForeignTransactions()
    waiters = HttpWaiters()
    table = GENERATIONS[settings.protocol.profile].table
    hook = EventHook(in_words_of(table, on_event), foreign_transactions, waiters)
    journal = settings.storage.journal
    async with (
        open_components(settings, ports or real_ports(), hook, waiters) as components,
        open_http_serving(components) as http,
    ):
        watch = JournalWatch(
            components.journal,
            components.ports.wall,
            components.board,
            components.heartbeats.part("journal", "journal"),
            path=journal if isinstance(journal, Path) else None,
        )
        connector = Connector(components, hook, watch, foreign_transactions, http)
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
