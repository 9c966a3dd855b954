"""Our Solidity contracts: creation code, knobs, placing them at given addresses, and reading their slots. Sends no request."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

from kmsconn.chain.endpoint import Endpoint
from kmsconn.emulator.contracts import kms_generation as at
from kmsconn.emulator.contracts.gateway_config import Committee, EmulatedCoprocessor, Material
from kmsconn.emulator.dependencies import key_for
from kmsconn.ethereum.abi import Abi
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.ids import make_id
from kmsconn.protocols.queries import ContractQuery
from tests.real.anvil.world import OWNER, Place

ARTIFACTS = Path(__file__).parents[3] / "contracts_abi" / "solidity" / "artifacts.json"
ACTIVE = 3
"""The state of a context that may be used."""
EPOCH_ACTIVE = 2


@cache
def artifact(name: str) -> tuple[Abi, bytes]:
    """Return a contract's ABI and its creation code without arguments."""
    found = json.loads(ARTIFACTS.read_text())["contracts"][name]
    return Abi(found["abi"]), bytes.fromhex(found["bytecode"])


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


_COUNTERS = {at.PREP_COUNTER: at.PREP_TAG, at.KEY_COUNTER: at.KEY_TAG, at.CRS_COUNTER: at.CRS_TAG}
"""What the constructor of KMSGeneration stores."""


async def put_code(place: Place, target: Address, name: str, *others: Address) -> None:
    """Let a contract of ours, which knows these others, run at an address; what is stored there stays."""
    code_to_run = creation(name, key_for(OWNER).address, *others)
    (made,) = await place.owner.deploy(code_to_run)
    code = await place.rpc.call("eth_getCode", to_hex(made), "latest")
    await place.rpc.call("anvil_setCode", to_hex(target), code)


async def set_counters(place: Place, generation: Address) -> None:
    """Store what the constructor of KMSGeneration stores."""
    for slot, tag in _COUNTERS.items():
        words = (to_hex(slot.to_bytes(32)), to_hex(make_id(tag, 0).to_bytes(32)))
        await place.rpc.call("anvil_setStorageAt", to_hex(generation), *words)


T = TypeVar("T")


async def ask_slot(rpc: Endpoint, slot: ContractQuery[T]) -> T:
    """Return what a slot holds at the head."""
    return slot.understand(from_hex(await rpc.call(slot.method, *slot.parameters)))
