"""The contracts of generation 0.14 as ABI objects, read once from the package's copy. Never asks a chain."""

from __future__ import annotations

from kmsconn.ethereum.abi import Abi, Error, Event
from kmsconn.protocols.published import as_contracts, read_groups, union_of_errors

_groups = read_groups("fhevm-0.14")
CONTRACTS: dict[str, Abi] = as_contracts(_groups["contracts"])
"""Every contract by its name."""

DECRYPTION = CONTRACTS["Decryption"]
GATEWAY_CONFIG = CONTRACTS["GatewayConfig"]
KMS_GENERATION = CONTRACTS["KMSGeneration"]
PROTOCOL_CONFIG = CONTRACTS["ProtocolConfig"]
ACL = CONTRACTS["ACL"]
ERC1271 = CONTRACTS["IERC1271"]

ALL_ERRORS: dict[bytes, Error] = union_of_errors(CONTRACTS.values())
"""Errors of all contracts by selector: an error of a called contract comes through unchanged (annex A)."""

LATER_EVENTS: dict[bytes, Event] = as_contracts(_groups["later"])["Decryption"].events_by_topic
"""Request events of the next generation by topic0: they name the handles only, and stand beside the others (annex C)."""
