"""The faults that the control handler puts on and ends: every one has its effect, is listed, and leaves no trace. In virtual time."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn._generated.fhevm.kms.v1 import RequestId
from kmsconn.emulator.control import DRILLS, targets_of
from kmsconn.emulator.core_spoils import STRANGER
from kmsconn.emulator.dependencies import address_for, key_for
from kmsconn.emulator.drills.drill import Drill, Target
from kmsconn.emulator.drills.other_drills import UNKNOWN_CHAIN_ID, contracts_of
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.grpc_server import HEALTH_CHECK, GrpcFailure
from kmsconn.emulator.http import HttpRequest, HttpResponse
from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.protocols.fhevm.contracts import ACL, DECRYPTION
from kmsconn.protocols.fhevm.profile import EVENTS
from tests.unit.emulator.test_control import Handler, content_of

MockClock = trio.testing.MockClock
ROOT = Path(__file__).parents[3]
PAGE = (ROOT / "docs" / "drills.md").read_text(encoding="utf-8")


@pytest.fixture
async def desk() -> Handler:
    await trio.lowlevel.checkpoint()
    return Handler()


async def put_on(desk: Handler, path: str, **body: Any) -> None:
    answer = await desk.post(path, body)
    assert answer.status == 204, answer.body


async def on(desk: Handler) -> list[tuple[str, str]]:
    return [(one["target"], one["fault"]) for one in content_of(await desk.get("/faults"))["on"]]


async def rpc(desk: Handler, method: str, *params: Any, chain: str = "gateway", seconds: float = 5.0) -> Any:
    """Ask a chain's first node; return the result, the error, or None where nothing comes in time."""
    node = desk.dependencies.clusters[chain].nodes[0]
    body = json.dumps({"id": 1, "method": method, "params": params}).encode()
    with trio.move_on_after(seconds):
        answer = json.loads(await node.answer(body))
        return answer.get("result", answer.get("error"))
    return None


async def core(desk: Handler, method: str, request: bytes = b"") -> Any:
    """Call the Core; return its answer or the name of its status."""
    calls = desk.dependencies.cores[0].methods()
    path = HEALTH_CHECK if method == "Check" else f"/kms_service.v1.CoreServiceEndpoint/{method}"
    try:
        return await calls[path](request)
    except GrpcFailure as failure:
        return failure.status.name


async def fetch(desk: Handler, index: int = 0) -> HttpResponse:
    """Ask a bucket for its first object."""
    bucket = desk.dependencies.buckets[index]
    key = next(iter(bucket.bucket.objects))
    return await bucket.handle(HttpRequest("GET", f"{bucket.bucket.prefix}/{key}"))


async def body_of(response: HttpResponse) -> list[bytes]:
    """Return the pieces of a body, as they are sent."""
    if isinstance(response.body, bytes):
        return [response.body]
    pieces: list[bytes] = []

    async def send(data: bytes) -> None:
        await trio.lowlevel.checkpoint()
        pieces.append(data)

    await response.body(send)
    return pieces


# --- every drill ----------------------------------------------------------------------------------------------------

BODIES: dict[str, dict[str, Any]] = {
    "batch-limit": {"calls": 3},
    "reorganise": {"blocks": 2},
    "misbehave": {"how": "hang"},
    "spoil": {"method": "GetPublicDecryptionResult"},
    "address": {"url": "https://[::1]/x"},
}
"""What must be said; for all others an empty object will do."""


def body_for(drill: type[Drill]) -> dict[str, Any]:
    body = BODIES.get(drill.name, {})
    return {name: value for name, value in body.items() if name in drill.fields()}


def target_for(desk: Handler, drill: type[Drill]) -> str:
    targets = targets_of(desk.dependencies)
    return next(name for name, kinds in targets.items() if drill.target in kinds)


