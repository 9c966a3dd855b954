"""Decryption over HTTP beside requests from the chain, in a whole connector: answered once, whoever dies or leaves meanwhile."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from kmsconn.connector.connector import Connector
from kmsconn.emulator.core_faults import FailingCore, HangingCore
from kmsconn.emulator.dependencies import key_for
from kmsconn.emulator.fhevm_dependencies import CONTEXT
from kmsconn.ethereum.signing import recover
from kmsconn.model.events import (
    AlertRaised,
    AnswerKept,
    ReplyFinalized,
    ReplySigned,
    RequestClosed,
    StageFinished,
)
from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import perform
from kmsconn.operate.control.server import COMMANDS, context_of
from kmsconn.protocols.fhevm.decryptions import public_digest
from kmsconn.protocols.fhevm.http_decryption import HTTP_PATIENCE
from kmsconn.testing.endings import Ending
from kmsconn.testing.ground_truth import read_ground_truth
from kmsconn.testing.harness import Scenario, ScenarioOutcome, run_scenario
from kmsconn.testing.invariants import kept_in
from tests.faults.scene import POSTED, Scene, post
from tests.faults.test_destroyed import AT_WORK, NAMING, destroy
from tests.sampling import points_of

pytestmark = pytest.mark.sampled

Content = Any
RESULT = "GetPublicDecryptionResult"
TOLD = 4.0  # seconds; a relayer gives up after 5, and asks no second time


async def asked(connector: Connector, content: Content) -> HttpResult | HttpFailure:
    """Return what a client gets."""
    try:
        return await connector.decryptions.decrypt(content)
    except HttpFailure as failure:
        return failure


async def refused(connector: Connector, content: Content) -> tuple[FailureCode, bool]:
    """Return with which code a client is refused, and whether it may ask again."""
    with pytest.raises(HttpFailure) as caught:
        await connector.decryptions.decrypt(content)
    assert caught.value.decryption_id == content.id
    return caught.value.code, caught.value.retryable


def starts(scene: Scene) -> Counter[int]:
    """Count the start calls that the Core understands, by id."""
    counted: Counter[int] = Counter()
    scene.dependencies.cores[0].core.on_start = lambda request_id: counted.update(
        [int.from_bytes(request_id)]
    )
    return counted


# --- what clients get


@pytest.mark.parametrize("form", POSTED)
async def test_every_form_is_answered_with_this_nodes_signature(form: str, scene: Scene) -> None:
    content = post(scene.traffic, form)
    async with scene.connected() as connector:
        result = await connector.decryptions.decrypt(content)
    assert result.decryption_id == content.id
    assert next(iter(result.fields)) == ("decryptedResult" if form == "public" else "userDecryptedShares")
    assert len(result.fields["signature"]) == 65
    if form == "public":
        handles, deployment = content.raw_handles, connector.components.profile.deployment  # type: ignore[attr-defined]
        digest = public_digest(
            deployment.decryption, handles, result.fields["decryptedResult"], result.fields["extraData"]
        )
        assert (
            recover(digest, result.fields["signature"]) == scene.dependencies.cores[0].core.node.key.address
        )


async def test_requests_of_both_sources_do_not_meet(scene: Scene, tmp_path: Path) -> None:
    """The chain's are replied and final; those over HTTP have no nonce and no transaction."""
    counted = starts(scene)
    contents = [post(scene.traffic, form) for form in POSTED]
    async with scene.connected() as connector:
        async with trio.open_nursery() as nursery:
            for content in contents:
                nursery.start_soon(connector.decryptions.decrypt, content)
            ids = await scene.ask("public", "direct", "unified")
        await scene.wait(lambda: len(scene.told(ReplyFinalized)) == len(ids), 600)
    assert counted == Counter([*ids, *(content.id for content in contents)])
    assert read_ground_truth(scene.dependencies).doubled == ()
    rows = kept_in(tmp_path / "journal.db")
    assert Counter((row.over_http, row.state) for row in rows) == Counter(
        {(True, State.DONE): 4, (False, State.FINALIZED): 3}
    )
    assert {event.rid for event in scene.told(ReplySigned)} == {row.rid for row in rows if not row.over_http}


async def test_two_clients_with_one_content_ask_the_core_once(scene: Scene) -> None:
    counted, content, results = starts(scene), post(scene.traffic, "public"), list[Any]()

    async def client(connector: Connector) -> None:
        results.append(await connector.decryptions.decrypt(content))

    async with scene.connected() as connector, trio.open_nursery() as nursery:
        for _ in range(5):
            nursery.start_soon(client, connector)
    assert len(results) == 5
    assert all(one == results[0] for one in results)
    assert counted == {content.id: 1}


async def test_the_answer_outlives_the_process(scene: Scene) -> None:
    counted, content = starts(scene), post(scene.traffic, "unified")
    async with scene.connected() as connector:
        first = await connector.decryptions.decrypt(content)
    async with scene.connected() as connector:
        assert await connector.decryptions.decrypt(content) == first
    assert counted == {content.id: 1}


