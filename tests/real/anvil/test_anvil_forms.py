"""Every form of request on anvil, through a whole connector: it lands once, and what lands is right."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.emulator.neighbourhood import CONTEXT, EPOCH
from kmsconn.emulator.plaintexts import abi_word, little_endian
from kmsconn.emulator.signcryption import open_share, verification_key
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm_014 import bincode
from kmsconn.service.connector import open_connector
from kmsconn.testing.truth import Truth
from tests.real.anvil.truth import replies_of, wait_answered
from tests.real.anvil.users import FORMS, Asked, Users
from tests.real.anvil.world import World, open_world, sender_key, signer_key

EXTRA_DATA = (b"", b"\x00", b"\x01" + CONTEXT.to_bytes(32), b"\x02" + CONTEXT.to_bytes(32) + EPOCH.to_bytes(32))


async def test_every_form_lands_once_and_says_the_truth(anvil: Path, tmp_path: Path) -> None:
    async with open_world(anvil, tmp_path) as world:
        users = Users(world, extra_data=EXTRA_DATA)
        async with open_connector(world.settings(tmp_path / "journal.db")):
            asked = await users.ask(*FORMS * 3)
            truth = await wait_answered(world.gateway.rpc, world.at.decryption, sender_key().address, len(asked))
        print(truth)
