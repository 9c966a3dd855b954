"""The progress table turns the events of a connector into rows: how far each request is, and how many are how far."""

from __future__ import annotations

import pytest

from kmsconn.emulator.demo import ProgressRow, ProgressStage, ProgressTable, Totals
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.load import Ledger
from kmsconn.model.events import (
    AnswerKept,
    CursorMoved,
    Event,
    ReplyIncluded,
    ReplyReturned,
    ReplySent,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
    RequestRecorded,
    StageFinished,
)
from kmsconn.model.life import State
from kmsconn.model.requests import Kind

from .small_world import DECRYPTION_ADDRESS, SENDER, public_id, signed, world

KIND = Kind.PUBLIC_DECRYPTION
RECORDED = RequestRecorded(1, KIND, public_id(1), 54321, 1, bytes(32), 0)
KEPT = AnswerKept(1, KIND, 0.5)
SIGNED = ReplySigned(1, KIND, 0, b"")
SENT = ReplySent(1, KIND, 0, 0.1)
INCLUDED = ReplyIncluded(1, KIND, 2, 0.5)


def stage(name: str) -> StageFinished:
    return StageFinished(1, KIND, name, 0.1)


class Scene:
    """A small world with a progress table; its clock is set by hand."""

    def __init__(self, *events: Event) -> None:
        self.now = 0.0
        self.world = world()
        clock = lambda: self.now  # noqa: E731 - one clock for both
        self.ground_truth = GroundTruth(self.world.chain, DECRYPTION_ADDRESS, SENDER.address, clock=clock)
        self.ledger = Ledger()
        self.progress = ProgressTable(self.ground_truth, self.ledger, clock=clock)
        self.take(*events)

    def take(self, *events: Event) -> None:
        for event in events:
            self.progress.on_event(event)

    def block(self, at: float) -> None:
        self.now = at
        self.world.chain.mine()
        self.ground_truth.read()

    @property
    def row(self) -> ProgressRow:
        return self.progress.rows[1]


@pytest.mark.parametrize(
    ("events", "expected"),
    [
        ([], ProgressStage.PENDING),
        ([stage("check")], ProgressStage.CHECKED),
        ([stage("check"), stage("gather")], ProgressStage.GATHERED),
        ([stage("gather"), stage("submit")], ProgressStage.SUBMITTED),
        ([stage("submit"), stage("answer")], ProgressStage.SUBMITTED),
        ([stage("answer"), KEPT], ProgressStage.ANSWERED),
        ([KEPT, SIGNED], ProgressStage.SIGNED),
        ([SIGNED, SENT], ProgressStage.SENT),
        ([SENT, INCLUDED], ProgressStage.INCLUDED),
        ([INCLUDED, ReplyReturned(1, KIND, State.ANSWERED, "its block is gone")], ProgressStage.ANSWERED),
        ([INCLUDED, ReplyReturned(1, KIND, State.PENDING, "its block is gone")], ProgressStage.PENDING),
    ],
)
def test_an_event_moves_its_row(events: list[Event], expected: ProgressStage) -> None:
    assert Scene(RECORDED, *events).row.stage is expected


def test_a_deferred_request_says_why() -> None:
    scene = Scene(RECORDED, RequestDeferred(1, KIND, "check", "access is not granted", 2.0))
    assert (scene.row.note, scene.row.closed) == ("access is not granted", False)


def test_the_reason_is_gone_with_the_next_step() -> None:
    scene = Scene(RECORDED, RequestDeferred(1, KIND, "check", "access is not granted", 2.0), stage("check"))
    assert scene.row.note == ""


def test_a_rejected_request_has_failed_and_says_why() -> None:
    scene = Scene(RECORDED, RequestClosed(1, KIND, State.REJECTED, "unknown FHE type"))
    assert (scene.row.note, scene.progress.totals().failed) == ("rejected: unknown FHE type", 1)


def test_a_request_that_was_answered_before_has_not_failed() -> None:
    scene = Scene(RECORDED, RequestClosed(1, KIND, State.FINALIZED, "signed already"))
    assert (scene.row.closed, scene.progress.totals().failed) == (False, 0)


@pytest.mark.parametrize("event", [KEPT, SENT, INCLUDED, RequestDeferred(1, KIND, "", "", 1.0)])
def test_events_of_requests_of_an_earlier_run_are_passed_over(event: Event) -> None:
    assert Scene(event).progress.rows == {}


def test_other_events_are_passed_over() -> None:
    scene = Scene(RECORDED, CursorMoved(54321, DECRYPTION_ADDRESS, 5, 6))
    assert scene.row == ProgressRow(1, Kind.PUBLIC_DECRYPTION, public_id(1))


def test_an_answer_that_is_told_twice_counts_once() -> None:
    assert Scene(RECORDED, KEPT, KEPT).progress.totals().answered == 1


def test_included_is_what_the_chain_says_and_not_the_connector() -> None:
    scene = Scene(RECORDED, KEPT, INCLUDED)
    assert scene.progress.totals() == Totals(requested=0, seen=1, answered=1, included=0, failed=0, doubled=0)


def test_totals_count_what_was_requested_included_and_doubled() -> None:
    scene = Scene()
    scene.ledger.note(scene.world.ask(), "public")
    scene.block(1.0)
    for nonce in (0, 1):
        scene.world.chain.intake.submit(signed(nonce, scene.world.reply(1)))
    scene.block(2.0)
    totals = scene.progress.totals()
    assert (totals.requested, totals.included, totals.doubled) == (1, 1, 1)


def test_the_form_is_that_of_the_transaction() -> None:
    scene = Scene(RECORDED)
    scene.ledger.note(scene.world.ask(), "public")
    assert scene.progress.form_of(scene.row) == ""
    scene.block(1.0)
    assert scene.progress.form_of(scene.row) == "public"


def test_an_open_request_grows_older() -> None:
    scene = Scene(RECORDED)
    scene.world.ask()
    scene.block(1.0)
    scene.now = 3.5
    assert scene.progress.age_of(scene.row) == 2.5


def test_an_answered_request_has_its_latency_for_ever() -> None:
    scene = Scene(RECORDED)
    scene.world.ask()
    scene.block(1.0)
    scene.world.chain.intake.submit(signed(0, scene.world.reply(1)))
    scene.block(2.0)
    scene.now = 9.0
    assert scene.progress.age_of(scene.row) == 1.0


def test_a_request_that_the_chain_does_not_show_has_no_age() -> None:
    scene = Scene(RECORDED)
    assert scene.progress.age_of(scene.row) is None
