"""Shadow mode under httpz-rc7: the Core of that era refuses a second start, so a shadow starts nothing and reads the results."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import trio

from kmsconn.config.values import Mode
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.network import MemoryNetwork
from kmsconn.emulator.traffic import GENERATIONS
from kmsconn.model.events import Event, ReplyCompared, ReplySent, ignore
from kmsconn.model.requests import HTTPZ_RC7
from kmsconn.replies.shadow_replies import Likeness
from kmsconn.testing.killable import KillablePorts, Life
from kmsconn.testing.world import EPOCH_SECONDS
from kmsconn.transport.ports import Ports

ASKED = 4


def wall() -> float:
    return EPOCH_SECONDS + trio.current_time()


def ports(network: MemoryNetwork) -> Ports:
    return KillablePorts(Life(), network, wall, Random(0)).ports()


async def test_a_shadow_of_the_first_generation_starts_nothing_and_finds_every_reply_equal(
    tmp_path: Path,
) -> None:
    """Public and user requests, each handed to the Core once, by the connector that sends."""
    users = GENERATIONS[HTTPZ_RC7].settle(wall, Random(0), block_time=1.0, computing=0.1)
    dependencies, network, events = users.dependencies, MemoryNetwork(), list[Event]()
    dependencies.settle_in_memory(network)
    async with trio.open_nursery() as nursery:
        await nursery.start(network.run)
        await nursery.start(dependencies.run)
        changes: dict[str, Any] = {"reorg_window": 4.0, "decryption_from_block_number": 0}
        active = dependencies.settings(tmp_path / "active.db", **changes)
        shadow = dependencies.settings(tmp_path / "shadow.db", **changes).but(
            mode=Mode.SHADOW, private_key=None, tx_sender_address=dependencies.sender.address
        )
        async with (
            open_connector(active, ports=ports(network), on_event=ignore),
            open_connector(shadow, ports=ports(network), on_event=events.append),
        ):
            for form in ("public", "user") * (ASKED // 2):
                users.forms[form]()
            with trio.fail_after(120):
                while len(compared := [one for one in events if isinstance(one, ReplyCompared)]) < ASKED:
                    await trio.sleep(1)
        nursery.cancel_scope.cancel()
    counts = dependencies.cores[0].counts
    assert [one.likeness for one in compared] == [Likeness.EQUAL] * ASKED
    assert not [one for one in events if isinstance(one, ReplySent)]
    assert sum(n for (method, _), n in counts.items() if method in {"Decrypt", "Reencrypt"}) == ASKED
