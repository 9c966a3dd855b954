"""The control socket: who is answered, who is not, and that nobody holds it up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
import pytest
import trio
from trio.testing import memory_stream_pair, wait_all_tasks_blocked

from kmsconn.errors import JournalFailed
from kmsconn.operate.control.commands import Command, CommandError
from kmsconn.operate.control.requests import COMMANDS
from kmsconn.operate.control.server import (
    CONNECTIONS,
    READING,
    REQUEST_BYTES,
    WORKING,
    WRITING,
    Callers,
    ask,
    converse,
)
from tests.unit.operate.control.scene import Scene


async def said_to(scene: Scene, *parts: bytes, end: bool = False, commands: Any = COMMANDS) -> Any:
    """Send these parts and return what the server answered; None: nothing."""
    ours, theirs = memory_stream_pair()

    async def serve() -> None:
        await converse(theirs, scene.context, commands)
        await theirs.aclose()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(serve)
        for part in parts:
            await ours.send_all(part)
            await trio.sleep(0.1)
        if end:
            await ours.send_eof()
        taken = b"".join([chunk async for chunk in ours])
    assert taken.count(b"\n") == bool(taken)
    return msgspec.json.decode(taken) if taken else None


def line(command: object, arguments: object) -> bytes:
    return msgspec.json.encode({"command": command, "arguments": arguments}) + b"\n"


async def test_a_line_is_answered_by_a_line(scene: Scene) -> None:
    answer = await said_to(scene, line("requests.list", {"states": ["expired"]}))
    assert [one["row"] for one in answer["result"]["requests"]] == [scene.rows["expired"].rid]


async def test_a_line_may_come_in_pieces(scene: Scene) -> None:
    whole = line("requests.list", {})
    answer = await said_to(scene, *(whole[at : at + 7] for at in range(0, len(whole), 7)))
    assert len(answer["result"]["requests"]) == 5


@pytest.mark.parametrize(
    ("said", "words"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "a request is one line of JSON"),
        (b"\xff\xfe\n", "a request is one line of JSON"),
        (b"[]\n", "a request is an object"),
        (b"7\n", "a request is an object"),
        (b"[" * 50_000 + b"\n", "a request is one line of JSON"),
        (b"{}\n", "there is no command None"),
        (line("nothing", {}), "there is no command 'nothing'"),
        (line("requests.list", []), "must be an object"),
        (line("requests.show", {"request": 10**400}), "is no request"),
        (b"x" * (REQUEST_BYTES + 1), f"at most {REQUEST_BYTES} bytes"),
        (b'{"command": "requests.list", "arguments": {"limit": 1e999}}\n', "a request is one line of JSON"),
        (b'{"command": "requests.list", "arguments": {"limit": 1e9}}\n', "limit must be a number"),
        (line("requests.list", {"kinds": [{}], "limit": []}), "there is no {}"),
    ],
)
async def test_what_is_no_request_is_told_so(scene: Scene, said: bytes, words: str) -> None:
    assert words in (await said_to(scene, said))["error"]


@pytest.mark.parametrize("said", [b"", b'{"command": "requests'])
@pytest.mark.parametrize("goes", [True, pytest.param(False, marks=pytest.mark.slow)])
async def test_who_does_not_end_the_line_is_left_after_a_while(scene: Scene, goes: bool, said: bytes) -> None:
    began = trio.current_time()
    assert await said_to(scene, said, end=goes) is None
    assert trio.current_time() - began == pytest.approx(0 if goes else READING, abs=2.0)


async def test_who_does_not_take_the_answer_is_left_after_a_while(scene: Scene) -> None:
    stuck = trio.testing.MemorySendStream(send_all_hook=trio.sleep_forever)
    asked = trio.testing.MemoryReceiveStream()
    asked.put_data(line("requests.list", {}))
    began = trio.current_time()
    await converse(trio.StapledStream(stuck, asked), scene.context)
    assert trio.current_time() - began == pytest.approx(WRITING, abs=2.0)


def only(run: Callable[[Any, Any], Awaitable[Any]]) -> dict[str, Command]:
    return {"it": Command(run)}


async def test_a_command_that_takes_too_long_ends(scene: Scene) -> None:
    async def hang(_context: Any, _arguments: Any) -> None:
        await trio.sleep_forever()

    began = trio.current_time()
    answer = await said_to(scene, line("it", {}), commands=only(hang))
    assert answer == {"error": "the command took longer than 60 s; narrow it down"}
    assert trio.current_time() - began == pytest.approx(WORKING, abs=2.0)


async def test_a_journal_that_cannot_be_used_is_named(scene: Scene) -> None:
    async def fail(_context: Any, _arguments: Any) -> None:
        await trio.lowlevel.checkpoint()
        raise JournalFailed("disk full")

    answer = await said_to(scene, line("it", {}), commands=only(fail))
    assert answer == {"error": "the journal cannot be used: disk full"}


async def test_the_client_understands_the_server(scene: Scene) -> None:
    async def over_memory(command: str, arguments: dict[str, Any]) -> Any:
        ours, theirs = memory_stream_pair()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(converse, theirs, scene.context)
            try:
                return await ask(ours, command, arguments)
            except CommandError as error:
                return str(error)

    assert len((await over_memory("requests.list", {}))["requests"]) == 5
    assert (await over_memory("nothing", {})).startswith("there is no command 'nothing'")


@pytest.mark.parametrize(
    "answer", [b"", b"\n", b"[]\n", b'{"result": 1, "error": ""}\n', b'{"result": ', b"{}\n"]
)
async def test_a_server_that_says_nothing_of_sense_is_an_error(answer: bytes) -> None:
    stream = trio.testing.MemoryReceiveStream()
    stream.put_data(answer)
    stream.put_eof()
    with pytest.raises(CommandError, match="without an answer"):
        await ask(trio.StapledStream(trio.testing.MemorySendStream(), stream), "requests.list", {})


COUNT = 3


async def test_idle_clients_leave_their_owner_a_place(scene: Scene) -> None:
    """The one that has waited longest without a request makes room; who is being answered stays."""
    callers = Callers(scene.context, COMMANDS)
    idle = []
    async with trio.open_nursery() as nursery:
        for _ in range(40):
            ours, theirs = memory_stream_pair()
            idle.append(ours)
            nursery.start_soon(callers.answer, theirs)
            await wait_all_tasks_blocked()
        ours, theirs = memory_stream_pair()
        nursery.start_soon(callers.answer, theirs)
        before = trio.current_time()
        assert len((await ask(ours, "requests.list", {}))["requests"]) == 5
        assert trio.current_time() == before
        assert await idle[0].receive_some() == b""
        nursery.cancel_scope.cancel()


async def test_clients_that_are_being_answered_are_not_put_out(scene: Scene) -> None:
    callers = Callers(scene.context, COMMANDS)
    async with trio.open_nursery() as nursery:
        for _ in range(CONNECTIONS):
            callers.places.acquire_on_behalf_of_nowait(object())
        ours, theirs = memory_stream_pair()
        nursery.start_soon(callers.answer, theirs)
        assert await ours.receive_some() == b""
