"""Which node we are: from the request's context, else the pinned one, else the current one; learnt from the contracts."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from kmsconn.chain.port import RpcError
from kmsconn.errors import NotMember, Unreachable
from kmsconn.ethereum.addresses import ZERO_ADDRESS, Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import NO_BLOCK, EventPlace, Request
from kmsconn.protocols.fhevm.contracts import DECRYPTION_BASE
from kmsconn.protocols.fhevm.http_decryption import HttpPublicDecryption
from kmsconn.protocols.queries import mapping_slot
from kmsconn.requests.identity import ATTESTING_SECONDS, CURRENT_FOR, UNATTESTED_FOR, NodeIdentity
from tests.unit.requests.answers import PROFILE, SETTINGS, Answers, request_of

SENDER, SIGNER = Address(b"\x0a" * 20), Address(b"\x0b" * 20)
NAMED, SILENT = "public_one_v2", "public_one_v0"
CURRENT, PINNED = 7 << 248 | 5, 7 << 248 | 4


def made(**views: Any) -> tuple[NodeIdentity, Answers]:
    node = (SENDER, SIGNER, "ip", "url")
    chain = Answers({"getKmsNodeForContext": node, "getCurrentKmsContextId": CURRENT, **views})
    return NodeIdentity(PROFILE, {SETTINGS.chains.gateway.chain_id: chain}, SENDER), chain


def pin(chain: Answers, context: int) -> None:
    chain.slots[mapping_slot(DECRYPTION_BASE + 9, request_of(SILENT).id)] = context


async def test_the_signer_of_a_context_is_asked_for_once() -> None:
    identity, chain = made()
    assert [await identity.signer_for(request_of(NAMED)) for _ in range(3)] == [SIGNER] * 3
    assert chain.asked == ["getKmsNodeForContext"]


async def lied_to(*others: Any) -> tuple[NodeIdentity, Answers]:
    """Return an identity whose node names a wrong signer, and then the right one; ``others`` are what the witnesses say."""
    identity, chain = made(getKmsNodeForContext=(SENDER, ROTATED, "ip", "url"))
    number = SETTINGS.chains.gateway.chain_id
    identity.witnesses = [{number: Answers({"getKmsNodeForContext": other})} for other in others]
    assert await identity.signer_for(request_of(NAMED)) == ROTATED
    chain.views["getKmsNodeForContext"] = (SENDER, SIGNER, "ip", "url")
    assert await identity.signer_for(request_of(NAMED)) == ROTATED
    await trio.sleep(UNATTESTED_FOR)
    return identity, chain


HONEST, LYING = (SENDER, SIGNER, "ip", "url"), (SENDER, b"\x0c" * 20, "ip", "url")


@pytest.mark.parametrize(
    "others", [(HONEST, HONEST), (LYING, HONEST), (Unreachable("no second connection"),) * 2]
)
async def test_a_signer_that_one_node_named_is_asked_for_again_after_a_while(others: tuple[Any, ...]) -> None:
    identity, _ = await lied_to(*others)
    assert await identity.signer_for(request_of(NAMED)) == SIGNER


async def test_a_slow_witness_keeps_nobody_waiting_and_names_no_signer() -> None:
    identity, chain = made(getKmsNodeForContext=(SENDER, ROTATED, "ip", "url"))
    slow = Answers({"getKmsNodeForContext": LYING}, delay=2 * ATTESTING_SECONDS)
    identity.witnesses = [{SETTINGS.chains.gateway.chain_id: slow}]
    assert await identity.signer_for(request_of(NAMED)) == ROTATED
    assert trio.current_time() == ATTESTING_SECONDS
    chain.views["getKmsNodeForContext"] = HONEST
    await trio.sleep(UNATTESTED_FOR)
    assert await identity.signer_for(request_of(NAMED)) == SIGNER


async def test_a_pinned_context_that_one_node_named_is_asked_for_again_after_a_while() -> None:
    signers = {PINNED: SIGNER, CURRENT: SENDER}
    identity, chain = made(getKmsNodeForContext=lambda context, _: (SENDER, signers[context], "", ""))
    pin(chain, CURRENT)
    assert await identity.signer_for(request_of(SILENT)) == SENDER
    pin(chain, PINNED)
    await trio.sleep(UNATTESTED_FOR)
    assert await identity.signer_for(request_of(SILENT)) == SIGNER


async def test_a_signer_that_witnesses_name_too_is_kept() -> None:
    identity, chain = await lied_to(LYING, LYING)
    assert await identity.signer_for(request_of(NAMED)) == ROTATED
    assert chain.asked == ["getKmsNodeForContext"]


@pytest.mark.parametrize(
    ("pinned", "asked", "again"),
    [(PINNED, ["storage"], []), (0, unpinned := ["storage", "getCurrentKmsContextId"], unpinned)],
)
async def test_a_request_without_a_context_has_the_pinned_one_for_ever_or_the_current_one(
    pinned: int, asked: list[str], again: list[str]
) -> None:
    identity, chain = made()
    pin(chain, pinned)
    assert [await identity.signer_for(request_of(SILENT)) for _ in range(3)] == [SIGNER] * 3
    assert chain.asked == [*asked, "getKmsNodeForContext", *again, *again]


async def test_a_node_that_knows_no_pinned_context_yet_is_not_remembered() -> None:
    """A node that lags says 0; the context that is current by then may be another one than the pinned."""
    signers = {PINNED: SIGNER, CURRENT: SENDER}
    identity, chain = made(getKmsNodeForContext=lambda context, _: (SENDER, signers[context], "", ""))
    assert await identity.signer_for(request_of(SILENT)) == SENDER
    pin(chain, PINNED)
    assert await identity.signer_for(request_of(SILENT)) == SIGNER


NOBODY = (ZERO_ADDRESS, ZERO_ADDRESS, "", "")
OTHER = 7 << 248 | 1  # what the request names


async def test_who_is_not_in_a_context_is_told_so_and_the_contract_is_asked_again_ever_more_rarely() -> None:
    """One node on a fork may have said so; all requests of the context wait for the same question."""
    identity, chain = made(getKmsNodeForContext=NOBODY)
    waits = []
    for _ in range(4):
        with pytest.raises(NotMember, match="is not a node of context 0x07"):
            await identity.signer_for(request_of(NAMED))
        asked = len(chain.asked)
        with pytest.raises(NotMember) as raised:
            identity.recall(request_of(NAMED))
        with pytest.raises(NotMember):
            await identity.signer_for(request_of(NAMED))
        assert len(chain.asked) == asked
        waits.append(raised.value.again_in)
        await trio.sleep(raised.value.again_in or 0)
    assert waits == [1, 2, 4, 8]
    chain.views["getKmsNodeForContext"] = (SENDER, SIGNER, "", "")
    assert await identity.signer_for(request_of(NAMED)) == SIGNER
    identity.recall(request_of(NAMED))


async def test_many_requests_of_one_context_wait_for_one_question() -> None:
    identity, chain = made(getKmsNodeForContext=NOBODY)
    chain.delay = 1.0

    async def ask() -> None:
        with pytest.raises(NotMember):
            await identity.signer_for(request_of(NAMED))

    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask)
    assert chain.asked.count("getCurrentKmsContextId") == 1


@pytest.mark.parametrize(
    ("valid", "alone"), [((), True), ((CURRENT,), False), ((CURRENT - 2,), False), ((CURRENT + 1,), True)]
)
async def test_who_is_in_another_valid_context_is_not_alone(valid: tuple[int, ...], alone: bool) -> None:
    """What is valid: the current context, and those before it that were not destroyed."""
    gone = RpcError(3, "execution reverted", keccak256(b"InvalidKmsContext(uint256)")[:4] + bytes(32))

    def node_of(context: int, _: Address) -> Any:
        return (SENDER, SIGNER, "", "") if context in valid else NOBODY if context == OTHER else gone

    identity, _chain = made(getKmsNodeForContext=node_of)
    with pytest.raises(NotMember) as raised:
        await identity.signer_for(request_of(NAMED))
    assert raised.value.alone is alone


async def test_a_gateway_that_does_not_answer_is_waited_for() -> None:
    identity, chain = made(getKmsNodeForContext=Unreachable("down"))
    with pytest.raises(Unreachable):
        await identity.signer_for(request_of(NAMED))
    assert chain.asked == ["getKmsNodeForContext"]


# Answered already.

ROTATED = Address(b"\x0c" * 20)


def answer(chain: Answers, signer: Address) -> None:
    """Let the contract have a signer's answer to the request without a context."""
    chain.slots[mapping_slot(mapping_slot(DECRYPTION_BASE + 1, request_of(SILENT).id), signer)] = 1