@pytest.mark.parametrize("drill", DRILLS, ids=lambda drill: f"{drill.target}-{drill.name}")
async def test_every_drill_is_put_on_listed_and_ended(desk: Handler, drill: type[Drill]) -> None:
    desk.control.drills.scene.monitoring = "127.0.0.1:1"
    desk.control.drills.scene.start = lambda _: lambda: None
    desk.dependencies.gateway.mine_many(5)
    target = target_for(desk, drill)
    await put_on(desk, f"/{target}/{drill.name}", **body_for(drill))
    once = not await on(desk)
    assert once or await on(desk) == [(target, drill.name)]
    ended = content_of(await desk.delete(f"/{target}/{drill.name}"))
    assert (ended["ended"], await on(desk)) == (0 if once else 1, [])


def test_names_are_unique_for_each_target() -> None:
    pairs = [(drill.name, kind) for drill in DRILLS for kind in targets_for(drill)]
    assert len(pairs) == len(set(pairs))


def targets_for(drill: type[Drill]) -> list[str]:
    """Return the kinds of names that a drill can be put on: a gateway is a chain, and everything that listens a dependency."""
    wider = {Target.CHAIN: [Target.GATEWAY, Target.ETHEREUM, Target.HOST]}
    wider[Target.ANY] = [*wider[Target.CHAIN], Target.CORE, Target.BUCKET]
    return [str(kind) for kind in wider.get(drill.target, [drill.target])]


# --- the active drills ------------------------------------------------------------------------------------------------------


async def test_a_group_stands_for_all_its_members_and_everything_can_be_ended_at_once(desk: Handler) -> None:
    await put_on(desk, "/buckets/status", code=403)
    assert await on(desk) == [("bucket0", "status"), ("bucket1", "status")]
    assert content_of(await desk.delete("/buckets/status")) == {"ended": 2}
    await put_on(desk, "/gateway/stall")
    await put_on(desk, "/core0/signer")
    assert content_of(await desk.delete("/faults")) == {"ended": 2}
    assert not desk.dependencies.gateway.stalled


async def test_what_was_put_on_twice_ends_in_the_state_before(desk: Handler) -> None:
    await put_on(desk, "/gateway/lag", blocks=3)
    await put_on(desk, "/gateway/lag", blocks=7)
    node = desk.dependencies.clusters["gateway"].nodes[0]
    assert node.lag == 7
    await desk.delete("/gateway/lag")
    assert node.lag == 0


async def test_the_listing_has_the_body_and_the_catalogue_every_drill(desk: Handler) -> None:
    await put_on(desk, "/gateway/hang", method="eth_call", share=0.2)
    listing = content_of(await desk.get("/faults"))
    body = {"method": "eth_call", "share": 0.2, "times": None, "containing": "", "one": False}
    assert listing["on"] == [{"target": "gateway", "fault": "hang", "body": body, "seconds": 0.0}]
    assert [one["fault"] for one in listing["faults"]] == [drill.name for drill in DRILLS]


@pytest.mark.parametrize("path", ["/gateway/explode", "/nobody/hang", "/gateway/signer", "/a/b/c", "/"])
async def test_an_unknown_path_is_a_404_with_those_that_there_are(desk: Handler, path: str) -> None:
    for answer in (await desk.post(path, {}), await desk.delete(path)):
        assert answer.status == 404
        assert isinstance(answer.body, bytes)
        said = answer.body.decode()
        assert "POST /core0/restart" in said
        assert all(f"/{target_for(desk, drill)}/{drill.name} {{" in said for drill in DRILLS)


