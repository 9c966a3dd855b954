"""JSON-RPC of a node: bodies, methods, what a lagging or limited node says."""

from __future__ import annotations

import json
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.emulator.rpc import RpcNode
from kmsconn.ethereum.hexes import to_hex
from tests.unit.emulator.small_world import (
    CHAIN_ID,
    DECRYPTION_ADDRESS,
    SENDER,
    World,
    handle,
    public_id,
    signed,
    world,
)
from tests.unit.emulator.vector_world import rpc

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


async def test_a_batch_is_answered_in_its_order() -> None:
    batch = [{"id": n, "method": "eth_blockNumber"} for n in range(3)]
    assert [one["id"] for one in await answer(world().node, batch)] == [0, 1, 2]


async def test_a_batch_may_hold_errors_beside_results() -> None:
    batch = [{"id": 1, "method": "eth_blockNumber"}, {"id": 2, "method": "eth_nonsense"}]
    first, second = await answer(world().node, batch)
    assert first["result"] == "0x0"
    assert second["error"]["code"] == -32601


async def test_bytes_that_are_no_json_are_a_parse_error() -> None:
    assert json.loads(await world().node.answer(b"{"))["error"]["code"] == -32700


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


def test_the_block_number_is_the_heads() -> None:
    made = world()
    made.chain.mine_many(17)
    assert result(made, "eth_blockNumber") == "0x11"


@pytest.mark.parametrize(
    ("tag", "number"),
    [("latest", 100), ("pending", 100), ("safe", 36), ("finalized", 36), ("earliest", 0), ("0x10", 16)],
)
def test_a_tag_names_a_block(tag: str, number: int) -> None:
    made = world()
    made.chain.mine_many(100)
    assert result(made, "eth_getBlockByNumber", tag, False)["number"] == hex(number)


def test_a_block_above_the_head_is_null() -> None:
    assert result(world(), "eth_getBlockByNumber", "0x1", False) is None


def test_a_block_has_its_transactions_as_hashes_or_whole() -> None:
    made = world()
    asked = to_hex(made.ask())
    made.chain.mine()
    assert result(made, "eth_getBlockByNumber", "latest", False)["transactions"] == [asked]
    (whole,) = result(made, "eth_getBlockByNumber", "latest", True)["transactions"]
    assert whole == result(made, "eth_getTransactionByHash", asked)


def test_a_block_is_found_by_its_hash() -> None:
    made = world()
    made.chain.mine()
    assert result(made, "eth_getBlockByHash", to_hex(made.chain.head.hash), False)["number"] == "0x1"


def test_a_chain_without_base_fee_names_none() -> None:
    made = world(base_fee=None)
    assert "baseFeePerGas" not in result(made, "eth_getBlockByNumber", "latest", False)
    assert result(made, "eth_gasPrice") == hex(10**9)


def test_code_is_where_a_contract_is() -> None:
    assert result(world(), "eth_getCode", TARGET, "latest") == "0xfe"
    assert result(world(), "eth_getCode", OWNER, "latest") == "0x"


def test_nonces_count_mined_and_pending_transactions() -> None:
    made = world(pool="geth")
    for nonce in (0, 1):
        made.chain.intake.submit(signed(nonce))
    assert result(made, "eth_getTransactionCount", OWNER, "latest") == "0x0"
    assert result(made, "eth_getTransactionCount", OWNER, "pending") == "0x2"
    made.chain.mine()
    assert result(made, "eth_getTransactionCount", OWNER, "latest") == "0x2"


def test_the_balance_is_that_of_the_account() -> None:
    made = world()
    made.chain.evm.set_balance(SENDER.address, 5)
    assert result(made, "eth_getBalance", OWNER, "latest") == "0x5"


def test_the_fee_history_has_one_fee_more_than_blocks() -> None:
    made = world(base_fee=100)
    made.node.tip = 3
    made.chain.mine_many(20)
    history = result(made, "eth_feeHistory", "0xa", "latest", [20])
    assert history["oldestBlock"] == "0xb"
    assert history["baseFeePerGas"] == ["0x64"] * 11
    assert history["reward"] == [["0x3"]] * 10