async def knowing() -> tuple[NodeIdentity, Answers]:
    """Return a identity that knows its signer in the pinned context, and whose chain was asked nothing since."""
    identity, chain = made()
    pin(chain, PINNED)
    await identity.signer_for(request_of(SILENT))
    identity._contexts.clear()
    chain.asked.clear()
    chain.batches.clear()
    return identity, chain


async def test_a_node_asks_for_the_context_for_its_signer_there_and_for_that_one_s_answer() -> None:
    identity, chain = made()
    pin(chain, PINNED)
    answer(chain, SIGNER)
    assert await identity.has_answered(request_of(SILENT))
    assert chain.asked == ["storage", "getKmsNodeForContext", "storage"]


@pytest.mark.parametrize("answered", [SIGNER, ROTATED])
async def test_only_the_signer_of_the_request_s_own_context_counts(answered: Address) -> None:
    """The signer learnt last is of another context: what is there of it says nothing."""
    identity, chain = await knowing()
    chain.views["getKmsNodeForContext"] = (SENDER, ROTATED, "", "")
    pin(chain, CURRENT)
    answer(chain, answered)
    assert await identity.has_answered(request_of(SILENT)) == (answered == ROTATED)


async def test_a_known_context_needs_one_question() -> None:
    identity, chain = await knowing()
    assert not await identity.has_answered(request_of(SILENT))
    chain.batches.clear()
    assert not await identity.has_answered(request_of(SILENT))
    assert chain.batches == [1]


def posted(seed: int) -> Request:
    content = HttpPublicDecryption.of([bytes([seed]) * 32], b"")
    gateway = SETTINGS.chains.gateway.chain_id
    return Request(seed, gateway, Address(bytes(20)), content, b"", EventPlace(NO_BLOCK, b"", b"", 0), 1e9)


async def test_requests_over_http_share_the_question_for_the_current_context() -> None:
    """None is pinned for them, and each would ask at its check and at its answer."""
    identity, chain = made()
    for seed in (1, 2, 3):
        assert await identity.signer_for(posted(seed)) == SIGNER
        assert not await identity.has_answered(posted(seed))
    assert chain.asked == ["getCurrentKmsContextId", "getKmsNodeForContext"]


async def test_another_context_that_became_current_is_found_in_seconds() -> None:
    identity, chain = made()
    await identity.signer_for(posted(1))
    chain.views["getCurrentKmsContextId"] = CURRENT + 1
    chain.views["getKmsNodeForContext"] = (SENDER, SENDER, "", "")
    assert await identity.signer_for(posted(1)) == SIGNER
    await trio.sleep(CURRENT_FOR)
    assert await identity.signer_for(posted(1)) == SENDER
