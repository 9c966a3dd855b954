"""Our Solidity contracts: their creation code and the calls that turn their knobs. Sends nothing."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from kmsconn.emulator.contracts.gateway_config import Committee, EmulatedCoprocessor, Material
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address

ARTIFACTS = Path(__file__).parents[3] / "contracts_abi" / "solidity" / "artifacts.json"
ACTIVE = 3
"""The state of a context that may be used."""
EPOCH_ACTIVE = 2


@cache
def artifact(name: str) -> tuple[Abi, bytes]:
    """Return a contract's ABI and its creation code without arguments."""
    found = json.loads(ARTIFACTS.read_text())["contracts"][name]
    return Abi.from_items(found["abi"]), bytes.fromhex(found["bytecode"])


def creation(name: str, *addresses: Address) -> bytes:
    """Return the creation code of a contract whose constructor takes only addresses."""
    return artifact(name)[1] + b"".join(each.rjust(32, b"\0") for each in addresses)


def turn(name: str, knob: str, *values: Any) -> bytes:
    """Return the call that turns a knob."""
    return artifact(name)[0].function(knob).encode(*values)


def gateway_context(context_id: int, committee: Committee) -> bytes:
    """Return the call that makes a context the current one on the Gateway."""
    limits = committee.thresholds
    numbers = (limits.mpc, limits.public, limits.user, limits.kms_gen)
    return turn("GatewayConfig", "setContext", context_id, _nodes(committee), numbers)


def ethereum_context(context_id: int, committee: Committee, state: int = ACTIVE) -> bytes:
    """Return the call that gives a context its state on Ethereum."""
    return turn("ProtocolConfig", "setContext", context_id, _nodes(committee), state)


def ethereum_thresholds(context_id: int, committee: Committee) -> bytes:
    """Return the call that gives a context its thresholds on Ethereum."""
    limits = committee.thresholds
    numbers = (limits.public, limits.user, limits.kms_gen, limits.mpc)
    return turn("ProtocolConfig", "setThresholds", context_id, numbers)


def coprocessors(members: Iterable[EmulatedCoprocessor], threshold: int) -> bytes:
    """Return the call that replaces the registered coprocessors."""
    return turn("GatewayConfig", "setCoprocessors", tuple(each.as_abi for each in members), threshold)


def commit(materials: Sequence[Material]) -> bytes:
    """Return the call that lets ciphertexts have been committed."""
    return turn("Decryption", "commit", tuple(each.as_abi for each in materials))


def _nodes(committee: Committee) -> tuple[tuple[Any, ...], ...]:
    return tuple(node.as_abi for node in committee.nodes)