@pytest.mark.parametrize(
    ("path", "body", "words"),
    [
        ("/gateway/reorganise", {}, "missing required field `blocks`"),
        ("/gateway/reorganise", {"blocks": "many"}, "Expected `int`, got `str` - at `$.blocks`"),
        ("/gateway/reorganise", {"blocks": 400}, "blocks: the chain can lose 1 to 5 blocks now; name fewer"),
        ("/gateway/hang", {"methods": ["x"]}, "unknown field `methods`"),
        ("/gateway/fees", {"base_fee": "lots"}, "base_fee: "),
        ("/core0/fail", {"code": "BROKEN"}, "Invalid enum value 'BROKEN' - at `$.code`"),
        (
            "/core0/spoil",
            {"method": "x", "how": "sadly"},
            "Invalid enum value 'sadly' - at `$.how`\n/core0/spoil takes",
        ),
        ("/bucket0/status", {"code": 42}, "Expected `int` >= 200 - at `$.code`"),
        ("/users/request", {"form": "poem"}, "form: no such form: 'poem'; there are: any, public"),
        ("/monitoring/flood", {}, "monitoring port is not known"),
    ],
)
async def test_a_body_that_does_not_fit_is_a_400_that_names_field_and_remedy(
    desk: Handler, path: str, body: dict[str, Any], words: str
) -> None:
    desk.dependencies.gateway.mine_many(5)
    answer = await desk.post(path, body)
    assert answer.status == 400
    assert isinstance(answer.body, bytes)
    assert words in answer.body.decode()
    assert f"{path} takes {{" in answer.body.decode()
    assert await on(desk) == []


# --- chains ---------------------------------------------------------------------------------------------------------


NO = {"code": -32000, "message": "no"}
WRONG = {"code": -32602, "message": "invalid block tag: finalized"}


@pytest.mark.parametrize(
    ("path", "body", "call", "told"),
    [
        ("gateway/hang", {"method": "eth_chainId"}, ["eth_chainId"], [None, None]),
        ("gateway/hang", {"method": "eth_chainId"}, ["eth_blockNumber"], ["0x0", "0x0"]),
        ("gateway/error", {"containing": "ABCD", "message": "no"}, ["eth_getBalance", "0xabcd" + "00" * 18], [NO, NO]),
        ("gateway/error", {"containing": "ABCD", "message": "no"}, ["eth_blockNumber"], ["0x0", "0x0"]),
        ("gateway/answer", {"method": "eth_blockNumber", "value": "0x7f", "times": 1}, ["eth_blockNumber"], ["0x7f", "0x0"]),
        ("gateway/balance", {"wei": 5}, ["eth_getBalance", "gateway"], ["0x5", "0x5"]),
        ("gateway/misbehave", {"how": "wrong_chain_id", "times": 1}, ["eth_chainId"], ["0xd432", "0xd431"]),
        ("gateway/misbehave", {"how": "wrong_chain_id"}, ["eth_chainId"], ["0xd432", "0xd432"]),
        ("ethereum/finality", {"known": False}, ["eth_getBlockByNumber", "finalized", False], [WRONG, WRONG]),
        ("decryption/no-code", {}, ["eth_getCode", "decryption", "latest"], ["0x", "0x"]),
        ("gateway_config/no-code", {}, ["eth_getCode", "gateway_config", "latest"], ["0x", "0x"]),
        ("protocol_config/no-code", {}, ["eth_getCode", "protocol_config", "latest"], ["0x", "0x"]),
        ("kms_generation/no-code", {}, ["eth_getCode", "kms_generation", "latest"], ["0x", "0x"]),
        ("acl/no-code", {}, ["eth_getCode", "acl", "latest"], ["0x", "0x"]),
    ],
)  # fmt: skip
async def test_a_node_answers_otherwise_until_the_end(
    path: str, body: dict[str, Any], call: list[Any], told: list[Any], desk: Handler
) -> None:
    """Twice while the drill is on; then as before. The target in a call is its address, that of a chain the connector's."""
    target = path.partition("/")[0]
    chain, where = contracts_of(desk.dependencies).get(target, (target, desk.dependencies.sender.address))
    method, *params = [to_hex(where) if one == target else one for one in call]
    before = await rpc(desk, method, *params, chain=chain)
    await put_on(desk, f"/{path}", **body)
    assert [await rpc(desk, method, *params, chain=chain) for _ in range(2)] == told
    await desk.delete(f"/{path}")
    assert await rpc(desk, method, *params, chain=chain) == before