async def test_a_denied_request_is_told_at_once_and_may_be_asked_again(scene: Scene) -> None:
    scene.traffic.granted = False
    content = post(scene.traffic, "public")
    async with scene.connected() as connector:
        began = trio.current_time()
        assert await refused(connector, content) == (FailureCode.ACL_DENIED, True)
        assert trio.current_time() - began < 5
        acl, host = scene.dependencies.acl, scene.dependencies.host
        for handle in content.raw_handles:
            host.evm.set_up(acl.address, acl.allow_for_decryption, handle=handle, allowed=True)
        await trio.sleep(5)
        assert (await connector.decryptions.decrypt(content)).decryption_id == content.id


async def test_a_wrong_signature_is_final(scene: Scene) -> None:
    content = post(scene.traffic, "unified", duration=1000)  # not what was signed
    async with scene.connected() as connector:
        assert await refused(connector, content) == (FailureCode.USER_SIGNATURE_REJECTED, False)
        assert await refused(connector, content) == (FailureCode.USER_SIGNATURE_REJECTED, False)
    assert [event.state for event in scene.told(RequestClosed)] == [State.REJECTED]


async def test_a_window_that_is_over_is_final_and_one_to_come_is_not(scene: Scene) -> None:
    await trio.sleep(30)
    now = scene.dependencies.gateway.head.timestamp
    over = post(scene.traffic, "unified", start=now - 20, duration=10)
    to_come = post(scene.traffic, "unified", start=now + 10_000)
    async with scene.connected() as connector:
        assert await refused(connector, over) == (FailureCode.USER_SIGNATURE_REJECTED, False)
        assert await refused(connector, to_come) == (FailureCode.USER_SIGNATURE_REJECTED, True)


async def test_a_user_among_its_contracts_is_unprocessable(scene: Scene) -> None:
    content = post(scene.traffic, "unified", allowed_contracts=(key_for("user").address,))
    async with scene.connected() as connector:
        assert await refused(connector, content) == (FailureCode.UNPROCESSABLE, False)


async def test_an_unknown_context_may_become_valid(scene: Scene) -> None:
    scene.traffic.extra_data = (b"\x01" + (CONTEXT + 5).to_bytes(32),)
    content = post(scene.traffic, "public")
    async with scene.connected() as connector:
        assert await refused(connector, content) == (FailureCode.KMS_CONTEXT_INVALID, True)


@pytest.mark.parametrize("what", ["context", "epoch"])
async def test_what_is_under_a_destroyed_context_is_over(what: str, scene: Scene) -> None:
    """Also while the Core is at work on it; who comes before that is final is told to ask again."""
    scene.dependencies.ethereum.finality.depth = 2
    scene.traffic.extra_data = (NAMING["epoch"],)
    scene.dependencies.cores[0].core.computing = AT_WORK
    at_work, later = post(scene.traffic, "public"), post(scene.traffic, "unified")
    async with scene.connected() as connector, trio.open_nursery() as nursery:
        await connector.wait_ready()

        async def client() -> None:
            assert await refused(connector, at_work) == (FailureCode.KMS_CONTEXT_DESTROYED, False)
            nursery.cancel_scope.cancel()

        nursery.start_soon(client)
        await scene.wait(lambda: any(one.stage == "submit" for one in scene.told(StageFinished)))
        destroy(scene, what)
        while (said := await refused(connector, later))[1]:
            assert said[0] is FailureCode.KMS_CONTEXT_INVALID
            await trio.sleep(10)
        assert said == (FailureCode.KMS_CONTEXT_DESTROYED, False)
        await trio.sleep(AT_WORK)
    assert not scene.told(AnswerKept)


async def test_a_ciphertext_that_nobody_has_is_named(scene: Scene) -> None:
    content = post(scene.traffic, "public")
    for one in scene.dependencies.buckets:
        one.bucket.objects.clear()
    async with scene.connected() as connector:
        await connector.wait_ready()
        began = trio.current_time()
        assert await refused(connector, content) == (FailureCode.CIPHERTEXT_NOT_FOUND, True)
        assert HTTP_PATIENCE <= trio.current_time() - began < TOLD


@pytest.mark.parametrize("code", ["INTERNAL", "INVALID_ARGUMENT"])
async def test_what_the_core_refuses_is_told_as_its_fault_before_a_relayer_gives_up(
    code: str, scene: Scene
) -> None:
    """And the same request has its answer once the Core gives one."""
    content = post(scene.traffic, "public")
    refusal = scene.core_does(FailingCore(code=code), content.id, RESULT)
    async with scene.connected() as connector:
        await connector.wait_ready()
        began = trio.current_time()
        assert await refused(connector, content) == (FailureCode.UPSTREAM_TRANSIENT, True)
        assert trio.current_time() - began < TOLD
        refusal()
        assert (await connector.decryptions.decrypt(content)).decryption_id == content.id


