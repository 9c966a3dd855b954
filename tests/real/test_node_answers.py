"""What the connector relies on in a node's answers: the same facts asked of the emulated node and of anvil."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.chain.logs import read_logs
from kmsconn.chain.port import Call, RpcError
from kmsconn.emulator.contracts.acl import Mood
from kmsconn.emulator.dependencies import GATEWAY_ID, key_for
from kmsconn.errors import KmsconnError
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_quantity, quantity, to_hex
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.access import wallet_agrees
from kmsconn.protocols.fhevm.contracts import DECRYPTION, DecryptionViews
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Verdict
from kmsconn.replies.answers import Sent, read_sent
from tests import vectors
from tests.real.gateways import FORMS, Scene

NOBODY = Address(b"\x11" * 20)
UNKNOWN = "0x" + "12" * 32
FAR = "0xffffff"
PUBLIC = FORMS[0]
PROFILE = Fhevm(vectors.vector_settings())
OPERATIONS: Any = PROFILE.operations
DECRYPTIONS, *_ = PROFILE.subscriptions()
WALLET_GAS = 100_000
SECONDS = 40  # for a block or a push, on a busy machine


async def outcome(scene: Scene, method: str, *params: Any) -> Any:
    """Return a result, or the error that came instead."""
    try:
        return await scene.gateway.rpc.call(method, *params)
    except KmsconnError as error:
        return error


def signed(nonce: int, name: str, **changes: Any) -> str:
    """Return a raw transaction of the account with this name."""
    fields: dict[str, Any] = {
        "chain_id": GATEWAY_ID,
        "nonce": nonce,
        "max_priority_fee": 10**9,
        "max_fee": 10**12,
        "gas": 100_000,
        "to": NOBODY,
        "value": 0,
        "data": b"",
    }
    raw, _ = sign_transaction(Transaction(**(fields | changes)), key_for(name))
    return to_hex(raw)


async def send(scene: Scene, raw: str) -> Sent:
    return read_sent(await outcome(scene, "eth_sendRawTransaction", raw))


# Reading


async def test_requests_are_read_from_logs_with_the_head_of_the_same_node(scene: Scene) -> None:
    rpc, contract = scene.gateway.rpc, scene.gateway.decryption
    head = from_quantity(await rpc.call("eth_blockNumber"))
    read = await read_logs(rpc, contract, DECRYPTIONS.topics, 0, head)
    assert [int.from_bytes(log.topics[1]) for log in read.logs] == list(scene.ids.values())
    assert read.trusted
    assert read.head.number >= head


async def test_a_range_that_ends_beyond_the_head_gives_what_there_is(scene: Scene) -> None:
    query = {"address": to_hex(scene.gateway.decryption), "fromBlock": "0x0", "toBlock": FAR}
    assert len(await outcome(scene, "eth_getLogs", query)) == len(scene.ids)


@pytest.mark.parametrize(
    ("method", "params"),
    [
        ("eth_getBlockByNumber", (FAR, False)),
        ("eth_getTransactionReceipt", (UNKNOWN,)),
        ("eth_getTransactionByHash", (UNKNOWN,)),
    ],
)
async def test_what_a_node_does_not_know_is_null(scene: Scene, method: str, params: tuple[Any, ...]) -> None:
    assert await outcome(scene, method, *params) is None


async def test_a_call_at_a_block_that_is_not_there_yet_is_an_error(scene: Scene) -> None:
    call = {
        "to": to_hex(scene.gateway.decryption),
        "data": to_hex(DECRYPTION.function("getVersion").encode()),
    }
    assert isinstance(await outcome(scene, "eth_call", call, FAR), RpcError)


async def test_a_call_to_nobody_returns_nothing(scene: Scene) -> None:
    assert await outcome(scene, "eth_call", {"to": to_hex(NOBODY), "data": "0x12345678"}, "latest") == "0x"


@pytest.mark.parametrize("data", ["0x12345678", "0x6f8913bc00"])
async def test_calldata_that_a_contract_cannot_read_reverts_without_data(scene: Scene, data: str) -> None:
    error = await outcome(scene, "eth_call", {"to": to_hex(scene.gateway.decryption), "data": data}, "latest")
    assert isinstance(error, RpcError)
    assert ("revert" in error.message, error.data or b"") == (True, b"")


async def test_a_batch_keeps_its_order_and_its_errors(scene: Scene) -> None:
    said = await scene.gateway.rpc.batch(
        [
            Call("eth_chainId"),
            Call("eth_call", (scene.message(b"\x12\x34\x56\x78"), "latest")),
            Call("eth_getTransactionReceipt", (UNKNOWN,)),
        ]
    )
    assert (said[0], said[2]) == (quantity(GATEWAY_ID), None)
    assert isinstance(said[1], RpcError)


async def test_a_slot_is_a_whole_word_however_it_is_named(scene: Scene) -> None:
    contract = to_hex(scene.gateway.decryption)
    newest = DecryptionViews(GATEWAY_ID, scene.gateway.decryption).newest_public_id()
    long = newest.parameters[1]
    short = quantity(int(long, 16))
    words = [await outcome(scene, "eth_getStorageAt", contract, name, "latest") for name in (long, short)]
    assert words == [f"0x{scene.ids[PUBLIC]:064x}"] * 2
    assert await outcome(scene, "eth_getStorageAt", contract, "0x3e8", "latest") == "0x" + "00" * 32


async def test_a_full_block_names_the_chain_of_its_transactions(scene: Scene) -> None:
    receipt = await scene.send(scene.reply(PUBLIC))
    block = await outcome(scene, "eth_getBlockByNumber", receipt["blockNumber"], True)
    (found,) = (each for each in block["transactions"] if each["hash"] == receipt["transactionHash"])
    alone = await outcome(scene, "eth_getTransactionByHash", receipt["transactionHash"])
    assert (found["chainId"], alone["chainId"]) == (quantity(GATEWAY_ID),) * 2
    assert found.keys() == alone.keys()


async def test_the_state_before_a_reply_can_be_asked_for(scene: Scene) -> None:
    """The transaction manager asks at the block before its failed transaction."""
    receipt = await scene.send(scene.reply(PUBLIC))
    before = quantity(from_quantity(receipt["blockNumber"]) - 1)
    message = scene.message(scene.reply(PUBLIC))
    assert await outcome(scene, "eth_call", message, before) == "0x"
    error = await outcome(scene, "eth_call", message, "latest")
    assert isinstance(error, RpcError)
    assert OPERATIONS[Kind.PUBLIC_DECRYPTION].revert(error.data).name == "KmsNodeAlreadySigned"


# Fees and gas


async def test_fees_can_be_learned(scene: Scene) -> None:
    block = await outcome(scene, "eth_getBlockByNumber", "latest", False)
    history = await outcome(scene, "eth_feeHistory", "0x3", "latest", [50])
    assert from_quantity(await outcome(scene, "eth_gasPrice")) >= 0
    assert from_quantity(block["baseFeePerGas"]) > 0
    assert len(history["baseFeePerGas"]) == len(history["gasUsedRatio"]) + 1 == len(history["reward"]) + 1


@pytest.mark.parametrize("form", FORMS)
async def test_an_estimate_suffices(scene: Scene, form: Any) -> None:
    estimate = from_quantity(await outcome(scene, "eth_estimateGas", scene.message(scene.reply(form))))
    receipt = await scene.send(scene.reply(form))
    assert 0.9 < from_quantity(receipt["gasUsed"]) / estimate <= 1


async def test_too_little_gas_says_nothing_against_a_reply(scene: Scene) -> None:
    """A node says "out of gas", or, where an inner call ran dry, that it reverted without data: neither may end a request."""
    message = scene.message(scene.reply(PUBLIC)) | {"gas": hex(50_000)}
    error = await outcome(scene, "eth_estimateGas", message)
    assert isinstance(error, RpcError)
    assert OPERATIONS[Kind.PUBLIC_DECRYPTION].revert(error.data).verdict is Verdict.RETRY


# Contract wallets


@pytest.mark.parametrize("mood", list(Mood))
async def test_a_wallet_is_understood_in_every_mood(scene: Scene, mood: Mood) -> None:
    """The words of the error decide between a refusal and a node in trouble (fhevm-0.14.md, 3.4)."""
    await scene.gateway.set_mood(mood)
    digest = bytes(32)
    signature = key_for("wallet owner").sign(digest)
    rest: Any = {"age": 0.0, "domain_confirmed": True}
    view = wallet_agrees(GATEWAY_ID, scene.gateway.wallet, digest, signature, gas=WALLET_GAS, **rest)
    said = await outcome(scene, view.method, *view.parameters)
    match mood:
        case Mood.HONEST:
            assert said == "0x1626ba7e" + "00" * 28
        case Mood.NO:
            assert said == "0xffffffff" + "00" * 28
        case Mood.SHORT:
            assert said == "0x1626ba7e"
        case Mood.REVERT:
            assert isinstance(said, RpcError)
            assert ("revert" in said.message, said.data) == (True, b"")
        case Mood.BURN:
            assert isinstance(said, RpcError)
            assert ("revert" in said.message, said.data) == (False, None)


# Sending


async def test_same_bytes_again_are_known_while_they_wait_and_used_once_they_are_mined(scene: Scene) -> None:
    account = await scene.gateway.account("somebody")
    raw = signed(0, "somebody")
    assert await send(scene, raw) is Sent.ACCEPTED
    await account.do((NOBODY, b""))  # the next nonce, so the first is in a block too
    assert await send(scene, raw) is Sent.USED
    await scene.gateway.hold_blocks()
    waiting = signed(2, "somebody")
    assert await send(scene, waiting) is Sent.ACCEPTED
    assert await send(scene, waiting) is Sent.KNOWN


async def test_what_waits_has_no_block_and_no_receipt(scene: Scene) -> None:
    await scene.gateway.account("somebody")
    await scene.gateway.hold_blocks()
    transaction_hash = await outcome(scene, "eth_sendRawTransaction", signed(0, "somebody"))
    found = await outcome(scene, "eth_getTransactionByHash", transaction_hash)
    assert (found["blockHash"], found["blockNumber"], found["transactionIndex"]) == (None, None, None)
    assert await outcome(scene, "eth_getTransactionReceipt", transaction_hash) is None


async def test_nonces_latest_and_pending_differ_by_what_waits_without_a_gap(scene: Scene) -> None:
    account = await scene.gateway.account("somebody")
    await scene.gateway.hold_blocks()
    for nonce in (0, 1, 5):
        assert await send(scene, signed(nonce, "somebody")) is Sent.ACCEPTED
    who = to_hex(account.key.address)
    said = [await outcome(scene, "eth_getTransactionCount", who, tag) for tag in ("latest", "pending")]
    assert said == ["0x0", "0x2"]


async def test_another_transaction_of_the_same_nonce_must_pay_a_tenth_more(scene: Scene) -> None:
    await scene.gateway.account("somebody")
    await scene.gateway.hold_blocks()
    await send(scene, signed(0, "somebody"))
    assert await send(scene, signed(0, "somebody", data=b"\x01")) is Sent.OCCUPIED
    dearer = {"max_priority_fee": 2 * 10**9, "max_fee": 2 * 10**12}
    assert await send(scene, signed(0, "somebody", data=b"\x01", **dearer)) is Sent.ACCEPTED


@pytest.mark.parametrize(
    ("changes", "sent"),
    [
        ({"gas": 20_000}, Sent.REFUSED),
        ({"gas": 1 << 60}, Sent.REFUSED),
        ({"value": 10**30}, Sent.FUNDS),
        ({"max_fee": 10**9, "max_priority_fee": 10**10}, Sent.FAILED),
        ({"chain_id": 1}, Sent.FAILED),
    ],
)
async def test_what_a_node_does_not_take_is_understood(
    scene: Scene, changes: dict[str, int], sent: Sent
) -> None:
    await scene.gateway.account("somebody")
    assert await send(scene, signed(0, "somebody", **changes)) is sent


async def test_a_reply_that_reverts_is_taken_and_its_trace_tells_why(scene: Scene) -> None:
    """What is sent without an estimate is mined with status 0; the trace has the contract's words."""
    await scene.send(scene.reply(PUBLIC))
    raw = signed(1, "sender of us", data=scene.reply(PUBLIC), to=scene.gateway.decryption, gas=600_000)
    transaction_hash = await outcome(scene, "eth_sendRawTransaction", raw)
    with trio.fail_after(SECONDS):
        while (receipt := await outcome(scene, "eth_getTransactionReceipt", transaction_hash)) is None:
            await trio.sleep(0.02)
    trace = await outcome(scene, "debug_traceTransaction", transaction_hash, {"tracer": "callTracer"})
    assert receipt["status"] == "0x0"
    assert (
        OPERATIONS[Kind.PUBLIC_DECRYPTION].revert(bytes.fromhex(trace["output"][2:])).name
        == "KmsNodeAlreadySigned"
    )


