"""The vectors of fhevm 0.15: messages, and about keys one contract at one address, a fresh key and the migration of that key."""

from __future__ import annotations

from functools import cache
from typing import Any

import betterproto2

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.config import parties
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import parse_address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.fhevm.profile import Fhevm
from tests.vectors import load_later, vector_settings


def messages() -> dict[str, Any]:
    """Return the messages of the Core by their names."""
    found: dict[str, Any] = load_later()["protobuf"]
    return found


def kind_of(name: str) -> type[betterproto2.Message]:
    """Return the class of a message."""
    found: type[betterproto2.Message] = getattr(kms, messages()[name]["message"].removeprefix("kms.v1."))
    return found


def wire(name: str) -> bytes:
    """Return the bytes of a message."""
    return bytes.fromhex(messages()[name]["hex"])


load = load_later
CASES = ("fresh", "migration")
SIGNER = parse_address("0x7E5F4552091A69125d5DfCb7b8C2659029395Bdf")
"""Of the key that is the integer 1."""


@cache
def profile(**changes: Any) -> Fhevm:
    """Return the profile of a node of the vectors' network."""
    domain = load()["eip712"]["domain"]
    address = parse_address(domain["verifyingContract"])
    at_home: dict[str, Any] = {
        "ethereum": parties.Chain(domain["chainId"], ("http://ethereum.test:8545",)),
        "kms_generation_contract": parties.Contract(address, domain["name"]),
        "protocol_config_contract": parties.Contract(address, "ProtocolConfig"),
    }
    return Fhevm(vector_settings(**(at_home | changes)))


def ids(case: str) -> tuple[int, int, int]:
    """Return the ids of a case: preparation, key, existing key."""
    found = load()["ids"][case]
    return int(found["prep"], 16), int(found["key"], 16), int(found["ex"], 16)


def log(name: str) -> Log:
    """Return a log of the vectors, as if it stood somewhere."""
    found = load()["logs"][name]
    topics = tuple(from_hex(topic) for topic in found["topics"])
    address = parse_address(load()["eip712"]["domain"]["verifyingContract"])
    return Log(address, topics, from_hex(found["data"]), 7, b"\x07" * 32, b"\x08" * 32, 0)


def message(name: str) -> bytes:
    """Return the bytes of a message of the Core."""
    return bytes.fromhex(load()["protobuf"][name]["hex"])
