"""Golden values of the first generation, read once; ``PROVENANCE.md`` says where they are from and what they prove."""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from kmsconn.config.description import Secret
from kmsconn.config.parties import Chain, Contract
from kmsconn.config.settings import Settings
from kmsconn.ethereum.abi import Domain, Log
from kmsconn.ethereum.addresses import Address, parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.model.life import Ciphertext
from tests import vectors

HERE = Path(__file__).parent
ABI_SOURCE = HERE.parents[1] / "contracts_abi" / "httpz-rc7.json"
REVISIONS = ("bytes32", "uint256")
BIG_EXPANDED = 3


@cache
def load() -> dict[str, Any]:
    """Return all vectors of the first generation; do not change them."""
    content: dict[str, Any] = json.loads((HERE / "httpz-rc7.json").read_text())
    return content


@cache
def abi_source() -> dict[str, Any]:
    """Return the ABI file with the vectors of the specification's annex A; do not change it."""
    content: dict[str, Any] = json.loads(ABI_SOURCE.read_text())
    return content


def annex() -> dict[str, Any]:
    """Return the vectors of the ABI file."""
    found: dict[str, Any] = abi_source()["vectors"]
    return found


def exchanges(group: str) -> list[tuple[str, dict[str, Any]]]:
    """Return (revision, exchange) for a group of named exchanges such as ``public_decryption``."""
    return [(revision, entry) for revision in REVISIONS for entry in load()[revision][group]]


def name_of(value: Any) -> str | None:
    """Name a parameter of a test: an exchange by its name, a revision by itself."""
    return str(value["name"]) if isinstance(value, dict) and "name" in value else None


def exchange(revision: str, group: str, name: str) -> dict[str, Any]:
    """Return one exchange."""
    (found,) = [entry for entry in load()[revision][group] if entry["name"] == name]
    return dict(found)


def logs(value: Any) -> Iterator[dict[str, Any]]:
    """Yield every log that stands anywhere in a value."""
    if isinstance(value, dict):
        if "topics" in value and "data" in value:
            yield value
        for part in value.values():
            yield from logs(part)
    elif isinstance(value, list):
        for part in value:
            yield from logs(part)


def read_log(log: dict[str, Any]) -> Log:
    """Return a log as decoded from JSON-RPC."""
    return vectors.log_of({"log": log})


def log_of(entry: dict[str, Any]) -> Log:
    """Return the request's log of an exchange."""
    return read_log(entry["request"]["log"])


def ciphertext(handle: bytes) -> Ciphertext:
    """Return the object of a handle as the Core gets it."""
    (found,) = [entry for entry in load()["objects"] if from_hex(entry["handle"]) == handle]
    return Ciphertext(handle, from_hex(found["object"]), BIG_EXPANDED)


def address(name: str) -> Address:
    """Return the address of a contract (``DecryptionManager``, ``HTTPZ``, ``KeyManager``)."""
    return parse_address(load()["addresses"][name])


def node(number: int) -> dict[str, Any]:
    """Return the keys and addresses of a KMS node, counted from 1."""
    found: dict[str, Any] = load()["keys"]["kms_nodes"][number - 1]
    return found


def domain(name: str = "DecryptionManager") -> Domain:
    """Return the EIP-712 domain of a contract."""
    found = load()["domains"][name]
    return Domain(
        found["name"], found["version"], found["chainId"], parse_address(found["verifyingContract"])
    )


def annex_domain() -> Domain:
    """Return the domain of the specification's own vectors."""
    found = annex()["domain"]
    return Domain(
        found["name"], found["version"], found["chainId"], parse_address(found["verifyingContract"])
    )


def settings(**changes: Any) -> Settings:
    """Return the settings of node 1 in the vectors' world: one gateway, chain 54321."""
    gateway = Chain(load()["about"]["chain"]["gateway_chain_id"], ("http://gateway.test:8545",))
    names = {name: load()["domains"][name] for name in ("DecryptionManager", "HTTPZ")}
    manager, httpz = (
        Contract(parse_address(one["verifyingContract"]), one["name"], one["version"])
        for one in names.values()
    )
    values: dict[str, Any] = {
        "gateway": gateway,
        "ethereum": gateway,
        "host_chains": (),
        "decryption_contract": manager,
        "gateway_config_contract": httpz,
        "protocol_config_contract": httpz,
        "kms_generation_contract": Contract(address("KeyManager"), "KeyManager"),
        "core_endpoints": ("http://core.test:50052",),
        "private_key": Secret(node(1)["tx_sender_private_key"]),
        "profile": "httpz-rc7",
    }
    return Settings.of(**(values | changes))
