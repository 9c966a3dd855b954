"""A complete configuration for the tests of this room, and a way to load variations of it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kmsconn.config.settings import Settings
from kmsconn.config.sources import load_config
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.signing import PrivateKey

KEY = "4f3edf983ac636a65a842ce7c78d9aa706d3b113bce9c46f30d7d21715b23b1d"
OTHER_KEY = "6cbed15c793ce57650b9877cf6fa156fbef513c4e6134f022a85b1ffdd59b2a1"
ADDRESS = checksum(PrivateKey.parse(KEY).address)
OTHER_ADDRESS = checksum(PrivateKey.parse(OTHER_KEY).address)
ACL = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D"

COMPLETE: dict[str, Any] = {
    "gateway_url": "http://127.0.0.1:8546",
    "gateway_chain_id": 10901,
    "ethereum_url": "http://127.0.0.1:8545",
    "ethereum_chain_id": 11155111,
    "decryption_contract.address": "0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478",
    "gateway_config_contract.address": "0x94153006067B89399e059284f5a7Fe016940E332",
    "protocol_config_contract.address": "0x51f9AFBc89Ea792e1a21a12AB802ab58D4dbee83",
    "kms_generation_contract.address": "0x77389113d7000EcBCfc2bDed57202f5f46109934",
    "kms_core_endpoints": ["http://127.0.0.1:50051"],
    "host_chains": [{"url": "http://127.0.0.1:8545", "chain_id": 11155111, "acl_address": ACL}],
    "private_key": KEY,
}


def toml_text(value: Any) -> str:
    """Write a value as TOML."""
    if isinstance(value, list):
        return "[" + ", ".join(toml_text(one) for one in value) + "]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key} = {toml_text(one)}" for key, one in value.items()) + "}"
    return json.dumps(value)


def write_toml(folder: Path, changes: dict[str, Any] | None = None, mode: int = 0o600) -> Path:
    """Write the complete configuration with changes; None leaves an option out."""
    options = {**COMPLETE, **(changes or {})}
    path = folder / "kmsconn.toml"
    lines = [f"{key} = {toml_text(value)}" for key, value in options.items() if value is not None]
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(mode)
    return path


def load(
    folder: Path, changes: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> Settings:
    """Load the complete configuration with changes."""
    return load_config(write_toml(folder, changes), environ=environ or {})


def faults_of(
    folder: Path, changes: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> dict[str, Fault]:
    """Return the faults of a changed configuration by place."""
    try:
        load(folder, changes, environ)
    except ConfigError as error:
        return {fault.place: fault for fault in error.faults}
    return {}


def warnings_of(
    folder: Path, changes: dict[str, Any] | None = None, environ: dict[str, str] | None = None
) -> dict[str, Fault]:
    """Return the warnings of a changed configuration by place."""
    return {warning.place: warning for warning in load(folder, changes, environ).warnings}