async def test_all_calls_about_one_reply_hang_and_those_about_others_do_not(desk: Handler) -> None:
    await put_on(desk, "/gateway/hang", method="debug_traceTransaction", one=True)
    first, second = (to_hex(bytes([number]) * 32) for number in (1, 2))
    assert await rpc(desk, "debug_traceTransaction", first) is None
    assert (await rpc(desk, "debug_traceTransaction", second))["message"] == "transaction not found"
    assert await rpc(desk, "debug_traceTransaction", first) is None


async def test_estimates_of_one_reply_are_told_apart_by_function_and_id(desk: Handler) -> None:
    await put_on(desk, "/gateway/hang", method="eth_estimateGas", one=True)
    answers = []
    for identifier, signature in ((1, "aa"), (2, "bb"), (1, "cc")):
        call = {"to": "0x" + "11" * 20, "data": f"0x12345678{identifier:064x}{signature}"}
        answers.append(await rpc(desk, "eth_estimateGas", call) is None)
    assert answers == [True, False, True]


@pytest.mark.parametrize(("fault", "place"), [("answer", "result"), ("error", "data")])
async def test_an_answer_or_an_errors_data_may_be_nested_very_deep(
    desk: Handler, fault: str, place: str
) -> None:
    await put_on(desk, f"/gateway/{fault}", method="eth_chainId", nested=5_000)
    body = await desk.dependencies.clusters["gateway"].nodes[0].answer(b'{"id": 1, "method": "eth_chainId"}')
    assert f'"{place}":{"[" * 5_000}'.encode() in body


async def test_batches_beyond_the_limit_are_refused_whole(desk: Handler) -> None:
    await put_on(desk, "/gateway/batch-limit", calls=3)
    node = desk.dependencies.clusters["gateway"].nodes[0]
    assert [len(await batch_of(node, size)) for size in (3, 4)] == [3, 1]
    assert (await batch_of(node, 4))[0]["error"]["message"] == "batch too large"
    await desk.delete("/gateway/batch-limit")
    assert len(await batch_of(node, 4)) == 4


async def batch_of(node: RpcNode, size: int) -> Any:
    return json.loads(
        await node.answer(json.dumps([{"id": n, "method": "eth_chainId"} for n in range(size)]).encode())
    )


async def test_nodes_tell_other_fees(desk: Handler) -> None:
    await put_on(desk, "/gateway/fees", base_fee="0x100", priority_fee=16)
    assert await rpc(desk, "eth_gasPrice") == "0x110"
    assert (await rpc(desk, "eth_getBlockByNumber", "latest", False))["baseFeePerGas"] == "0x100"
    history = await rpc(desk, "eth_feeHistory", "0x1", "latest", [50])
    assert (history["baseFeePerGas"], history["reward"]) == (["0x100", "0x100"], [["0x10"]])
    assert desk.dependencies.gateway.base_fee == 100_000_000
    await desk.delete("/gateway/fees")
    assert await rpc(desk, "eth_gasPrice") == hex(100_000_000)


async def test_one_wild_fee_is_told_once_and_the_chain_may_ask_for_it(desk: Handler) -> None:
    await put_on(desk, "/gateway/fees", base_fee=quantity(2**120), times=1, really=True)
    told = [await rpc(desk, "eth_getBlockByNumber", "latest", False) for _ in range(2)]
    assert [block["baseFeePerGas"] for block in told] == [quantity(2**120), quantity(100_000_000)]
    assert desk.dependencies.gateway.base_fee == 2**120
    await desk.delete("/gateway/fees")
    assert desk.dependencies.gateway.base_fee == 100_000_000


async def test_estimates_are_a_share_of_the_truth(desk: Handler) -> None:
    call = {"to": "0x" + "11" * 20, "data": "0x"}
    honest = from_quantity(await rpc(desk, "eth_estimateGas", call))
    await put_on(desk, "/gateway/short-estimate", percent=30, times=1)
    assert from_quantity(await rpc(desk, "eth_estimateGas", call)) == honest * 30 // 100
    assert from_quantity(await rpc(desk, "eth_estimateGas", call)) == honest


