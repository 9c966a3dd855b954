"""``kmsconn run``: the connector as a process, with logging, signals and a monitoring port. Decides nothing about requests.

The first SIGTERM or SIGINT drains: nothing new is heard, what is answered is still included within ``drain_grace``. A second one ends at
once; the journal goes on from there.

When what a connector knew of its journal does not hold any more (``errors.StartAgain``), it starts anew in the same process: as after a
restart, without the wait for a supervisor. The database may be out of reach just then, so a refused start is tried again for a while,
unless it was the first one. A server that does not answer is waited for at any start, as every dependency is. A journal whose tables have
become too new for this program ends it at once.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import math
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, TypeVar

import attrs
import trio

from kmsconn import __version__
from kmsconn.config.settings import MonitoringSettings, Settings
from kmsconn.config.sources import load_config
from kmsconn.errors import (
    JournalFailed,
    JournalTooNew,
    JournalUnreachable,
    JournalWentBack,
    OutcomeUnknown,
    StartAgain,
    StartRefused,
)
from kmsconn.ethereum.hexes import to_hex
from kmsconn.extras import ExtraMissing
from kmsconn.journal import queries
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertCleared, AlertRaised, Event, OnEvent
from kmsconn.model.life import State
from kmsconn.observe.logs import LEVELS, LibraryLogs, LineLog, line_takes
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, StatusSite, make_app, make_status_site, open_server
from kmsconn.observe.tally import EventTakers
from kmsconn.observe.tracing import Tracing, open_tracing
from kmsconn.operate.commands.command import CliCommand, ExitStatus, leaves
from kmsconn.operate.commands.configuration import add_config_argument, config_file, summary
from kmsconn.operate.control.server import control_path
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.ports import Ports
from kmsconn.transport.waiting import Backoff

if TYPE_CHECKING:
    from kmsconn.connector.connector import Connector
    from kmsconn.requests.components import Components

T = TypeVar("T")

BETWEEN_STARTS: Final = Backoff(first=0.2, cap=5.0)
STARTED_WELL: Final = 60.0  # seconds after which a connector that begins anew counts as the first one
PATIENCE: Final = 60.0  # seconds for which a start that is refused is tried again
SHOWN: Final = 300.0  # seconds for which it is told that the connector was started anew
ENDING: Final = (signal.SIGTERM, signal.SIGINT)
TOLD_EACH: Final = 12  # starts for which a journal is waited that are told once: about a minute
YOUNG_OBJECTS: Final = 20_000  # made and not freed, before a look; Python's own number is 2,000
LARGE_BLOCK: Final = 4 * 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    parser.add_argument("-n", "--name", metavar="NAME", help="service name; overrides all other sources")


def execute(arguments: argparse.Namespace) -> int:
    """Run until drained. Raises ConfigError, StartRefused (in a group from inside the tree), or what crashed."""
    settings = load_config(
        config_file(arguments), environ=os.environ, network=arguments.network, service_name=arguments.name
    )
    log = LineLog(sys.stdout, settings.monitoring.log_level, settings.monitoring.log_format)
    logging.basicConfig(level=logging.WARNING, handlers=[LibraryLogs(log.log)])
    for warning in settings.warnings:
        log.warning("configuration", place=warning.place, message=warning.message, remedy=warning.remedy)
    calm_collector()
    return_large_blocks()
    trio.run(partial(run, settings, log))
    return ExitStatus.WELL


def calm_collector() -> None:
    """Let Python look for cycles less often: what a request leaves is mostly gone by itself, and looking took 8 % of the time.

    For the whole process, so it is not for a connector inside another program.
    """
    gc.set_threshold(YOUNG_OBJECTS, *gc.get_threshold()[1:])


def return_large_blocks() -> None:
    """Have glibc return each block of ``LARGE_BLOCK`` bytes or more to the system once it is free; for the whole process, as above.

    By itself it keeps what is smaller than the largest block so far (to 32 MiB), and growing bodies leave holes there: under hostile
    buckets 90 MB more (bench.attacks). Another C library is left as it is.
    """
    with suppress(OSError, AttributeError, TypeError):
        mallopt = ctypes.CDLL(None).mallopt
        mallopt(M_MMAP_THRESHOLD, LARGE_BLOCK)
        mallopt(M_TRIM_THRESHOLD, 2 * LARGE_BLOCK)


async def run(settings: Settings, log: LineLog, *, ports: Ports | None = None) -> None:
    """Run a connector under its signals and its monitoring port until it is drained; anew where its journal makes that necessary.

    For the whole process: a signal that comes when the connector heeds none any more is ignored.
    Raises StartRefused, in groups. Cancellation: as ``open_connector``.
    """
    observers = Observers(settings.monitoring, log)
    site = make_status_site(observers.monitor, settings.monitoring, __version__)
    app = make_app(observers.monitor, Identity(settings.monitoring.service_name, __version__), status=site)
    for number in ENDING:  # the receiver gives what nobody has taken to the handlers that it found
        signal.signal(number, signal.SIG_IGN)
    with trio.open_signal_receiver(*ENDING) as signals:
        async with open_server(app, settings.monitoring.monitoring_endpoint) as url:
            log.info("started", version=__version__, profile=settings.protocol.profile, monitoring=url)
            if site is not None:
                log.info("status page", url=f"{url}/status")
            log_settings(settings, log)
            board = Board(observers.on_event, trio.current_time)
            async with open_traces(settings, ports, observers, log):
                surroundings = Surroundings(settings, ports, observers, site, signals, board, log)
                once, present = partial(run_once, surroundings), lambda: observers.monitor.health().alerts
                left = await until_drained(once, signals, board, log, present)
    log.info("ended", **(left or {}))


@attrs.frozen
class Surroundings:
    """What a connector runs in, and what outlasts it where it is started anew."""

    settings: Settings
    ports: Ports | None
    observers: Observers
    site: StatusSite | None
    signals: AsyncIterator[int]
    board: Board
    log: LineLog


async def until_drained(
    once: Callable[[], Awaitable[T]],
    signals: AsyncIterator[int],
    board: Board,
    log: LineLog,
    present: Callable[[], Iterable[AlertRaised]] = tuple,
) -> T | None:
    """Run a connector again and again; return what ``once`` returns when it has drained, None when a signal came between two.

    ``present``: all alerts that are shown. Raises what else ends a connector. Cancellation: as ``once``.
    """
    first, starts = -math.inf, 0
    while True:
        began = trio.current_time()
        try:
            return await once()
        except (StartAgain, StartRefused, BaseExceptionGroup) as error:
            causes, now = [*leaves(error)], trio.current_time()
            why = why_anew(causes, patient=now - first < PATIENCE)
            if why is None:
                raise
        if not starts or now - began >= STARTED_WELL:
            first, starts = now, 0
        starts += 1
        clear_others(board, present())
        tell_start(board, log, why, causes, starts)
        with trio.move_on_after(BETWEEN_STARTS.seconds(starts - 1, random.random())):  # noqa: S311 - jitter
            await anext(signals)  # nothing runs that would heed it
            return None


def why_anew(causes: Sequence[BaseException], *, patient: bool) -> BaseException | None:
    """Return what a connector that ended is to be started anew for; None where it is not."""
    if not all(isinstance(one, (StartAgain, StartRefused, JournalFailed)) for one in causes):
        return None
    if any(isinstance(one, JournalTooNew) for one in causes):
        return None
    again = [one for one in causes if isinstance(one, (StartAgain, JournalUnreachable))]
    return (again or causes)[0] if again or patient else None


def clear_others(board: Board, present: Iterable[AlertRaised]) -> None:
    """Clear the alerts of the connector that has ended: nobody else would, and the next one raises what still holds."""
    for alert in present:
        if (alert.dependency, alert.cause) not in board:
            board.on_event(AlertCleared(alert.dependency, alert.cause))


def tell_start(
    board: Board, log: LineLog, why: BaseException, causes: Sequence[BaseException], starts: int
) -> None:
    """Tell that a connector is started anew, or that the journal is waited for; ``starts`` since it last ran for long."""
    if any(isinstance(one, (JournalUnreachable, OutcomeUnknown)) for one in causes):
        if starts % TOLD_EACH == 1:
            log.warning("waiting for the journal", reason=str(why), starts=starts)
        board.set("unwritable", "journal", str(why))
        return
    cause = "journal-went-back" if any(isinstance(one, JournalWentBack) for one in causes) else "lease-lost"
    log.warning("starting anew", reason=str(why), starts=starts)
    board.set(cause, "membership", f"the connector was started anew: {why}")


async def forget_starts(board: Board) -> None:
    """Clear the alerts about starts once the connector has run for a while."""
    await trio.sleep(SHOWN)
    for alert in board:
        board.set(alert.cause, alert.dependency, None)


async def run_once(surroundings: Surroundings) -> Mapping[str, int]:
    """Run one connector until it is drained; return what it leaves."""
    from kmsconn.connector.connector import open_connector

    settings, observers = surroundings.settings, surroundings.observers
    board, log = surroundings.board, surroundings.log
    async with open_connector(settings, ports=surroundings.ports, on_event=observers.on_event) as connector:
        board.set("unwritable", "journal", None)
        observers.monitor.watch(connector.statistics)
        log.info("wallet", address=to_hex(connector.components.tx_sender), mode=settings.work.mode)
        async with open_to_operators(surroundings, connector), trio.open_nursery() as nursery:
            nursery.start_soon(announce_ready, connector, log)
            nursery.start_soon(heed_signals, surroundings.signals, connector, log)
            nursery.start_soon(forget_starts, board)
            await connector.wait_drained()
            nursery.cancel_scope.cancel()
        return await what_is_left(connector.components)


async def what_is_left(components: Components) -> Mapping[str, int]:
    """Return how many requests the journal keeps for the next start, by how far they are; empty where it cannot be read."""
    with suppress(JournalFailed):
        states = (await components.journal.run(queries.counts, components.ports.wall())).states.items()
        return {state.value: sum(rows for (_, one), rows in states if one is state) for state in _LEFT}
    return {}


_LEFT: Final = (State.PENDING, State.ANSWERED, State.SIGNED, State.INCLUDED)


@asynccontextmanager
async def open_to_operators(surroundings: Surroundings, connector: Connector) -> AsyncIterator[None]:
    """Serve the control socket, and let the status page find requests in the journal, while the block lasts.

    Without a control socket the connector runs all the same, and says so.
    """
    from kmsconn.operate.control.explaining import find_timeline, live_commands
    from kmsconn.operate.control.server import COMMANDS as CONTROL
    from kmsconn.operate.control.server import context_of, open_control

    settings, observers, site = surroundings.settings, surroundings.observers, surroundings.site
    context = context_of(connector, observers.monitor.health)
    live = live_commands(observers.monitor, settings.monitoring.service_name, __version__)
    async with AsyncExitStack() as stack:
        try:
            control = open_control(context, control_path(settings), {**CONTROL, **live})
            await stack.enter_async_context(control)
        except StartRefused as error:
            words = f"{error}; `kmsconn status` and the other commands cannot reach this process until then"
            observers.on_event(AlertRaised("control socket", "unavailable", words))
        if site is not None:
            site.lookup = partial(find_timeline, context)
            stack.callback(setattr, site, "lookup", None)
        yield


def log_settings(settings: Settings, log: LineLog) -> None:
    """Log what the sources amount to, without secrets."""
    for line in summary(settings):
        name, _, value = line.partition("  ")
        log.info("setting", name=name, value=value.strip())


async def announce_ready(connector: Connector, log: LineLog) -> None:
    """Log once that every dependency has answered."""
    await connector.wait_ready()
    log.info("ready")


async def heed_signals(signals: AsyncIterator[int], connector: Connector, log: LineLog) -> None:
    """Drain at the first signal, hurry at every later one. Ends only by cancellation."""
    draining = False
    async for number in signals:
        log.warning("ending at once" if draining else "draining", signal=signal.Signals(number).name)
        (connector.hurry if draining else connector.drain)()
        draining = True


# --- what hears its events


class Observers:
    """Hands each event to everybody who listens, the log last: its lines name the span that the event ended."""

    def __init__(self, settings: MonitoringSettings, log: LineLog) -> None:
        self.monitor = Monitor()
        self.tracing: Tracing | None = None
        """Begins with ``open_traces``."""
        is_traced = settings.tracing is not None
        self.on_event: OnEvent = EventTakers(
            *self.monitor.takes,
            dict.fromkeys(LEVELS, self._trace) if is_traced else {},
            line_takes(log, self._context if is_traced else None),
        ).on_event

    def _trace(self, event: Event) -> None:
        if self.tracing is not None:
            self.tracing.on_event(event)

    def _context(self, event: Event) -> Mapping[str, str]:
        """Return what a log line says of an event's trace; nothing where traces are off."""
        return {} if self.tracing is None else self.tracing.context(event)


@asynccontextmanager
async def open_traces(
    settings: Settings, ports: Ports | None, observers: Observers, log: LineLog
) -> AsyncIterator[None]:
    """Export traces while the block lasts, where a collector is named; an installation without the extra says so and goes on."""
    async with AsyncExitStack() as stack:
        tracing = open_tracing(settings, ports or real_ports(), observers.on_event)
        try:
            observers.tracing = await stack.enter_async_context(tracing)
        except ExtraMissing as error:  # the services of 0.14 have the variables set too, which must keep no connector from starting
            log.warning("traces are off", reason=str(error))
        yield
    if observers.tracing is not None and observers.tracing.lost:
        log.warning("spans lost", spans=observers.tracing.lost)


COMMANDS: Final = {"run": CliCommand(configure, execute)}
