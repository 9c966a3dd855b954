"""Stages of key management: rounds of questions before, several calls in order, answers without a signature or without a reply."""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import attrs
import pytest
import trio

from kmsconn.chain.port import Call
from kmsconn.ciphertexts.budget import ByteBudget, Lease
from kmsconn.core.client import Started
from kmsconn.errors import Broken, NotYet, Overloaded, Rejected, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex, quantity, to_hex
from kmsconn.model.life import Checked, Ciphertext, Gathered, Submitted
from kmsconn.model.requests import EventPlace, Kind, Request
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import CoreCall
from kmsconn.requests.contexts import WITHOUT_BLOCKS, Suspicions
from kmsconn.requests.stages import WORKER_WAIT_LIMIT, Stages, retrying
from tests import vectors
from tests.vectors import keys, later

ETHEREUM = keys.SETTINGS.chains.ethereum.chain_id
SIGNER, _ = vectors.account("signer1")


@attrs.define
class Ethereum:
    """The chain of the vectors: recorded views, and the first context's announcement."""

    chain_id: int = ETHEREUM
    rounds: int = 0
    destroyed: bool = False

    async def batch(self, calls: Sequence[Call]) -> list[Any]:
        await trio.lowlevel.checkpoint()
        self.rounds += 1
        return [self._logs(call) if call.method == "eth_getLogs" else self._view(call) for call in calls]

    def _view(self, call: Call) -> str:
        if call.method == "eth_getStorageAt":
            return f"0x{self.destroyed:064x}"
        message, block = call.params
        [found] = {
            entry["result"]
            for entry in keys.views()
            if (entry["call"]["data"], entry["block"]) == (message["data"], block) and entry.get("result")
        }
        return str(found)

    def _logs(self, call: Call) -> list[dict[str, Any]]:
        log = keys.log("context_1_first")
        assert call.params[0]["fromBlock"] == quantity(log.block_number)
        return [
            {
                "address": to_hex(log.address),
                "topics": [to_hex(topic) for topic in log.topics],
                "data": to_hex(log.data),
                "blockNumber": quantity(log.block_number),
                "blockHash": to_hex(log.block_hash),
                "transactionHash": to_hex(log.transaction_hash),
                "logIndex": quantity(log.log_index),
            }
        ]


@attrs.define
class Core:
    """Takes every call and answers as recorded; ``says`` is an uncertain start, or an error, by method."""

    reply: bytes = b""
    says: dict[str, Any] = attrs.field(factory=dict)
    started: list[CoreCall] = attrs.field(factory=list)
    polled: list[CoreCall] = attrs.field(factory=list)
    tells: tuple[bytes, ...] = ()
    """What its endpoints answer to a start."""

    waiting: bool = True
    """Whether a call may wait for the result."""

    def waits(self, call: CoreCall) -> bool:
        return self.waiting

    async def start(self, call: CoreCall) -> Started:
        await trio.lowlevel.checkpoint()
        self.started.append(call)
        said = self.says.get(call.method, "")
        if isinstance(said, Exception):
            raise said
        return Started(str(said), said=self.tells)

    async def result(self, call: CoreCall) -> bytes:
        await trio.lowlevel.checkpoint()
        self.polled.append(call)
        return self.reply


@attrs.frozen
class Signer:
    """Who we are."""

    signer: Address | None

    async def signer_for(self, request: Request) -> Address | None:
        await trio.lowlevel.checkpoint()
        return self.signer


class Standing:
    """Contexts that stand."""

    def __init__(self) -> None:
        self.suspicions = Suspicions({})

    async def recheck(self, request: Request) -> None:
        await trio.lowlevel.checkpoint()


def stages(core: Core, signer: Address | None = SIGNER) -> Stages:
    parts: list[Any] = [{ETHEREUM: Ethereum()}, Standing(), None, Signer(signer), None, core, lambda: 0.5]
    return Stages(keys.PROFILE, *parts)


def request(name: str) -> Request:
    log = keys.log(name)
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    return Request(1, ETHEREUM, log.address, keys.content(name), bytes(32), place, float("inf"))


async def gathered(name: str, core: Core) -> Gathered:
    content = keys.content(name)
    with Lease(ByteBudget(100)) as lease:
        return await stages(core).gather(Checked(request(name), *content.context), lease)


async def test_one_node_that_shows_material_of_no_sense_ends_no_epoch() -> None:
    class Row:
        def plan(self, _content: Any) -> Any:
            raise Rejected("key 1 has parameters of a type that is not known")
            yield

    profile: Any = SimpleNamespace(operations={Kind.NEW_KMS_CONTEXT: Row()})
    at, checked = attrs.evolve(stages(Core()), profile=profile), Checked(request("context_2_new"), 1, 2)
    with Lease(ByteBudget(100)) as lease:
        with pytest.raises(NotYet, match="asked again"):
            await at.gather(checked, lease)
        await trio.sleep(WITHOUT_BLOCKS)
        with pytest.raises(Rejected):
            await at.gather(checked, lease)