async def test_a_chain_stops_finalizing(desk: Handler) -> None:
    ethereum = desk.dependencies.ethereum
    ethereum.mine_many(100)
    await put_on(desk, "/ethereum/finality")
    ethereum.mine_many(50)
    asked = ("eth_getBlockByNumber", "finalized", False)
    assert (await rpc(desk, *asked, chain="ethereum"))["number"] == hex(36)
    await desk.delete("/ethereum/finality")
    assert (await rpc(desk, *asked, chain="ethereum"))["number"] == hex(86)


async def test_no_blocks_are_made_while_a_chain_stalls(desk: Handler, nursery: trio.Nursery) -> None:
    await nursery.start(desk.dependencies.gateway.run)
    await put_on(desk, "/gateway/stall")
    await trio.sleep(10)
    assert desk.dependencies.gateway.head.number == 0
    await desk.delete("/gateway/stall")
    await trio.sleep(1)
    assert desk.dependencies.gateway.head.number > 0
    nursery.cancel_scope.cancel()


async def test_another_pool_takes_the_transactions(desk: Handler) -> None:
    await put_on(desk, "/gateway/pool", kind="arbitrum at once")
    assert await rpc(desk, "eth_sendRawTransaction", to_hex(signed(desk)), seconds=0.1) is not None
    await desk.delete("/gateway/pool")
    assert await rpc(desk, "eth_sendRawTransaction", to_hex(signed(desk)), seconds=0.1) is None


def signed(desk: Handler, nonce: int = 0, data: bytes = b"") -> bytes:
    key, chain = desk.dependencies.sender, desk.dependencies.gateway
    to = desk.dependencies.decryption.address
    return sign_transaction(Transaction(chain.chain_id, nonce, 0, 10**10, 900_000, to, 0, data), key)[0]


def requests(desk: Handler) -> dict[int, bytes]:
    """Return ids and content of the requests on the Gateway."""
    logs = [
        log for mined in desk.dependencies.gateway.view().mined(0, 10_000) for log in mined.logs
        if log.address == desk.dependencies.decryption.address and log.topics[0] in EVENTS.kinds
    ]  # fmt: skip
    return {int.from_bytes(log.topics[1]): EVENTS.digest(log) for log in logs}


def with_requests(count: int = 6) -> Handler:
    desk = Handler()
    for _ in range(count):
        desk.traffic.public()
        desk.dependencies.gateway.mine()
    return desk


async def test_a_reorganisation_moves_everything_and_keeps_ids_and_content() -> None:
    desk = with_requests()
    before, head = requests(desk), desk.dependencies.gateway.head
    await put_on(desk, "/gateway/reorganise", blocks=4)
    assert requests(desk) == before
    assert desk.dependencies.gateway.head.hash != head.hash
    await desk.delete("/gateway/reorganise")
    assert desk.dependencies.gateway.head.hash == head.hash


async def test_a_reorganisation_gives_old_ids_to_other_requests() -> None:
    desk = with_requests()
    before = requests(desk)
    desk.traffic.random.seed(7)
    await put_on(desk, "/gateway/reorganise", blocks=4, reuse_ids=True)
    assert len(requests(desk)) == 2
    desk.dependencies.gateway.mine()
    after = requests(desk)
    assert len(after) == 6
    again = after.keys() & before.keys()
    assert {identifier for identifier in again if after[identifier] == before[identifier]} == set(
        list(before)[:2]
    )


async def test_requests_may_be_gone_for_good() -> None:
    desk = with_requests()
    await put_on(desk, "/gateway/reorganise", blocks=4, drop="requests")
    desk.dependencies.gateway.mine_many(3)
    assert len(requests(desk)) == 2


async def test_replies_alone_may_be_gone_for_good() -> None:
    desk = with_requests(2)
    reply = DECRYPTION.function("publicDecryptionResponse")
    desk.dependencies.gateway.intake.submit(
        signed(desk, data=reply.encode(next(iter(requests(desk))), b"", b"", b""))
    )
    desk.dependencies.gateway.mine()
    assert desk.dependencies.gateway.evm.account(desk.dependencies.sender.address).nonce == 1
    await put_on(desk, "/gateway/reorganise", blocks=3, drop="replies")
    nonce = desk.dependencies.gateway.evm.account(desk.dependencies.sender.address).nonce
    assert (len(requests(desk)), nonce) == (2, 0)


