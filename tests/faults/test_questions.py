"""How often the chains are asked in vain: about requests that cannot be answered yet. Counts, and bounds.

``KMSCONN_HOURS=23.9 pytest -s tests/faults/test_questions.py`` prints the figures of a day.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.connector import alerting
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, committee_of, naming
from kmsconn.model.events import AlertRaised
from tests.faults.scene import Scene, open_scene

pytestmark = [pytest.mark.once, pytest.mark.rotating]

HOURS = float(os.environ.get("KMSCONN_HOURS", "1"))
"""Virtual hours that the requests wait: a few in ``make test``; ``KMSCONN_HOURS=23.9`` for the whole day, before they expire."""
SLOW: dict[str, Any] = {"block_time": 60.0}
SETTINGS: dict[str, Any] = {
    "reorg_window": 240.0,
    "decryption_polling": 60.0,
    "key_management_polling": 600.0,
}
OTHER_CONTEXT, OTHER_EPOCH = CONTEXT + 1, EPOCH + 1


def asked(dependencies: FhevmDependencies) -> Counter[str]:
    """Return how many views were asked of each chain's nodes."""
    return Counter(
        {
            name: sum(node.calls["eth_call"] for node in cluster.nodes)
            for name, cluster in dependencies.clusters.items()
        }
    )


async def ask_and_wait(scene: Scene, forms: Sequence[str], what: str, hours: float = HOURS) -> Counter[str]:
    """Let requests wait and return how many questions each chain was asked meanwhile."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            alerting, "JOURNAL_WATCH_INTERVAL", 60.0
        )  # housekeeping that would make most of a day's steps
        return await _ask_and_wait(scene, forms, what, hours)


async def _ask_and_wait(scene: Scene, forms: Sequence[str], what: str, hours: float) -> Counter[str]:
    async with scene.connected(**SETTINGS) as running:
        await running.wait_ready()
        before = asked(scene.dependencies)
        await scene.on_chain([scene.traffic.forms[form]() for form in forms])
        await trio.sleep(hours * 3600)
        found = asked(scene.dependencies) - before
    print(f"\n{what}, {hours:g} h: {dict(found)}")  # noqa: T201 - the figures are what this suite is for
    assert not scene.answered
    return found


BATCH = 8  # questions that one try of these requests asks its host chain at most
REGISTRY = (
    260  # questions of an hour to the Gateway about the coprocessors and its contracts, whatever is requested
)


async def test_a_denied_request_is_tried_39_times_in_a_day(tmp_path: Path) -> None:
    """Quickly at first, then every hour; 0.14 tries it twenty times and gives it up."""
    await denied(tmp_path, HOURS)


async def denied(folder: Path, hours: float) -> None:
    """Let three denied requests wait."""
    async with open_scene(folder, **SLOW) as scene:
        scene.traffic.granted = False
        found = await ask_and_wait(scene, ["public", "direct", "unified"], "three denied requests", hours)
        tries = 14 + max(0.0, hours - 1) / 0.9
        assert found["host"] <= 3 * tries * BATCH


async def test_300_requests_of_another_context_wait_for_one_question(tmp_path: Path) -> None:
    await of_another_context(tmp_path, 300, HOURS)


async def of_another_context(folder: Path, count: int, hours: float) -> None:
    """Let requests wait that are other nodes' to answer."""
    async with open_scene(folder, **SLOW) as scene:
        add_a_context(scene.dependencies)
        scene.traffic.extra_data = naming(OTHER_CONTEXT, OTHER_EPOCH)
        found = await ask_and_wait(scene, ["public"] * count, f"{count} requests of another context", hours)
        assert found["host"] <= 2 * count
        assert found["gateway"] <= REGISTRY * (hours + 1) + 100
        critical = {one.cause for one in scene.told(AlertRaised) if one.critical}
        assert critical <= {
            "not-finalizing"
        }  # with blocks as slow as here Ethereum's finalized block is hours old


def add_a_context(dependencies: FhevmDependencies) -> None:
    """Let there be a further context whose nodes are others; both are valid."""
    others = committee_of([7])
    gateway, ethereum = dependencies.gateway_config, dependencies.protocol_config
    dependencies.gateway.evm.set_up(gateway.address, partial(_set, gateway, others))
    dependencies.ethereum.evm.set_up(ethereum.address, partial(_set, ethereum, others))
    dependencies.ethereum.evm.set_up(ethereum.address, ethereum.set_epoch, OTHER_CONTEXT, OTHER_EPOCH)


def _set(contract: Any, committee: Any, frame: Any) -> None:
    contract.set_context(frame, OTHER_CONTEXT, committee)
