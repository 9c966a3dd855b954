"""What a node says to a transaction: Arbitrum's rule, and a pool like geth's; and what a chain forgets of old blocks."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import PoolKind
from tests.unit.emulator.small_world import (
    DECRYPTION_ADDRESS,
    SENDER,
    STRANGER,
    World,
    handle,
    signed,
    world,
)


def refusal(made: World, raw: bytes) -> str:
    with pytest.raises(NodeError) as caught:
        made.chain.intake.submit(raw)
    return caught.value.message


def submit(made: World, *raws: bytes) -> list[bytes]:
    return [made.chain.intake.submit(raw) for raw in raws]


BOTH = pytest.mark.parametrize("pool", ["arbitrum", "geth"])


@BOTH
@pytest.mark.parametrize(
    ("before", "raw", "words"),
    [
        ([signed(0)], signed(0), "already known"),
        ([], signed(0, key=STRANGER), "insufficient funds for gas * price + value"),
        ([], signed(0, chain_id=1), "invalid chain id for signer: have 1 want 54321"),
        ([], signed(0, gas=20_999), "intrinsic gas too low: have 20999, want 21000"),
        ([], signed(0, max_fee=200, tip=201), "max priority fee per gas higher than max fee per gas"),
        ([], b"\x02\xc0", "failed to decode transaction"),
    ],
)
def test_what_no_node_takes_is_refused_in_its_words(
    pool: PoolKind, before: list[bytes], raw: bytes, words: str
) -> None:
    made = world(pool=pool)
    made.chain.evm.set_balance(STRANGER.address, 1)
    submit(made, *before)
    assert refusal(made, raw).startswith(words)


@BOTH
def test_a_bit_more_in_the_data_makes_another_sender_or_none(pool: PoolKind) -> None:
    """The signature is really checked: changed bytes belong to somebody else."""
    made = world(pool=pool)
    raw = bytearray(signed(0, b"\x01"))
    raw[raw.index(b"\xde" * 20)] ^= 1
    submit(made, bytes(raw))
    assert made.chain.intake.pending_nonce(SENDER.address) == 0


def test_geth_keeps_a_later_nonce_until_the_gap_is_filled_and_counts_without_a_gap() -> None:
    made = world(pool="geth")
    (later,) = submit(made, signed(1))
    made.chain.mine()
    assert made.chain.history.find(later) is None
    assert made.chain.intake.pending_nonce(SENDER.address) == 0
    submit(made, signed(0), signed(3))
    assert made.chain.intake.pending_nonce(SENDER.address) == 2
    assert [m.transaction.nonce for m in made.chain.mine().mined] == [0, 1]


@pytest.mark.parametrize(
    ("fee", "tip", "taken"), [(1_099, 110, False), (1_100, 109, False), (1_100, 110, True)]
)
def test_geth_takes_a_replacement_only_if_it_pays_a_tenth_more(fee: int, tip: int, taken: bool) -> None:
    made = world(pool="geth")
    [old], new = submit(made, signed(0, max_fee=1_000, tip=100)), signed(0, max_fee=fee, tip=tip)
    if not taken:
        assert refusal(made, new) == "replacement transaction underpriced"
        return
    [replacement] = submit(made, new)
    made.chain.mine()
    assert made.chain.history.find(old) is None
    assert made.chain.history.find(replacement) is not None


def test_geth_keeps_what_pays_less_than_the_base_fee_until_it_falls() -> None:
    made = world(pool="geth", base_fee=100)
    (cheap,) = submit(made, signed(0, max_fee=50))
    made.chain.mine()
    assert made.chain.history.find(cheap) is None
    made.chain.base_fee = 50
    made.chain.mine()
    assert made.chain.history.find(cheap) is not None


def test_geth_fills_a_block_up_to_its_gas_limit() -> None:
    made = world(pool="geth")
    made.chain.intake.gas_limit = 900_000
    submit(made, signed(0), signed(1))
    assert [len(made.chain.mine().mined), len(made.chain.mine().mined)] == [1, 1]


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