@pytest.mark.parametrize(
    ("method", "expected"),
    [("net_version", "54321"), ("eth_syncing", False), ("web3_clientVersion", "kmsconn-emulator/1")],
)
def test_small_talk(method: str, expected: Any) -> None:
    assert result(world(), method) == expected


def test_a_call_that_reverts_gives_code_data_and_text() -> None:
    made = world()
    content = rpc(made.node, "eth_call", reply_call(made), "latest")["error"]
    assert content["code"] == 3
    assert content["message"].startswith("execution reverted: custom error 0xd48af942: ")
    assert content["data"] == f"0xd48af942{public_id(1):064x}"


def test_an_estimate_is_one_to_two_percent_above_the_use() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    estimate = int(result(made, "eth_estimateGas", reply_call(made)), 16)
    reply = made.chain.intake.submit(signed(0, made.reply(1)))
    made.chain.mine()
    assert 1.01 < estimate / made.mined(reply).outcome.gas_used < 1.02


def test_a_call_of_an_account_without_code_returns_nothing() -> None:
    assert result(world(), "eth_call", {"to": OWNER, "data": "0x1626ba7e"}, "latest") == "0x"


def test_a_call_out_of_gas_is_no_revert() -> None:
    made = world()
    code, text = error(made, "eth_call", {**reply_call(made), "gas": "0x5300"}, "latest")
    assert (code, text.split(":")[0]) == (-32000, "out of gas")


def test_a_call_at_an_old_block_sees_that_state() -> None:
    made = world()
    made.chain.mine()
    made.ask()
    made.chain.mine()
    assert rpc(made.node, "eth_call", reply_call(made), "0x1")["error"]["code"] == 3
    assert result(made, "eth_call", reply_call(made), "0x2") == "0x"


def test_a_call_at_an_unknown_block_is_refused() -> None:
    assert error(world(), "eth_call", {"to": TARGET}, "0x99") == (-32000, "header not found")


def test_a_call_may_name_its_block_by_hash() -> None:
    made = world()
    made.ask()
    made.chain.mine()
    tag = {"blockHash": to_hex(made.chain.head.hash)}
    assert result(made, "eth_call", reply_call(made), tag) == "0x"


def test_a_sent_transaction_waits_then_has_a_receipt() -> None:
    made = world(pool="geth")
    sent = result(made, "eth_sendRawTransaction", to_hex(signed(0)))
    assert result(made, "eth_getTransactionByHash", sent)["blockNumber"] is None
    assert result(made, "eth_getTransactionReceipt", sent) is None
    made.chain.mine()
    assert result(made, "eth_getTransactionByHash", sent)["blockNumber"] == "0x1"
    assert result(made, "eth_getTransactionReceipt", sent)["blockHash"] == to_hex(made.chain.head.hash)


def test_a_refused_transaction_gives_the_nodes_words() -> None:
    code, text = error(world(base_fee=100), "eth_sendRawTransaction", to_hex(signed(0, max_fee=99)))
    assert (code, text[:15]) == (-32000, "max fee per gas")


def test_a_receipt_of_a_failed_transaction_has_status_0_and_a_trace_says_why() -> None:
    made = world(pool="geth")
    sent = result(made, "eth_sendRawTransaction", to_hex(signed(0, made.reply(1))))
    made.chain.mine()
    receipt = result(made, "eth_getTransactionReceipt", sent)
    trace = result(made, "debug_traceTransaction", sent, {"tracer": "callTracer"})
    assert (receipt["status"], receipt["logs"]) == ("0x0", [])
    assert trace["error"] == "execution reverted"
    assert trace["revertReason"].startswith("custom error 0xd48af942")


def test_an_unknown_transaction_cannot_be_traced() -> None:
    assert error(world(), "debug_traceTransaction", "0x" + "00" * 32) == (-32000, "transaction not found")


async def send_sync(made: World, *params: Any) -> Any:
    request = {"id": 1, "method": "eth_sendRawTransactionSync", "params": params}
    return await answer(made.node, request)


async def test_a_synchronous_send_answers_with_the_receipt(nursery: trio.Nursery) -> None:
    made = world()
    nursery.start_soon(made.chain.run)
    content = await send_sync(made, to_hex(signed(0)))
    assert (content["result"]["blockNumber"], trio.current_time()) == ("0x1", 0.25)
    nursery.cancel_scope.cancel()


