"""Where settings come from: one TOML file, then the environment, then files that hold secrets. Later wins; all faults at once.

Reads files, writes none, and changes nothing. No value of a secret and no URL stands in a fault or a warning.
"""

from __future__ import annotations

import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from kmsconn.config import presets
from kmsconn.config.assembly import assemble
from kmsconn.config.findings import Findings, Given
from kmsconn.config.keyfiles import warn_if_open
from kmsconn.config.options import KNOWN_NAMES, OPTIONS, PREFIX, REQUIRED, environment_name
from kmsconn.config.settings import Settings
from kmsconn.config.structuring import structure
from kmsconn.config.wallets import find_wallet
from kmsconn.errors import ConfigError

# Kubernetes puts these into every pod beside a Service named kms-connector or kms-connector-…: they are not meant for us.
_SERVICE_LINK = re.compile(
    r".*(_SERVICE_HOST|_SERVICE_PORT(_\w+)?|_PORT|_PORT_\d+_(TCP|UDP|SCTP)(_(PROTO|PORT|ADDR))?)"
)


def load_config(
    path: str | os.PathLike[str] | None = None, *, environ: Mapping[str, str], network: str | None = None
) -> Settings:
    """Return the settings that the defaults, ``network``, the file at ``path`` and ``environ`` give together; later wins.

    ``network`` is ``testnet``, ``mainnet`` or ``devnet``: a known deployment's chain ids and addresses.
    What was accepted without effect, or is unsafe, stands in ``Settings.warnings``. Raises ConfigError with every fault at once.
    Repeating: reads again, changes nothing.
    """
    findings = Findings()
    known = presets.find_network(network, findings)
    if known is not None:
        findings.take(presets.preset(known))
    if path is not None:
        document = read_toml(Path(path), findings)
        if findings.faults:  # what a file that cannot be read would have said is not missing
            raise ConfigError(tuple(findings.faults))
        findings.take(document)
    findings.take(dict(read_environment(environ)))
    if known is not None:
        presets.complete(known, findings)
    values = _structured(findings)
    if known is not None:
        presets.compare(values, known, findings)
    wallet = find_wallet(values, findings, environ)
    settings = assemble(values, wallet, findings)
    if findings.faults or settings is None:
        raise ConfigError(tuple(findings.faults))
    return settings


def read_toml(path: Path, findings: Findings) -> dict[str, Given]:
    """Return the values of a file by dotted name; a file that cannot be read is a fault."""
    try:
        document = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        findings.fault(str(path), f"cannot be read: {error.strerror}")
        return {}
    except UnicodeDecodeError:
        findings.fault(str(path), "is not UTF-8 text")
        return {}
    except tomllib.TOMLDecodeError as error:
        findings.fault(str(path), f"is not TOML: {_position_only(error)}")
        return {}
    if {"private_key", "mnemonic"} & document.keys():
        warn_if_open(path, findings)
    return {name: Given(value, name, name) for name, value in _flattened("", document)}


def _position_only(error: tomllib.TOMLDecodeError) -> str:
    """Return where the syntax is wrong, without the parser's quotations of a text that may hold a secret."""
    found = re.search(r"\(at [^)]*\)$", str(error))
    return f"its syntax is wrong {found[0]}" if found else "its syntax is wrong"


def _flattened(prefix: str, table: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for key, value in table.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict) and name not in OPTIONS:
            yield from _flattened(f"{name}.", value)
        else:
            yield name, value


def read_environment(environ: Mapping[str, str]) -> Iterator[tuple[str, Given]]:
    """Yield the variables that begin with the prefix, by dotted name."""
    ours = {environment_name(name) for name in KNOWN_NAMES}
    for variable in sorted(environ):
        if variable.startswith(PREFIX) and (variable in ours or not _SERVICE_LINK.fullmatch(variable)):
            name = variable.removeprefix(PREFIX).lower().replace("__", ".")
            yield name, Given(environ[variable], variable, name)


def _structured(findings: Findings) -> dict[str, Any]:
    """Return every option's typed value, or its default; faulty ones are noted and absent, as None."""
    values: dict[str, Any] = {}
    for name, option in OPTIONS.items():
        given = findings.given.get(name)
        if given is not None:
            values[name] = structure(given.value, option.type, given.place, findings.faults)
        elif option.default is REQUIRED:
            findings.fault(name, "is required", f"set it in the file, or {option.environment}")
            values[name] = None
        else:
            values[name] = option.default
    return values
