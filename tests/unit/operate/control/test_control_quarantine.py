"""Undecodable logs and quarantined requests: listed with their bytes, brought back, dropped."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.abi import Log
from kmsconn.journal import recording
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import CommandError, perform
from kmsconn.operate.control.server import COMMANDS
from tests.unit.operate.control.scene import Scene
from tests.vectors import log_of, request


def readable(block: int = 40) -> Log:
    """Return a log that this version decodes, of a block of its own."""
    return attrs.evolve(
        log_of(request("user_legacy_direct_v0")),
        block_number=block,
        block_hash=block.to_bytes(4) * 8,
        log_index=3,
    )


def unreadable(block: int = 41) -> Log:
    return attrs.evolve(readable(block), data=b"\x01\x02\x03")


async def put(scene: Scene, log: Log) -> str:
    """Quarantine a log as an older version did, and return its name."""
    read = attrs.evolve(scene.bench.read(log), undecodable=((log, "an unknown form"),), headers={})
    await scene.bench.journal.run(recording.record, read)
    return f"0x{log.block_hash[:4].hex()}:{log.log_index}"


async def ask(scene: Scene, command: str, **arguments: Any) -> Any:
    return await perform(COMMANDS, scene.context, f"quarantine.{command}", arguments)


async def test_logs_and_requests_are_listed(scene: Scene) -> None:
    name = await put(scene, unreadable())
    found = await ask(scene, "list")
    assert [(one["log"], one["reason"]) for one in found["logs"]] == [(name, "an unknown form")]
    assert [one["row"] for one in found["requests"]] == [scene.rows["quarantined"].rid]


async def test_a_log_is_shown_with_its_bytes(scene: Scene) -> None:
    log = unreadable()
    [one] = (await ask(scene, "show", name=await put(scene, log)))["logs"]
    assert (one["data"], one["topics"]) == ("0x010203", [f"0x{topic.hex()}" for topic in log.topics])
    assert (one["event"], "still cannot be decoded" in one["next"]) == (None, True)


async def test_a_log_that_can_be_decoded_now_says_so(scene: Scene) -> None:
    [one] = (await ask(scene, "show", name=await put(scene, readable())))["logs"]
    assert "retry it" in one["next"]
    assert one["event"]["type"] == "LegacyUserDecryption"


async def test_a_log_that_can_be_decoded_now_becomes_a_request(scene: Scene) -> None:
    log = readable()
    answer = await ask(scene, "retry", name=await put(scene, log))
    [one] = answer["retried"]
    row = await scene.bench.row(one["row"])
    assert (row.state, row.on_chain, row.event.log) == (State.PENDING, True, log)
    assert scene.woken == [Kind.USER_DECRYPTION]
    assert (await ask(scene, "list"))["logs"] == []


async def test_replaying_a_log_touches_no_other_request(scene: Scene) -> None:
    """Also not those of its block, which an ordinary read of that block would judge."""
    before = await scene.bench.row(scene.rows["pending"].rid)
    log = attrs.evolve(readable(), block_number=10, block_hash=before.event.log.block_hash, log_index=99)
    assert (await ask(scene, "retry", name=await put(scene, log)))["refused"] == []
    assert await scene.bench.row(before.rid) == before


async def test_a_log_that_still_cannot_be_decoded_is_left(scene: Scene) -> None:
    name = await put(scene, unreadable())
    answer = await ask(scene, "retry", name=name)
    assert answer["retried"] == []
    assert "still cannot be decoded" in answer["refused"][0]["why"]
    assert [one["log"] for one in (await ask(scene, "list"))["logs"]] == [name]


async def test_a_log_of_a_branch_that_is_left_is_no_request(scene: Scene) -> None:
    log = attrs.evolve(readable(), block_number=10)
    answer = await ask(scene, "retry", name=await put(scene, log))
    assert "another block 10 now" in answer["refused"][0]["why"]


async def test_a_log_whose_id_the_chain_uses_for_something_else_is_no_request(scene: Scene) -> None:
    row = scene.rows["pending"]
    log = attrs.evolve(row.event.log, block_number=50, block_hash=b"\x50" * 32, data=scene.rows["rejected"].event.log.data)  # fmt: skip
    answer = await ask(scene, "retry", name=await put(scene, log))
    assert f"row {row.rid} has the same id" in answer["refused"][0]["why"]
    assert (await scene.bench.row(row.rid)).on_chain


async def test_a_known_request_is_not_recorded_twice(scene: Scene) -> None:
    for log in (readable(), readable()):
        answer = await ask(scene, "retry", name=await put(scene, log))
    assert [one.get("known") for one in answer["retried"]] == [True]


async def test_a_log_is_dropped(scene: Scene) -> None:
    name = await put(scene, unreadable())
    assert (await ask(scene, "drop", name=name))["dropped"] == [{"log": name}]
    with pytest.raises(CommandError, match="has no undecodable log"):
        await ask(scene, "drop", name=name)


async def test_a_quarantined_request_is_retried(scene: Scene) -> None:
    rid = scene.rows["quarantined"].rid
    assert [one["row"] for one in (await ask(scene, "retry", name=str(rid)))["retried"]] == [rid]
    assert (await scene.bench.row(rid)).state is State.PENDING


async def test_a_quarantined_request_is_dropped_with_a_reason(scene: Scene) -> None:
    rid = scene.rows["quarantined"].rid
    with pytest.raises(CommandError, match="a reason is needed"):
        await ask(scene, "drop", name=str(rid))
    assert [one["row"] for one in (await ask(scene, "drop", name=str(rid), reason="a test"))["dropped"]] == [rid]  # fmt: skip
    assert (await scene.bench.row(rid)).state is State.REJECTED


@pytest.mark.parametrize("command", ["retry", "drop"])
async def test_what_is_not_quarantined_is_left(scene: Scene, command: str) -> None:
    rid = scene.rows["pending"].rid
    values = {"name": str(rid)} | ({"reason": "x"} if command == "drop" else {})
    assert "not quarantined" in (await ask(scene, command, **values))["refused"][0]["why"]


@pytest.mark.parametrize("name", ["0x12:1", "0x123456789:1", "12345678:1", "0x12345678:", "x:y"])
async def test_what_is_no_name_of_a_log_is_an_error(scene: Scene, name: str) -> None:
    with pytest.raises(CommandError, match="is no log"):
        await ask(scene, "show", name=name)


async def test_two_logs_with_one_name_are_told_apart(scene: Scene) -> None:
    first = unreadable()
    second = attrs.evolve(first, block_number=60, block_hash=first.block_hash[:8] + bytes(24))
    name = await put(scene, first)
    assert await put(scene, second) == name
    with pytest.raises(CommandError, match="several logs"):
        await ask(scene, "drop", name=name)
    whole = f"0x{second.block_hash.hex()}:{second.log_index}"
    assert (await ask(scene, "drop", name=whole))["refused"] == []
    assert [one["block"] for one in (await ask(scene, "list"))["logs"]] == [first.block_number]
