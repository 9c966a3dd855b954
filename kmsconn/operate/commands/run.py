"""``kmsconn run``: the connector as a process, with logging, signals and a monitoring port. Decides nothing about requests.

The first SIGTERM or SIGINT drains: nothing new is heard, what is answered is still included within ``drain_grace``. A second one ends at
once; the journal goes on from there.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import logging
import os
import random
import signal
import sys
from collections.abc import AsyncIterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, Final, Protocol

import attrs
import trio
from structlog.typing import FilteringBoundLogger

from kmsconn import __version__
from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.errors import JournalFailed, StartRefused
from kmsconn.ethereum.hexes import to_hex
from kmsconn.journal import queries
from kmsconn.model.alerts import Board
from kmsconn.model.events import AlertRaised, OnEvent, Severity
from kmsconn.model.life import State
from kmsconn.observe.logs import LibraryLogs, make_logger
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, make_app, open_server
from kmsconn.observe.status_site import StatusSite, make_status_site
from kmsconn.operate.commands.endings import ExitStatus
from kmsconn.operate.commands.observers import Observers, make_observers, open_traces
from kmsconn.operate.commands.starting_anew import StartingAnew
from kmsconn.operate.commands.validate import add_config_argument, config_file, summary
from kmsconn.operate.control.address import control_path
from kmsconn.transport.ports import Ports

if TYPE_CHECKING:
    from kmsconn.connector.connector import Connector
    from kmsconn.requests.components import Components

YOUNG_OBJECTS: Final = 20_000  # made and not freed, before a look; Python's own number is 2,000
LARGE_BLOCK: Final = 4 * 1024 * 1024
M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # malloc.h of glibc
EXAMPLES: Final = (
    "kmsconn run -c kmsconn.toml",
    "kmsconn run --network testnet    # the rest from KMS_CONNECTOR_… variables",
)


class Drainable(Protocol):
    """What signals do to a connector."""

    def drain(self) -> None:
        """Begin to end well."""
        ...

    def hurry(self) -> None:
        """End at once."""
        ...

    async def wait_ready(self) -> None:
        """Return once every dependency has answered."""
        ...


def configure(parser: argparse.ArgumentParser) -> None:
    """Describe the arguments."""
    add_config_argument(parser)
    parser.add_argument("-n", "--name", metavar="NAME", help="service name; overrides all other sources")


def execute(arguments: argparse.Namespace) -> int:
    """Run until drained. Raises ConfigError, StartRefused (in a group from inside the tree), or what crashed."""
    settings = load_config(
        config_file(arguments), environ=os.environ, network=arguments.network, service_name=arguments.name
    )
    log = make_logger(sys.stdout, settings.monitoring.log_level, settings.monitoring.log_format)
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


async def run(settings: Settings, log: FilteringBoundLogger, *, ports: Ports | None = None) -> None:
    """Run a connector under its signals and its monitoring port until it is drained; anew where its journal makes that necessary.

    Raises StartRefused, in groups. Cancellation: as ``open_connector``.
    """
    observers = make_observers(settings, log)
    site = make_status_site(observers.monitor, settings.monitoring, __version__)
    app = make_app(observers.monitor, Identity(settings.monitoring.service_name, __version__), status=site)
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT) as signals:
        async with open_server(app, settings.monitoring.monitoring_endpoint) as url:
            log.info("started", version=__version__, profile=settings.protocol.profile, monitoring=url)
            if site is not None:
                log.info("status page", url=f"{url}/status")
            log_settings(settings, log)
            anew = StartingAnew(
                log,
                Board(observers.on_event, trio.current_time),
                signals,
                random.random,
                lambda: observers.monitor.health().alerts,
            )
            async with open_traces(settings, ports, observers, log):
                surroundings = Surroundings(settings, ports, observers, site, signals)
                left = await anew.run(partial(run_once, surroundings, anew, log))
    log.info("ended", **(left or {}))


@attrs.frozen
class Surroundings:
    """What a connector runs in, and what outlasts it where it is started anew."""

    settings: Settings
    ports: Ports | None
    observers: Observers
    site: StatusSite | None
    signals: AsyncIterator[int]


async def run_once(
    surroundings: Surroundings, anew: StartingAnew, log: FilteringBoundLogger
) -> Mapping[str, int]:
    """Run one connector until it is drained; return what it leaves."""
    from kmsconn.connector.connector import open_connector

    settings, monitor, site = surroundings.settings, surroundings.observers.monitor, surroundings.site
    on_event = surroundings.observers.on_event
    async with open_connector(settings, ports=surroundings.ports, on_event=on_event) as connector:
        anew.reached()
        monitor.watch(connector.statistics)
        log.info("wallet", address=to_hex(connector.components.tx_sender), mode=settings.work.mode)
        async with (
            journal_lookup(site, connector),
            control_socket(connector, on_event, monitor),
            trio.open_nursery() as nursery,
        ):
            nursery.start_soon(announce_ready, connector, log)
            nursery.start_soon(heed_signals, surroundings.signals, connector, log)
            nursery.start_soon(anew.forget)
            await connector.wait_drained()
            nursery.cancel_scope.cancel()
        return await what_is_left(connector.components)


async def what_is_left(components: Components) -> Mapping[str, int]:
    """Return how many requests the journal keeps for the next start, by how far they are; empty where it cannot be read."""
    with suppress(JournalFailed):
        states = (await components.journal.run(queries.counts, components.ports.wall())).states
        return {
            name: sum(rows for (_, one), rows in states.items() if one is state)
            for name, state in _LEFT.items()
        }
    return {}


_LEFT: Final = {
    "pending": State.PENDING,
    "answered": State.ANSWERED,
    "signed": State.SIGNED,
    "included": State.INCLUDED,
}


@asynccontextmanager
async def control_socket(connector: Connector, on_event: OnEvent, monitor: Monitor) -> AsyncIterator[None]:
    """Serve the control socket while the block lasts; without one the connector runs all the same, and says so."""
    from kmsconn.operate.control.live import live_commands
    from kmsconn.operate.control.server import context_of, open_control
    from kmsconn.operate.control.table import COMMANDS

    settings = connector.components.settings
    commands = {**COMMANDS, **live_commands(monitor, settings.monitoring.service_name, __version__)}
    async with AsyncExitStack() as stack:
        try:
            await stack.enter_async_context(
                open_control(context_of(connector, monitor.health), control_path(settings), commands)
            )
        except StartRefused as error:
            words = f"{error}; `kmsconn status` and the other commands cannot reach this process until then"
            on_event(AlertRaised("control socket", "unavailable", words, Severity.WARNING))
        yield


@asynccontextmanager
async def journal_lookup(site: StatusSite | None, connector: Connector) -> AsyncIterator[None]:
    """Let the status page find requests in the journal while the block lasts."""
    from kmsconn.operate.control.live import find_timeline
    from kmsconn.operate.control.server import context_of

    if site is not None:
        site.lookup = partial(find_timeline, context_of(connector))
    try:
        yield
    finally:
        if site is not None:
            site.lookup = None


def log_settings(settings: Settings, log: FilteringBoundLogger) -> None:
    """Log what the sources amount to, without secrets."""
    for line in summary(settings):
        name, _, value = line.partition("  ")
        log.info("setting", name=name, value=value.strip())


async def announce_ready(connector: Drainable, log: FilteringBoundLogger) -> None:
    """Log once that every dependency has answered."""
    await connector.wait_ready()
    log.info("ready")


async def heed_signals(signals: AsyncIterator[int], connector: Drainable, log: FilteringBoundLogger) -> None:
    """Drain at the first signal, hurry at every later one. Ends only by cancellation."""
    draining = False
    async for number in signals:
        log.warning("ending at once" if draining else "draining", signal=signal.Signals(number).name)
        (connector.hurry if draining else connector.drain)()
        draining = True
