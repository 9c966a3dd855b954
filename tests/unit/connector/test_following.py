"""What other processes change and nobody tells: ends of requests that are remembered here, and pauses."""

from __future__ import annotations

from pathlib import Path

import trio

from kmsconn.connector.event_hook import MEMORY, ShadowFindings
from kmsconn.connector.following import FORGET_INTERVAL, Topics, follow_pauses, forget_ended, tell
from kmsconn.errors import Unreachable
from kmsconn.journal import inspecting, moves
from kmsconn.journal.inspecting import PausedKind
from kmsconn.model.alerts import PATIENCE
from kmsconn.model.events import ReplyCompared, ReplyMissing, ReplyUnmatched
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.faults.scene import open_scene
from tests.unit.journal.samples import keep
from tests.unit.requests.bench import ANSWER, open_bench, wall
from tests.unit.requests.test_dispatcher import rows_of


async def test_requests_that_another_process_ended_are_forgotten_and_its_answers_are_passes(
    tmp_path: Path,
) -> None:
    async with open_bench(tmp_path, check=Unreachable("gone")) as bench, trio.open_nursery() as nursery:
        rows = await rows_of(bench, 4)
        for row in rows:
            await bench.run(row)
        await trio.sleep(PATIENCE)
        [before] = bench.holdups()
        nursery.start_soon(forget_ended, bench.pipeline.runner, bench.journal)
        await bench.journal.run(moves.move, "reject", rows[0].rid, reason="by another process")
        await trio.sleep(FORGET_INTERVAL + 1)
        [ended] = bench.holdups()
        await bench.journal.run(keep, rows[1].rid, ANSWER, wall())
        await trio.sleep(FORGET_INTERVAL)
        [answered] = bench.holdups()
        nursery.cancel_scope.cancel()
    assert [one.count for one in (before, ended, answered)] == [4, 3, 2]
    assert [bool(one.stopped) for one in (before, ended, answered)] == [True, True, False]


async def test_a_pause_that_came_into_the_journal_holds_and_ends(tmp_path: Path) -> None:
    async with open_scene(tmp_path) as scene, scene.connected() as connector, trio.open_nursery() as nursery:
        components = connector.components
        pool = components.pool_for[Kind.PUBLIC_DECRYPTION]
        nursery.start_soon(follow_pauses, components)
        await components.journal.run(inspecting.pause, PausedKind(Kind.PUBLIC_DECRYPTION, 0.0))
        await scene.wait(lambda: pool.paused)
        await components.journal.run(inspecting.resume, Kind.PUBLIC_DECRYPTION)
        await scene.wait(lambda: not pool.paused)
        nursery.cancel_scope.cancel()


def test_a_topic_wakes_its_own_and_where_nobody_heard_which_one_everybody_is_woken() -> None:
    woken: list[str] = []
    topics: Topics = {
        "due": lambda name: woken.append(f"due {name}"),
        "answered": lambda name: woken.append(f"answered {name}"),
    }
    tell(topics, {"due keygen", "of a later version"})
    tell(topics, ())
    assert woken == ["due keygen", "due ", "answered "]


KIND = Kind.PUBLIC_DECRYPTION


def compared(likeness: str) -> ReplyCompared:
    return ReplyCompared(1, KIND, likeness, 0.5, 9, bytes(32), 163, "decryptedResult", "0x05", "0x06", id=7)


def test_a_difference_names_request_byte_and_argument() -> None:
    """Everything to find it in the log."""
    findings = ShadowFindings()
    findings.note(compared("different"), 0.0)
    [alert] = findings.alerts(1.0)
    assert (alert.dependency, alert.cause, alert.count) == ("shadow", "replies-differ", 1)
    assert alert.text.endswith(f"request 0x{7:064x} at byte 163 in decryptedResult, 0x05 here and 0x06 there")


def test_differences_are_told_for_an_hour_and_equal_or_recomputed_replies_never() -> None:
    """Shares that were encrypted twice differ by right."""
    findings = ShadowFindings()
    for likeness, at in (("equal", 0.0), ("recomputed", 0.0), ("different", 0.0), ("different", 10.0)):
        findings.note(compared(likeness), at)
    assert [alert.count for alert in findings.alerts(MEMORY)] == [2]
    assert [alert.count for alert in findings.alerts(MEMORY + 5)] == [1]
    assert list(findings.alerts(MEMORY + 11)) == []


def test_each_cause_has_an_alert_of_its_own() -> None:
    """They call for different remedies."""
    findings = ShadowFindings()
    findings.note(ReplyUnmatched(1, KIND, State.REJECTED, "no right", id=7), 0.0)
    findings.note(ReplyMissing(2, KIND, 86_400.0, id=8), 0.0)
    texts = {alert.cause: alert.text for alert in findings.alerts(1.0)}
    assert set(texts) == {"replies-unmatched", "replies-missing"}
    assert "is rejected here: no right" in texts["replies-unmatched"]
