"""The emulated contracts of the first generation do what the real ones did, for everything that is recorded of them."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import to_hex
from kmsconn.protocols.httpz_rc7 import contracts
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
ACTIVATES = to_hex(contracts.KEY_MANAGER.function("activateKeyResponse").selector)
"""What coprocessors do; it is not emulated."""
REVERTS = [
    (r, case)
    for r in vectors.REVISIONS
    for case in vectors.load()[r]["reverts"]["cases"]
    if not case["calldata"].startswith(ACTIVATES)
]
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
    if "before" not in view["name"] and "CurrentKeyId" not in view["name"]
]


def logged(revision: str, step: Step) -> tuple[int, list[tuple[str, list[str], str]]]:
    """Return the status and the logs of a transaction that was played again."""
    mined = replay(revision).mined[step.name]
    logs = [
        (to_hex(log.address), [to_hex(topic) for topic in log.topics], to_hex(log.data)) for log in mined.logs
    ]
    return mined.outcome.status, logs


def test_a_recorded_transaction_emits_the_recorded_logs() -> None:
    for revision, step in STEPS:
        expected = [(log["address"], log["topics"], log["data"]) for log in step.logs]
        assert logged(revision, step) == (1, expected), (revision, step.name)


@pytest.mark.parametrize(
    ("method", "more"), [("eth_call", [hex(AFTER_THE_VALID_REPLIES)]), ("eth_estimateGas", [])]
)
def test_a_refused_reply_gives_the_recorded_error_object(method: str, more: list[str]) -> None:
    for revision, case in REVERTS:
        assert case["eth_estimateGas_error"] == "same as eth_call_error"
        call = {"from": case["from"], "to": case["to"], "data": case["calldata"]}
        answer = rpc(replay(revision).node, method, call, *more)
        assert case["eth_call_error"] == answer["error"], (revision, vectors.name_of(case))


def test_a_getter_gives_the_recorded_bytes_in_each_interface() -> None:
    nodes = {commit: fresh(interface).node for commit, interface in INTERFACES.items()}
    assert [(commit, view) for commit, view in GETTERS if not as_recorded(nodes[commit], view)] == []


def test_a_view_gives_the_recorded_bytes_in_the_end() -> None:
    assert [
        (revision, view) for revision, view in LATER if not as_recorded(replay(revision).node, view)
    ] == []


def as_recorded(node: Any, view: dict[str, Any]) -> bool:
    """Say whether a view gives the recorded result or error."""
    answer = rpc(node, "eth_call", {"to": view["to"], "data": view["call_data"]}, "latest")
    what = "error" if "error" in view else "result"
    return bool(view[what] == answer.get(what))


def test_everything_recorded_is_played() -> None:
    counted = {revision: len(replay(revision).mined) for revision in vectors.REVISIONS}
    assert counted == {revision: len(steps(revision)) for revision in vectors.REVISIONS}
    assert (len(STEPS), len(REVERTS)) == (158, 81)
