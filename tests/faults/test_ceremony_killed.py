"""A life of keys with a node that is killed again and again: each reply is given once all the same, and each end reaches its Core.

``KMSCONN_POINTS`` says how many lives are led with kills at any task step, ``all`` means two hundred.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import pytest
import trio

from kmsconn.model.events import (
    AnswerKept,
    Event,
    ReplyIncluded,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestRecorded,
    StageFinished,
)
from kmsconn.model.requests import Kind
from tests.faults.ceremony import ENDS, LONG, open_ceremony
from tests.sampling import points_of

pytestmark = [pytest.mark.once, pytest.mark.long]

FATAL = (RequestRecorded, StageFinished, AnswerKept, ReplySigned, ReplySent, ReplyIncluded, RequestClosed)
FINALIZED = (Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH)
TOLD = (Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED, Kind.KMS_EPOCH_DESTROYED)
LIVES = 200
SHORTEST, LONGEST = 50, 4000  # task steps of one process; a whole undisturbed life has some ten thousand


class Reaper:
    """Kills at the first event of each sort, stage and kind."""

    def __init__(self) -> None:
        self.died: set[tuple[str, str, Kind | None]] = set()

    def __call__(self, event: Event) -> bool:
        kind = getattr(event, "kind", None)
        sort = (type(event).__name__, str(getattr(event, "stage", "")), kind)
        is_new = isinstance(event, FATAL) and kind in {*FINALIZED, *TOLD} and sort not in self.died
        self.died.update({sort} if is_new else ())
        return is_new


async def test_a_node_that_dies_at_each_step_of_each_kind_loses_nothing(tmp_path: Path) -> None:
    reaper = Reaper()
    async with open_ceremony(tmp_path, computing=30.0) as ceremony:
        ceremony.deadly = reaper
        with trio.fail_after(3 * LONG):
            await ceremony.owner.play()
        await trio.sleep(ENDS)
        for node in ceremony.nodes:
            ceremony.check_replies(node)
    for kind in FINALIZED:
        assert {sort for sort, _, one in reaper.died if one is kind} >= {sort.__name__ for sort in FATAL[:-1]}
    for kind in TOLD:
        sorts = {"RequestRecorded", "StageFinished", "RequestClosed"}
        assert {sort for sort, _, one in reaper.died if one is kind} == sorts
    assert ceremony.deaths[0] == len(reaper.died)


@pytest.mark.parametrize("seed", points_of(LIVES, 2))
async def test_a_node_that_dies_at_any_task_step_loses_nothing(seed: int, tmp_path: Path) -> None:
    random = Random(seed)
    async with open_ceremony(tmp_path, members=1, computing=30.0) as ceremony:
        ceremony.dies_at = lambda _: random.randrange(SHORTEST, LONGEST)
        with trio.fail_after(3 * LONG):
            await ceremony.owner.play()
        await trio.sleep(ENDS)
        ceremony.check_replies(0)
        assert ceremony.deaths[0] > 0
