"""The emulated contracts of the first generation do what the real ones did, for everything that is recorded of them."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import to_hex
from tests.unit.emulator.httpz_vector_world import (
    AFTER_THE_VALID_REPLIES,
    Step,
    fresh,
    replay,
    steps,
)
from tests.unit.emulator.vector_world import rpc
from tests.vectors import httpz as vectors

STEPS = [(revision, step) for revision in vectors.REVISIONS for step in steps(revision)]
REVERTS = [(r, case) for r in vectors.REVISIONS for case in vectors.load()[r]["reverts"]["cases"]]
INTERFACES = {"2c7c8d0e4": "rc7", "803765a9a": "main", "473b0063a": "rc9"}
GETTERS = [
    (commit, view)
    for commit, listed in vectors.load()["views"].items()
    for view in listed
    if "oprocessor" in view["name"] or "Node" in view["name"] or "before" in view["name"]
]
LATER = [
    (revision, view)
    for revision, commit in (("uint256", "2c7c8d0e4"), ("bytes32", "803765a9a"))
    for view in vectors.load()["views"][commit]
    if "before" not in view["name"]
]


def name_of(value: Any) -> str | None:
    return value.name if isinstance(value, Step) else vectors.name_of(value)


@pytest.mark.parametrize(("revision", "step"), STEPS, ids=name_of)
def test_a_recorded_transaction_emits_the_recorded_logs(revision: str, step: Step) -> None:
    mined = replay(revision).mined[step.name]
    expected = [(log["address"], log["topics"], log["data"]) for log in step.logs]
    got = [
        (to_hex(log.address), [to_hex(topic) for topic in log.topics], to_hex(log.data)) for log in mined.logs
    ]
    assert (1, expected) == (mined.outcome.status, got)


@pytest.mark.parametrize(("revision", "case"), REVERTS, ids=name_of)
@pytest.mark.parametrize("method", ["eth_call", "eth_estimateGas"])
def test_a_refused_reply_gives_the_recorded_error_object(
    revision: str, case: dict[str, Any], method: str
) -> None:
    call = {"from": case["from"], "to": case["to"], "data": case["calldata"]}
    more = [] if method == "eth_estimateGas" else [hex(AFTER_THE_VALID_REPLIES)]
    if method == "eth_estimateGas":
        assert case["eth_estimateGas_error"] == "same as eth_call_error"
    answer = rpc(replay(revision).node, method, call, *more)
    assert case["eth_call_error"] == answer["error"]


@pytest.mark.parametrize(("commit", "view"), GETTERS, ids=name_of)
def test_a_getter_gives_the_recorded_bytes_in_each_interface(commit: str, view: dict[str, Any]) -> None:
    assert_view(fresh(INTERFACES[commit]).node, view)


@pytest.mark.parametrize(("revision", "view"), LATER, ids=name_of)
def test_a_view_gives_the_recorded_bytes_in_the_end(revision: str, view: dict[str, Any]) -> None:
    assert_view(replay(revision).node, view)


def assert_view(node: Any, view: dict[str, Any]) -> None:
    answer = rpc(node, "eth_call", {"to": view["to"], "data": view["call_data"]}, "latest")
    if "error" in view:
        assert view["error"] == answer["error"]
    else:
        assert view["result"] == answer["result"]


def test_everything_recorded_is_played() -> None:
    counted = {revision: len(replay(revision).mined) for revision in vectors.REVISIONS}
    assert counted == {revision: len(steps(revision)) for revision in vectors.REVISIONS}
    assert (len(STEPS), len(REVERTS)) == (178, 85)
