"""What a node says to a transaction: Arbitrum's rule, and a pool like geth's."""

from __future__ import annotations

import pytest

from kmsconn.emulator.node_faults import NodeError
from kmsconn.emulator.pool import GethPool, PoolKind
from tests.unit.emulator.small_world import SENDER, World, signed, world


def refusal(made: World, raw: bytes) -> str:
    with pytest.raises(NodeError) as caught:
        made.chain.intake.submit(raw)
    return caught.value.message


def submit(made: World, *raws: bytes) -> list[bytes]:
    return [made.chain.intake.submit(raw) for raw in raws]


BOTH = pytest.mark.parametrize("pool", ["arbitrum", "geth"])


@BOTH
def test_the_next_nonce_is_taken_and_mined(pool: PoolKind) -> None:
    made = world(pool=pool)
    (transaction_hash,) = submit(made, signed(0))
    made.chain.mine()
    assert made.mined(transaction_hash).block_number == 1


@BOTH
def test_a_used_nonce_is_too_low(pool: PoolKind) -> None:
    made = world(pool=pool)
    submit(made, signed(0))
    made.chain.mine()
    assert refusal(made, signed(0, b"other")).startswith("nonce too low: address 0x")


@BOTH
def test_the_same_bytes_are_known_while_they_wait(pool: PoolKind) -> None:
    made = world(pool=pool)
    submit(made, signed(0))
    assert refusal(made, signed(0)) == "already known"


@BOTH
def test_the_same_bytes_after_mining_have_a_low_nonce(pool: PoolKind) -> None:
    made = world(pool=pool)
    submit(made, signed(0))
    made.chain.mine()
    assert refusal(made, signed(0)).startswith("nonce too low")


@BOTH
def test_a_sender_without_funds_is_refused(pool: PoolKind) -> None:
    made = world(pool=pool)
    made.chain.evm.set_balance(SENDER.address, 1)
    assert refusal(made, signed(0)).startswith("insufficient funds for gas * price + value")


@BOTH
def test_another_chain_id_is_refused(pool: PoolKind) -> None:
    assert (
        refusal(world(pool=pool), signed(0, chain_id=1)) == "invalid chain id for signer: have 1 want 54321"
    )


@BOTH
def test_too_little_gas_is_refused(pool: PoolKind) -> None:
    assert refusal(world(pool=pool), signed(0, gas=20_999)) == "intrinsic gas too low: have 20999, want 21000"


@BOTH
def test_a_tip_above_the_fee_is_refused(pool: PoolKind) -> None:
    text = "max priority fee per gas higher than max fee per gas"
    assert refusal(world(pool=pool), signed(0, max_fee=200, tip=201)) == text


@BOTH
def test_bytes_that_are_no_transaction_are_refused(pool: PoolKind) -> None:
    assert refusal(world(pool=pool), b"\x02\xc0").startswith("failed to decode transaction")


@BOTH
def test_a_bit_more_in_the_data_makes_another_sender_or_none(pool: PoolKind) -> None:
    """The signature is really checked: changed bytes belong to somebody else."""
    made = world(pool=pool)
    raw = bytearray(signed(0, b"\x01"))
    raw[raw.index(b"\xde" * 20)] ^= 1
    submit(made, bytes(raw))
    assert made.chain.intake.pending_nonce(SENDER.address) == 0


def test_arbitrum_refuses_a_later_nonce() -> None:
    made = world()
    assert refusal(made, signed(1)).startswith("nonce too high: address 0x")
    assert refusal(made, signed(1)).endswith("tx: 1 state: 0")


def test_arbitrum_takes_a_run_of_nonces_within_one_block() -> None:
    made = world()
    submit(made, signed(0), signed(1), signed(2))
    assert len(made.chain.mine().mined) == 3


def test_arbitrum_refuses_fees_below_the_base_fee() -> None:
    assert refusal(world(base_fee=100), signed(0, max_fee=99)).startswith(
        "max fee per gas less than block base fee"
    )


def test_arbitrum_takes_no_replacement() -> None:
    made = world()
    submit(made, signed(0))
    assert refusal(made, signed(0, max_fee=10**10)).startswith("nonce too low")


def test_geth_keeps_a_later_nonce_until_the_gap_is_filled() -> None:
    made = world(pool="geth")
    (later,) = submit(made, signed(1))
    made.chain.mine()
    assert made.chain.history.find(later) is None
    submit(made, signed(0))
    assert [m.transaction.nonce for m in made.chain.mine().mined] == [0, 1]


def test_geth_counts_waiting_nonces_without_a_gap() -> None:
    made = world(pool="geth")
    submit(made, signed(0), signed(1), signed(3))
    assert made.chain.intake.pending_nonce(SENDER.address) == 2


@pytest.mark.parametrize(("fee", "tip"), [(1_099, 110), (1_100, 109)])
def test_geth_refuses_a_replacement_that_pays_less_than_a_tenth_more(fee: int, tip: int) -> None:
    made = world(pool="geth")
    submit(made, signed(0, max_fee=1_000, tip=100))
    assert refusal(made, signed(0, max_fee=fee, tip=tip)) == "replacement transaction underpriced"


def test_geth_takes_a_replacement_that_pays_a_tenth_more() -> None:
    made = world(pool="geth")
    old, new = submit(made, signed(0, max_fee=1_000, tip=100), signed(0, max_fee=1_100, tip=110))
    made.chain.mine()
    assert made.chain.history.find(old) is None
    assert made.chain.history.find(new) is not None


def test_geth_keeps_what_pays_less_than_the_base_fee_until_it_falls() -> None:
    made = world(pool="geth", base_fee=100)
    (cheap,) = submit(made, signed(0, max_fee=50))
    made.chain.mine()
    assert made.chain.history.find(cheap) is None
    made.chain.base_fee = 50
    made.chain.mine()
    assert made.chain.history.find(cheap) is not None


def test_geth_refuses_a_tip_below_its_minimum() -> None:
    made = world(pool="geth")
    made.chain.intake.pool = GethPool(minimum_tip=5)
    assert refusal(made, signed(0, tip=4)).startswith("transaction underpriced")


def test_geth_fills_a_block_up_to_its_gas_limit() -> None:
    made = world(pool="geth")
    made.chain.intake.gas_limit = 900_000
    submit(made, signed(0), signed(1))
    assert [len(made.chain.mine().mined), len(made.chain.mine().mined)] == [1, 1]


def test_a_waiting_transaction_is_found_by_its_hash() -> None:
    made = world()
    (transaction_hash,) = submit(made, signed(0))
    found = made.chain.intake.pool.find(transaction_hash)
    assert found is not None
    assert found.hash == transaction_hash