async def test_a_core_that_never_answers_is_waited_for_while_the_client_does(scene: Scene) -> None:
    """And when it answers after all, the same request has its result."""
    content = post(scene.traffic, "public")
    chance = scene.core_does(HangingCore(), content.id, RESULT)
    async with scene.connected() as connector:
        with trio.move_on_after(30) as waiting:
            await connector.decryptions.decrypt(content)
        assert waiting.cancelled_caught
        chance()
        assert (await connector.decryptions.decrypt(content)).decryption_id == content.id
    assert not [event for event in scene.told(AlertRaised) if event.cause == "unexpected-error"]


async def test_what_an_operator_skips_is_told_at_once(scene: Scene) -> None:
    content, ended = post(scene.traffic, "public"), list[float]()
    scene.core_does(HangingCore(), content.id, RESULT)

    async def client(connector: Connector) -> None:
        assert await refused(connector, content) == (FailureCode.UNPROCESSABLE, False)
        ended.append(trio.current_time())

    async with scene.connected() as connector, trio.open_nursery() as nursery:
        nursery.start_soon(client, connector)
        await trio.sleep(5)
        arguments = {"request": f"0x{content.id:064x}", "reason": "a test"}
        context = context_of(connector, scene.monitor.health)
        assert len((await perform(COMMANDS, context, "skip", arguments))["skipped"]) == 1
        await trio.sleep(1)
        assert ended


async def test_requests_over_http_wait_in_places_of_their_own(scene: Scene) -> None:
    """However many of them hang, requests from the chain are answered."""
    settings = scene.settings()
    pools = attrs.evolve(
        settings.work.pools,
        public_decryption=2,
        user_decryption=2,
        http_public_decryption=2,
        http_user_decryption=2,
    )
    contents = [post(scene.traffic, "public") for _ in range(8)]
    for content in contents:
        scene.core_does(HangingCore(), content.id, RESULT)
    async with scene.connected(pools=pools) as connector, trio.open_nursery() as nursery:
        for content in contents:
            nursery.start_soon(asked, connector, content)
        await trio.sleep(5)
        ids = await scene.ask("public", "public", "direct", "unified")
        await scene.wait(lambda: scene.answered == set(ids), 30)
        nursery.cancel_scope.cancel()


async def test_a_reorganisation_of_the_gateway_changes_nothing(scene: Scene, tmp_path: Path) -> None:
    content = post(scene.traffic, "public")
    async with scene.connected() as connector:
        first = await connector.decryptions.decrypt(content)
        await trio.sleep(10)
        scene.dependencies.gateway.reorg(8)
        await trio.sleep(30)
        assert await connector.decryptions.decrypt(content) == first
    [row] = kept_in(tmp_path / "journal.db")
    assert (row.kind, row.state, row.on_chain) == (Kind.HTTP_PUBLIC_DECRYPTION, State.DONE, True)


@pytest.mark.parametrize("end", [Connector.drain, Connector.hurry])
async def test_a_draining_connector_sends_its_clients_away(
    end: Callable[[Connector], None], scene: Scene
) -> None:
    content, results = post(scene.traffic, "public"), list[Any]()
    scene.core_does(HangingCore(), content.id, RESULT)

    async def client(connector: Connector) -> None:
        results.append(await asked(connector, content))

    async with trio.open_nursery() as nursery, scene.connected() as connector:
        nursery.cancel_scope.deadline = trio.current_time() + 600
        nursery.start_soon(client, connector)
        await trio.sleep(5)
        end(connector)
        await connector.wait_drained()
        await trio.sleep(1)
    assert [(one.code, one.retryable) for one in results] == [(FailureCode.UPSTREAM_TRANSIENT, True)]


# --- processes that die


PLAYED = Scenario(("public", "direct"), (), posts=("public", "unified", "wallet"))


@cache
def undisturbed() -> ScenarioOutcome:
    return run_scenario(PLAYED)


def test_a_play_that_nothing_happens_to_asks_the_core_once_for_each() -> None:
    undisturbed().check(PLAYED)
    assert len(undisturbed().starts) == PLAYED.states.total()
    assert set(undisturbed().starts.values()) == {1}


def test_a_process_killed_at_any_step_is_followed_by_one_that_answers_each_client_once() -> None:
    """A start that the Core took just before the kill is repeated, and the Core has the id: it works once."""
    failures = []
    for at in points_of(undisturbed().steps):
        played = run_scenario(PLAYED, ending=Ending.KILL, at=at)
        assert played.struck, f"step {at} was not reached"
        try:
            played.check(PLAYED)
            assert max(played.starts.values()) <= 2
        except AssertionError as error:
            failures.append(f"step {at}: {error}")
    assert not failures, "\n".join(failures)