async def test_a_synchronous_send_gives_up_after_the_time_it_was_given() -> None:
    made = world(pool="geth")
    content = (await send_sync(made, to_hex(signed(0)), 2_000))["error"]
    assert (content["code"], trio.current_time()) == (4, 2)
    assert made.chain.intake.pool.find(bytes.fromhex(content["data"][2:])) is not None


async def test_a_synchronous_send_that_is_refused_says_so_at_once() -> None:
    made = world(pool="geth")
    made.chain.evm.set_balance(SENDER.address, 1)
    assert (await send_sync(made, to_hex(signed(0))))["error"]["code"] == -32000


async def test_a_batch_of_synchronous_sends_takes_a_block_for_each(nursery: trio.Nursery) -> None:
    made = world()
    nursery.start_soon(made.chain.run)
    batch = [
        {"id": n, "method": "eth_sendRawTransactionSync", "params": [to_hex(signed(n))]} for n in range(3)
    ]
    assert [one["result"]["blockNumber"] for one in await answer(made.node, batch)] == ["0x1", "0x2", "0x3"]
    nursery.cancel_scope.cancel()


def logs(made: World, **content: Any) -> list[Any]:
    found: list[Any] = result(made, "eth_getLogs", content)
    return found


def asked(made: World, count: int = 4) -> World:
    """Make one request in each of the blocks 1 to ``count``."""
    for index in range(count):
        made.ask(index)
        made.chain.mine()
    return made


def test_logs_come_from_the_whole_range_in_order() -> None:
    found = logs(asked(world()), fromBlock="0x2", toBlock="0x3")
    assert [log["blockNumber"] for log in found] == ["0x2", "0x3"]


def test_logs_are_filtered_by_address_and_topics() -> None:
    made = asked(world())
    topic = logs(made, fromBlock="0x1", toBlock="0x1")[0]["topics"]
    span = {"fromBlock": "0x0", "toBlock": "latest"}
    assert len(logs(made, address=[TARGET, OWNER], **span)) == 4
    assert logs(made, address=OWNER, **span) == []
    assert len(logs(made, topics=[[topic[0], "0x" + "00" * 32]], **span)) == 4
    assert len(logs(made, topics=[None, topic[1]], **span)) == 1
    assert logs(made, topics=[topic[1]], **span) == []


def test_logs_of_one_block_may_be_asked_by_its_hash() -> None:
    made = asked(world())
    assert len(logs(made, blockHash=to_hex(made.chain.head.hash))) == 1


def test_a_log_says_where_it_stands() -> None:
    made = asked(world(), 1)
    (log,) = logs(made, fromBlock="0x1", toBlock="0x1")
    assert log["blockHash"] == to_hex(made.chain.head.hash)
    assert (log["logIndex"], log["transactionIndex"], log["removed"]) == ("0x0", "0x0", False)


def test_a_range_beyond_the_head_is_cut_or_refused() -> None:
    made = asked(world())
    assert len(logs(made, fromBlock="0x4", toBlock="0x99")) == 1
    made.node.limits.strict_range = True
    assert error(made, "eth_getLogs", {"fromBlock": "0x4", "toBlock": "0x5"})[0] == -32602


def test_a_node_may_limit_blocks_and_results() -> None:
    made = asked(world())
    made.node.limits.log_range = 3
    assert error(made, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x4"})[0] == -32005
    made.node.limits.logs = 1
    assert error(made, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"})[0] == -32005


def test_a_pruned_node_has_no_old_logs_and_states() -> None:
    made = asked(world())
    made.node.limits.pruned_before = 2
    assert error(made, "eth_getLogs", {"fromBlock": "0x1", "toBlock": "0x2"})[0] == 4444
    assert error(made, "eth_getBalance", OWNER, "0x1")[0] == -32000


def test_a_backward_range_is_refused() -> None:
    assert error(asked(world()), "eth_getLogs", {"fromBlock": "0x3", "toBlock": "0x2"})[0] == -32000


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


def test_handles_in_a_log_are_those_asked_for() -> None:
    made = asked(world(), 1)
    assert handle(0).hex() in logs(made, fromBlock="0x1", toBlock="0x1")[0]["data"]