async def test_the_head_may_go_back() -> None:
    desk = with_requests()
    await put_on(desk, "/gateway/reorganise", blocks=4, shorter=True)
    assert (desk.dependencies.gateway.head.number, len(requests(desk))) == (2, 2)
    desk.dependencies.gateway.mine()
    assert len(requests(desk)) == 6


async def test_a_second_sender_copies_replies(nursery: trio.Nursery) -> None:
    desk = with_requests(2)
    await nursery.start(desk.control.drills.run)
    await put_on(desk, "/gateway/second-sender")
    chain, owner = desk.dependencies.gateway, desk.dependencies.sender.address
    reply = DECRYPTION.function("publicDecryptionResponse")
    await trio.testing.wait_all_tasks_blocked()
    for nonce, identifier in enumerate(requests(desk)):
        chain.intake.submit(signed(desk, nonce, reply.encode(identifier, b"", b"", b"")))
    for _ in range(4):
        chain.mine()
        await trio.testing.wait_all_tasks_blocked()
    ground_truth = GroundTruth(chain, desk.dependencies.decryption.address, owner)
    ground_truth.read()
    assert (chain.evm.account(owner).nonce, ground_truth.verdict().doubled) == (4, 2)
    await desk.delete("/gateway/second-sender")
    chain.intake.submit(signed(desk, 4, reply.encode(next(iter(requests(desk))), b"", b"", b"")))
    for _ in range(3):
        chain.mine()
        await trio.testing.wait_all_tasks_blocked()
    assert chain.evm.account(owner).nonce == 5
    nursery.cancel_scope.cancel()


# --- Cores ----------------------------------------------------------------------------------------------------------

NAMED = bytes(RequestId(request_id="01" * 32))


@pytest.mark.parametrize(
    ("drill", "body", "method", "told"),
    [
        ("fail", {"code": "UNAVAILABLE"}, "Check", "UNAVAILABLE"),
        ("fail", {"code": "UNAVAILABLE"}, "PublicDecrypt", "UNAVAILABLE"),
        (
            "fail",
            {"method": "NewMpcContext", "code": "INVALID_ARGUMENT"},
            "NewMpcContext",
            "INVALID_ARGUMENT",
        ),
        (
            "fail",
            {"method": "NewMpcContext", "code": "INVALID_ARGUMENT"},
            "GetPublicDecryptionResult",
            "NOT_FOUND",
        ),
        ("health", {}, "Check", b"\x08\x02"),
        ("health", {"known": False}, "Check", "UNIMPLEMENTED"),
    ],
)
async def test_a_core_answers_otherwise_until_the_end(
    drill: str, body: dict[str, Any], method: str, told: Any, desk: Handler
) -> None:
    named = NAMED if method.startswith("Get") else b""
    before = await core(desk, method, named)
    await put_on(desk, f"/core0/{drill}", **body)
    assert await core(desk, method, named) == told
    await desk.delete(f"/core0/{drill}")
    assert await core(desk, method, named) == before


async def test_a_core_signs_with_another_key(desk: Handler) -> None:
    emulated = desk.dependencies.cores[0].core
    own = emulated.node.key
    await put_on(desk, "/core0/signer")
    assert (emulated.node.key, emulated.management.results.node().key) == (STRANGER, STRANGER)
    await desk.delete("/core0/signer")
    assert (emulated.node.key, emulated.management.results.node().key) == (own, own)


async def test_ids_are_taken_and_no_result_comes_until_a_restart(desk: Handler) -> None:
    await put_on(desk, "/core0/taken")
    assert await core(desk, "PublicDecrypt") == "ALREADY_EXISTS"
    assert (await core(desk, "GetPublicDecryptionResult", NAMED), trio.current_time()) == (
        "UNAVAILABLE",
        60.0,
    )
    assert await core(desk, "Check") == b"\x08\x01"
    await desk.post("/core0/restart")
    assert await on(desk) == []
    assert await core(desk, "GetPublicDecryptionResult", NAMED) == "NOT_FOUND"


