"""The replies of one account are read from blocks: each once, none that failed, and again after a reorganisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from kmsconn.chain.port import Call, RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm import decryptions
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.replies.shadow import BLOCKS_AT_ONCE, MOST_BLOCKS_BACK, ReplyReader, SentReply
from tests import vectors

SETTINGS = vectors.vector_settings()
PROFILE = Fhevm(SETTINGS)
CONTRACT = SETTINGS.protocol.decryption_contract.address
SENDER, OTHER = Address(b"\x51" * 20), Address(b"\x52" * 20)


def calldata(identifier: int) -> bytes:
    return decryptions.RESPONSE.encode(identifier, bytes(32), bytes(65), b"")


def transaction(
    identifier: int, sender: Address = SENDER, to: Address | None = CONTRACT, data: bytes | None = None
) -> dict[str, Any]:
    content = calldata(identifier) if data is None else data
    target = None if to is None else to_hex(to)
    return {
        "hash": to_hex(bytes([identifier]) * 32),
        "from": to_hex(sender),
        "to": target,
        "input": to_hex(content),
    }


class FakeChain:
    """A node with blocks of transactions; ``failed`` has the hashes of those with status 0."""

    chain_id = SETTINGS.chains.gateway.chain_id

    def __init__(self) -> None:
        self.blocks: list[dict[str, Any]] = []
        self.failed: set[str] = set()
        self.unknown: set[str] = set()
        self.asked: list[str] = []
        self.refuses = False
        self.add()

    def add(self, *transactions: dict[str, Any], branch: str = "a") -> None:
        number = len(self.blocks)
        parent = self.blocks[-1]["hash"] if self.blocks else "0x00"
        self.blocks.append({
            "number": quantity(number), "hash": f"{branch}{number}", "parentHash": parent,
            "timestamp": quantity(1000 + number), "transactions": list(transactions),
        })  # fmt: skip

    async def call(self, method: str, *params: Any) -> Any:
        return (await self.batch([Call(method, params)]))[0]

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        self.asked += [call.method for call in calls]
        return [RpcError(-32000, "busy") if self.refuses else self._answer(call) for call in calls]

    def _answer(self, call: Call) -> Any:
        match call.method:
            case "eth_getBlockByNumber":
                number = int(call.params[0], 16)
                return self.blocks[number] if number < len(self.blocks) else None
            case _:
                if call.params[0] in self.unknown:
                    return None
                status = "0x0" if call.params[0] in self.failed else "0x1"
                return {"status": status, "blockNumber": "0x1", "blockHash": to_hex(bytes(32)), "logs": []}


def reader(chain: FakeChain) -> ReplyReader:
    return ReplyReader(chain, PROFILE, SENDER, 1)


async def go_on(read: ReplyReader, wall: float = 1002.5) -> tuple[Sequence[SentReply], bool]:
    chain = read.rpc
    assert isinstance(chain, FakeChain)
    return await read.read(len(chain.blocks) - 1, wall)


async def ids(read: ReplyReader) -> list[int]:
    return [one.id for one in (await go_on(read))[0]]


async def test_a_reply_is_read_with_its_request_place_and_time() -> None:
    """The block tells whole seconds, the read tells the rest."""
    chain = FakeChain()
    chain.add(transaction(1))
    [found] = (await go_on(reader(chain), 1001.5))[0]
    assert found == SentReply(CONTRACT, Kind.PUBLIC_DECRYPTION, 1, calldata(1), b"\1" * 32, 1, 1001, 1001.5)
    assert found.included_at == 1001.5


@pytest.mark.parametrize(("seen", "included"), [(900.0, 1001.0), (1001.25, 1001.25), (5000.0, 1002.0)])
async def test_time_of_inclusion_lies_within_the_second_of_the_block(seen: float, included: float) -> None:
    """A clock that is wrong, or a block that was read late, moves it no further."""
    chain = FakeChain()
    chain.add(transaction(1))
    [found] = (await go_on(reader(chain), seen))[0]
    assert found.included_at == included


async def test_each_reply_is_read_once() -> None:
    """The reader goes on where it ended."""
    chain = FakeChain()
    chain.add(transaction(1))
    read = reader(chain)
    assert await ids(read) == [1]
    assert await ids(read) == []
    chain.add(transaction(2))
    assert await ids(read) == [2]


@pytest.mark.parametrize(
    "other",
    [
        transaction(1, sender=OTHER),
        transaction(1, to=OTHER),
        transaction(1, to=None),
        transaction(1, data=b""),
        transaction(1, data=b"\1\2\3\4" + bytes(64)),
        transaction(1, data=calldata(1)[:20]),
    ],
    ids=["sender", "contract", "creation", "transfer", "function", "short"],
)
async def test_what_is_no_reply_of_the_account_is_passed_over(other: dict[str, Any]) -> None:
    """Other nodes' replies, and other transactions of the account."""
    chain = FakeChain()
    chain.add(other, transaction(2))
    assert await ids(reader(chain)) == [2]


async def test_a_reply_that_failed_is_none() -> None:
    """Its receipt has status 0: the contract did not take it."""
    chain = FakeChain()
    chain.add(transaction(1), transaction(2))
    chain.failed.add(to_hex(b"\1" * 32))
    assert await ids(reader(chain)) == [2]


async def test_a_block_is_read_again_where_the_node_has_no_receipt_yet() -> None:
    """A node behind the one that showed the block."""
    chain = FakeChain()
    chain.add(transaction(1))
    chain.unknown.add(to_hex(b"\1" * 32))
    read = reader(chain)
    with pytest.raises(Retryable):
        await go_on(read, 0.0)
    chain.unknown.clear()
    assert await ids(read) == [1]


async def test_replies_of_another_branch_are_read_too() -> None:
    """Two blocks were replaced: the reader goes back below the fork, and reads what stands there now."""
    chain = FakeChain()
    for identifier in (1, 2, 3):
        chain.add(transaction(identifier))
    read = reader(chain)
    assert await ids(read) == [1, 2, 3]
    del chain.blocks[2:]
    for identifier in (3, 2, 4):
        chain.add(transaction(identifier), branch="b")
    found = [one for _ in range(4) for one in await ids(read)]
    assert found == [1, 3, 2, 4]


async def test_a_node_that_says_no_is_asked_again() -> None:
    """Nothing is skipped."""
    chain = FakeChain()
    chain.add(transaction(1))
    chain.refuses = True
    read = reader(chain)
    with pytest.raises(Retryable):
        await go_on(read, 0.0)
    chain.refuses = False
    assert await ids(read) == [1]


async def test_a_long_way_is_read_in_pieces() -> None:
    """The caller is told that there is more."""
    chain = FakeChain()
    for _ in range(BLOCKS_AT_ONCE + 1):
        chain.add()
    read = reader(chain)
    assert (await go_on(read, 0.0))[1]
    assert not (await go_on(read, 0.0))[1]


async def test_what_lies_too_far_back_is_not_read() -> None:
    """A request that has been open for a day does not make a restart read a day of blocks."""
    chain = FakeChain()
    chain.add(transaction(1))
    for _ in range(MOST_BLOCKS_BACK + 1):
        chain.add()
    read = reader(chain)
    assert await ids(read) == []
    assert read.next_block == len(chain.blocks) - MOST_BLOCKS_BACK - 1 + BLOCKS_AT_ONCE


async def test_a_reader_that_rests_asks_nothing() -> None:
    """Blocks of Ethereum are large, and requests there rare."""
    chain = FakeChain()
    assert await go_on(ReplyReader(chain, PROFILE, SENDER)) == ((), False)
    assert chain.asked == []
