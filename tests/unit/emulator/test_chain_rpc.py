"""JSON-RPC of a node: bodies, methods, what a lagging or limited node says; each fault looks as its name says, and is counted."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.emulator.http import HangUp, HttpRequest, HttpResponse
from kmsconn.emulator.node_faults import NodeFault, NodeFaults, RefusedCalls
from kmsconn.emulator.pool import PoolKind
from kmsconn.emulator.rpc import Cluster, RpcNode
from kmsconn.ethereum.hexes import to_hex
from tests.unit.emulator.small_world import CHAIN_ID, DECRYPTION_ADDRESS, SENDER, World, rpc, signed, world

TARGET = to_hex(DECRYPTION_ADDRESS)
OWNER = to_hex(SENDER.address)


def result(made: World, method: str, *params: Any) -> Any:
    answer = rpc(made.node, method, *params)
    assert "error" not in answer, answer
    return answer["result"]


def error(made: World, method: str, *params: Any) -> tuple[int, str]:
    content = rpc(made.node, method, *params)["error"]
    return content["code"], content["message"]


def reply_call(made: World) -> dict[str, str]:
    return {"from": OWNER, "to": TARGET, "data": to_hex(made.reply(1))}


async def answer(node: RpcNode, content: Any) -> Any:
    return json.loads(await node.answer(json.dumps(content).encode()))


async def test_an_answer_carries_the_id_of_its_request() -> None:
    request = {"jsonrpc": "2.0", "id": "x-7", "method": "eth_chainId", "params": []}
    assert await answer(world().node, request) == {"jsonrpc": "2.0", "id": "x-7", "result": hex(CHAIN_ID)}
    assert json.loads(await world().node.answer(b"{"))["error"]["code"] == -32700, "no JSON"


@pytest.mark.parametrize("content", [[], 7, {"id": 1}, {"id": 1, "method": 5}])
async def test_a_request_of_another_form_is_invalid(content: Any) -> None:
    assert (await answer(world().node, content))["error"]["code"] == -32600


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBalance", []),
        ("eth_getBalance", ["0x12"]),
        ("eth_getBalance", ["nonsense"]),
        ("eth_getBlockByNumber", ["nonsense"]),
        ("eth_call", ["nonsense"]),
        ("eth_call", [{"data": "0x"}]),
        ("eth_getLogs", [{"topics": [7]}]),
        ("eth_sendRawTransaction", ["0x123"]),
    ],
)
def test_bad_parameters_are_invalid(method: str, params: list[Any]) -> None:
    assert error(world(), method, *params)[0] == -32602


@pytest.mark.parametrize(
    ("tag", "number"),
    [("latest", 100), ("pending", 100), ("safe", 36), ("finalized", 36), ("earliest", 0), ("0x10", 16)],
)
def test_a_tag_names_a_block(tag: str, number: int) -> None:
    made = world()
    made.chain.mine_many(100)
    assert result(made, "eth_getBlockByNumber", tag, False)["number"] == hex(number)


def test_a_chain_without_base_fee_names_none() -> None:
    made = world(base_fee=None)
    assert "baseFeePerGas" not in result(made, "eth_getBlockByNumber", "latest", False)
    assert result(made, "eth_gasPrice") == hex(10**9)


def test_the_fee_history_has_one_fee_more_than_blocks() -> None:
    made = world(base_fee=100)
    made.node.tip = 3
    made.chain.mine_many(20)
    history = result(made, "eth_feeHistory", "0xa", "latest", [20])
    assert history["oldestBlock"] == "0xb"
    assert history["baseFeePerGas"] == ["0x64"] * 11
    assert history["reward"] == [["0x3"]] * 10


def test_an_estimate_is_one_to_two_percent_above_the_use() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    estimate = int(result(made, "eth_estimateGas", reply_call(made)), 16)
    reply = made.chain.intake.submit(signed(0, made.reply(1)))
    made.chain.mine()
    assert 1.01 < estimate / made.mined(reply).outcome.gas_used < 1.02


def test_a_call_out_of_gas_is_no_revert_and_an_unknown_transaction_cannot_be_traced() -> None:
    made = world()
    code, text = error(made, "eth_call", {**reply_call(made), "gas": "0x5300"}, "latest")
    assert (code, text.split(":")[0]) == (-32000, "out of gas")
    unknown = error(made, "debug_traceTransaction", "0x" + "00" * 32)
    assert unknown == (-32000, "transaction not found")


def test_a_call_at_an_old_block_sees_that_state() -> None:
    made = world()
    made.chain.mine()
    made.ask()
    made.chain.mine()
    assert rpc(made.node, "eth_call", reply_call(made), "0x1")["error"]["code"] == 3
    assert result(made, "eth_call", reply_call(made), "0x2") == "0x"


def logs(made: World, **content: Any) -> list[Any]:
    found: list[Any] = result(made, "eth_getLogs", content)
    return found


def asked(made: World, count: int = 4) -> World:
    """Make one request in each of the blocks 1 to ``count``."""
    for index in range(count):
        made.ask(index)
        made.chain.mine()
    return made


def test_logs_are_filtered_by_address_and_topics() -> None:
    made = asked(world())
    topic = logs(made, fromBlock="0x1", toBlock="0x1")[0]["topics"]
    span = {"fromBlock": "0x0", "toBlock": "latest"}
    assert len(logs(made, address=[TARGET, OWNER], **span)) == 4
    assert logs(made, address=OWNER, **span) == []
    assert len(logs(made, topics=[[topic[0], "0x" + "00" * 32]], **span)) == 4
    assert len(logs(made, topics=[None, topic[1]], **span)) == 1
    assert logs(made, topics=[topic[1]], **span) == []


def test_a_node_may_limit_or_lack_blocks_and_refuses_a_backward_range() -> None:
    made = asked(world())
    assert error(made, "eth_getLogs", {"fromBlock": "0x3", "toBlock": "0x2"})[0] == -32000
    made.node.limits.log_range = 3
    assert error(made, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x4"})[0] == -32005
    made.node.limits.pruned_before = 2
    assert error(made, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"})[0] == 4444
    assert error(made, "eth_getBalance", OWNER, "0x1")[0] == -32000


def test_a_lagging_node_knows_nothing_of_the_last_blocks() -> None:
    made = asked(world())
    made.node.lag = 2
    assert result(made, "eth_blockNumber") == "0x2"
    assert len(logs(made, fromBlock="0x0", toBlock="0x4")) == 2
    assert error(made, "eth_call", {**reply_call(made), "data": to_hex(made.reply(3, 2))}, "latest")[0] == 3


def test_a_node_on_a_stale_fork_calls_a_good_reply_wrong() -> None:
    made = world()
    made.chain.mine_many(2)
    made.node.fork = made.chain.reorg(1)
    made.ask()
    made.chain.mine()
    assert rpc(RpcNode(made.chain), "eth_call", reply_call(made), "latest")["result"] == "0x"
    assert rpc(made.node, "eth_call", reply_call(made), "latest")["error"]["data"].startswith("0xd48af942")


def test_a_lagging_node_forwards_what_it_is_sent() -> None:
    made = world(pool="geth")
    made.chain.mine_many(3)
    made.node.lag = 2
    sent = result(made, "eth_sendRawTransaction", to_hex(signed(0)))
    made.chain.mine()
    assert made.chain.history.find(bytes.fromhex(sent[2:])) is not None
    assert result(made, "eth_getTransactionReceipt", sent) is None


def post(content: Any) -> HttpRequest:
    return HttpRequest("POST", "/", (), json.dumps(content).encode())


NUMBER = post({"id": 1, "method": "eth_blockNumber"})


async def ask(made: World, request: HttpRequest = NUMBER) -> tuple[int, Any]:
    response = await made.node.http(request)
    assert isinstance(response.body, bytes)
    return response.status, json.loads(response.body)


def faulty(*faults: NodeFault, pool: PoolKind = "arbitrum") -> World:
    made = world(pool=pool)
    for fault in faults:
        made.node.faults.misbehave(fault, times=1)
    return made


def test_a_scripted_fault_happens_as_often_as_asked() -> None:
    faults = NodeFaults()
    faults.misbehave(NodeFault.HANG, times=2)
    assert [faults.happens(NodeFault.HANG) for _ in range(4)] == [True, True, False, False]
    assert faults.counts[NodeFault.HANG] == 2


def test_one_knob_does_not_move_when_another_fault_happens() -> None:
    def drawn(*, other: bool) -> list[bool]:
        faults = NodeFaults()
        for fault in (NodeFault.SLOW, NodeFault.HANG):
            faults.misbehave(fault, share=0.5)
        happened = []
        for _ in range(50):
            if other:
                faults.happens(NodeFault.HANG)
            happened.append(faults.happens(NodeFault.SLOW))
        return happened

    assert drawn(other=True) == drawn(other=False)


def test_healing_ends_all_faults_and_keeps_the_counters() -> None:
    faults = NodeFaults()
    faults.misbehave(NodeFault.SLOW)
    faults.misbehave(NodeFault.HANG, times=1)
    faults.strike(RefusedCalls("eth_call"))
    assert faults.happens(NodeFault.SLOW)
    faults.heal()
    assert not any(faults.happens(fault) for fault in NodeFault)
    assert faults.of_call("eth_call", []) is None
    assert faults.counts[NodeFault.SLOW] == 1


async def test_a_hung_request_is_never_answered() -> None:
    with trio.move_on_after(3_600) as scope:
        await ask(faulty(NodeFault.HANG))
    assert scope.cancelled_caught


async def test_a_slow_answer_comes_late() -> None:
    assert await ask(faulty(NodeFault.SLOW)) == (200, {"jsonrpc": "2.0", "id": 1, "result": "0x0"})
    assert trio.current_time() == 2


async def test_a_connection_is_hung_up() -> None:
    with pytest.raises(HangUp):
        await ask(faulty(NodeFault.HANG_UP))


@pytest.mark.parametrize(
    ("fault", "status"),
    [(NodeFault.RATE_LIMITED, 429), (NodeFault.BAD_GATEWAY, 502), (NodeFault.UNAVAILABLE, 503)],
)
async def test_a_status_tells_the_fault(fault: NodeFault, status: int) -> None:
    assert (await faulty(fault).node.http(NUMBER)).status == status


@pytest.mark.parametrize("fault", [NodeFault.TRUNCATED, NodeFault.NOT_JSON])
async def test_a_spoiled_body_is_no_json(fault: NodeFault) -> None:
    with pytest.raises(json.JSONDecodeError):
        await ask(faulty(fault))


async def test_ids_may_be_wrong_or_shuffled_and_a_method_unsupported() -> None:
    assert (await ask(faulty(NodeFault.WRONG_ID)))[1]["id"] != 1
    batch = post([{"id": n, "method": "eth_blockNumber"} for n in range(3)])
    _, content = await ask(faulty(NodeFault.SHUFFLED), batch)
    assert [one["id"] for one in content] == [2, 1, 0]
    made = faulty(NodeFault.WRONG_CHAIN_ID)
    assert rpc(made.node, "eth_chainId")["result"] == hex(CHAIN_ID + 1)
    made.node.limits.unsupported.add("eth_chainId")
    assert rpc(made.node, "eth_chainId")["error"]["code"] == -32601


def spoiled(fault: NodeFault, requests: int = 4) -> list[Any]:
    made = faulty(fault)
    for index in range(requests):
        made.ask(index)
    made.chain.mine()
    answer: list[Any] = rpc(made.node, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})["result"]
    assert made.node.faults.counts[fault] == bool(requests)
    return answer


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (NodeFault.EMPTY_LOGS, []),
        (NodeFault.PARTIAL_LOGS, [("0x0", False), ("0x1", False)]),
        (NodeFault.REMOVED_LOGS, [(f"0x{index}", True) for index in range(4)]),
        (NodeFault.DUPLICATE_LOGS, [(f"0x{index // 2}", False) for index in range(8)]),
        (NodeFault.REVERSED_LOGS, [(f"0x{3 - index}", False) for index in range(4)]),
    ],
)
def test_logs_may_be_spoiled_and_no_fault_is_spent_on_an_empty_answer(
    fault: NodeFault, expected: list[tuple[str, bool]]
) -> None:
    assert [(log["logIndex"], log["removed"]) for log in spoiled(fault)] == expected
    assert spoiled(fault, 0) == []


def test_a_swallowed_transaction_is_confirmed_and_never_mined() -> None:
    made = faulty(NodeFault.SWALLOWED, pool="geth")
    raw = signed(0)
    sent = rpc(made.node, "eth_sendRawTransaction", to_hex(raw))["result"]
    made.chain.mine_many(3)
    assert rpc(made.node, "eth_getTransactionByHash", sent)["result"] is None
    assert rpc(made.node, "eth_sendRawTransaction", to_hex(raw))["result"] == sent


def test_a_lost_reply_leaves_the_transaction_on_its_way() -> None:
    made = faulty(NodeFault.LOST_REPLY)
    with pytest.raises(HangUp):
        rpc(made.node, "eth_sendRawTransaction", to_hex(signed(0)))
    made.chain.mine()
    assert made.chain.evm.account(SENDER.address).nonce == 1


def test_a_receipt_may_come_without_its_block_or_not_at_all() -> None:
    made = faulty(NodeFault.NO_RECEIPT, NodeFault.BARE_RECEIPT)
    sent = to_hex(made.chain.intake.submit(signed(0)))
    made.chain.mine()
    first, second, third = (rpc(made.node, "eth_getTransactionReceipt", sent)["result"] for _ in range(3))
    assert first is None
    assert second["blockHash"] is None
    assert third["blockHash"] is not None


async def heads(cluster: Cluster, count: int) -> list[str]:
    found = []
    for _ in range(count):
        response: HttpResponse = await cluster._http(NUMBER)
        assert isinstance(response.body, bytes)
        found.append(json.loads(response.body)["result"])
    return found


async def test_requests_to_a_cluster_meet_nodes_with_different_heads() -> None:
    made = world()
    made.chain.mine_many(5)
    behind = RpcNode(made.chain)
    behind.lag = 3
    assert set(await heads(Cluster([made.node, behind], seed=1), 20)) == {"0x5", "0x2"}