async def test_a_new_context_is_told_after_the_previous_one() -> None:
    core = Core()
    await stages(core).submit(await gathered("context_2_new", core))
    assert [bytes(call.message) for call in core.started] == [
        bytes(call.message) for call in keys.calls("context_2_new")
    ]


async def test_the_new_context_is_not_told_before_the_previous_one_was_taken() -> None:
    core = Core(says={"NewMpcContext": Unreachable("down")})
    with pytest.raises(Unreachable):
        await stages(core).submit(await gathered("context_2_new", core))
    assert {bytes(call.message) for call in core.started} == {bytes(keys.calls("context_2_new")[0].message)}


async def test_an_epoch_is_told_with_the_material_of_its_block() -> None:
    core = Core()
    await stages(core).submit(await gathered("epoch_3_same_set", core))
    [expected] = keys.event("epoch_3_same_set")["core"]
    assert [bytes(call.message) for call in core.started] == [
        vectors.asking_for_ecdsa("NewMpcEpoch", expected["request_bytes"])
    ]


async def test_every_call_of_a_request_has_the_context_of_its_trace() -> None:
    core = Core(reply_of("keygen_default"))
    told = attrs.evolve(stages(core), trace_metadata=lambda asked: ((b"traceparent", b"%d" % asked.id),))
    await told.submit(await gathered("context_2_new", core))
    await told.answer(Submitted(request("keygen_default")))
    assert {call.metadata for call in core.started} == {
        ((b"traceparent", b"%d" % request("context_2_new").id),)
    }
    assert core.polled[0].metadata == ((b"traceparent", b"%d" % request("keygen_default").id),)


async def test_what_needs_nothing_more_is_gathered_at_once() -> None:
    found = await gathered("keygen_default", Core())
    assert found.found is None


@pytest.mark.parametrize("digests", [None, ((3, b"\x33" * 32),)], ids=["plain", "compressed"])
async def test_an_uncertain_start_is_handed_on_with_what_else_it_may_mean(
    digests: tuple[tuple[int, bytes], ...] | None,
) -> None:
    """A Core that knows another preprocessing of a key refuses the epoch with the status of one that is there."""
    core = Core(says={"NewMpcEpoch": "core[0] NewMpcEpoch: INVALID_ARGUMENT"})
    asked = await gathered("epoch_3_same_set", core)
    [key, *_] = asked.found.keys
    found = attrs.evolve(asked.found, keys=(attrs.evolve(key, digests=digests or key.digests),))
    submitted = await stages(core).submit(attrs.evolve(asked, found=found))
    assert submitted.uncertain.startswith("core[0] NewMpcEpoch: INVALID_ARGUMENT (")
    assert f"0x{key.prep_id:064x}" in submitted.uncertain


def reply_of(name: str, node: int = 0) -> bytes:
    return from_hex(keys.event(name)["answers"][node]["response_bytes"])


async def test_an_answer_of_this_node_is_kept() -> None:
    found = await stages(Core(reply_of("keygen_default"))).answer(Submitted(request("keygen_default")))
    assert found.answer is not None
    assert found.answer.signer == SIGNER


async def test_the_answer_of_another_node_is_broken() -> None:
    core = Core(reply_of("epoch_3_same_set", 1))
    with pytest.raises(Broken, match="check kms_core_endpoints"):
        await stages(core).answer(Submitted(request("epoch_3_same_set")))


async def test_a_confirmation_asks_for_no_result_and_no_signature() -> None:
    core = Core()
    found = await stages(core, None).answer(Submitted(request("context_2_new")))
    assert core.polled == []
    assert found.answer is not None
    assert found.answer.signer is None


async def test_who_only_sends_shares_waits_for_the_epoch_and_replies_nothing() -> None:
    """Its Core gives the old epoch's signatures, which no contract takes from it (P13)."""
    core = Core(b"whatever the old epoch had")
    found = await stages(core, None).answer(Submitted(request("epoch_2_context_switch")))
    assert found.answer is None
    assert [call.method for call in core.polled] == ["GetEpochResult"]


@pytest.mark.parametrize("name", ["abort_keygen", "abort_crsgen", "context_1_destroyed"])
async def test_what_only_ends_something_is_over_once_the_core_knows(name: str) -> None:
    core = Core()
    found = await stages(core, None).answer(Submitted(request(name)))
    assert (found.answer, core.polled) == (None, [])


