"""An end that a chain names, and what a Core does for good, wait until every other node comes to the same."""

from __future__ import annotations

from collections.abc import Mapping

import pytest
import trio
import trio.testing

from kmsconn.chain.follower import HeadTracker
from kmsconn.chain.port import SendingRpc
from kmsconn.chain.witness import DOUBLINGS
from kmsconn.errors import AlreadyDone, Destroyed, DestroyedOnce, NotYet, Over, Unreachable
from kmsconn.model.debounce import CONFIRMING
from kmsconn.model.life import Checked
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE
from kmsconn.protocols.queries import mapping_slot
from kmsconn.requests.attesting import AttestedChecker
from kmsconn.requests.checker import Checker
from kmsconn.requests.contexts import WITHOUT_BLOCKS
from tests.unit.requests.answers import Answers, later
from tests.unit.requests.test_standing import (
    ETHEREUM,
    REORG_WINDOW,
    SAYS_SO,
    answered,
    made,
    over,
    seen,
)
from tests.vectors import keys

NAME = "crsgen_test_2048"
IDENTIFIER = keys.content(NAME).id
FINISHED, ABORTED = over(IDENTIFIER, consensus=True), over(IDENTIFIER, consensus=False)
OPEN: dict[int, int] = {}

Chains = Mapping[int, SendingRpc]


class Silent(Answers):
    """A node that answers nothing."""

    async def batch(self, calls: object) -> list[object]:
        await trio.lowlevel.checkpoint()
        raise Unreachable("no second connection is answered")


def other(slots: dict[int, int] | None) -> Chains:
    """Return another node whose Ethereum has these slots; None: it answers nothing."""
    chains = made(slots)[0].chains
    return {**chains, ETHEREUM: Silent(chain_id=ETHEREUM)} if slots is None else chains


async def check_again(checker: Checker, head: HeadTracker, *others: Chains) -> Checked:
    """Check a request until one node's word is confirmed, and then beside others."""
    return await check_beside(AttestedChecker(checker, others), head)


async def check_beside(attested: AttestedChecker, head: HeadTracker) -> Checked:
    """Check a request until one node's word is confirmed, and then beside others."""
    checker = attested.checker
    with pytest.raises(NotYet, match="asked again at a later head"):
        await checker.check(seen(NAME))
    later(head)
    await trio.sleep(CONFIRMING)
    return await attested.check(seen(NAME))


@pytest.mark.parametrize(
    ("others", "said"),
    [
        ([FINISHED, FINISHED, FINISHED], None),
        ([OPEN], "another one does not"),
        ([FINISHED, FINISHED, OPEN], "another one does not"),
        ([ABORTED], "another one says"),
        ([FINISHED, None], "another one says: no second connection is answered"),
    ],
    ids=["all", "one that has it open", "the last one", "another end", "silence"],
)
async def test_an_end_counts_once_every_witness_comes_to_the_same_end(
    others: list[dict[int, int] | None], said: str | None
) -> None:
    checker, head = made(FINISHED)
    with pytest.raises(Over if said is None else NotYet, match=said):
        await check_again(checker, head, *map(other, others))


def test_what_destroys_or_aborts_is_done_for_good() -> None:
    for_good = {kind for kind, operation in keys.PROFILE.operations.items() if operation.for_good}
    assert for_good == {
        Kind.ABORT_KEYGEN,
        Kind.ABORT_CRSGEN,
        Kind.KMS_CONTEXT_DESTROYED,
        Kind.KMS_EPOCH_DESTROYED,
    }


@pytest.mark.parametrize("name", SAYS_SO)
@pytest.mark.parametrize("place", [0, 2])
@pytest.mark.parametrize("is_silent", [False, True])
async def test_a_core_does_nothing_for_good_before_every_witness_says_so(
    name: str, place: int, is_silent: bool
) -> None:
    others = [other(SAYS_SO[name]) for _ in range(3)]
    others[place] = other(None if is_silent else OPEN)
    with pytest.raises(NotYet, match="it may be done, one node says, and another one says"):
        await AttestedChecker(made(SAYS_SO[name])[0], others).check(seen(name))


