"""The connector that is measured, as a process: this checkout's, another's, or one of somebody else. Knows no connector from inside.

A recipe is a command and, where that connector reads no configuration of ours, a template of its file. In both, ``{name}`` stands for
what the emulator wrote: ``{config}`` the TOML file as a whole, ``{out}`` the file made from the template, and each option by its name
with ``_`` for a dot (``{gateway_url}``, ``{decryption_contract_address}``, …), a list as its first element; for a chain
``{gateway_http_url}`` too. The environment has every option under its 0.14 name and in its form (fhevm-0.14.md, section 9):
``KMS_CONNECTOR_GATEWAY_URL`` is one ``http`` URL, and so on. What the caller's environment says beside that, a database for one, stays.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tomllib
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from bench.processes import send

OURS = f"{shlex.quote(sys.executable)} -m kmsconn.operate.commands.main run -c {{config}}"
STRAIGHT = f"{shlex.quote(sys.executable)} -m bench.straight {{config}}"
PREFIX = "KMS_CONNECTOR_"
GRACE = 40.0
"""Seconds for the end after SIGTERM."""
_PLACE = re.compile(r"\{(\w+)\}")


@attrs.frozen
class Recipe:
    """How a connector is started. ``template`` is the text of its configuration file; ``python_path`` names another checkout."""

    command: str = OURS
    template: str | None = None
    python_path: str | None = None
    processes: int = 1
    postgresql: bool = False
    """Whether its journal is a PostgreSQL database, as more than one process needs."""

    def environment(self, options: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of its process; our own connector reads its file only."""
        if self.command in {OURS, STRAIGHT}:
            kept = {name: value for name, value in os.environ.items() if not name.startswith(PREFIX)}
        else:
            kept = {**os.environ, **variables(options)}
        if self.python_path is None:
            return kept
        # the folder we stand in counts less
        return kept | {"PYTHONPATH": self.python_path, "PYTHONSAFEPATH": "1"}


def options_of(config: Path) -> dict[str, Any]:
    """Return the options that the emulator wrote, flat: ``gateway_url``, ``decryption_contract.address``."""
    return dict(_flat(tomllib.loads(config.read_text(encoding="utf-8")), ""))


