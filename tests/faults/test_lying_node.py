"""A node that lies in one kind of answer for a while: nothing is lost, little is paid for nothing, and what waits has its reply later."""

from __future__ import annotations

import math
from typing import Any

import attrs
import pytest

from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.node_faults import Honest
from kmsconn.protocols.fhevm.contracts import PROTOCOL_CONFIG
from kmsconn.replies.view import FILLS
from kmsconn.testing.faults.lies import LIES, Lie, field
from kmsconn.testing.world import World
from tests.faults.lying import LyingWorld, run_lie

pytestmark = pytest.mark.once

BRIEF = LyingWorld(seconds=2.2)
LONG = LyingWorld(seconds=20.0)
STARTING = LyingWorld(seconds=20.0, boot=60.5, after=300.0)
ONE_OF_TWO = LyingWorld(seconds=math.inf, nodes=2, node=0, http=True, after=600.0)
WAYS = [
    pytest.param(BRIEF, id="2 s"),
    pytest.param(LONG, id="20 s"),
    pytest.param(STARTING, id="from the start"),
    pytest.param(ONE_OF_TWO, id="one of two"),
]


TIMES = [name for name in LIES if name.startswith("head")]
NONCES = [name for name in LIES if name.startswith("nonce")]
OTHERS = [name for name in LIES if name not in {*TIMES, *NONCES, "never taken", "context destroyed"}]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("lie", [*TIMES, *NONCES])
def test_a_wrong_time_or_nonce_loses_nothing_and_costs_no_more_than_the_purse(
    lie: str, how: LyingWorld
) -> None:
    outcome = run_lie(LIES[lie], how)
    assert outcome.struck
    assert not outcome.open
    assert not outcome.closed
    assert not outcome.doubled
    assert outcome.empty <= FILLS


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("lie", OTHERS)
def test_another_lie_loses_nothing_and_costs_no_more_than_the_purse(lie: str, how: LyingWorld) -> None:
    """Of hashes, logs, receipts, estimates, views; the Core is away meanwhile, so that there is something to end."""
    outcome = run_lie(LIES[lie], attrs.evolve(how, core_away=not how.boot))
    assert not outcome.open
    assert not outcome.closed
    assert not outcome.doubled
    assert outcome.empty <= FILLS


@pytest.mark.parametrize("lie", NONCES)
def test_a_wrong_nonce_that_every_node_tells_for_longer_than_the_window_is_recovered_from(lie: str) -> None:
    outcome = run_lie(LIES[lie], LyingWorld(seconds=70.0, after=300.0))
    assert not outcome.open
    assert outcome.empty <= FILLS


@pytest.mark.parametrize("lie", TIMES)
def test_what_waits_while_the_time_is_wrong_is_answered_later(lie: str) -> None:
    outcome = run_lie(LIES[lie], LyingWorld(seconds=20.0, core_away=True))
    assert not outcome.open
    assert not outcome.closed


@pytest.mark.parametrize("how", [WAYS[0], WAYS[1], WAYS[3]])
def test_a_final_no_of_one_node_ends_no_reply(how: LyingWorld) -> None:
    later = attrs.evolve(how, core_away=True, core_back=True)
    outcome = run_lie(LIES["never taken"], later)
    assert outcome.struck
    assert not outcome.open


@pytest.mark.parametrize("how", WAYS[1:])
def test_a_context_that_one_node_calls_destroyed_goes_on(how: LyingWorld) -> None:
    outcome = run_lie(LIES["context destroyed"], how)
    assert outcome.struck
    assert not outcome.open


RECEIPTS = {
    "hidden": Lie("eth_getTransactionReceipt", lambda _: None),
    "failed": Lie("eth_getTransactionReceipt", field("status", lambda _: 0)),
}


@pytest.mark.parametrize("how", [WAYS[0], WAYS[1], WAYS[3]])
@pytest.mark.parametrize("lie", RECEIPTS)
def test_a_wrong_receipt_makes_nobody_a_second_user_of_the_key(lie: str, how: LyingWorld) -> None:
    outcome = run_lie(RECEIPTS[lie], how)
    assert outcome.struck
    assert not outcome.open
    assert not outcome.doubled
    assert "used-by-another" not in outcome.critical


def forged_end(world: World, event: str, identifier: int) -> dict[str, Any]:
    """Return the log of an end that no block holds, at a block that is there and final."""
    assert isinstance(world.dependencies, FhevmDependencies)
    chain = world.dependencies.ethereum
    block = chain.block(max(0, chain.finality.newest(chain.head.number) - 1))
    assert block is not None
    return {
        "address": f"0x{world.dependencies.protocol_config.address.hex()}",
        "topics": [f"0x{PROTOCOL_CONFIG.event(event).topic0.hex()}", f"0x{identifier:064x}"],
        "data": "0x",
        "blockNumber": hex(block.number),
        "blockHash": f"0x{block.hash.hex()}",
        "transactionHash": "0x" + "cd" * 32,
        "logIndex": "0x0",
        "removed": False,
    }


@pytest.mark.parametrize(
    ("event", "identifier"), [("KmsContextDestroyed", CONTEXT), ("KmsEpochDestroyed", EPOCH)]
)
def test_a_log_that_no_block_has_destroys_nothing(event: str, identifier: int) -> None:
    """One answer of one node is enough for such a log."""
    worlds: list[World] = []
    forged: list[dict[str, Any]] = []
    told: dict[str, int] = {}

    def watch(world: World) -> None:
        worlds[:] = [world]
        for core in world.dependencies.cores:
            told.update({method: n for (method, _), n in core.counts.items() if "Destroy" in method})

    def forge(honest: Honest) -> Any:
        logs = honest()
        if forged:
            return logs
        forged.append(forged_end(worlds[0], event, identifier))
        return [*logs, *forged]

    lie = Lie("eth_getLogs", forge, chain="ethereum")
    outcome = run_lie(lie, LyingWorld(seconds=60.0, after=200.0), each=watch)
    assert forged
    assert not told
    assert not outcome.open