async def test_what_was_destroyed_is_weighed_once_for_all_requests_and_not_again_for_each() -> None:
    """A witness hears of it for the first time, so that another round would never end."""
    checker, head = made({mapping_slot(CONFIG_BASE + 10, seen(NAME).request.content.context[0] or 0): 1})
    attested = AttestedChecker(checker, [other(OPEN)])
    with pytest.raises(DestroyedOnce):
        await attested.check(seen(NAME))
    later(head)
    await trio.sleep(WITHOUT_BLOCKS)
    with pytest.raises(Destroyed):
        await attested.check(seen(NAME))


async def test_what_needs_no_second_word_asks_for_none() -> None:
    witness = other(OPEN)
    await AttestedChecker(made()[0], [witness]).check(seen(NAME))
    ethereum = witness[ETHEREUM]
    assert isinstance(ethereum, Answers)
    assert ethereum.asked == []


@pytest.mark.parametrize(("others", "is_done"), [(answered(NAME), True), (OPEN, False), (None, False)])
async def test_a_witness_that_has_the_answer_need_not_have_had_it_for_long(
    others: dict[int, int] | None, is_done: bool, mock_clock: trio.testing.MockClock
) -> None:
    """How old it is the node in use has shown; a witness is asked once."""
    checker, _ = made(answered(NAME))
    with pytest.raises(NotYet, match="is in the contract"):
        await checker.check(seen(NAME))
    mock_clock.jump(REORG_WINDOW + 1)
    with pytest.raises(AlreadyDone if is_done else NotYet):
        await AttestedChecker(checker, [other(others)]).check(seen(NAME))


async def test_a_witness_is_asked_of_what_the_node_in_use_has_answered_before() -> None:
    """Nothing of what one node said is taken for the word of another: not the signer, nor that a context is valid."""
    checker, head = made(FINISHED)
    asked = dict.fromkeys(["first", "second"], 0)
    for which in asked:
        witness = other(FINISHED)
        with pytest.raises(Over):
            await check_again(checker, head, witness)
        ethereum = witness[ETHEREUM]
        assert isinstance(ethereum, Answers)
        asked[which] = len(ethereum.asked)
    assert asked["first"] == asked["second"] > 1


async def test_what_a_witness_says_is_not_remembered_as_the_word_of_the_node_in_use() -> None:
    checker, head = made(FINISHED)
    context_id, epoch_id = seen(NAME).request.content.context
    destroyed = {mapping_slot(CONFIG_BASE + 10, context_id or 0): 1}
    with pytest.raises(NotYet, match="another one says"):
        await check_again(checker, head, other({**FINISHED, **destroyed}))
    later(head)
    await trio.sleep(WITHOUT_BLOCKS)
    in_use = checker.chains[ETHEREUM]
    assert isinstance(in_use, Answers)
    in_use.slots.update(destroyed)
    checker.contexts._valid.clear()
    with pytest.raises(DestroyedOnce):
        await checker.contexts.check(context_id, epoch_id)


async def questions_after_denials(denials: int) -> int:
    """Return the rounds of questions to a witness that agrees with an end, after it denied it so many times."""
    checker, head = made(FINISHED)
    witness = other(OPEN)
    attested = AttestedChecker(checker, [witness])
    for _ in range(denials):
        with pytest.raises(NotYet, match="another one does not"):
            await check_beside(attested, head)
    ethereum = witness[ETHEREUM]
    assert isinstance(ethereum, Answers)
    ethereum.slots = dict(FINISHED)
    ethereum.batches.clear()
    with pytest.raises(Over):
        await check_beside(attested, head)
    return len(ethereum.batches)


async def test_an_end_needs_twice_as_many_witnesses_after_each_denial() -> None:
    """Behind one URL they may all be the node that lies, and one that lies for ever has many chances."""
    usual = await questions_after_denials(0)
    assert usual > 0
    assert [await questions_after_denials(times) for times in (1, 2, 9)] == [
        usual * 2,
        usual * 4,
        usual * 2**DOUBLINGS,
    ]
