"""The connector that is measured, as a process: this checkout's, another's, or one of somebody else. Knows no connector from inside.

A recipe is a command and, where that connector reads no configuration of ours, a template of its file. In both, ``{name}`` stands for
what the emulator wrote: ``{config}`` the TOML file as a whole, ``{out}`` the file made from the template, and each option by its name
with ``_`` for a dot (``{gateway_url}``, ``{decryption_contract_address}``, …), a list as its first element; for a chain
``{gateway_http_url}`` too. The environment has every option under its 0.14 name and in its form (fhevm-0.14.md, section 9):
``KMS_CONNECTOR_GATEWAY_URL`` is one ``http`` URL, and so on. What the caller's environment says beside that, a database for one, stays.
"""

from __future__ import annotations

import json
import os
import re
import shlex
import sys
import tomllib
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import attrs

from bench.processes import running

OURS = f"{shlex.quote(sys.executable)} -m kmsconn.cli.main run -c {{config}}"
STRAIGHT = f"{shlex.quote(sys.executable)} -m bench.straight {{config}}"
PREFIX = "KMS_CONNECTOR_"
GRACE = 30.0
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
        return kept | {
            "PYTHONPATH": self.python_path,
            "PYTHONSAFEPATH": "1",
        }  # the folder we stand in counts less


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


@asynccontextmanager
async def open_connectors(
    recipe: Recipe, config: Path, processes: int, journal: str | None
) -> AsyncIterator[list[int]]:
    """Start several of one journal, each with its log beside the configuration; gives their process ids."""
    async with AsyncExitStack() as stack:
        configs = [of_process(config, number, journal) for number in range(processes)]
        yield [await stack.enter_async_context(open_connector(recipe, one, log_of(one))) for one in configs]


def log_of(config: Path) -> Path:
    """Return where the process with this configuration writes."""
    return config.with_suffix(".log")


def of_process(config: Path, number: int, journal: str | None) -> Path:
    """Return the configuration of one of several processes: the emulator's, with the shared journal and a monitoring port of its own."""
    if journal is None:
        return config
    own = {"journal": journal, "monitoring_endpoint": "127.0.0.1:0"}
    out = config.with_name(f"connector-{number}.toml")
    kept = [
        line for line in config.read_text(encoding="utf-8").splitlines() if line.partition(" =")[0] not in own
    ]
    socket = {"control_socket": str(config.with_name(f"{number}.sock"))}
    lines = [f"{name} = {json.dumps(value)}" for name, value in (own | socket).items()]
    out.write_text("\n".join([*kept, *lines, ""]), encoding="utf-8")
    return out


@asynccontextmanager
async def open_connector(recipe: Recipe, config: Path, log: Path) -> AsyncIterator[int]:
    """Start it with dependencies' configuration; gives its process id."""
    options = options_of(config)
    out = config.with_suffix(".conf")
    values = names(options) | {"config": str(config), "out": str(out)}
    if recipe.template is not None:
        out.write_text(fill(recipe.template, values), encoding="utf-8")
    command = [fill(word, values) for word in shlex.split(recipe.command)]
    environment = recipe.environment(options)
    async with running(command, log, grace=GRACE, environment=environment) as process:
        yield process.pid
