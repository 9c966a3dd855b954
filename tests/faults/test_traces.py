"""Whole worlds whose connector is killed: one trace for each request, and each transition once in an audit log that holds."""

from __future__ import annotations

import json
from collections import defaultdict
from pathlib import Path
from random import Random

import pytest

from kmsconn.config.parties import Chain
from kmsconn.config.settings import TracingSettings
from kmsconn.journal.audit import verify
from kmsconn.model import events
from kmsconn.model.life import TRANSITIONS
from kmsconn.model.requests import trace_of
from kmsconn.observe.spans import Span, SpanMaker
from kmsconn.testing.faults import Ask, Kill, KillAtWork
from kmsconn.testing.world import EPOCH_SECONDS, WorldReport, run_world
from tests import vectors

TRACING = TracingSettings("http://collector:4318/v1/traces")
COUNT = 6
KILLED = 2.09  # the Core has the requests, and nothing is answered
REPLIED = {"sign", "broadcast", "include"}


def recorded(report: WorldReport) -> list[events.RequestRecorded]:
    """Return the requests of a world: decryptions, so the chain of each is the Gateway."""
    return [event for _, event in report.log if isinstance(event, events.RequestRecorded)]


def spans_of(report: WorldReport) -> tuple[list[Span], list[Span]]:
    """Return the spans of the process that is killed, and those of the next one, which remembers nothing of it."""
    gateway = Chain(recorded(report)[0].chain_id, ())
    settings = vectors.vector_settings(gateway=gateway)
    now = 0.0
    made: tuple[list[Span], list[Span]] = ([], [])
    makers = [SpanMaker(settings, TRACING, lambda: now, Random(seed).random) for seed in range(2)]
    for at, event in report.log:
        now = EPOCH_SECONDS + at
        made[at > KILLED].extend(makers[at > KILLED].take(event))
    return made


@pytest.mark.parametrize("profile", ["fhevm", "httpz-rc7"])
def test_a_request_has_one_trace_before_and_after_a_kill_with_its_stages_its_reply_and_one_span_of_its_own(
    profile: str,
) -> None:
    report = run_world([Ask(1.0, "any", COUNT), Kill(KILLED)], seed=5, profile=profile, tracing=TRACING)
    report.check()
    before, after = spans_of(report)
    traces = {trace_of(one.chain_id, one.kind, one.id).trace_id for one in recorded(report)}
    assert len(traces) == COUNT
    assert {span.trace_id for span in before} == traces
    assert {span.trace_id for span in after} == traces
    names = defaultdict(list)
    for span in (*before, *after):
        names[span.trace_id].append(span.name if span.parent_id is not None else "request")
    for found in names.values():
        assert {"record", "check", "gather", "submit", "answer", *REPLIED, "request"} <= {*found}
        assert found.count("request") == 1


STEPS = {(source.value, target.value) for sources, target in TRANSITIONS.values() for source in sources}


def lives(path: Path) -> dict[int, list[tuple[str | None, str]]]:
    """Return the transitions of each row."""
    found = defaultdict(list)
    for line in map(json.loads, path.read_bytes().splitlines()):
        if line["type"] == "transition":
            found[line["row"]].append((line.get("from"), line["to"]))
    return found


@pytest.mark.parametrize("profile", ["fhevm", "httpz-rc7"])
@pytest.mark.parametrize(
    "killing",
    [
        [Kill(2.09)],
        [KillAtWork(1.5, 3, "before"), Kill(4.0)],
        [KillAtWork(1.5, 5, "after"), Kill(3.2), Kill(6.0)],
    ],
    ids=["once", "before work", "after work"],
)
def test_no_transition_is_missed_and_none_is_written_twice(
    profile: str, killing: list[Kill | KillAtWork], tmp_path: Path
) -> None:
    path = tmp_path / "audit.jsonl"
    run_world([Ask(1.0, "any", COUNT), *killing], seed=5, profile=profile, audit_log=path).check()
    assert verify([path]) == verify([path], verify([path]).head)
    assert verify([path]).broken == ""
    found = lives(path)
    assert len(found) == COUNT
    for steps in found.values():
        assert steps[0] == (None, "pending")
        assert set(steps[1:]) <= STEPS
        assert [after[0] for after in steps[1:]] == [before[1] for before in steps[:-1]]
        assert steps[-1][1] in {"included", "finalized"}
