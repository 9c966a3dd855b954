"""Our Solidity KMSGeneration and ProtocolConfig do in every ceremony what the real contracts did, on a real node."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from tests import vectors
from tests.real.anvil.recorded_ceremony import Recorded, error_of, play
from tests.unit.emulator.ceremony_world import ETHEREUM, EVENTS, REVERTS

HOST = vectors.load()["ethereum"]
INEXACT = {"EpochActivationConfirmation"}
"""Its data is a hash whose formula the specification does not tell; ours covers the same, in the same order."""


def logged(receipt: dict[str, Any]) -> list[tuple[list[str], str]]:
    return [(log["topics"], to_hex(keccak256(from_hex(log["data"])))) for log in receipt["logs"]]


def differing_events(played: Recorded) -> list[str]:
    """Return the recorded requests that no transaction of anvil announced in the same bytes and block."""
    seen = {
        (log["data"], tuple(log["topics"]), int(log["blockNumber"], 16))
        for receipt in played.receipts.values()
        for log in receipt["logs"]
    }
    wanted = {
        e["name"]: (e["log"]["data"], tuple(e["log"]["topics"]), int(e["log"]["blockNumber"], 16))
        for e in EVENTS
    }
    return [name for name, facts in wanted.items() if facts not in seen]


def differing_replies(played: Recorded) -> list[str]:
    """Return the replies that failed, or whose logs are not the recorded ones."""
    different = []
    for entry in EVENTS:
        for answer in entry["answers"]:
            name = f"{entry['name']}/{answer['node']}"
            recorded = answer["proof"]["events"]
            got = logged(played.receipts[name])
            exact = [(e["topics"], e["data_keccak256"]) for e in recorded if e["name"] not in INEXACT]
            topics = [e["topics"] for e in recorded]
            if [t for t, _ in got] != topics or any(each not in got for each in exact):
                different.append(name)
    return different


async def differing_reads(played: Recorded) -> list[str]:
    """Return the slots at the end, and the views of old blocks, that are not as recorded."""
    wanted: list[tuple[str, str, tuple[Any, ...], str]] = [
        (
            e["what"],
            "eth_getStorageAt",
            (ETHEREUM["contracts"][e["contract"]], e["slot"], "latest"),
            e["value"],
        )
        for e in HOST["storage"]["reads"]
    ]
    wanted += [
        (f"{v['stage']} {v['function']}", "eth_call", (v["call"], v["block"]), v["result"])
        for v in HOST["views"]
        if v["contract"] == "KMSGeneration"
    ]
    return [name for name, method, params, value in wanted if await played.ask(method, *params) != value]


async def test_all_that_was_recorded_happens_again_on_anvil(anvil: Path, tmp_path: Path) -> None:
    """13 requests, 19 replies, 28 refusals, 26 slots and the views of two old blocks."""
    async with play(anvil, tmp_path) as played:
        assert differing_events(played) == []
        assert differing_replies(played) == []
        assert {e["name"]: error_of(e)["data"] for e in REVERTS} == {
            name: from_hex(error["data"]) if isinstance(error["data"], str) else error["data"]
            for name, error in played.errors.items()
        }
        assert await differing_reads(played) == []