async def over(found: tuple[int, ...], *tells: bytes) -> frozenset[int]:
    """Return what is over with a context, by the chain's word and that of the Core's endpoints."""
    asked = request("context_1_destroyed")
    submitted = await stages(Core(tells=tells)).submit(Gathered(asked, None, None, found))
    return submitted.over


async def test_the_epochs_of_a_destroyed_context_are_over_whoever_names_them() -> None:
    """A Core of 0.14 tells none; one that was restarted does not tell all. What cannot be read takes nothing away."""
    told = later.wire("destroy context result, two epochs")
    first, second, third = (8 << 248 | number for number in (1, 2, 3))
    assert await over((), b"", told) == {first, second}
    assert await over((third,), told, b"") == {first, second, third}
    assert await over((third,), b"") == {third}
    assert await over((5,), b"\xff", b"\x0a\x02\x0a\x00") == {5}


async def test_an_end_is_not_repeated_within_a_pass() -> None:
    """A centralised Core crashes over the end of an epoch each time."""
    asked, core = request("context_1_destroyed"), Core(says={"DestroyMpcContext": Unreachable("crashed")})
    with pytest.raises(Unreachable):
        await stages(core).submit(Gathered(asked, None, None, ()))
    assert len(core.started) == 1


async def test_nothing_is_over_with_the_end_of_an_epoch_or_a_new_context() -> None:
    core = Core(tells=(later.wire("destroy context result, two epochs"),))
    submitted = await stages(core).submit(await gathered("context_2_new", core))
    assert submitted.over == frozenset()


class Silent(Core):
    """Takes a call that waits and never answers it."""

    async def decrypt(self, call: CoreCall) -> Started:
        self.started.append(call)
        await trio.sleep_forever()
        raise AssertionError


def small() -> tuple[Fhevm, Gathered]:
    """Return a public decryption of one small ciphertext, and its profile."""
    log = vectors.log_of(vectors.request("public_one_v0"))
    profile = Fhevm(vectors.vector_settings())
    content = profile.decode(log)
    assert content is not None
    place = EventPlace(log.block_number, log.block_hash, log.transaction_hash, log.log_index)
    asked = Request(1, ETHEREUM, log.address, content, bytes(32), place, 1e12)
    found = tuple(Ciphertext(reference.handle, b"body", 3) for reference in content.references)
    return profile, Gathered(asked, None, None, found)


async def test_a_core_that_does_not_wait_is_only_handed_the_request() -> None:
    profile, asked = small()
    core = Core(waiting=False, says={"PublicDecrypt": "it may have it"})
    submitted = await attrs.evolve(stages(core), profile=profile).submit(asked)
    assert (submitted.reply, submitted.uncertain) == (None, "it may have it")
    assert [call.method for call in core.started] == ["PublicDecrypt"]


async def test_a_call_that_waits_is_left_early_enough_to_ask_for_the_result() -> None:
    """After 0.8 of the stage's time the Core has it, and is asked for the result without the payload."""
    profile, asked = small()
    begun, core = trio.current_time(), Silent()
    with trio.fail_after(10):
        submitted = await attrs.evolve(stages(core), profile=profile).submit(asked)
    assert (submitted.reply, submitted.existed) == (None, False)
    assert trio.current_time() - begun == pytest.approx(8)
    assert len(core.started) == 1


def failing(times: int, error: Exception, log: Any) -> Any:
    async def step() -> Any:
        await trio.lowlevel.checkpoint()
        log.append(trio.current_time())
        if len(log) <= times:
            raise error
        return "done"

    return step


@pytest.mark.parametrize("error", [Unreachable("x"), Overloaded("x")])
async def test_a_dependency_that_comes_back_is_waited_for(error: Exception) -> None:
    log: list[Any] = []
    assert await retrying(failing(3, error, log), lambda: 0.0) == "done"
    assert len(log) == 4
    assert log == sorted(log)


async def test_patience_ends() -> None:
    log: list[Any] = []
    with pytest.raises(Unreachable):
        await retrying(failing(1000, Unreachable("x"), log), lambda: 0.5)
    assert 1 < len(log) < 20
    assert trio.current_time() < WORKER_WAIT_LIMIT


@pytest.mark.parametrize("error", [NotYet("denied"), Rejected("never")])
async def test_an_answer_is_not_asked_for_again(error: Exception) -> None:
    log: list[Any] = []
    with pytest.raises(type(error)):
        await retrying(failing(1000, error, log), lambda: 0.0)
    assert len(log) == 1


async def test_cancellation_between_tries() -> None:
    with trio.move_on_after(1) as scope:
        await retrying(failing(1000, Unreachable("x"), []), lambda: 0.99)
    assert scope.cancelled_caught
