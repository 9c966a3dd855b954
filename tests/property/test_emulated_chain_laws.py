"""Laws of the emulated chain: undoing is exact, every past state stays readable, a restored branch is the same chain."""

from __future__ import annotations

from random import Random
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from kmsconn.emulator.blocks import EmulatedTransaction
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.execution import ChainState, difference
from tests.sampling import examples
from tests.unit.emulator.small_world import SENDER, World, signed, world

KEYS = [("a",), ("b",), ("c",)]
WRITES = st.lists(st.tuples(st.sampled_from(KEYS), st.integers(0, 3)), max_size=5)


def snapshot(storage: Any) -> list[Any]:
    return [storage.get(key) for key in KEYS]


@given(st.lists(WRITES, min_size=1, max_size=8))
def test_every_past_state_is_readable_and_taking_back_returns_to_it(blocks: list[list[Any]]) -> None:
    state, seen, changes = ChainState(), [snapshot(ChainState())], []
    for writes in blocks:
        for key, value in writes:
            state.set(key, value)
        changes.append(state.seal())
        seen.append(snapshot(state))
    for age in range(len(blocks) + 1):
        past = state.beside(difference(reversed(changes[len(changes) - age :])))
        assert snapshot(past) == seen[len(seen) - 1 - age]
    for block in reversed(changes):
        state.take_back(block)
        seen.pop()
        assert snapshot(state) == seen[-1]


@given(WRITES, WRITES)
def test_a_rollback_leaves_exactly_what_was_before_its_mark(before: list[Any], after: list[Any]) -> None:
    state = ChainState()
    for key, value in before:
        state.set(key, value)
    expected, mark = snapshot(state), state.checkpoint()
    for key, value in after:
        state.set(key, value)
    state.rollback(mark)
    assert snapshot(state) == expected


def story(chain: EmulatedChain) -> list[Any]:
    """Return everything that a node would tell about the chain."""
    view = chain.view()
    blocks = [view.block(number) for number in range(view.head.number + 1)]
    return [[(m.transaction.hash, m.outcome, m.block_hash) for m in b.mined] for b in blocks if b is not None]


def traffic(made: World, steps: list[int]) -> None:
    """Queue requests and good replies, and mine, as the steps say."""
    for step in steps:
        match step:
            case 0:
                made.chain.mine()
            case 1 | 2:
                made.ask(step)
            case _:
                nonce = made.chain.intake.pending_nonce(SENDER.address)
                made.chain.intake.submit(signed(nonce, made.reply(nonce + 1, 1)))
    made.chain.mine()


def shuffled(seed: int) -> Any:
    def arrange(transactions: list[EmulatedTransaction], blocks: int) -> list[list[EmulatedTransaction]]:
        random = Random(seed)
        placed: list[list[EmulatedTransaction]] = [[] for _ in range(blocks)]
        for transaction in random.sample(transactions, len(transactions)):
            random.choice(placed).append(transaction)
        return placed

    return arrange


STEPS = st.lists(st.integers(0, 3), min_size=1, max_size=25)


@settings(deadline=None, max_examples=examples(60))
@given(STEPS, st.integers(0, 1_000), st.integers(1, 8))
def test_a_branch_restored_is_the_same_chain(steps: list[int], seed: int, depth: int) -> None:
    made = world()
    traffic(made, steps)
    before, account = story(made.chain), made.chain.evm.account(SENDER.address)
    branch = made.chain.reorg(min(depth, made.chain.head.number), arrange=shuffled(seed))
    made.chain.restore(branch)
    assert story(made.chain) == before
    assert made.chain.evm.account(SENDER.address) == account


@settings(deadline=None, max_examples=examples(60))
@given(STEPS, st.integers(0, 1_000), st.integers(1, 8))
def test_a_reorganisation_executes_each_survivor_once_in_nonce_order(
    steps: list[int], seed: int, depth: int
) -> None:
    made = world()
    traffic(made, steps)
    before = {m[0] for block in story(made.chain) for m in block}
    made.chain.reorg(min(depth, made.chain.head.number), arrange=shuffled(seed))
    made.chain.mine()
    after = [m[0] for block in story(made.chain) for m in block]
    assert len(after) == len(set(after))
    assert set(after) <= before
    nonces = [
        m.transaction.nonce
        for b in made.chain.history._blocks
        for m in b.mined
        if m.transaction.envelope is not None
    ]
    assert nonces == list(range(len(nonces)))


@settings(deadline=None, max_examples=examples(60))
@given(STEPS, st.integers(0, 1_000), st.integers(1, 8))
def test_a_stale_fork_tells_what_it_told_before(steps: list[int], seed: int, depth: int) -> None:
    made = world()
    traffic(made, steps)
    nonces = [made.chain.evm.account(SENDER.address, made.chain.view(lag).state()).nonce for lag in range(4)]
    branch = made.chain.reorg(min(depth, made.chain.head.number), arrange=shuffled(seed))
    made.chain.mine()
    stale = [made.chain.view(lag, branch) for lag in range(4)]
    told = [made.chain.evm.account(SENDER.address, view.state()).nonce for view in stale]
    shown = min(4, len(branch.blocks))
    assert told[:shown] == nonces[:shown]
