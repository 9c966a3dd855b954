from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import pytest

from kmsconn.chain.logs import LOGS_KEPT, LogsRead, decode_logs, read_block, read_logs, read_pushed_head
from kmsconn.chain.port import Call, Count, Quantity, RpcError
from kmsconn.errors import Unreachable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_count, from_quantity
from tests.unit.chain.scripted_node import FakeRpc

CONTRACT = Address(b"\xc0" * 20)
TOPIC, OTHER = b"\x01" * 32, b"\x02" * 32


def json_log(block: int = 5, index: int = 0, **changes: Any) -> dict[str, Any]:
    log = {
        "address": "0x" + "C0" * 20,
        "topics": ["0x" + "01" * 32, "0x" + "aa" * 32],
        "data": "0x1234",
        "blockNumber": hex(block),
        "blockHash": "0x" + "bb" * 32,
        "transactionHash": "0x" + "cc" * 32,
        "transactionIndex": "0x0",
        "logIndex": hex(index),
        "removed": False,
    }
    return {**log, **changes}


def head(number: int) -> dict[str, Any]:
    return {"number": hex(number), "timestamp": hex(1000 + number), "hash": "0x", "transactions": []}


async def read_of(head: Any, logs: Any, start: int = 3, end: int | None = 9) -> LogsRead:
    """Return what is read of an answer."""
    return await read_logs(FakeRpc([head, logs]), CONTRACT, (TOPIC,), start, end)


async def test_head_and_logs_are_asked_in_one_batch_head_first() -> None:
    rpc = FakeRpc([head(9), []])
    await read_logs(rpc, CONTRACT, (TOPIC, OTHER), 3, 9)
    criteria = {
        "address": "0x" + "c0" * 20,
        "topics": [["0x" + "01" * 32, "0x" + "02" * 32]],
        "fromBlock": "0x3",
        "toBlock": "0x9",
    }
    assert rpc.batches == [
        [Call("eth_getBlockByNumber", ("latest", False)), Call("eth_getLogs", (criteria,))]
    ]


async def test_a_log_is_decoded() -> None:
    read = await read_of(head(9), [json_log(5, 17)])
    assert read.logs == (
        Log(
            address=CONTRACT,
            topics=(TOPIC, b"\xaa" * 32),
            data=b"\x12\x34",
            block_number=5,
            block_hash=b"\xbb" * 32,
            transaction_hash=b"\xcc" * 32,
            log_index=17,
        ),
    )


async def test_the_head_comes_from_the_same_answer_and_removed_logs_are_dropped() -> None:
    read = await read_of(head(12), [json_log(removed=True)])
    assert (read.head.number, read.head.timestamp, read.from_block, read.to_block) == (12, 1012, 3, 9)
    assert (read.logs, read.malformed, read.trusted) == ((), (), False)
    assert decode_logs([json_log(removed=True)]) == ([], ())


def test_a_log_is_remembered_and_what_else_is_said_of_its_place_is_another_one() -> None:
    changes: dict[str, Any] = {
        "address": "0x" + "C1" * 20,
        "topics": [],
        "data": "0x12",
        "blockNumber": "0x6",
        "transactionHash": "0x" + "cd" * 32,
    }
    for field, value in changes.items():
        (known, again, other), _ = decode_logs([json_log(), json_log(), json_log(**{field: value})])
        assert again is known != other
    logs, malformed = decode_logs([json_log(), json_log(removed=True), json_log(removed=0)])
    assert (len(logs), len(malformed)) == (1, 1)


def test_the_oldest_log_is_forgotten_for_a_new_one_and_the_others_are_not() -> None:
    said = [json_log(7000, number) for number in range(LOGS_KEPT + 1)]
    (first, *others), _ = decode_logs(said)
    assert all(again is known for again, known in zip(decode_logs(said[1:])[0], others, strict=True))
    assert decode_logs(said[:1])[0][0] is not first


async def test_a_log_told_twice_counts_once_and_logs_are_given_in_block_order() -> None:
    told = [json_log(6, 0), json_log(5, 9), json_log(5, 1), json_log(5, 1, data="0xff")]
    read = await read_of(head(9), told)
    assert [(log.block_number, log.log_index, log.data) for log in read.logs] == [
        (5, 1, b"\x12\x34"), (5, 9, b"\x12\x34"), (6, 0, b"\x12\x34"),
    ]  # fmt: skip


@pytest.mark.parametrize(("head_number", "trusted"), [(8, False), (9, True), (10, True)])
async def test_a_node_below_the_end_of_the_range_is_not_trusted(head_number: int, trusted: bool) -> None:
    read = await read_of(head(head_number), [json_log(4)])
    assert read.trusted is trusted


