"""The checks of httpz-rc7.md, section 10: one test for rows that nothing else proves, named by their numbers.

``docs/features.md`` says for every row where it lives and what proves it. A row that product.md or outcomes.md contradicts is met in
its corrected form; the docstring says so.
"""

from __future__ import annotations

import json
from contextlib import suppress
from functools import partial
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.config.parties import S3Fallback
from kmsconn.config.working import Pools
from kmsconn.emulator.dependencies import GATEWAY_ID, secret_for, sender_name
from kmsconn.emulator.execution import Emitted, Frame, Reverted
from kmsconn.emulator.rpc_json import LogFilter
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.transactions import Transaction
from kmsconn.model.events import LogQuarantined, ReplyIncluded, ReplySigned, RequestDeferred
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7 import contracts, decryptions
from tests.faults.scene import all_mined
from tests.httpz.world import COPROCESSOR, USER, World, open_world
from tests.vectors import httpz

PARAMETERS = b"\x9f" * 32
PUBLIC = "publicDecryptionResponse"
AT_ONCE = HttpzSettings(key_management_at_finality=False)


def starts(world: World) -> list[tuple[str, str]]:
    return [
        (method, message.request_id.request_id)
        for method, message in world.calls
        if not method.startswith("Get")
    ]


async def test_row_009_only_the_events_of_our_contracts_reach_the_core(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The node is asked for the addresses and topics of 1.2 and 1.3 and no others; another address or topic0 causes no call."""
    stranger = Address(b"\x77" * 20)
    asked: dict[bytes, set[bytes]] = {}
    monkeypatch.setattr(LogFilter, "parse", partial(noting_filters, asked, LogFilter.parse))
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        topics, data = decryptions.PUBLIC_EVENT.encode(1, ())
        world.chain.actors.act(stranger, lambda frame: frame.logs.append(Emitted(stranger, topics, data)))
        other = (b"\x55" * 32, *topics[1:])
        manager = world.dependencies.decryption.address
        world.chain.actors.act(manager, lambda frame: frame.logs.append(Emitted(manager, other, data)))
        await trio.sleep(20)
        assert (world.calls, world.told(LogQuarantined)) == ([], [])
    assert asked == {
        world.dependencies.decryption.address: DECRYPTION_TOPICS,
        world.dependencies.keys.address: key_topics(),
    }


def noting_filters(asked: dict[bytes, set[bytes]], parse: Any, content: Any) -> Any:
    """Read a filter and note which topics it wants of which addresses; one that names none wants everything."""
    made = parse(content)
    for address in made.addresses or {b"every address"}:
        asked.setdefault(address, set()).update((made.topics and made.topics[0]) or {b"every topic"})
    return made


DECRYPTION_TOPICS = {
    event.topic0
    for event in (
        decryptions.PUBLIC_EVENT,
        decryptions.USER_EVENT,
        decryptions.NUMERIC_PUBLIC_EVENT,
        decryptions.NUMERIC_USER_EVENT,
        decryptions.NAMELESS_EVENT,
    )
}
"""Of each revision of the two requests; that these are the ABI's, row 11 and the vectors say."""


def key_topics() -> set[bytes]:
    """Return the topics of the five requests of the KeyManager, from the ABI that goes with the specification."""
    return {
        from_hex(entry["topic0"])
        for name, entry in httpz.abi_source()["topic0"]["KeyManager"].items()
        if name.endswith("Request") and name != "ActivateKeyRequest"
    }


async def test_row_018_a_full_queue_drops_nothing(tmp_path: Path) -> None:
    """Corrected: nothing is given up after 5 s. What finds no place waits in the journal (product.md, row 15)."""
    one_place = Pools(public_decryption=1)
    async with open_world(tmp_path, computing=1000.0) as world, world.connected(pools=one_place) as connector:
        await connector.wait_ready()
        reference = world.reference(1000)
        for _ in range(5):
            world.ask_public(reference)
        await trio.sleep(100)
        assert world.replies(PUBLIC) == []
        assert connector.statistics().queue.counts is not None
        world.core.computing = 0.0
        for number in range(1, 6):
            if begun := world.core.memory.table("GetDecryptResult").get(f"{number:064x}".encode()):
                begun.ready_at = 0.0
        replies = await world.wait_replies(PUBLIC, 5, 600.0)
        await trio.sleep(30)
        assert sorted(reply[0] for reply in replies) == [1, 2, 3, 4, 5]
        assert len(world.replies(PUBLIC)) == 5


async def test_row_020_twenty_starts_and_stops_leave_no_task_and_no_descriptor(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        before: list[tuple[int, set[str]]] = []
        for _ in range(20):
            async with world.open() as connector:
                await connector.wait_ready()
            await trio.testing.wait_all_tasks_blocked()
            tasks, there = trio.lowlevel.current_statistics().tasks_living, descriptors()
            before = before or [(tasks, there)]
            assert tasks == before[0][0]
            assert there <= before[0][1]


def descriptors() -> set[str]:
    """Return the descriptors that this process has open, with what each is; those that tests before have left may go at any time."""
    found = set()
    for one in Path("/proc/self/fd").iterdir():
        with suppress(FileNotFoundError):  # the one for the folder itself
            found.add(f"{one.name}: {one.readlink()}")
    return found


async def test_row_026_063_083_111_each_step_of_a_request_is_told_in_its_order_and_no_secret_is(
    tmp_path: Path,
) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_user(world.reference(1000))
        await world.wait(lambda: world.told(ReplyIncluded))
        (log,) = [
            one
            for mined in all_mined(world.chain)
            for one in mined.logs
            if one.topics[0] == decryptions.USER_EVENT.topic0
        ]
        envelopes = [mined.transaction.envelope for mined in all_mined(world.chain)]
        (sent,) = [one for one in envelopes if isinstance(one, Transaction)]
    assert (sent.chain_id, sent.to, sent.value) == (GATEWAY_ID, world.dependencies.decryption.address, 0)
    wanted = ["RequestRecorded", "StageFinished", "AnswerKept", "ReplySigned", "ReplySent", "ReplyIncluded"]
    names = [type(event).__name__ for event in world.events if getattr(event, "rid", None) == 1]
    assert list(dict.fromkeys(names)) == wanted
    text, lines = world.log.getvalue(), lines_of(world.log)
    stages = [line["stage"] for line in lines if line["event"] == "stage_finished"]
    assert stages == ["check", "gather", "submit", "answer"]
    (recorded,) = [line for line in lines if line["event"] == "request_recorded"]
    assert (recorded["kind"], int(str(recorded["id"]), 0)) == ("user_decryption", 1)
    assert recorded["block"] == log.block_number
    place = (recorded["transaction_hash"], recorded["log_index"])
    assert place == (to_hex(log.transaction_hash), log.log_index)
    (signed,) = world.told(ReplySigned)
    assert signed.transaction_hash.hex() in text
    assert secret_for(sender_name(0)).hex() not in text
    by_default = {line["event"] for line in lines_of(world.default_log)}
    assert {"request_recorded", "answer_kept", "reply_included"} <= by_default


def lines_of(log: StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in log.getvalue().splitlines()]


@pytest.mark.parametrize("address", ["", "not-a-url", None])
async def test_row_033_the_configured_bucket_stands_in(tmp_path: Path, address: str | None) -> None:
    """(a) no address at all, or every call of ``coprocessors`` reverts (None); (b) one that cannot be read."""

    def reverting(frame: Frame) -> bytes:
        if frame.data[:4] == contracts.HTTPZ.function("coprocessors").selector:
            raise Reverted
        return honest(frame)

    settings = HttpzSettings(s3=S3Fallback("us-east-1", "ct0", "http://bucket0"))
    async with open_world(tmp_path) as world, world.connected(httpz=settings):
        honest = world.dependencies.httpz.execute
        if address is None:
            world.dependencies.httpz.execute = reverting  # type: ignore[method-assign]
        else:
            world.set_buckets({COPROCESSOR: address})
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert world.bucket.counts == {("GET", 200): 1}


@pytest.mark.parametrize("trouble", ["missing", "silent", "gone"])
async def test_row_035_trouble_with_a_bucket_is_a_warning_that_names_it(tmp_path: Path, trouble: str) -> None:
    """404, a timeout, a refused connection. Corrected: the request is not dropped, it waits, and is answered in the end."""
    async with open_world(tmp_path) as world, world.connected():
        named = "gone" if trouble == "gone" else "bucket0"
        world.set_buckets({USER: "http://gone/ct128", COPROCESSOR: f"http://{named}/ct0"})
        made = world.reference(1000, coprocessors=(USER, COPROCESSOR))
        if trouble == "missing":
            del world.bucket.objects[made.digest.hex()]
        world.bucket.latency = 1e6 if trouble == "silent" else 0.0
        world.ask_public(made)
        told = await world.wait(lambda: world.told(RequestDeferred) and warnings_of(world), 300.0)
        assert named in str(told)
        world.set_buckets({COPROCESSOR: "http://bucket0/ct0"})
        world.bucket.latency = 0.0
        world.reference(1000)
        await world.wait_replies(PUBLIC, 1, 600.0)
        assert {line["level"] for line in lines_of(world.log)} <= {"debug", "info", "warning"}


def warnings_of(world: World) -> list[dict[str, Any]]:
    return [line for line in lines_of(world.log) if line["level"] == "warning"]


async def test_row_065_two_contracts_are_listened_to_again_after_a_cut(tmp_path: Path) -> None:
    """Listening, not looking: what is asked after the cut is heard by its push, of both contracts."""
    quiet: dict[str, Any] = {"decryption_polling": 600.0, "key_management_polling": 600.0}
    async with open_world(tmp_path) as world, world.connected(httpz=AT_ONCE, **quiet) as connector:
        await connector.wait_ready()
        await trio.sleep(30)
        world.network.line("gateway", 80).cut()
        await trio.sleep(30)
        asked = world.chain.head.number
        world.ask_public(world.reference(1000))
        world.ask_key(Kind.CRSGEN, PARAMETERS)
        await world.wait(lambda: world.chain.head.number > asked)
        await world.wait(lambda: {method for method, _ in starts(world)} == {"Decrypt", "CrsGen"}, 3.0)


async def test_row_074_a_hundred_events_are_answered_in_less_than_thirty_seconds(tmp_path: Path) -> None:
    async with open_world(tmp_path, computing=2.0) as world, world.connected() as connector:
        await connector.wait_ready()
        reference = world.reference(1000)
        for _ in range(100):
            world.ask_public(reference)
        await world.wait_replies(PUBLIC, 100, 30.0)
        assert len(set(starts(world))) == len(starts(world)) == 100


async def test_row_075_a_backfill_of_five_hundred_logs_reads_ranges(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world:
        reference = world.reference(1000)
        for _ in range(500):
            world.ask_public(reference)
        await trio.sleep(400)
        blocks = world.chain.head.number
        asked = 0
        blocks_with_logs = world.chain.history.blocks_with_logs

        def counted(start: int, end: int) -> Any:
            nonlocal asked
            asked += 1
            return blocks_with_logs(start, end)

        world.chain.history.blocks_with_logs = counted  # type: ignore[method-assign]
        async with world.connected():
            await world.wait(lambda: len(starts(world)) >= 500, 600.0)
        assert asked < blocks / 4
