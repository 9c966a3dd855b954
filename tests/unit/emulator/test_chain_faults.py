"""A faulty node: each fault looks as its name says, happens as often as asked, and is counted."""

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
from tests.unit.emulator.small_world import CHAIN_ID, SENDER, World, signed, world
from tests.unit.emulator.vector_world import rpc


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
        made.node.faults.script(fault)
    return made


def test_a_scripted_fault_happens_as_often_as_asked() -> None:
    faults = NodeFaults()
    faults.script(NodeFault.HANG, 2)
    assert [faults.happens(NodeFault.HANG) for _ in range(4)] == [True, True, False, False]
    assert faults.happened[NodeFault.HANG] == 2


def test_a_drawn_fault_happens_about_as_often_as_its_probability() -> None:
    faults = NodeFaults(seed=1)
    faults.probability[NodeFault.SLOW] = 0.25
    assert 180 < sum(faults.happens(NodeFault.SLOW) for _ in range(1_000)) < 320


def test_the_same_seed_draws_the_same() -> None:
    def drawn() -> list[bool]:
        faults = NodeFaults(seed=5)
        faults.probability[NodeFault.SLOW] = 0.5
        return [faults.happens(NodeFault.SLOW) for _ in range(50)]

    assert drawn() == drawn()


def test_one_knob_does_not_move_when_another_fault_happens() -> None:
    def drawn(*, other: bool) -> list[bool]:
        faults = NodeFaults(seed=5)
        faults.probability = {NodeFault.SLOW: 0.5, NodeFault.HANG: 0.5}
        happened = []
        for _ in range(50):
            if other:
                faults.happens(NodeFault.HANG)
            happened.append(faults.happens(NodeFault.SLOW))
        return happened

    assert drawn(other=True) == drawn(other=False)


def test_healing_ends_all_faults_and_keeps_the_counters() -> None:
    faults = NodeFaults()
    faults.probability[NodeFault.SLOW] = 1.0
    faults.script(NodeFault.HANG)
    faults.strike(RefusedCalls("eth_call"))
    assert faults.happens(NodeFault.SLOW)
    faults.heal()
    assert not any(faults.happens(fault) for fault in NodeFault)
    assert faults.rule_for("eth_call", []) is None
    assert faults.happened[NodeFault.SLOW] == 1


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


async def test_retry_after_is_told_when_set() -> None:
    made = faulty(NodeFault.RATE_LIMITED)
    made.node.faults.retry_after = 1.5
    assert (await made.node.http(NUMBER)).headers == (("retry-after", "1.5"),)


@pytest.mark.parametrize("fault", [NodeFault.TRUNCATED, NodeFault.NOT_JSON])
async def test_a_spoiled_body_is_no_json(fault: NodeFault) -> None:
    with pytest.raises(json.JSONDecodeError):
        await ask(faulty(fault))


async def test_a_wrong_id_is_not_the_requests() -> None:
    assert (await ask(faulty(NodeFault.WRONG_ID)))[1]["id"] != 1


async def test_a_shuffled_batch_holds_the_same_answers() -> None:
    batch = post([{"id": n, "method": "eth_blockNumber"} for n in range(3)])
    _, content = await ask(faulty(NodeFault.SHUFFLED), batch)
    assert [one["id"] for one in content] == [2, 1, 0]


def test_a_refusal_meets_its_method_only() -> None:
    made = world()
    made.node.faults.strike(RefusedCalls("eth_call", code=5, message="no", data="0x12"))
    assert "result" in rpc(made.node, "eth_blockNumber")
    assert rpc(made.node, "eth_call")["error"] == {"code": 5, "message": "no", "data": "0x12"}


def test_an_unsupported_method_is_not_found() -> None:
    made = world()
    made.node.limits.unsupported.add("eth_sendRawTransactionSync")
    assert rpc(made.node, "eth_sendRawTransactionSync", to_hex(signed(0)))["error"]["code"] == -32601


def test_a_wrong_chain_id_is_another_one() -> None:
    assert rpc(faulty(NodeFault.WRONG_CHAIN_ID).node, "eth_chainId")["result"] == hex(CHAIN_ID + 1)


def spoiled(fault: NodeFault, requests: int = 4) -> list[Any]:
    made = faulty(fault)
    for index in range(requests):
        made.ask(index)
    made.chain.mine()
    answer: list[Any] = rpc(made.node, "eth_getLogs", {"fromBlock": "0x0", "toBlock": "latest"})["result"]
    assert made.node.faults.happened[fault] == bool(requests)
    return answer


def test_logs_may_be_missing_altogether() -> None:
    assert spoiled(NodeFault.EMPTY_LOGS) == []


def test_the_later_half_of_the_logs_may_be_missing() -> None:
    assert [log["logIndex"] for log in spoiled(NodeFault.PARTIAL_LOGS)] == ["0x0", "0x1"]


def test_logs_may_be_marked_as_removed() -> None:
    assert {log["removed"] for log in spoiled(NodeFault.REMOVED_LOGS)} == {True}


def test_logs_may_come_twice() -> None:
    assert [log["logIndex"] for log in spoiled(NodeFault.DUPLICATE_LOGS, 2)] == ["0x0", "0x0", "0x1", "0x1"]


def test_logs_may_come_backward() -> None:
    assert [log["logIndex"] for log in spoiled(NodeFault.REVERSED_LOGS, 2)] == ["0x1", "0x0"]


def test_a_fault_of_logs_is_not_spent_on_an_empty_answer() -> None:
    spoiled(NodeFault.EMPTY_LOGS, 0)


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


async def test_a_synchronous_send_may_time_out_at_once() -> None:
    made = faulty(NodeFault.SYNC_TIMEOUT, pool="geth")
    request = post({"id": 1, "method": "eth_sendRawTransactionSync", "params": [to_hex(signed(0))]})
    assert (await ask(made, request))[1]["error"]["code"] == 4
    assert made.chain.intake.pending_nonce(SENDER.address) == 1


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


async def test_a_cluster_chooses_the_same_with_the_same_seed() -> None:
    made = world()
    made.chain.mine_many(5)
    behind = RpcNode(made.chain)
    behind.lag = 3
    first, second = (Cluster([made.node, behind], seed=9) for _ in range(2))
    assert await heads(first, 20) == await heads(second, 20)