async def test_an_open_range_ends_at_the_head_of_the_node() -> None:
    """What the node learned between the two answers is read next time: it may be half a block."""
    rpc = FakeRpc([head(7), [json_log(7), json_log(8)]])
    read = await read_logs(rpc, CONTRACT, (TOPIC,), 3, None)
    assert rpc.batches[0][1].params[0]["toBlock"] == "latest"
    assert (read.to_block, read.trusted, [log.block_number for log in read.logs]) == (7, True, [7])
    below = await read_of(head(7), [], 8, None)
    far_above = await read_of(head(7), [json_log(2**40)], 3, None)
    assert (below.trusted, far_above.trusted, len(far_above.malformed)) == (False, False, 1)


@pytest.mark.parametrize(
    "wrong",
    [
        json_log(address="0x" + "c1" * 20),
        json_log(topics=["0x" + "03" * 32]),
        json_log(topics=[]),
        json_log(2),
        json_log(10),
        None,
        17,
        {},
        json_log(blockNumber=None),
        json_log(blockNumber="five"),
        json_log(data="0x123"),
        json_log(data="1234"),
        json_log(topics=["0x01"]),
        json_log(blockHash="0x"),
        json_log(address="0x1234"),
        json_log(logIndex=3),
        json_log(topics="0x"),
    ],
)
async def test_what_was_not_asked_for_or_is_malformed_is_told_and_the_rest_goes_on(wrong: Any) -> None:
    """It may stand where a log should, so that log may be missing."""
    read = await read_of(head(12), [wrong, json_log(5)])
    assert (len(read.malformed), len(read.logs), read.trusted) == (1, 1, False)


async def test_refused_logs_still_tell_the_head() -> None:
    refusal = RpcError(-32005, "query returned more than 10000 results")
    read = await read_of(head(9), refusal)
    assert (read.head.number, read.trusted, read.failure) == (9, False, refusal)


async def test_a_refused_head_is_no_answer() -> None:
    with pytest.raises(Unreachable, match="-32000: no"):
        await read_of(RpcError(-32000, "no"), [])


@pytest.mark.parametrize(
    ("block", "logs"),
    [
        (None, []),
        ({}, []),
        ({"number": 1, "timestamp": 2}, []),
        ({"number": "x", "timestamp": "0x1"}, []),
        (head(9), None),
        (head(9), {}),
        (head(9), "0x"),
    ],
)
async def test_an_answer_that_is_none_is_unreachable(block: Any, logs: Any) -> None:
    with pytest.raises(Unreachable):
        await read_of(block, logs)


@pytest.mark.parametrize("field", ["blockNumber", "logIndex"])
def test_a_number_that_no_column_holds_makes_a_log_malformed(field: str) -> None:
    """One node's nonsense must not end the reader."""
    changed: dict[str, Any] = {field: hex(1 << 63)}
    logs, (malformed,) = decode_logs([json_log(**changed)])
    assert logs == []
    assert field in malformed


@pytest.mark.parametrize("field", ["number", "timestamp"])
def test_a_head_beyond_all_chains_is_none(field: str) -> None:
    with pytest.raises(Unreachable):
        read_block({"number": "0x1", "timestamp": "0x1", field: hex(1 << 1030)})


def test_a_pushed_head_is_read_from_its_text() -> None:
    assert read_pushed_head(b'{"number":"0x9","timestamp":"0x3e8","hash":"0x"}') == (9, 1000)


@pytest.mark.parametrize(
    "push",
    [b"", b"null", b"{}", b'{"number":9,"timestamp":"0x1"}', b'{"number":"x","timestamp":"0x1"}', b"\xff"],
)
def test_a_pushed_head_that_is_none_is_unreachable(push: bytes) -> None:
    with pytest.raises(Unreachable):
        read_pushed_head(push)


@pytest.mark.parametrize(("kind", "reader"), [(Count, from_count), (Quantity, from_quantity)])
def test_a_number_that_an_answer_may_hold_is_one_that_the_reader_takes(
    kind: Any, reader: Callable[[object], int]
) -> None:
    """Structs check it themselves, and ``int`` reads it."""
    small, large = hex((1 << 53) - 1), hex(1 << 53)
    texts = ["0x0", "0x00", "0x", "0X1", "1", "", "0x1\n", " 0x1", "0x1_0", "-0x1", "0x١", small, large]
    texts += ["0x" + "0" * 50 + small[2:], "0x" + "0" * 51 + small[2:], "0x" + "f" * 64, "0x" + "f" * 65]
    for text in texts:
        try:
            expected: int | None = reader(text)
        except ValueError:
            expected = None
        try:
            found: int | None = int(msgspec.convert(text, kind), 16)
        except ValueError:
            found = None
        assert found == expected, text