async def test_results_stay_away(desk: Handler) -> None:
    await put_on(desk, "/core0/stuck", method="GetEpochResult")
    assert (await core(desk, "GetEpochResult", NAMED), trio.current_time()) == ("UNAVAILABLE", 60.0)
    assert await core(desk, "GetPublicDecryptionResult", NAMED) == "NOT_FOUND"


# --- buckets --------------------------------------------------------------------------------------------------------


async def test_a_bucket_answers_with_a_status() -> None:
    desk = with_requests(1)
    await put_on(desk, "/buckets/status", code=403)
    assert [(await fetch(desk, index)).status for index in (0, 1)] == [403, 403]
    await desk.delete("/bucket0/status")
    assert [(await fetch(desk, index)).status for index in (0, 1)] == [200, 403]


async def test_a_bucket_points_to_the_next_or_elsewhere() -> None:
    desk = with_requests(1)
    key = next(iter(desk.dependencies.buckets[0].bucket.objects))
    await put_on(desk, "/bucket0/redirect")
    there = await fetch(desk)
    assert (there.status, dict(there.headers)["location"]) == (
        307,
        f"{desk.dependencies.bucket_url(1)}/{key}",
    )
    await put_on(desk, "/bucket0/redirect", location="http://10.0.0.1{path}")
    assert dict((await fetch(desk)).headers)["location"] == f"http://10.0.0.1/ct0/{key}"


async def test_bodies_come_in_pieces_without_a_length() -> None:
    desk = with_requests(1)
    honest = await body_of(await fetch(desk))
    await put_on(desk, "/bucket0/chunked", bytes=1)
    response = await fetch(desk)
    pieces = await body_of(response)
    assert "content-length" not in dict(response.headers)
    assert (b"".join(pieces), {len(piece) for piece in pieces}) == (honest[0], {1})


async def test_a_bucket_is_late_or_silent() -> None:
    desk = with_requests(1)
    await put_on(desk, "/bucket0/slow", seconds=4)
    await fetch(desk)
    assert trio.current_time() == 4
    await put_on(desk, "/bucket0/hang")
    with trio.move_on_after(1_000) as scope:
        await fetch(desk)
    assert scope.cancelled_caught


async def test_the_contract_names_another_address_for_a_bucket(desk: Handler) -> None:
    await put_on(desk, "/bucket0/address", url="http://[64:ff9b::1]/ct")
    assert told_urls(desk) == ["http://[64:ff9b::1]/ct", desk.dependencies.bucket_url(1)]
    await desk.delete("/bucket0/address")
    assert told_urls(desk) == [desk.dependencies.bucket_url(0), desk.dependencies.bucket_url(1)]


def told_urls(desk: Handler) -> list[str]:
    stored = desk.dependencies.gateway.evm.state.get(
        (desk.dependencies.gateway_config.address, "coprocessors"), ()
    )
    return [coprocessor.bucket_url for coprocessor in stored]


# --- contracts, rights, users ---------------------------------------------------------------------------------------


async def test_a_paused_contract_takes_no_requests(desk: Handler) -> None:
    await put_on(desk, "/decryption/pause")
    desk.traffic.public()
    desk.dependencies.gateway.mine()
    assert requests(desk) == {}
    await desk.delete("/decryption/pause")
    desk.traffic.public()
    desk.dependencies.gateway.mine()
    assert len(requests(desk)) == 1


async def test_the_acl_denies_everything(desk: Handler) -> None:
    (one, *_) = desk.traffic.ciphertexts()
    desk.dependencies.host.evm.set_up(
        desk.dependencies.acl.address, desk.dependencies.acl.allow_for_decryption, one.handle
    )
    data = to_hex(ACL.function("isAllowedForDecryption").encode(one.handle))
    call = {"to": to_hex(desk.dependencies.acl.address), "data": data}
    said = []
    await put_on(desk, "/host/deny")
    said.append(await rpc(desk, "eth_call", call, "latest", chain="host"))
    await desk.delete("/host/deny")
    said.append(await rpc(desk, "eth_call", call, "latest", chain="host"))
    assert [from_quantity(hex(int(word, 16))) for word in said] == [0, 1]


