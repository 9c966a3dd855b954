from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.hexes import from_hex
from kmsconn.protocols.httpz_rc7 import abi
from kmsconn.protocols.httpz_rc7.profile import OPERATIONS, HttpzRc7
from kmsconn.protocols.port import Revert, Verdict
from tests.vectors import httpz

NAMED = ("DecryptionManager", "KeyManager")
FUNCTIONS = {
    function.selector: function.name
    for contract in NAMED
    for function in abi.CONTRACTS[contract].functions_by_selector.values()
}
ROWS = {row.reply.name: row for row in OPERATIONS}
VERDICTS = {name: row.verdicts for name, row in ROWS.items()}
PROFILE = HttpzRc7(httpz.settings())
DONE = {name for table in VERDICTS.values() for name, verdict in table.items() if verdict is Verdict.DONE}


def read(function: str, data: bytes | None) -> Revert:
    return PROFILE.operations[ROWS[function].kind].revert(data)


def cases() -> list[tuple[str, dict[str, Any]]]:
    """Return the recorded reverts of replies that a node sends."""
    return [
        (revision, case)
        for revision in httpz.REVISIONS
        for case in httpz.load()[revision]["reverts"]["cases"]
        if FUNCTIONS.get(from_hex(case["calldata"])[:4]) in VERDICTS
    ]


@pytest.mark.parametrize(("revision", "case"), cases(), ids=httpz.name_of)
def test_recorded_reverts_have_name_and_verdict(revision: str, case: dict[str, Any]) -> None:
    function = FUNCTIONS[from_hex(case["calldata"])[:4]]
    found = read(function, from_hex(case["eth_call_error"].get("data", "0x")))
    if case["error_signature"] is None:
        assert found.verdict is Verdict.RETRY
        return
    name = case["error_signature"].split("(")[0]
    assert found.name == name
    assert found.verdict is (Verdict.DONE if name in DONE else Verdict.FINAL)


@pytest.mark.parametrize(("revision", "case"), cases(), ids=httpz.name_of)
def test_recorded_reverts_show_their_arguments(revision: str, case: dict[str, Any]) -> None:
    function = FUNCTIONS[from_hex(case["calldata"])[:4]]
    found = read(function, from_hex(case["eth_call_error"].get("data", "0x")))
    expected = case.get("error_arguments") or []
    assert len(found.arguments) == len(expected)
    for text, argument in zip(found.arguments, expected, strict=True):
        assert int(text, 0) == int(str(argument), 0)


def test_every_reply_function_and_every_final_or_done_error_is_recorded() -> None:
    seen = {FUNCTIONS[from_hex(case["calldata"])[:4]] for _, case in cases()}
    assert seen == set(VERDICTS)
    names = {case["error_signature"].split("(")[0] for _, case in cases() if case["error_signature"]}
    assert names == {name for table in VERDICTS.values() for name in table}


def test_every_name_in_the_table_is_an_error_of_the_contracts() -> None:
    known = {error.name for error in abi.ALL_ERRORS.values()}
    assert {name for table in VERDICTS.values() for name in table} <= known


@pytest.mark.parametrize("data", [None, b"", b"\x01", bytes.fromhex("deadbeef")])
def test_what_is_not_known_is_tried_again(data: bytes | None) -> None:
    assert read("keygenResponse", data).verdict is Verdict.RETRY
