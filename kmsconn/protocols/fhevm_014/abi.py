"""The contracts of generation 0.14 as ABI objects, read once from the package's copy. Never asks a chain."""

from __future__ import annotations

import json
from importlib import resources
from typing import Any

from kmsconn.ethereum.abi import Abi, Error, Event

_FILE = "fhevm-0.14.json"


def _read() -> dict[str, dict[str, list[dict[str, Any]]]]:
    source = resources.files("kmsconn._generated") / "abi" / _FILE
    content: dict[str, dict[str, list[dict[str, Any]]]] = json.loads(source.read_text())
    return content


def _union(contracts: dict[str, Abi]) -> dict[bytes, Error]:
    return {
        selector: error for abi in contracts.values() for selector, error in abi.errors_by_selector.items()
    }


_content = _read()
CONTRACTS: dict[str, Abi] = {name: Abi.from_items(items) for name, items in _content["contracts"].items()}
"""Every contract by its name."""

DECRYPTION = CONTRACTS["Decryption"]
GATEWAY_CONFIG = CONTRACTS["GatewayConfig"]
KMS_GENERATION = CONTRACTS["KMSGeneration"]
PROTOCOL_CONFIG = CONTRACTS["ProtocolConfig"]
ACL = CONTRACTS["ACL"]
ERC1271 = CONTRACTS["IERC1271"]

ALL_ERRORS: dict[bytes, Error] = _union(CONTRACTS)
"""Errors of all contracts by selector: an error of a called contract comes through unchanged (annex A)."""

LATER_EVENTS: dict[bytes, Event] = Abi.from_items(_content["later"]["Decryption"]).events_by_topic
"""Request events of the next generation by topic0, known so that their coming can be told (annex C)."""
