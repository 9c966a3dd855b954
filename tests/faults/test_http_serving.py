"""Decryptions over HTTP in whole connectors, in virtual time: start, drain, both sources; and worlds in which all has its answer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.config.description import Secret
from kmsconn.config.working import HttpApi
from kmsconn.connector.connector import Connector, open_connector
from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.load import POSTED_FORMS, HttpPost
from kmsconn.errors import StartRefused
from kmsconn.model.events import HttpAnswered, ReplyFinalized
from kmsconn.serving.exchange import GRACE_SECONDS
from kmsconn.testing.faults import Ask, ClockStep, CoreRestart, Drain, Kill, KillAtWork, Outage, Post, Reorg
from kmsconn.testing.strategies import Case, cases, moments
from kmsconn.testing.world import PlanStep, run_world
from kmsconn.transport.ports import Ports
from tests.failures import leaves
from tests.faults.conftest import SAMPLE
from tests.faults.scene import Scene, open_scene
from tests.unit.serving.scene import Client, MemoryListener

ENDPOINT = "127.0.0.1:8080"


def serving(scene: Scene, listener: MemoryListener, **changes: Any) -> Any:
    """Return a connector that serves at a listener in memory; it drains when the block is left."""

    async def listen(address: str) -> Sequence[MemoryListener]:
        assert address == ENDPOINT
        return [listener]

    settings = scene.settings(http_api=HttpApi(ENDPOINT, frozenset({HOST_ID}), **changes))
    return open_connector(
        settings, ports=attrs.evolve(scene.ports(), listen=listen), on_event=scene.events.append
    )


async def posted(listener: MemoryListener, post: HttpPost) -> tuple[int, Any]:
    """Post, and return status and document of the answer."""
    answer = await Client(listener.connect()).post(post.path, post.body)
    return answer.status, answer.json


async def test_every_form_is_answered_beside_requests_from_the_chain(scene: Scene) -> None:
    listener, answers = MemoryListener(), list[tuple[int, Any]]()

    async def client(form: str) -> None:
        answers.append(await posted(listener, HttpPost.of(scene.traffic.prepare(form))))

    async with serving(scene, listener) as connector:
        async with trio.open_nursery() as nursery:
            for form in POSTED_FORMS:
                nursery.start_soon(client, form)
            ids = await scene.ask("public", "direct")
        await scene.wait(lambda: len(scene.told(ReplyFinalized)) == len(ids), 600)
        assert connector.statistics().http.connections >= 0
    assert [status for status, _ in answers] == [200] * len(POSTED_FORMS)
    assert all(len(bytes.fromhex(document["signature"][2:])) == 65 for _, document in answers)
    assert [one.code for one in scene.told(HttpAnswered)] == ["ok"] * len(POSTED_FORMS)


async def test_a_repeated_post_has_its_answer_at_once_after_a_restart(scene: Scene) -> None:
    post = HttpPost.of(scene.traffic.prepare("public"))
    answers = []
    for _ in range(2):
        listener = MemoryListener()
        async with serving(scene, listener):
            answers.append(await posted(listener, post))
    assert answers[0][0] == 200
    assert answers[0] == answers[1]


async def test_what_the_acl_denies_is_told_with_its_code(scene: Scene) -> None:
    scene.traffic.granted = False
    listener = MemoryListener()
    async with serving(scene, listener):
        status, document = await posted(listener, HttpPost.of(scene.traffic.prepare("public")))
    assert (status, document["code"], document["retryable"]) == (403, "acl_denied", True)


def reason(group: BaseExceptionGroup[BaseException]) -> str:
    """Return why a start was refused."""
    [refused] = leaves(group)
    assert isinstance(refused, StartRefused)
    return str(refused)


async def drained(connector: Connector) -> float:
    """Drain, and return how long that takes."""
    began = trio.current_time()
    connector.drain()
    await connector.wait_drained()
    return trio.current_time() - began


async def test_a_drain_lets_an_answer_out_that_is_being_made(scene: Scene) -> None:
    scene.dependencies.cores[0].core.computing = 5.0
    listener, answers = MemoryListener(), list[tuple[int, Any]]()

    async def client() -> None:
        answers.append(await posted(listener, HttpPost.of(scene.traffic.prepare("public"))))

    async with serving(scene, listener) as connector, trio.open_nursery() as nursery:
        nursery.start_soon(client)
        await trio.sleep(2)
        assert await drained(connector) < GRACE_SECONDS
    assert [status for status, _ in answers] == [200]


async def test_a_drain_waits_for_no_answer_for_ever(scene: Scene) -> None:
    scene.dependencies.cores[0].core.computing = 1000.0
    listener = MemoryListener()
    async with serving(scene, listener, decryption_timeout=500.0) as connector:
        client = Client(listener.connect())
        post = HttpPost.of(scene.traffic.prepare("public"))
        await client.send("POST", post.path, post.body)
        await trio.sleep(5)
        assert GRACE_SECONDS <= await drained(connector) < GRACE_SECONDS + 5
    assert await client.until_closed() == b""


async def test_an_address_that_cannot_be_had_is_refused_by_its_option(tmp_path: Path) -> None:
    async def listen(address: str) -> Sequence[MemoryListener]:
        raise OSError(98, "Address already in use")

    async with open_scene(tmp_path) as scene:
        settings = scene.settings(http_api=HttpApi(ENDPOINT, frozenset({HOST_ID})))
        ports: Ports = attrs.evolve(scene.ports(), listen=listen)
        with pytest.raises(BaseExceptionGroup) as refusal:
            async with open_connector(settings, ports=ports):
                pass
        assert f"http_endpoint {ENDPOINT} cannot be listened to" in reason(refusal.value)


PLANS: dict[str, Sequence[PlanStep]] = {
    "nothing happens": [],
    "killed": [Kill(1.6, 2.0), Kill(5.2, 1.0), Kill(9.0, 4.0)],
    "killed in the middle of a commit": [KillAtWork(1.0, 3, "before"), KillAtWork(5.0, 4, "after")],
    "drained": [Drain(1.7, 1.0), Drain(8.0, 3.0)],
    "the journal lost": [Kill(4.0, 2.0, lose_journal=True)],
    "the Core restarted": [CoreRestart(1.6), CoreRestart(3.1)],
    "the Core away": [Outage(1.2, "core0", "refuse", 40.0)],
    "the host chain away": [Outage(1.2, "host", "mute", 40.0)],
    "the Gateway away": [Outage(1.2, "gateway", "refuse", 20.0)],
    "the clock set back by an hour": [ClockStep(3.0, -3600.0)],
    "reorganisations": [Reorg(3.0, 3, "moved"), Reorg(8.0, 6, "swapped"), Reorg(12.0, 8, "moved")],
}


@pytest.mark.sampled
@pytest.mark.parametrize("trouble", PLANS.values(), ids=PLANS)
def test_every_client_has_its_answer(trouble: Sequence[PlanStep]) -> None:
    asking = [step for at in (1.0, 4.5, 8.5) for step in (Post(at, "any", 3), Ask(at, "any", 2))]
    report = run_world([*asking, *trouble])
    report.check()
    assert report.steps["Post"] == 3


@pytest.mark.sampled
def test_a_client_without_an_answer_would_be_seen() -> None:
    """The node of another wallet is in no context: its clients ask for ever."""
    report = run_world([Post(1.0, "public")], settle_time=60.0, private_key=Secret("0x" + "11" * 32))
    assert [text.rpartition(" has ")[2] for text in report.broken] == ["no answer"]


posts = st.builds(Post, moments(), st.just("any"), st.integers(1, 4))


@pytest.mark.sampled
@SAMPLE
@given(case=cases(), posting=st.lists(posts, min_size=1, max_size=5))
def test_every_client_has_its_answer_whatever_happens(case: Case, posting: list[PlanStep]) -> None:
    attrs.evolve(case, plan=(*case.plan, *posting)).run().check()