# Pushes


async def test_new_heads_and_new_logs_are_pushed(scene: Scene) -> None:
    """The wake-up: what is pushed is not looked at, but something must be."""
    notified: dict[str, int] = {"heads": 0, "logs": 0}

    def notify(name: str) -> Any:
        def count(push: Any) -> None:
            notified[name] += push is not None

        return count

    rpc = scene.gateway.rpc
    query = {"address": to_hex(scene.gateway.decryption)}
    async with trio.open_nursery() as nursery:
        nursery.start_soon(rpc.listen, ("newHeads",), notify("heads"))
        nursery.start_soon(rpc.listen, ("logs", query), notify("logs"))
        with trio.fail_after(SECONDS):
            for node in ("us", "them"):
                await scene.send(scene.reply(PUBLIC, signer=f"signer of {node}"), f"sender of {node}")
            while not (notified["heads"] and notified["logs"]):  # noqa: ASYNC110 - counted by a callback
                await trio.sleep(0.02)
        nursery.cancel_scope.cancel()


async def test_a_transaction_manager_reads_its_own_replies_as_the_table_says(scene: Scene) -> None:
    """The two kinds of reply have their functions; one that is right is taken by both."""
    assert {one.reply.name for one in OPERATIONS.values() if one.expires and one.reply} == set(FORMS)
    for form in FORMS:
        assert await outcome(scene, "eth_call", scene.message(scene.reply(form)), "latest") == "0x"
