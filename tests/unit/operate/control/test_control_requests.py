"""What the commands for requests take, what they answer, and what they refuse."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from kmsconn.journal import queries
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import CommandError, perform
from kmsconn.operate.control.requests import COMMANDS
from tests.unit.operate.control.scene import Scene
from tests.unit.requests.bench import CHAIN_TIME, EXPIRY, wall


async def ask(scene: Scene, command: str, **arguments: Any) -> Any:
    answer = await perform(COMMANDS, scene.context, command, arguments)
    return msgspec.json.decode(msgspec.json.encode(answer))  # as it goes over the socket


async def fates(scene: Scene, **arguments: Any) -> list[str]:
    names = {row.rid: fate for fate, row in scene.rows.items()}
    return [names[one["row"]] for one in (await ask(scene, "requests.list", **arguments))["requests"]]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({}, ["done", "expired", "quarantined", "rejected", "pending"]),
        ({"states": ["failed"]}, ["expired", "quarantined", "rejected"]),
        ({"states": ["pending"]}, ["pending"]),
        ({"states": ["pending", "done"]}, ["done", "pending"]),
        ({"kinds": ["public_decryption"], "cause": "WAS EXP"}, ["expired"]),
        ({"kinds": ["keygen"]}, []),
        ({"limit": 2}, ["done", "expired"]),
    ],
)
async def test_requests_are_listed(scene: Scene, arguments: dict[str, Any], expected: list[str]) -> None:
    assert await fates(scene, **arguments) == expected


async def test_a_list_says_where_it_goes_on(scene: Scene) -> None:
    first = await ask(scene, "requests.list", limit=3)
    assert await fates(scene, before=first["before"]) == ["rejected", "pending"]
    assert (await ask(scene, "requests.list"))["before"] is None


async def test_all_that_is_known_of_a_request_is_shown(scene: Scene) -> None:
    row = scene.rows["rejected"]
    [shown] = (await ask(scene, "requests.show", request=f"0x{row.id:064x}"))["requests"]
    assert shown["row"] == row.rid
    assert shown["reason"] == "because it was rejected"
    assert shown["state"] == "rejected"
    assert shown["block_hash"] == f"0x{row.event.log.block_hash.hex()}"
    assert shown["event"]["type"] == "PublicDecryption"
    assert len(shown["event"]["references"]) == 3
    assert shown["others_of_this_id"] == []
    assert (await ask(scene, "requests.show", request=str(row.rid)))["requests"] == [shown]


async def test_a_named_request_begins_again_and_its_pool_is_woken(scene: Scene) -> None:
    row = scene.rows["rejected"]
    answer = await ask(scene, "requests.retry", requests=[f"0x{row.id:x}"])
    assert [one["row"] for one in answer["retried"]] == [row.rid]
    assert answer["refused"] == []
    after = await scene.bench.row(row.rid)
    assert (after.state, after.progress.deadline) == (State.PENDING, CHAIN_TIME + EXPIRY)
    assert after.times.recorded == pytest.approx(wall(), abs=1)
    assert scene.woken == [Kind.PUBLIC_DECRYPTION]


async def test_a_retried_request_is_answered(scene: Scene) -> None:
    row = scene.rows["expired"]
    await ask(scene, "requests.retry", requests=[str(row.rid)])
    due = await scene.bench.journal.run(
        queries.due, [Kind.PUBLIC_DECRYPTION], wall() + 1, 9, frozenset({scene.rows["pending"].rid})
    )
    [again] = due.rows
    assert (await scene.bench.run(again)).state is State.ANSWERED


async def test_what_is_asked_of_many_says_why_some_are_left(scene: Scene) -> None:
    named = [str(scene.rows[fate].rid) for fate in ("pending", "quarantined", "done")]
    answer = await ask(scene, "requests.retry", requests=named)
    assert [one["row"] for one in answer["retried"]] == [scene.rows["quarantined"].rid]
    assert [one["why"] for one in answer["refused"]] == [
        "it is pending already",
        "the Core has finished it already, and it needs no reply",
    ]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ({"states": ["failed"]}, {"expired", "quarantined", "rejected"}),
        ({"kinds": ["public_decryption"]}, {"expired", "quarantined", "rejected"}),
        ({"states": ["expired"]}, {"expired"}),
        ({"cause": "was quar"}, {"quarantined"}),
        ({"cause": "nothing like it"}, set()),
    ],
)
async def test_many_begin_again_by_kind_state_or_cause(
    scene: Scene, arguments: dict[str, Any], expected: set[str]
) -> None:
    answer = await ask(scene, "requests.retry", **arguments)
    names = {row.rid: fate for fate, row in scene.rows.items()}
    assert {names[one["row"]] for one in answer["retried"]} == expected
    assert await fates(scene, states=["failed"]) == [
        fate for fate in ("expired", "quarantined", "rejected") if fate not in expected
    ]


@pytest.mark.parametrize(
    ("command", "arguments", "words"),
    [
        ("requests.forget", {}, "there are pause, replay, requests.list, requests.retry, requests.show"),
        ("requests.list", {"state": ["failed"]}, "takes no state; it takes before"),
        ("requests.list", {"states": ["lost"]}, "there is no 'lost'; there are pending"),
        ("requests.list", {"states": [[]]}, "there is no"),
        ("requests.list", {"kinds": "keygen"}, "kinds must be a list"),
        ("requests.list", {"cause": 7}, "cause must be a text"),
        ("requests.list", {"limit": 0}, "limit must be a number from 1 to 1000"),
        ("requests.list", {"limit": 1001}, "from 1 to 1000"),
        ("requests.list", {"limit": True}, "limit must be a number"),
        ("requests.list", {"before": -1}, "before must be a number"),
        ("requests.show", {}, "None is no request"),
        ("requests.show", {"request": "0xnothing"}, "a row number, or an on-chain id with 0x, is expected"),
        ("requests.show", {"request": "9" * 5000}, "is no request"),
        ("requests.show", {"request": f"0x1{64 * '0'}"}, "is no request"),
        ("requests.show", {"request": "999"}, "the journal has no request 999"),
        ("requests.show", {"request": f"{1 << 255}"}, "the journal has no request"),
        ("requests.retry", {}, "no request is selected"),
        ("requests.retry", {"requests": "1"}, "must be a list"),
        ("requests.retry", {"requests": ["1"], "cause": "x"}, "not both"),
        ("requests.retry", {"states": ["finalized"]}, "finalized are not retried"),
    ],
)
async def test_what_makes_no_sense_is_refused(
    scene: Scene, command: str, arguments: dict[str, Any], words: str
) -> None:
    with pytest.raises(CommandError) as refused:
        await ask(scene, command, **arguments)
    assert words in str(refused.value)
    assert len(str(refused.value)) < 7000


@pytest.mark.parametrize(
    ("name", "arguments", "told"),
    [
        *(("requests.list", arguments, "must be an object") for arguments in (None, 7, list[str](), "text")),
        *((name, {}, "there is no command") for name in (None, 7, ["requests.list"])),
    ],
)
async def test_a_command_is_a_name_and_its_arguments_an_object(
    scene: Scene, name: object, arguments: object, told: str
) -> None:
    with pytest.raises(CommandError, match=told):
        await perform(COMMANDS, scene.context, name, arguments)