def _flat(table: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    for name, value in table.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield prefix + name, value


def variables(options: Mapping[str, Any]) -> dict[str, str]:
    """Return options as environment variables of 0.14: the names that it does not know it ignores."""
    return {
        PREFIX + name.replace(".", "__").upper(): _as_variable(name, value) for name, value in options.items()
    }


def _as_variable(name: str, value: Any) -> str:
    if name.endswith("_url"):
        return over_http(value)
    if name == "host_chains":
        return json.dumps([{**chain, "url": over_http(chain["url"])} for chain in value])
    return ",".join(value) if isinstance(value, list) else _plain(value)


def over_http(urls: str | list[str]) -> str:
    """Return the one URL that 0.14 takes for a chain, over HTTP: it speaks no websocket."""
    first = urls if isinstance(urls, str) else urls[0]
    return re.sub("^ws", "http", first)


def _plain(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def names(options: Mapping[str, Any]) -> dict[str, str]:
    """Return what may stand in a template, besides ``{config}`` and ``{out}``."""
    found = {name.replace(".", "_"): _first(value) for name, value in options.items()}
    urls = {name for name in found if name.endswith("_url")}
    http = {f"{name[:-4]}_http_url": over_http(found[name]) for name in urls}
    host = options.get("host_chains", [{}])[0]
    return found | http | {f"host_{name}": _first(value) for name, value in host.items()}


def _first(value: Any) -> str:
    return _first(value[0]) if isinstance(value, list) and value else _plain(value)


def fill(template: str, values: Mapping[str, str]) -> str:
    """Put values into a template; braces around anything else stay as they are."""
    return _PLACE.sub(lambda found: values.get(found[1], found[0]), template)


@attrs.define(eq=False)
class ConnectorProcess:
    """A process of the connector that can be ended and started again, with the same configuration and the same log."""

    recipe: Recipe
    config: Path
    log: Path = attrs.field(default=attrs.Factory(lambda self: log_of(self.config), takes_self=True))
    process: trio.Process | None = None

    @property
    def name(self) -> str:
        """The name by which it is known: that of its configuration's file."""
        return self.config.stem

    @property
    def pid(self) -> int | None:
        """Its process id while it runs."""
        process = self.process
        return None if process is None or process.returncode is not None else process.pid

    async def start(self) -> None:
        """Start it, in a session of its own."""
        options = options_of(self.config)
        command = self._command(options)
        with self.log.open("ab") as log:
            self.process = await trio.lowlevel.open_process(
                command,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self.recipe.environment(options),
                start_new_session=True,
            )

    def send(self, number: signal.Signals) -> None:
        """Send a signal to it and to what it has started."""
        if self.process is not None:
            send(self.process, number)

    async def end(self, number: signal.Signals) -> int | None:
        """Send a signal that ends it, and return the status with which it ended."""
        self.send(signal.SIGCONT)
        self.send(number)
        return None if self.process is None else await self.process.wait()

    def text(self) -> str:
        """Return all that it has logged, in all its starts."""
        return self.log.read_text(encoding="utf-8", errors="replace")

    def _command(self, options: Mapping[str, Any]) -> list[str]:
        """Write the file that another connector reads, and return the words of the command."""
        out = self.config.with_suffix(".conf")
        values = names(options) | {"config": str(self.config), "out": str(out)}
        if self.recipe.template is not None:
            out.write_text(fill(self.recipe.template, values), encoding="utf-8")
        return [fill(word, values) for word in shlex.split(self.recipe.command)]


async def end_all(processes: Sequence[ConnectorProcess]) -> None:
    """End processes at the same time, also when cancelled; kill what has not ended in time."""
    with trio.move_on_after(GRACE, shield=True):
        async with trio.open_nursery() as nursery:
            for one in processes:
                nursery.start_soon(one.end, signal.SIGTERM)
    for one in processes:
        one.send(signal.SIGKILL)


@asynccontextmanager
async def open_connectors(recipe: Recipe, configs: Iterable[Path]) -> AsyncIterator[list[ConnectorProcess]]:
    """Run one of each configuration while the block lasts, each with its log beside the configuration."""
    made = [ConnectorProcess(recipe, config) for config in configs]
    try:
        for one in made:
            await one.start()
        yield made
    finally:
        await end_all(made)  # noqa: ASYNC102 - shields itself, with a deadline


def log_of(config: Path) -> Path:
    """Return where the process with this configuration writes."""
    return config.with_suffix(".log")


def of_process(config: Path, number: int, journal: str | None) -> Path:
    """Return the configuration of one of several processes: the emulator's, with the shared journal, and a name and ports of its own."""
    if journal is None:
        return config
    out = config.with_name(f"connector-{number}.toml")
    own = {"journal": journal, "monitoring_endpoint": "127.0.0.1:0", "service_name": out.stem}
    kept = [
        line for line in config.read_text(encoding="utf-8").splitlines() if line.partition(" =")[0] not in own
    ]
    socket = {"control_socket": str(config.with_name(f"{number}.sock"))}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (own | socket).items()]
    out.write_text("\n".join([*kept, *lines, ""]), encoding="utf-8")
    return out


def add_connector(parser: argparse.ArgumentParser, computing: float) -> None:
    """Add what chooses the connector, and the Core's time for an answer, to a parser."""
    add = parser.add_argument
    add("--computing", type=float, default=computing, metavar="S", help=f"time of the Core ({computing})")
    add("--connector", default=OURS, metavar="COMMAND", help="another connector; see bench/connector.py")
    add("--config-template", type=Path, metavar="FILE", help="its configuration file, with places")
    add("--checkout", type=checkout, metavar="FOLDER", help="another checkout of kmsconn to run")
    add(
        "--processes",
        type=int,
        default=1,
        metavar="N",
        help="of the connector, on one PostgreSQL journal (1)",
    )
    add("--postgresql", action="store_true", help="a PostgreSQL journal for one process too")
    add("--ceiling", action="store_true", help="the least of a client instead; see bench/straight.py")


def checkout(text: str) -> Path:
    """Read the folder of a checkout. Raises ArgumentTypeError where kmsconn is not in it: another one would run in its place."""
    folder = Path(text).absolute()
    if not (folder / "kmsconn" / "__init__.py").is_file():
        raise argparse.ArgumentTypeError(f"{text} is no checkout of kmsconn")
    return folder


def recipe_of(arguments: argparse.Namespace) -> Recipe:
    """Return which connector is measured."""
    template = arguments.config_template
    return Recipe(
        STRAIGHT if arguments.ceiling else arguments.connector,
        None if template is None else template.read_text(encoding="utf-8"),
        None if arguments.checkout is None else str(arguments.checkout),
        arguments.processes,
        arguments.postgresql or arguments.processes > 1,
    )


def connector_name(arguments: argparse.Namespace) -> str:
    """Return what was measured."""
    if arguments.ceiling:
        return "straight client"
    return "kmsconn" if arguments.connector == OURS else str(arguments.connector)
