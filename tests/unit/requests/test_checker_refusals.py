"""What the checker makes of nodes that say no, and what it remembers."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.chain.heads import HeadTracker
from kmsconn.chain.port import RpcError
from kmsconn.errors import Retryable
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import CiphertextReference, EventPlace, Kind, Request
from kmsconn.model.steps import Seen
from kmsconn.protocols.fhevm.user_decryption import LegacyUserDecryption
from kmsconn.protocols.queries import ViewCall
from kmsconn.requests.checker import Checker, DecryptionExpiry
from kmsconn.requests.contexts import Suspicions
from kmsconn.requests.identity import NodeIdentity

GATEWAY, HOST = 1, 2
SENDER, SIGNER, CONTRACT = (Address(bytes([n]) * 20) for n in (1, 2, 3))
HANDLE = bytes(22) + HOST.to_bytes(8) + bytes([5, 0])


def request(rid: int = 1) -> Request:
    reference = CiphertextReference(HANDLE, 4, bytes(32), (SENDER,))
    content = LegacyUserDecryption(2 << 248 | rid, (reference,), SENDER, b"key", b"")
    return Request(rid, GATEWAY, CONTRACT, content, bytes(32), EventPlace(7, bytes(32), bytes(32), 0), 1e9)


class Node:
    """A chain that answers from a list."""

    chain_id = GATEWAY

    def __init__(self, *answers: object) -> None:
        self.answers, self.asked = list(answers), 0

    async def call(self, method: str, *params: object) -> object:
        (outcome,) = await self.batch([(method, params)])
        if isinstance(outcome, RpcError):
            raise outcome
        return outcome

    async def batch(self, calls: Any) -> Any:
        await trio.lowlevel.checkpoint()
        self.asked += len(calls)
        return [self.answers.pop(0) for _ in calls]


class Row:
    """As much of an operation as these tests need."""

    signed, outsiders = True, False

    def standing(self, content: Any, tx_sender: Any) -> Any:
        return None

    def replying_context(self, content: Any) -> Any:
        return tuple(ViewCall(GATEWAY, CONTRACT, name, int.from_bytes) for name in (b"pinned", b"current"))

    def node_signer(self, context_id: Any, tx_sender: Any) -> Any:
        return ViewCall(GATEWAY, CONTRACT, b"node", lambda data: Address(data[:20]))


class Generation:
    """As much of a profile as these tests need."""

    operations = {Kind.USER_DECRYPTION: Row()}  # noqa: RUF012 - never changed


class Valid:
    """Contexts, of which every one is valid."""

    def knows(self, context_id: Any, epoch_id: Any) -> Any:
        return True

    def recall(self, context_id: Any, epoch_id: Any) -> Any:
        return None


GENERATION: Any = Generation()
VALID: Any = Valid()


def word(number: int) -> str:
    return f"0x{number:064x}"


async def test_a_node_that_refuses_to_give_the_transaction_is_waited_for() -> None:
    """outcomes: RPC error → wait, also where a single call is asked; anything else would be quarantined."""
    head = HeadTracker()
    head.note(10, 1000)
    node = Node(RpcError(-32000, "header not found"))
    identity, look = NodeIdentity(GENERATION, {GATEWAY: node}, SENDER), Suspicions({GATEWAY: head})
    checker = Checker(
        GENERATION, {GATEWAY: node}, {GATEWAY: head}, identity, VALID, look, DecryptionExpiry(86_400.0), 30.0
    )
    with pytest.raises(Retryable, match="header not found"):
        await checker.check(Seen(request()))


async def test_a_pinned_context_is_asked_for_once() -> None:
    node = Node(word(7), "0x" + SIGNER.hex())
    identity = NodeIdentity(GENERATION, {GATEWAY: node}, SENDER)
    assert [await identity.signer_for(request()) for _ in range(3)] == [SIGNER] * 3
    assert node.asked == 2


async def test_a_node_that_knows_no_pinned_context_yet_is_not_remembered() -> None:
    """A node that lags says 0; the context that is current by then may be another one than the pinned."""
    lagging = [word(0), word(8), "0x" + SENDER.hex()]
    node = Node(*lagging, word(7), "0x" + SIGNER.hex())
    identity = NodeIdentity(GENERATION, {GATEWAY: node}, SENDER)
    assert await identity.signer_for(request()) == SENDER
    assert await identity.signer_for(request()) == SIGNER
