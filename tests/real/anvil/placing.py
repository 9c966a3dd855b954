"""Puts our contracts at given addresses of an anvil, and other releases in their place. Sends no request and no reply."""

from __future__ import annotations

from kmsconn.emulator.contracts import kms_generation as at
from kmsconn.emulator.dependencies import key_for
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.ids import make_id
from tests.real.anvil import contracts
from tests.real.anvil.world import OWNER, Place

_COUNTERS = {at.PREP_COUNTER: at.PREP_TAG, at.KEY_COUNTER: at.KEY_TAG, at.CRS_COUNTER: at.CRS_TAG}
"""What the constructor of KMSGeneration stores."""


async def put_code(place: Place, target: Address, name: str, *others: Address) -> None:
    """Let a contract of ours, which knows these others, run at an address; what is stored there stays."""
    creation = contracts.creation(name, key_for(OWNER).address, *others)
    (made,) = await place.owner.deploy(creation)
    code = await place.rpc.call("eth_getCode", to_hex(made), "latest")
    await place.rpc.call("anvil_setCode", to_hex(target), code)


async def set_counters(place: Place, generation: Address) -> None:
    """Store what the constructor of KMSGeneration stores."""
    for slot, tag in _COUNTERS.items():
        words = (to_hex(slot.to_bytes(32)), to_hex(make_id(tag, 0).to_bytes(32)))
        await place.rpc.call("anvil_setStorageAt", to_hex(generation), *words)
