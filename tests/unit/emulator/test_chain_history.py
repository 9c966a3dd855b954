"""A chain that keeps a history of some blocks forgets what stood in older ones, and says so instead of answering wrongly."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kmsconn.emulator.ground_truth import GroundTruth

from .small_world import DECRYPTION_ADDRESS, SENDER, World, handle, world


def aged(history: int | None, blocks: int = 6) -> tuple[World, list[bytes]]:
    """Return a world with one request in each of its blocks, and their transactions."""
    made = world()
    made.commit(handle(0))
    made.chain.history.kept = history
    sent = []
    for _ in range(blocks):
        sent.append(made.ask())
        made.chain.mine()
    return made, sent


async def asked(made: World, method: str, *params: Any) -> Any:
    body = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    return msgspec.json.decode(await made.node.answer(msgspec.json.encode(body)))


@pytest.mark.parametrize("set_late", [False, True])
def test_transactions_of_old_blocks_are_forgotten_also_where_the_history_is_set_late(set_late: bool) -> None:
    made, sent = aged(None if set_late else 3)
    if set_late:
        made.chain.history.kept = 2
        made.chain.mine()
    kept = [made.chain.history.find(each) is not None for each in sent]
    assert kept == ([False] * 4 + [True] * 2 if set_late else [False] * 2 + [True] * 4)


def test_headers_of_old_blocks_stay() -> None:
    made, _ = aged(3)
    blocks = [made.chain.block(number) for number in range(7)]
    assert all(block is not None for block in blocks)
    assert [after.parent for after in blocks[1:] if after] == [
        before.hash for before in blocks[:-1] if before
    ]


def test_what_is_true_now_stays_true() -> None:
    """The state is that of the head, whatever of its history is gone."""
    whole, pruned = aged(None)[0], aged(3)[0]
    assert pruned.chain.head.hash == whole.chain.head.hash
    view, kept = pruned.chain.view().state(), whole.chain.view().state()
    assert all(view.get(key) == kept.get(key) for key in whole.chain.evm.state._values)


async def test_the_state_of_a_block_that_is_gone_is_refused() -> None:
    made, _ = aged(3)
    told = await asked(made, "eth_getBalance", f"0x{SENDER.address.hex()}", "0x1")
    assert "not available" in told["error"]["message"]


def test_a_reorganisation_goes_no_deeper_than_the_history() -> None:
    made, _ = aged(3)
    made.chain.reorg(3)
    with pytest.raises(ValueError, match="cannot take"):
        made.chain.reorg(made.chain.head.number)


def test_what_was_read_is_not_lost_for_the_ground_truth() -> None:
    made = world()
    made.commit(handle(0))
    made.chain.history.kept = 2
    ground_truth = GroundTruth(made.chain, DECRYPTION_ADDRESS, SENDER.address, clock=lambda: 0.0)
    for _ in range(6):
        made.ask()
        made.chain.mine()
        ground_truth.read()
    assert ground_truth.verdict().emitted == 6
