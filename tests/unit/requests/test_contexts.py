"""Contexts and epochs: asked once, believed for a while, asked anew."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.follower import HeadTracker
from kmsconn.errors import Destroyed, DestroyedOnce, NotYet, Rejected, Unreachable
from kmsconn.model.debounce import CONFIRMING
from kmsconn.protocols.fhevm.contracts import CONFIG_BASE
from kmsconn.protocols.queries import mapping_slot
from kmsconn.requests.contexts import TIME_TO_LIVE, WITHOUT_BLOCKS, Contexts, Suspicions
from tests.unit.requests.answers import PROFILE, Answers, confirmed, later

CONTEXT, EPOCH = 7 << 248 | 1, 8 << 248 | 1
DESTROYED = mapping_slot(CONFIG_BASE + 10, CONTEXT)


@attrs.define
class Clock:
    seconds: float = 0.0

    def __call__(self) -> float:
        return self.seconds


def made(**views: Any) -> tuple[Contexts, Answers, Clock]:
    chain = Answers({"isValidKmsContext": True, "isValidEpochForContext": True, **views})
    clock, head = Clock(), HeadTracker()
    head.note(100, 1000)
    return Contexts(PROFILE, chain, clock, Suspicions({chain.chain_id: head})), chain, clock


def head_of(contexts: Contexts) -> HeadTracker:
    [head] = contexts.suspicions.heads.values()
    return head


@pytest.mark.parametrize(
    ("context", "epoch", "asked"),
    [
        (None, None, []),
        (CONTEXT, None, ["storage", "isValidKmsContext"]),
        (CONTEXT, EPOCH, ["storage", "isValidKmsContext", "isValidEpochForContext"]),
    ],
)
async def test_what_is_named_is_asked_for_in_one_batch(
    context: int | None, epoch: int | None, asked: list[str]
) -> None:
    contexts, chain, _ = made()
    await contexts.check(context, epoch)
    assert chain.asked == asked
    assert chain.batches == [len(asked)] * bool(asked)


@pytest.mark.parametrize(("after", "times"), [(0.0, 1), (TIME_TO_LIVE - 1, 1), (TIME_TO_LIVE, 2)])
async def test_a_valid_pair_is_believed_for_a_while(after: float, times: int) -> None:
    contexts, chain, clock = made()
    await contexts.check(CONTEXT, EPOCH)
    clock.seconds += after
    await contexts.check(CONTEXT, EPOCH)
    assert len(chain.batches) == times


async def test_each_pair_is_believed_for_itself() -> None:
    contexts, chain, _ = made()
    await contexts.check(CONTEXT, None)
    await contexts.check(CONTEXT, EPOCH)
    await contexts.check(CONTEXT + 1, EPOCH)
    assert len(chain.batches) == 3


@pytest.mark.parametrize(
    ("view", "what", "rounds"), [("isValidKmsContext", "context", 1), ("isValidEpochForContext", "epoch", 2)]
)
async def test_what_is_not_valid_is_waited_for_and_asked_for_again(view: str, what: str, rounds: int) -> None:
    """An epoch that is not valid costs one more round: it may have been destroyed. All who name it wait for the same question."""
    contexts, chain, _ = made(**{view: False})
    for wait in (0.5, 1.0):
        for _ in range(3):
            with pytest.raises(NotYet, match=rf"{what} .* is not valid on chain") as raised:
                await contexts.check(CONTEXT, EPOCH)
            assert raised.value.again_in == wait
        await trio.sleep(wait)
    chain.views[view] = True
    await contexts.check(CONTEXT, EPOCH)
    assert len(chain.batches) == 2 * rounds + 1


async def test_a_destroyed_context_is_waited_for_until_a_later_head_says_the_same_and_asked_about_no_more() -> (
    None
):
    contexts, chain, _ = made()
    chain.slots[DESTROYED] = 1
    with pytest.raises(Destroyed, match="was destroyed"):
        await confirmed(head_of(contexts), lambda: contexts.check(CONTEXT, EPOCH))
    for epoch in (EPOCH, EPOCH + 1, None):
        with pytest.raises(Destroyed):
            await contexts.check(CONTEXT, epoch)
    assert len(chain.batches) == 2


async def test_one_node_that_says_destroyed_ends_nothing() -> None:
    contexts, chain, _ = made()
    for _ in range(3):
        chain.slots[DESTROYED] = 1
        with pytest.raises(DestroyedOnce):
            await contexts.check(CONTEXT, EPOCH)
        later(head_of(contexts))
        await trio.sleep(60.0)
        del chain.slots[DESTROYED]
        contexts._valid.clear()
        await contexts.check(CONTEXT, EPOCH)
        contexts._valid.clear()


@attrs.define
class Attested:
    """Contexts of which the node in use says that one was destroyed, and the witnesses."""

    contexts: Contexts
    others: list[Answers]

    @classmethod
    def by(cls, *says: bool) -> Attested:
        contexts, chain, _ = made()
        chain.slots[DESTROYED] = 1
        others = [made()[1] for _ in says]
        contexts.witnesses = others
        at = cls(contexts, others)
        at.say(*says)
        return at

    def say(self, *says: bool | None) -> None:
        """Let the witnesses say whether it was destroyed; None: they say nothing."""
        for other, one in zip(self.others, says, strict=True):
            other.slots = {DESTROYED: int(bool(one))}
            other.views["isValidKmsContext"] = Unreachable("no second connection") if one is None else True

    async def check_twice(self) -> None:
        """Ask, see that it is waited for, and raise what comes of it at a later head."""
        with pytest.raises(DestroyedOnce, match="asked again at a later head"):
            await self.contexts.check(CONTEXT, EPOCH)
        await self.check_later()

    async def check_later(self) -> None:
        later(head_of(self.contexts))
        await trio.sleep(CONFIRMING)
        await self.contexts.check(CONTEXT, EPOCH)


async def test_what_every_other_node_calls_destroyed_too_is() -> None:
    at = Attested.by(True, True, True)
    with pytest.raises(Destroyed):
        await at.check_twice()
    assert at.contexts.is_destroyed(CONTEXT)
    assert [other.batches for other in at.others] == [[3], [3], [3]]


@pytest.mark.parametrize("place", [0, 2])
async def test_a_witness_that_calls_it_valid_lets_it_wait_for_a_window_anew(place: int) -> None:
    """Behind one URL the next witnesses may all be the node that lies."""
    says = [True, True, True]
    says[place] = False
    at = Attested.by(*says)
    with pytest.raises(DestroyedOnce, match="another one does not"):
        await at.check_twice()
    assert not at.contexts.is_destroyed(CONTEXT)
    at.say(True, True, True)
    await trio.sleep(60.0)
    with pytest.raises(DestroyedOnce, match="asked again at a later head"):
        await at.contexts.check(CONTEXT, EPOCH)
    with pytest.raises(Destroyed):
        await at.check_later()


async def test_a_silent_witness_lets_it_wait_for_one_that_speaks() -> None:
    at = Attested.by(True, True)
    at.say(True, None)
    with pytest.raises(DestroyedOnce, match="another one says: no second connection"):
        await at.check_twice()
    assert not at.contexts.is_destroyed(CONTEXT)
    at.say(True, True)
    with pytest.raises(Destroyed):
        await at.check_later()


async def test_without_a_later_head_time_confirms() -> None:
    """A chain without traffic makes no blocks."""
    contexts, chain, _ = made()
    chain.slots[DESTROYED] = 1
    with pytest.raises(DestroyedOnce):
        await contexts.check(CONTEXT, None)
    await trio.sleep(WITHOUT_BLOCKS - 1)
    with pytest.raises(DestroyedOnce):
        await contexts.check(CONTEXT, None)
    await trio.sleep(2)
    with pytest.raises(Destroyed):
        await contexts.check(CONTEXT, None)


async def test_a_later_head_confirms_nothing_before_the_window_is_over() -> None:
    """One block later the same node may answer again."""
    contexts, chain, _ = made()
    chain.slots[DESTROYED] = 1
    for seconds in (0.0, CONFIRMING - 1.0):
        await trio.sleep(seconds)
        with pytest.raises(DestroyedOnce, match="asked again at a later head"):
            await contexts.check(CONTEXT, None)
        later(head_of(contexts))
    await trio.sleep(1.0)
    with pytest.raises(Destroyed):
        await contexts.check(CONTEXT, None)


async def test_what_was_said_at_a_head_that_went_is_said_for_the_first_time() -> None:
    contexts, chain, _ = made()
    chain.slots[DESTROYED] = 1
    for number in (100, 90):
        head_of(contexts).follow_down(number, 1000)
        with pytest.raises(DestroyedOnce, match="asked again at a later head"):
            await contexts.check(CONTEXT, None)
        await trio.sleep(WITHOUT_BLOCKS)
    with pytest.raises(Destroyed):
        await contexts.check(CONTEXT, None)


async def test_what_was_destroyed_in_a_block_that_is_not_final_is_waited_for() -> None:
    """The block may go, and with it the destruction: nothing is answered under it, and nothing rejected."""
    contexts, chain, _ = made(isValidKmsContext=False)
    chain.slots[DESTROYED], chain.final = 1, {}
    with pytest.raises(NotYet):
        await contexts.check(CONTEXT, None)


async def test_nothing_is_answered_long_after_a_context_was_destroyed() -> None:
    contexts, chain, clock = made()
    await contexts.check(CONTEXT, EPOCH)
    chain.slots[DESTROYED] = 1
    clock.seconds += TIME_TO_LIVE
    with pytest.raises(Rejected):
        await confirmed(head_of(contexts), lambda: contexts.check(CONTEXT, EPOCH))


async def test_a_chain_that_does_not_answer_proves_nothing() -> None:
    contexts, chain, _ = made(isValidKmsContext=Unreachable("down"))
    with pytest.raises(Unreachable):
        await contexts.check(CONTEXT, EPOCH)
    chain.views["isValidKmsContext"] = True
    await contexts.check(CONTEXT, EPOCH)


NEWEST_EPOCH = CONFIG_BASE + 12
STATE = mapping_slot(CONFIG_BASE + 15, EPOCH)


async def test_an_epoch_that_was_issued_and_is_gone_was_destroyed() -> None:
    contexts, chain, _ = made(isValidEpochForContext=False)
    chain.slots[NEWEST_EPOCH] = EPOCH
    with pytest.raises(Rejected, match=r"epoch 0x08.* was destroyed"):
        await confirmed(head_of(contexts), lambda: contexts.check(CONTEXT, EPOCH))


@pytest.mark.parametrize(("state", "newest"), [(1, EPOCH), (2, EPOCH), (0, EPOCH - 1), (0, 0)])
async def test_an_epoch_that_is_pending_or_not_issued_yet_is_waited_for(state: int, newest: int) -> None:
    contexts, chain, _ = made(isValidEpochForContext=False)
    chain.slots |= {STATE: state, NEWEST_EPOCH: newest}
    with pytest.raises(NotYet, match="epoch"):
        await contexts.check(CONTEXT, EPOCH)


async def test_an_id_that_is_no_epoch_is_waited_for_as_the_specification_has_it() -> None:
    contexts, chain, _ = made(isValidEpochForContext=False)
    chain.slots[NEWEST_EPOCH] = EPOCH
    with pytest.raises(NotYet):
        await contexts.check(CONTEXT, 9 << 248 | 1)