async def test_the_wallet_says_no(desk: Handler) -> None:
    await put_on(desk, "/host/wallet", says="burn")
    assert desk.dependencies.host.evm.state.get((address_for("wallet"), "mood"), None) == "burn"
    await desk.delete("/host/wallet")
    assert desk.dependencies.host.evm.state.get((address_for("wallet"), "mood"), None) == "honest"


async def test_contexts_and_epochs_are_announced_and_destroyed(desk: Handler) -> None:
    for fault in ("new-context", "destroy-epoch", "destroy-context"):
        await put_on(desk, f"/ethereum/{fault}")
    mined = desk.dependencies.ethereum.mine().mined
    assert [[log.topics[0] for log in one.logs] != [] for one in mined] == [True, True, True]
    (gateway,) = desk.dependencies.gateway.mine().mined
    assert gateway.outcome.status == 1


async def test_users_name_a_host_chain_that_nobody_configured(desk: Handler) -> None:
    await put_on(desk, "/users/unknown-host-chain", count=2)
    await put_on(desk, "/users/request", form="public")
    desk.dependencies.gateway.mine()
    logs = [log for mined in desk.dependencies.gateway.head.mined for log in mined.logs]
    contents = [content for log in logs if (content := EVENTS.decode(log)) is not None]
    chains = [int.from_bytes(content.references[0].handle[22:30]) for content in contents]
    assert chains == [UNKNOWN_CHAIN_ID, UNKNOWN_CHAIN_ID, 12345]


async def test_users_ask_under_a_context_of_others(desk: Handler) -> None:
    config, current = desk.dependencies.gateway_config, desk.dependencies.gateway.evm.state
    before = current.get((config.address, "current"), None)
    await put_on(desk, "/users/other-context", count=3)
    desk.dependencies.gateway.mine()
    assert len(requests(desk)) == 3
    assert current.get((config.address, "current"), None) == before
    pinned = [config.address, "context", before - 1]
    committee = current.get(tuple(pinned), None)
    assert desk.dependencies.sender.address not in {node.tx_sender for node in committee.nodes}
    assert key_for("tx sender 61").address in {node.tx_sender for node in committee.nodes}


async def test_everything_that_listens_can_refuse(desk: Handler) -> None:
    for name in desk.dependencies.names:
        await put_on(desk, f"/{name}/refuse")
    assert not any(toggle_port.is_open for toggle_port in desk.dependencies.toggle_ports.values())
    await desk.delete("/faults")
    assert all(toggle_port.is_open for toggle_port in desk.dependencies.toggle_ports.values())


# --- the page -------------------------------------------------------------------------------------------------------


def orders() -> list[tuple[str, dict[str, Any]]]:
    """Return every order of the page's table of situations: path and body."""
    table = PAGE.partition("## Situations")[2]
    found = re.findall(r"`(/[a-z0-9]+/[a-z-]+)( \{[^`]*\})?`", table)
    return [(path, json.loads(body or "{}")) for path, body in found]


@pytest.mark.parametrize(
    ("path", "body"), [pytest.param(*one, id=f"{one[0]} {one[1]}"[:60]) for one in orders()]
)
async def test_every_order_of_the_page_is_taken(desk: Handler, path: str, body: dict[str, Any]) -> None:
    desk.control.drills.scene.monitoring = "127.0.0.1:1"
    desk.dependencies.gateway.mine_many(500)
    assert (await desk.post(path, body)).status == 204


def test_every_drill_says_in_sentences_what_happens() -> None:
    said = [text for drill in DRILLS for text in (drill.does(), drill.connector())]
    assert [text for text in said if not text.endswith(".")] == []
