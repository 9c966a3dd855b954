"""A node that lies in one kind of answer for a while: nothing is lost, little is paid for nothing, and what waits has its reply later."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies
from kmsconn.emulator.node_faults import Honest, reverted
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE, DECRYPTION, PROTOCOL_CONFIG
from kmsconn.protocols.queries import mapping_slot
from kmsconn.replies.view import FILLS
from kmsconn.testing.world import World
from tests.faults.lying import Lie, LyingWorld, field, number, run_lie

pytestmark = pytest.mark.once

DAY, YEARS = 86_400, 10 * 365 * 86_400
BRIEF = LyingWorld(seconds=2.2)
LONG = LyingWorld(seconds=20.0)
STARTING = LyingWorld(seconds=20.0, boot=60.5, after=300.0)
ONE_OF_TWO = LyingWorld(seconds=math.inf, nodes=2, node=0, http=True, after=300.0)
WAYS = [
    pytest.param(BRIEF, id="2 s"),
    pytest.param(LONG, id="20 s"),
    pytest.param(STARTING, id="from the start"),
    pytest.param(ONE_OF_TWO, id="one of two"),
]


def head_time(name: str, shift: Callable[[int], int]) -> Any:
    return pytest.param(Lie(name, "eth_getBlockByNumber", field("timestamp", shift), '"latest"'), id=name)


def nonce(name: str, shift: Callable[[int], int]) -> Any:
    return pytest.param(Lie(name, "eth_getTransactionCount", number(shift)), id=name)


TIMES = [
    head_time("head 0", lambda _: 0),
    head_time("head -2 d", lambda n: n - 2 * DAY),
    head_time("head +1 h", lambda n: n + 3600),
    head_time("head +2 d", lambda n: n + 2 * DAY),
    head_time("head +10 y", lambda n: n + YEARS),
]
NONCES = [
    nonce("nonce +1", lambda n: n + 1),
    nonce("nonce +100", lambda n: n + 100),
    nonce("nonce 2^53-1", lambda _: 2**53 - 1),
    nonce("nonce -100", lambda n: n - 100),
]


@pytest.mark.parametrize("how", WAYS)
@pytest.mark.parametrize("lie", [*TIMES, *NONCES])
def test_a_wrong_time_or_nonce_loses_nothing_and_costs_no_more_than_the_purse(
    lie: Lie, how: LyingWorld
) -> None:
    outcome = run_lie(lie, how)
    assert outcome.struck
    assert not outcome.open
    assert not outcome.closed
    assert not outcome.doubled
    assert outcome.empty <= FILLS


@pytest.mark.parametrize("lie", NONCES)
def test_a_wrong_nonce_that_every_node_tells_for_longer_than_the_window_is_recovered_from(lie: Lie) -> None:
    outcome = run_lie(lie, LyingWorld(seconds=70.0, after=300.0))
    assert not outcome.open
    assert outcome.empty <= FILLS


@pytest.mark.parametrize("lie", TIMES)
def test_what_waits_while_the_time_is_wrong_is_answered_later(lie: Lie) -> None:
    outcome = run_lie(lie, LyingWorld(seconds=20.0, core_away=True))
    assert not outcome.open
    assert not outcome.closed


def refuse_for_good(_honest: Honest) -> Any:
    raise reverted(DECRYPTION.error("InvalidNullContextId").selector)


@pytest.mark.parametrize("how", [WAYS[0], WAYS[1], WAYS[3]])
def test_a_final_no_of_one_node_ends_no_reply(how: LyingWorld) -> None:
    later = attrs.evolve(how, core_away=True, core_back=True)
    outcome = run_lie(Lie("final", "eth_estimateGas", refuse_for_good), later)
    assert outcome.struck
    assert not outcome.open


@pytest.mark.parametrize("how", [WAYS[1], WAYS[2]])
def test_a_context_that_one_node_calls_destroyed_goes_on(how: LyingWorld) -> None:
    slot = f"{mapping_slot(CONFIG_BASE + 10, CONTEXT):x}"
    lie = Lie("destroyed", "eth_getStorageAt", lambda _: f"0x{1:064x}", slot, "ethereum")
    outcome = run_lie(lie, how)
    assert outcome.struck
    assert not outcome.open


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

    lie = Lie(event, "eth_getLogs", forge, chain="ethereum")
    outcome = run_lie(lie, LyingWorld(seconds=60.0, after=200.0), each=watch)
    assert forged
    assert not told
    assert not outcome.open
