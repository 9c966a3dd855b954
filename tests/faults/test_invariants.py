"""The invariants forgives what a reorganisation explains, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.execution import Frame
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.model.events import Event, ReplyFinalized, ReplySigned, RequestRecorded
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from kmsconn.replies.view import FINDING_LIFETIME
from kmsconn.testing.invariants import Invariants

PUBLIC = Kind.PUBLIC_DECRYPTION
RECORDED = RequestRecorded(1, PUBLIC, make_id(PUBLIC_DECRYPTION_TAG, 7), 1, 1, bytes(32), 0)


@pytest.fixture
def invariants(tmp_path: Path) -> Invariants:
    dependencies = FhevmDependencies.make(lambda: 1_767_225_600.0)
    dependencies.gateway.finality.depth = 2
    journal = tmp_path / "journal.db"
    with closing(sqlite3.connect(journal, isolation_level=None)) as file:
        file.execute("CREATE TABLE request (rid INTEGER, digest BLOB)")
        file.execute("INSERT INTO request VALUES (1, ?)", (bytes(32),))
    return Invariants(dependencies, journal, 4.0)


@pytest.mark.parametrize(
    ("event", "promise"),
    [(ReplyFinalized(1, PUBLIC), "S15"), (ReplySigned(1, PUBLIC, 0, bytes(32)), "S3")],
    ids=["final", "signed"],
)
async def test_a_deep_reorganisation_excuses_nothing_that_did_not_stand_in_its_blocks(
    invariants: Invariants, event: Event, promise: str
) -> None:
    """There never was such a request, nor a reply to it."""
    chain = invariants.dependencies.gateway
    for _ in range(5):
        chain.mine()
    invariants.hear(RECORDED)
    invariants.reorganised(chain.reorg(4))
    invariants.hear(event)
    assert [text.split(": ")[1] for text in invariants.violations] == [promise]


@attrs.frozen
class Willing:
    """A contract that takes every call."""

    address: Address

    def execute(self, frame: Frame) -> bytes:
        del frame
        return b""


def replied(invariants: Invariants, deep: int) -> None:
    """Let the reply to the request be included, with so many blocks on top: more than eight make it old."""
    dependencies, chain = invariants.dependencies, invariants.dependencies.gateway
    invariants.hear(RECORDED)
    chain.evm.deploy(Willing(dependencies.decryption.address))
    calldata = DECRYPTION.function("publicDecryptionResponse").selector + RECORDED.id.to_bytes(32)
    chain.actors.transact(dependencies.sender.address, dependencies.decryption.address, calldata)
    chain.mine_many(1 + deep)


def promises_broken(invariants: Invariants) -> list[str]:
    invariants.hear(ReplyFinalized(1, PUBLIC))
    return [text.split(": ")[1] for text in invariants.violations]


@pytest.mark.parametrize(("deep", "broken"), [(8, ["S15"]), (9, [])])
async def test_a_reply_is_final_at_its_age_and_not_before(
    invariants: Invariants, deep: int, broken: list[str]
) -> None:
    replied(invariants, deep)
    assert promises_broken(invariants) == broken


@pytest.mark.parametrize(("deep", "lag", "broken"), [(8, 0, ["S15"]), (9, 0, []), (9, 1, ["S15"])])
async def test_a_reply_has_its_age_on_the_branch_that_a_node_still_shows(
    invariants: Invariants, deep: int, lag: int, broken: list[str]
) -> None:
    """The chain put it into its newest block long ago; no other node can be asked. What is young there as well is red."""
    replied(invariants, deep)
    chain, [node] = invariants.dependencies.gateway, invariants.dependencies.clusters["gateway"].nodes
    node.fork, node.lag = chain.reorg(1 + deep), lag
    invariants.reorganised(node.fork)
    await trio.sleep(2 * FINDING_LIFETIME)
    assert promises_broken(invariants) == broken


@pytest.mark.parametrize(("deep", "broken"), [(8, ["S15"]), (9, [])])
async def test_a_reply_below_a_fork_has_its_age_under_the_head_that_a_node_still_shows(
    invariants: Invariants, deep: int, broken: list[str]
) -> None:
    """The reply stands in both branches, and the new one is so short that the reply is young there."""
    replied(invariants, deep)
    chain, [node] = invariants.dependencies.gateway, invariants.dependencies.clusters["gateway"].nodes
    node.fork = chain.reorg(3, shorter=2)
    invariants.reorganised(node.fork)
    await trio.sleep(2 * FINDING_LIFETIME)
    assert promises_broken(invariants) == broken


@pytest.mark.parametrize(("since", "broken"), [(FINDING_LIFETIME - 1, []), (FINDING_LIFETIME + 1, ["S15"])])
async def test_a_head_that_the_chain_lost_counts_as_long_as_an_answer(
    invariants: Invariants, since: float, broken: list[str]
) -> None:
    """The chain became shorter right after a node told of it."""
    replied(invariants, 9)
    invariants.note_shown()
    invariants.reorganised(invariants.dependencies.gateway.reorg(3, shorter=2))
    await trio.sleep(since)
    assert promises_broken(invariants) == broken


@pytest.mark.parametrize(
    ("deep", "since", "broken"),
    [(9, FINDING_LIFETIME - 1, []), (9, FINDING_LIFETIME + 1, ["S15"]), (8, 0.0, ["S15"])],
)
async def test_a_branch_that_nobody_shows_any_more_counts_as_long_as_an_answer(
    invariants: Invariants, deep: int, since: float, broken: list[str]
) -> None:
    """A node told of it right before it left it."""
    replied(invariants, deep)
    chain, [node] = invariants.dependencies.gateway, invariants.dependencies.clusters["gateway"].nodes
    node.fork = chain.reorg(1 + deep)
    invariants.reorganised(node.fork)
    await trio.sleep(30.0)
    invariants.note_shown()
    node.fork = None
    await trio.sleep(since)
    assert promises_broken(invariants) == broken


@attrs.frozen
class TakesAll:
    """A contract that takes whatever it is sent."""

    address: Address

    def execute(self, _frame: Frame) -> bytes:
        return b""


class Sender:
    """Signs replies under one nonce after the other, as a transaction manager would, and has some of them included."""

    def __init__(self, invariants: Invariants) -> None:
        self.chain, self.replies = invariants.dependencies.gateway, invariants.replies
        self.key, self.contract = invariants.dependencies.sender, invariants.dependencies.decryption.address
        self.chain.evm.deploy(TakesAll(self.key.address))

    def sign(self, nonce: int, *, failing: bool = False) -> bytes:
        """Sign a reply to one request; the contract takes none that fails."""
        to = self.contract if failing else self.key.address
        transaction = Transaction(self.chain.chain_id, nonce, 1, 10**10, 100_000, to, 0, b"")
        raw, hash_ = sign_transaction(transaction, self.key)
        self.replies.note(hash_, bytes(32), nonce)
        return raw

    def include(self, raw: bytes) -> Mined:
        """Let a reply be included in the next block."""
        found = self.chain.intake.submit(raw)
        self.chain.mine()
        mined = self.chain.history.find(found)
        assert mined is not None
        return mined


async def test_reply_may_stand_beside_one_that_had_failed_when_it_was_signed(invariants: Invariants) -> None:
    """Whatever else was signed for that request and may still come in: only these two stand there."""
    sender = Sender(invariants)
    failed = sender.include(sender.sign(0, failing=True))
    sender.sign(9)
    assert invariants.replies.excuse(failed, sender.include(sender.sign(1)))


async def test_a_reply_may_not_stand_beside_one_that_was_there_or_open_when_it_was_signed(
    invariants: Invariants,
) -> None:
    sender = Sender(invariants)
    there, open_ = sender.include(sender.sign(0)), sender.sign(1)
    later = sender.sign(2)
    one, other = sender.include(open_), sender.include(later)
    assert not invariants.replies.excuse(there, one)
    assert not invariants.replies.excuse(there, other)
    assert not invariants.replies.excuse(one, other)
