"""The checks of httpz-rc7.md, section 10: one test for each row that is proved here, named by the row's number.

``docs/features.md`` says for every row where it lives and what proves it. A row that product.md or outcomes.md contradicts is met in
its corrected form; the docstring says so.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from kmsconn._generated.httpz_rc7.kms.v1 import DecryptionRequest
from kmsconn.chain.asking import ask
from kmsconn.chain.port import Call
from kmsconn.config.parties import Httpz as HttpzSettings
from kmsconn.config.parties import S3Fallback
from kmsconn.config.working import Pools
from kmsconn.emulator.blocks import Transaction
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.execution import Emitted, Frame, Reverted
from kmsconn.emulator.grpc_server import GrpcFailure
from kmsconn.emulator.rpc_json import LogFilter
from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address, checksum, parse_address
from kmsconn.ethereum.hexes import from_hex, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.signing import PrivateKey, recover
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.model.events import (
    AlertRaised,
    CiphertextMismatch,
    LogQuarantined,
    ReplyIncluded,
    ReplySigned,
    RequestClosed,
    RequestDeferred,
    StageFinished,
)
from kmsconn.model.life import State
from kmsconn.model.requests import CiphertextReference, Kind
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7 import contracts, decryptions, messages
from kmsconn.protocols.httpz_rc7.contracts import CURRENT_KEY, HttpzViews
from kmsconn.protocols.httpz_rc7.decryptions import HttpzPublicDecryption
from kmsconn.protocols.httpz_rc7.messages import PlaintextForm
from kmsconn.protocols.httpz_rc7.profile import EVENTS, OPERATIONS, HttpzRc7
from kmsconn.protocols.port import Verdict
from kmsconn.protocols.queries import ContractViews
from kmsconn.transport.grpc.framing import Status
from tests.httpz.world import COPROCESSOR, GATEWAY_ID, USER, USER_KEY, World, open_world
from tests.opening import open_httpz_share
from tests.vectors import httpz

PARAMETERS = b"\x9f" * 32
PUBLIC, USER_REPLY = "publicDecryptionResponse", "userDecryptionResponse"
AT_ONCE = HttpzSettings(key_management_at_finality=False)


def number(identifier: int) -> str:
    return f"{identifier:064x}"


def starts(world: World) -> list[tuple[str, str]]:
    return [(method, identifier) for method, identifier in world.core.calls if not method.startswith("Get")]


@attrs.define
class ViewNode:
    """A node that answers views of the vectors, and notes what it was asked."""

    asked: list[bytes] = attrs.field(factory=list)
    chain_id: int = GATEWAY_ID

    async def call(self, method: str, *params: Any) -> Any:
        raise NotImplementedError

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        return [self._answer(from_hex(call.params[0]["data"])) for call in calls]

    def _answer(self, data: bytes) -> Any:
        self.asked.append(data)
        known = {from_hex(one["call_data"]): one for one in httpz.load()["views"]["803765a9a"]}
        return known[data]["result"]


# 1.1 Core infrastructure


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
        manager = world.manager.address
        world.chain.actors.act(manager, lambda frame: frame.logs.append(Emitted(manager, other, data)))
        await trio.sleep(20)
        assert (world.core.calls, world.told(LogQuarantined)) == ([], [])
    assert asked == {world.manager.address: DECRYPTION_TOPICS, world.keys.address: key_topics()}


def noting_filters(asked: dict[bytes, set[bytes]], parse: Any, content: Any) -> Any:
    """Read a filter and note which topics it wants of which addresses; one that names none wants everything."""
    made = parse(content)
    for address in made.addresses or {b"every address"}:
        asked.setdefault(address, set()).update((made.topics and made.topics[0]) or {b"every topic"})
    return made


REPLIES = {row.kind: row.reply.name for row in OPERATIONS}
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


async def test_row_010_both_adapters_work_over_a_fake_provider() -> None:
    node = ViewNode()
    sender = httpz.load()["keys"]["coprocessors"][0]
    found = await ask(node, HttpzViews(GATEWAY_ID, httpz.address("HTTPZ")).coprocessor(COPROCESSOR))
    assert found.bucket == sender["s3BucketUrl"]
    key = ContractViews(GATEWAY_ID, httpz.address("KeyManager")).view(CURRENT_KEY)
    assert await ask(node, key) == 3


async def test_row_011_truncated_data_is_told_and_the_service_stays_up(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        manager = world.manager.address
        topics, data = decryptions.PUBLIC_EVENT.encode(1, ())
        world.chain.actors.act(manager, lambda frame: frame.logs.append(Emitted(manager, topics, data[:-1])))
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert len(world.told(LogQuarantined)) == 1


async def test_row_012_views_and_transactions_have_their_selectors(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        seen: list[bytes] = []
        execute = world.httpz.execute
        world.httpz.execute = lambda frame: seen.append(frame.data) or execute(frame)  # type: ignore[method-assign, func-returns-value]
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert bytes.fromhex("ecbd96ab") + COPROCESSOR.rjust(32, b"\0") in seen
        (sent,) = [one.transaction for one in world._mined() if one.transaction.envelope is not None]
        assert sent.data[:4].hex() == "02fd1a64"


async def test_row_013_a_pushed_event_reaches_the_core_within_two_seconds(tmp_path: Path) -> None:
    """Nothing but the push can tell of it so soon: the reader looks by itself every ten minutes only."""
    async with open_world(tmp_path) as world, world.connected(decryption_polling=600.0) as connector:
        await connector.wait_ready()
        await trio.sleep(30)
        world.ask_public(world.reference(1000))
        mined = world.chain.head.number
        await world.wait(lambda: world.chain.head.number > mined)
        await world.wait(lambda: starts(world), 2.0)


async def test_row_014_fifty_mixed_events_are_fifty_starts(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected(httpz=AT_ONCE) as connector:
        await connector.wait_ready()
        reference = world.reference(1000)
        for _ in range(20):
            world.ask_public(reference)
            world.ask_user(reference)
        for kind in (Kind.PREP_KEYGEN, Kind.CRSGEN) * 5:
            world.ask_key(kind, PARAMETERS)
        await world.wait(lambda: len(starts(world)) >= 50)
        await trio.sleep(10)
        assert len(set(starts(world))) == len(starts(world)) == 50


async def test_row_016_a_lost_gateway_comes_back_for_calls_and_events(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        line = world.network.line("gateway", 80)
        line.refuse = True
        line.cut()
        await trio.sleep(5)
        line.refuse = False
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)


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


async def test_row_021_the_signature_of_the_core_goes_out_unchanged(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        reference = world.reference(1000)
        world.ask_public(reference)
        ((identifier, result, signature),) = await world.wait_replies(PUBLIC)
        digest = messages.public_digest(world.manager.domain, [reference.handle], result, numeric=False)
        assert (identifier, len(signature)) == (1, 65)
        assert signature == world.core.key.sign(digest)


async def test_row_026_each_step_of_a_request_is_a_line_and_no_secret_is(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait(lambda: world.told(ReplyIncluded))
        assert [one.stage for one in world.told(StageFinished)] == ["check", "gather", "submit", "answer"]
        (signed,) = world.told(ReplySigned)
        log = world.log.getvalue()
        assert signed.transaction_hash.hex() in log
        assert {"request_recorded", "answer_kept", "reply_included"} <= {
            json.loads(line)["event"] for line in log.splitlines()
        }
        assert httpz.node(1)["tx_sender_private_key"].removeprefix("0x") not in log
        by_default = {json.loads(line)["event"] for line in world.default_log.getvalue().splitlines()}
        assert {"request_recorded", "answer_kept", "reply_included"} <= by_default
        stages = [
            json.loads(line)["stage"]
            for line in log.splitlines()
            if json.loads(line)["event"] == "stage_finished"
        ]
        assert stages == ["check", "gather", "submit", "answer"]


async def test_row_028_one_get_of_the_object_under_its_digest(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert world.bucket.counts == {("GET", 200): 1}
        (request,) = world.core.requests
        (body,) = world.plaintexts
        assert (request.ciphertexts[0].ciphertext, request.ciphertexts[0].ciphertext_format) == (body, 3)


async def test_row_029_a_garbage_address_does_not_prevent_the_second(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.set_buckets({USER: "not-a-url", COPROCESSOR: "http://bucket/ct128"})
        world.ask_public(world.reference(1000, coprocessors=(USER, COPROCESSOR)))
        await world.wait_replies(PUBLIC)


async def test_row_030_without_an_s3_section_requests_are_answered(tmp_path: Path) -> None:
    assert httpz.settings().protocol.httpz.s3 is None
    async with open_world(tmp_path) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)


@pytest.mark.parametrize(("tolerant", "right"), [(False, True), (True, False)])
async def test_row_032_wrong_bytes_at_the_first_bucket_are_told(
    tmp_path: Path, tolerant: bool, right: bool
) -> None:
    settings = HttpzSettings(tolerant_digests=tolerant)
    async with open_world(tmp_path) as world, world.connected(httpz=settings):
        other = EmulatedBucket("/ct128")
        world.network.serve("other", 80, other.serve)
        world.set_buckets({USER: "http://other/ct128", COPROCESSOR: "http://bucket/ct128"})
        reference = world.reference(1000, coprocessors=(USER, COPROCESSOR))
        other.put(reference.digest.hex(), b"wrong")
        world.plaintexts[b"wrong"] = 7
        world.ask_public(reference)
        await world.wait_replies(PUBLIC)
        (request,) = world.core.requests
        assert (request.ciphertexts[0].ciphertext != b"wrong") is right
        (mismatch,) = world.told(CiphertextMismatch)
        assert reference.digest.hex() in mismatch.reason
        assert keccak256(b"wrong").hex() in mismatch.reason


@pytest.mark.parametrize("address", ["", "not-a-url"])
async def test_row_033_the_configured_bucket_stands_in(tmp_path: Path, address: str) -> None:
    """(a) no address at all, (b) one that cannot be read."""
    settings = HttpzSettings(s3=S3Fallback("us-east-1", "ct128", "http://bucket"))
    async with open_world(tmp_path) as world, world.connected(httpz=settings):
        world.set_buckets({COPROCESSOR: address})
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert world.bucket.counts == {("GET", 200): 1}


async def test_row_033_the_configured_bucket_stands_in_where_the_contract_reverts(tmp_path: Path) -> None:
    """(a) to the letter: every call of ``coprocessors`` reverts."""

    def reverting(frame: Frame) -> bytes:
        if frame.data[:4] == contracts.HTTPZ.function("coprocessors").selector:
            raise Reverted
        return honest(frame)

    settings = HttpzSettings(s3=S3Fallback("us-east-1", "ct128", "http://bucket"))
    async with open_world(tmp_path) as world, world.connected(httpz=settings):
        honest = world.httpz.execute
        world.httpz.execute = reverting  # type: ignore[method-assign]
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert world.bucket.counts == {("GET", 200): 1}


@pytest.mark.parametrize(
    ("address", "trouble"),
    [
        ("http://bucket/ct128", "missing"),
        ("http://bucket/ct128", "silent"),
        ("http://gone/ct128", "refusing"),
    ],
)
async def test_row_035_each_trouble_with_a_bucket_is_a_warning_that_names_it(
    tmp_path: Path, address: str, trouble: str
) -> None:
    """404, a timeout and a refused connection at the only bucket: warnings, and no error. TLS and garbage: rows 29 and 33."""
    async with open_world(tmp_path) as world, world.connected():
        world.set_buckets({COPROCESSOR: address})
        made = world.reference(1000)
        if trouble == "missing":
            world.bucket.objects.clear()
        if trouble == "silent":
            world.bucket.latency = 1e6
        world.ask_public(made)
        await world.wait(lambda: world.told(RequestDeferred) and warnings_of(world), 300.0)
        assert "bucket" in " ".join(warnings_of(world)) or "gone" in " ".join(warnings_of(world))
        levels = {json.loads(line)["level"] for line in world.log.getvalue().splitlines()}
        assert levels <= {"debug", "info", "warning"}


def warnings_of(world: World) -> list[str]:
    return [line for line in world.log.getvalue().splitlines() if json.loads(line)["level"] == "warning"]


async def test_row_035_trouble_with_buckets_is_no_error(tmp_path: Path) -> None:
    """Corrected: the request is not dropped either, it waits."""
    async with open_world(tmp_path) as world, world.connected():
        world.set_buckets({USER: "http://gone/ct128", COPROCESSOR: "http://bucket/ct128"})
        world.ask_public(world.reference(1000, coprocessors=(USER, COPROCESSOR)))
        await world.wait_replies(PUBLIC)
        missing = world.reference(1001)
        del world.bucket.objects[missing.digest.hex()]
        world.ask_public(missing)
        await world.wait(lambda: world.told(RequestDeferred))
        levels = {json.loads(line)["level"] for line in world.log.getvalue().splitlines()}
        assert "error" not in levels
        world.reference(1001)
        await world.wait_replies(PUBLIC, 2, 120.0)


async def test_row_031_failures_are_each_requests_own(tmp_path: Path) -> None:
    def does(method: str, identifier: str) -> None:
        if (method, identifier) == ("GetDecryptResult", number(1)):
            raise GrpcFailure(Status.INTERNAL, "it failed")

    async with open_world(tmp_path) as world, world.connected():
        world.core.does = does
        for _ in range(2):
            world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        await trio.sleep(60)
        assert [reply[0] for reply in world.replies(PUBLIC)] == [2]


async def test_row_037_the_signer_over_what_is_sent_is_the_cores_key(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        reference = world.reference(1000)
        world.ask_public(reference)
        world.ask_user(reference)
        ((_, result, public),) = await world.wait_replies(PUBLIC)
        ((_, share, user),) = await world.wait_replies(USER_REPLY)
        handles, domain = [reference.handle], world.manager.domain
        assert (
            recover(messages.public_digest(domain, handles, result, numeric=False), public)
            == world.core.key.address
        )
        digest = messages.user_digest(domain, USER_KEY, handles, share, numeric=False)
        assert recover(digest, user) == world.core.key.address


# 1.3 not started by the first generation


async def test_row_046_nothing_is_lost_or_doubled(tmp_path: Path) -> None:
    """Three events while it is away are three replies; killed after the answer there is one."""
    async with open_world(tmp_path) as world:
        async with world.connected() as connector:
            await connector.wait_ready()
        for _ in range(3):
            world.ask_public(world.reference(1000))
        await trio.sleep(5)
        async with world.connected():
            await world.wait(lambda: world.told(ReplySigned))
        async with world.connected():
            await world.wait_replies(PUBLIC, 3)
            await trio.sleep(30)
        assert sorted(reply[0] for reply in world.replies(PUBLIC)) == [1, 2, 3]


# 2.1 Gateway adapters


async def test_row_060_unknown_topics_of_the_right_address_are_ignored(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        response = contracts.DECRYPTION_MANAGER.event("UserDecryptionResponse")
        world.chain.actors.act(world.manager.address, lambda frame: frame.emit(response, 9, (), ()))
        await trio.sleep(10)
        assert (world.core.calls, world.told(LogQuarantined), world.told(RequestClosed)) == ([], [], [])


async def test_row_061_a_signature_of_64_bytes_is_not_sent(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        sign = world.core.key.sign

        class Short:
            address = world.core.key.address

            def sign(self, digest: bytes) -> bytes:
                return sign(digest)[:64]

        world.core.key = Short()  # type: ignore[assignment]
        world.ask_public(world.reference(1000))
        (deferred, *_) = await world.wait(lambda: world.told(RequestDeferred))
        assert "64 bytes, not 65" in deferred.reason
        await trio.sleep(60)
        assert world.replies(PUBLIC) == []


def test_row_062_five_replies_are_a_selector_and_two_words() -> None:
    profile = HttpzRc7(httpz.settings())
    found = {}
    for entry in httpz.load()["bytes32"]["key_management"]:
        content = profile.decode(httpz.log_of(entry))
        assert content is not None
        answer = profile.operations[content.kind].read_answer(
            content, from_hex(entry["core_answer"]["protobuf"]), None
        )
        if answer is not None:
            found[answer.calldata[:4].hex()] = len(answer.calldata)
    assert found == dict.fromkeys(["faac73b4", "6aafa976", "941c8df6", "9594a901", "40c24f15"], 68)


async def test_row_063_the_line_of_an_event_has_kind_id_and_place(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_user(world.reference(1000))
        await world.wait_replies(USER_REPLY)
        lines = [json.loads(line) for line in world.log.getvalue().splitlines()]
        (recorded,) = [line for line in lines if line["event"] == "request_recorded"]
        assert recorded["kind"] == "user_decryption"
        assert int(str(recorded["id"]), 0) == 1
        (log,) = [
            log
            for one in world._mined()
            for log in one.logs
            if log.topics[0] == decryptions.USER_EVENT.topic0
        ]
        assert recorded["block"] == log.block_number
        assert (recorded["transaction_hash"], recorded["log_index"]) == (
            to_hex(log.transaction_hash),
            log.log_index,
        )


async def test_row_065_two_contracts_are_listened_to_again_after_a_cut(tmp_path: Path) -> None:
    """Listening, not looking: what is asked after the cut is heard by its push, of both contracts."""
    quiet = {"decryption_polling": 600.0, "key_management_polling": 600.0}
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


# 2.3 and 3.1 KMS operations


async def test_row_074_a_hundred_events_are_answered_in_less_than_thirty_seconds(tmp_path: Path) -> None:
    async with open_world(tmp_path, computing=2.0) as world, world.connected() as connector:
        await connector.wait_ready()
        reference = world.reference(1000)
        for _ in range(100):
            world.ask_public(reference)
        await world.wait_replies(PUBLIC, 100, 30.0)


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


async def test_row_083_a_request_goes_from_event_to_reply_in_its_order(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_user(world.reference(1000))
        await world.wait(lambda: world.told(ReplyIncluded))
        wanted = [
            "RequestRecorded",
            "StageFinished",
            "AnswerKept",
            "ReplySigned",
            "ReplySent",
            "ReplyIncluded",
        ]
        names = [type(event).__name__ for event in world.events if getattr(event, "rid", None) == 1]
        assert list(dict.fromkeys(names)) == wanted


async def test_row_084_each_event_reaches_its_operation(tmp_path: Path) -> None:
    wanted = {
        Kind.PREP_KEYGEN: "KeyGenPreproc",
        Kind.PREP_KSKGEN: "KeyGenPreproc",
        Kind.CRSGEN: "CrsGen",
    }
    async with open_world(tmp_path) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert [one for one, _ in starts(world)] == ["Decrypt"]
        world.ask_user(world.reference(1000))
        await world.wait_replies(USER_REPLY)
        assert [one for one, _ in starts(world)] == ["Decrypt", "Reencrypt"]
    for kind, method in wanted.items():
        async with open_world(tmp_path / kind.value) as world:
            (tmp_path / kind.value).mkdir()
            async with world.connected(httpz=AT_ONCE):
                world.ask_key(kind, PARAMETERS)
                await world.wait_replies(REPLIES[kind])
                assert [one for one, _ in starts(world)] == [method]


@pytest.mark.parametrize(("form", "words"), [(PlaintextForm.P1, [16]), (PlaintextForm.P3, [16, 0x60])])
async def test_row_085_a_public_decryption_is_the_words_of_its_form(
    tmp_path: Path, form: PlaintextForm, words: list[int]
) -> None:
    async with open_world(tmp_path, form=form) as world, world.connected():
        world.ask_public(world.reference(16, 3))
        ((_, result, _),) = await world.wait_replies(PUBLIC)
        assert result == b"".join(word.to_bytes(32) for word in words)


async def test_row_087_a_key_is_prepared_and_made_with_consistent_ids(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected(httpz=AT_ONCE):
        for count in (1, 2):
            world.ask_key(Kind.PREP_KEYGEN, PARAMETERS)
            await world.wait_replies("preprocessKeygenResponse", count)
        assert [reply[0] for reply in world.replies("preprocessKeygenResponse")] == [1, 2]
        second = world.replies("preprocessKeygenResponse")[1][1]
        world.ask_key(Kind.KEYGEN, second, PARAMETERS)
        (reply,) = await world.wait_replies("keygenResponse")
        _, prepared, made = world.core.requests
        assert made.preproc_id == prepared.request_id
        assert (made.preproc_id.request_id, reply[0]) == (number(second), second)


async def test_row_088_a_crs_is_made(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected(httpz=AT_ONCE):
        world.ask_key(Kind.CRSGEN, PARAMETERS)
        assert await world.wait_replies("crsgenResponse") == [(1, 1)]
        assert starts(world) == [("CrsGen", number(1))]


async def test_row_090_a_core_that_does_not_know_yet_is_asked_on(tmp_path: Path) -> None:
    """Corrected: work ends by its deadline of a day, not after seconds (product.md, row 13); NOT_FOUND for 12 s is waited out."""

    def does(method: str, _: str) -> None:
        if method == "GetDecryptResult" and trio.current_time() < until:
            raise GrpcFailure(Status.NOT_FOUND, "not yet")

    async with open_world(tmp_path) as world, world.connected():
        until = trio.current_time() + 12
        world.core.does = does
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC, 1, 120.0)


@pytest.mark.parametrize("fhe_type", range(12))
def test_row_091_the_type_of_a_handle_is_its_byte_30(fhe_type: int) -> None:
    """Corrected: a type that is not known is rejected and reaches no Core (outcomes.md, row check)."""
    handle = bytes(30) + bytes([fhe_type, 0])
    content = HttpzPublicDecryption(1, (httpz_reference(handle),), numeric=False)
    ciphertext = httpz.ciphertext(from_hex(httpz.load()["objects"][0]["handle"]))
    (call,) = (
        HttpzRc7(httpz.settings())
        .operations[content.kind]
        .start_calls(content, [attrs.evolve(ciphertext, handle=handle)])
    )
    assert DecryptionRequest.parse(bytes(call.message)).ciphertexts[0].fhe_type == fhe_type


def httpz_reference(handle: bytes) -> CiphertextReference:
    return CiphertextReference(handle, 7, bytes(32), (COPROCESSOR,))


async def test_row_099_a_core_that_is_away_twice_is_started_once(tmp_path: Path) -> None:
    failures = [GrpcFailure(Status.UNAVAILABLE, "away"), GrpcFailure(Status.UNAVAILABLE, "away")]

    def does(method: str, _: str) -> None:
        if method == "Decrypt" and failures:
            raise failures.pop()

    async with open_world(tmp_path) as world, world.connected():
        world.core.does = does
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        assert len(world.core.requests) == 1
        assert len(starts(world)) == 3


async def test_row_099_a_transaction_that_was_refused_for_its_nonce_is_sent_again(tmp_path: Path) -> None:
    """Another process uses the nonce first: the reply is refused, and goes out under the next one, once."""
    async with open_world(tmp_path) as world, world.connected() as connector:
        await connector.wait_ready()
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        key = PrivateKey(from_hex(httpz.node(1)["tx_sender_private_key"]))
        taken: list[bytes] = []

        def first(transaction: Transaction) -> None:
            if not taken and transaction.sender == key.address:
                other = Eip1559Transaction(
                    GATEWAY_ID, transaction.nonce, 10**10, 10**10, 90_000, USER, 0, b""
                )
                taken.append(sign_transaction(other, key)[0])
                world.chain.intake.submit(taken[0])

        world.chain.intake.on_submit = first
        world.ask_public(world.reference(1001))
        await world.wait_replies(PUBLIC, 2, 300.0)
        await trio.sleep(60)
        assert (len(taken), [reply[0] for reply in world.replies(PUBLIC)]) == (1, [1, 2])


async def test_row_099_already_responded_is_done(tmp_path: Path) -> None:
    """The contract has the reply by another way, and reverts: the request is done, and nothing is sent again."""

    def does(method: str, _: str) -> None:
        if method == "GetDecryptResult" and not released:
            raise GrpcFailure(Status.UNAVAILABLE, "not yet")

    released: list[bool] = []
    async with open_world(tmp_path) as world:
        (tmp_path / "first").mkdir()
        world.core.does = does
        world.ask_public(world.reference(1000))
        async with world.connected():
            await world.wait(lambda: starts(world))
            released.append(True)
            async with world.connected(journal=tmp_path / "first" / "journal.db"):
                await world.wait_replies(PUBLIC)
                await trio.sleep(120)
        assert len(world.replies(PUBLIC)) == 1
        assert [one.state for one in world.told(RequestClosed)] in ([], [State.FINALIZED])


# 4.1 Smart contract interfaces


STRUCTS = {
    "SnsCiphertextMaterial": "ctHandle keyId snsCiphertextDigest coprocessorTxSenderAddresses",
    "CtHandleContractPair": "ctHandle contractAddress",
    "RequestValidity": "startTimestamp durationDays",
    "DelegationAccounts": "userAddress delegatedAddress",
    "Coprocessor": "txSenderAddress signerAddress s3BucketUrl",
    "KmsNode": "txSenderAddress signerAddress ipAddress",
    "Network": "chainId httpzExecutor aclAddress name website",
    "ProtocolMetadata": "name website",
}


def test_row_106_members_and_their_order_are_those_of_the_specification() -> None:
    found = {
        " ".join(member["name"] for member in one["components"])
        for name in contracts.CONTRACTS
        for item in httpz.abi_source()[name]
        for one in (*item.get("inputs", ()), *item.get("outputs", ()))
        if "components" in one
    }
    assert found == set(STRUCTS.values())


async def test_row_111_the_raw_transaction_is_ours(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.ask_public(world.reference(1000))
        await world.wait_replies(PUBLIC)
        (sent,) = [one.transaction for one in world._mined() if one.transaction.envelope is not None]
        envelope: Any = sent.envelope
        assert (envelope.chain_id, envelope.to, envelope.value) == (GATEWAY_ID, world.manager.address, 0)
        assert checksum(sent.sender) == httpz.node(1)["tx_sender"]


@pytest.mark.parametrize("revision", ["main", "rc7"])
async def test_row_114_both_revisions_of_the_request_events_are_handled(
    tmp_path: Path, revision: str
) -> None:
    async with open_world(tmp_path, revision) as world, world.connected():
        world.ask_public(world.reference(1000))
        world.ask_user(world.reference(1000))
        await world.wait_replies(PUBLIC)
        await world.wait_replies(USER_REPLY)


def test_row_114_a_user_event_without_an_address_is_refused_with_a_clear_text() -> None:
    topics, data = decryptions.NAMELESS_EVENT.encode(1, (), b"key")
    log = attrs.evolve(
        httpz.log_of(httpz.exchange("bytes32", "user_decryption", "one_u64")), topics=topics, data=data
    )
    with pytest.raises(Undecodable, match="rc4, which names no user address"):
        EVENTS.decode(log)


def test_row_124_reverts_are_done_or_a_loud_error() -> None:
    profile = HttpzRc7(httpz.settings())
    already = contracts.DECRYPTION_MANAGER.error("KmsSignerAlreadyResponded").encode(1, USER)
    stranger = contracts.HTTPZ.error("NotKmsTxSender").encode(USER)
    assert profile.operations[Kind.PUBLIC_DECRYPTION].revert(already).verdict is Verdict.DONE
    assert profile.operations[Kind.PUBLIC_DECRYPTION].revert(stranger).verdict is Verdict.FINAL


async def test_row_124_a_wallet_that_is_no_node_is_told_in_red(tmp_path: Path) -> None:
    async with open_world(tmp_path) as world, world.connected():
        world.chain.evm.set_up(world.httpz.address, lambda frame: world.httpz.set_nodes(frame, []))
        for value in (1000, 1001, 1002):
            world.ask_public(world.reference(value))
        await world.wait(
            lambda: [one for one in world.told(AlertRaised) if "is not a node" in one.text and one.critical]
        )


# 5.1 Testing


async def test_row_142_four_nodes_reply_and_three_while_one_core_is_down(tmp_path: Path) -> None:
    def down(method: str, _: str) -> None:
        raise GrpcFailure(Status.UNAVAILABLE, "down")

    async with open_world(tmp_path) as world, world.all_connected(4):
        cores = world.share_among(4, threshold=1)
        reference = world.reference(1000)
        world.ask_public(reference)
        await world.wait_replies(PUBLIC, 4)
        assert len(set(world.senders(PUBLIC))) == 4
        cores[3].does = down
        world.ask_public(reference)
        await world.wait_replies(PUBLIC, 7)
        await trio.sleep(60)
        replies = [
            (reply[0], sender)
            for reply, sender in zip(world.replies(PUBLIC), world.senders(PUBLIC), strict=True)
        ]
        assert len(replies) == len(set(replies)) == 7
        assert parse_address(httpz.node(4)["tx_sender"]) not in {
            who for number, who in replies if number == 2
        }


async def test_row_145_a_user_finds_the_plaintext_in_the_share(tmp_path: Path) -> None:
    """The share as in 2.4, from calldata alone, opened with the user's key."""
    async with open_world(tmp_path) as world, world.connected():
        reference = world.reference(1000)
        world.ask_user(reference)
        ((_, image, _),) = await world.wait_replies(USER_REPLY)
        payload = bincode.decode(image, packed=False)
        (share,) = payload.shares
        secret = from_hex(httpz.load()["keys"]["user_x25519"]["private_key"])
        opened = open_httpz_share(secret, share.signcrypted, client=USER, vk=payload.verification_key)
        assert (share.handle, int.from_bytes(opened.plaintext, "little")) == (reference.handle, 1000)
        assert opened.link == payload.digest


async def test_row_157_four_nodes_come_to_one_public_response_and_one_of_a_user(tmp_path: Path) -> None:
    """With one node that may fail: two signatures are enough for everybody, three shares for a user."""
    async with open_world(tmp_path) as world, world.all_connected(4):
        world.share_among(4, threshold=1)
        reference = world.reference(1000)
        world.ask_public(reference)
        world.ask_user(reference)
        await world.wait_replies(PUBLIC, 4)
        await world.wait_replies(USER_REPLY, 4)
        ((_, result, signatures),) = world.emitted("PublicDecryptionResponse")
        assert (int.from_bytes(result[:32]), len(signatures)) == (1000, 2)
        ((_, shares, share_signatures),) = world.emitted("UserDecryptionResponse")
        assert len(set(shares)) == len(share_signatures) == 3
