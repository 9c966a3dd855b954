"""The limits that follow from the process, and what shows of keys."""

from __future__ import annotations

import asyncio
import resource

import pytest
import trio
import trio.testing

from kmsconn.model.events import Event
from kmsconn.model.http_answers import HttpResult
from kmsconn.model.requests import Content
from kmsconn.serving.decryptions import SPARE_CONNECTIONS, connections_limit
from tests.unit.serving.scene import KEY, FakeDecryptions, Scene, key, public_body, serving

PUBLIC = "/v1/public-decrypt"


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [(1024, 512), (1 << 20, 1000 + SPARE_CONNECTIONS), (resource.RLIM_INFINITY, 1000 + SPARE_CONNECTIONS)],
)
def test_half_of_the_descriptors_are_left_for_the_chain_and_the_core(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_limit(1000) == expected


async def test_the_key_shows_in_no_event_and_no_log_line(
    keyed: Scene, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(0)
    assert (await keyed.client().post(PUBLIC, public_body(), KEY)).status == 200
    assert (await keyed.client().post(PUBLIC, public_body(), KEY + "?")).status == 401
    shown = f"{keyed.events}{[record.getMessage() for record in caplog.records]}"
    assert KEY not in shown
    assert key().digest.hex() not in shown
    assert keyed.answered == [
        (PUBLIC, 200, "ok", "relayer"),
        (PUBLIC, 401, "sender_authentication_failed", ""),
    ]


async def test_a_limit_of_a_key_is_told_as_such() -> None:
    async with serving(FakeDecryptions(seconds=5), keys=(key(max_in_flight=1),)) as scene:
        first = scene.client()
        await first.send("POST", PUBLIC, public_body(), {"Authorization": f"bearer {KEY}"})
        await trio.sleep(1)
        answer = await scene.client().post(PUBLIC, public_body(), KEY)
        assert (answer.status, answer.json["code"], answer.json["retryable"]) == (429, "rate_limited", True)
        assert answer.headers["retry-after"] == "1"
        assert (await first.read()).status == 200


async def test_a_missing_key_is_asked_for(keyed: Scene) -> None:
    answer = await keyed.client().ask("GET", "/version")
    assert (answer.status, answer.headers["www-authenticate"]) == (401, "Bearer")
    assert answer.json["code"] == "sender_authentication_failed"


async def test_no_other_event_loop_runs() -> None:
    class Looking(FakeDecryptions):
        async def decrypt(self, content: Content) -> HttpResult:
            with pytest.raises(RuntimeError):
                asyncio.get_running_loop()
            return await super().decrypt(content)

    async with serving(Looking()) as scene:
        assert (await scene.client().post(PUBLIC, public_body())).status == 200


async def test_statistics_are_of_this_moment() -> None:
    events: list[Event] = []
    async with serving(FakeDecryptions(seconds=5)) as scene:
        client = scene.client()
        await client.send("POST", PUBLIC, public_body())
        await trio.sleep(1)
        statistics = scene.service.statistics()
        assert (statistics.waiting, statistics.connections, statistics.body_bytes) == (1, 1, 0)
        await client.read()
        assert scene.service.statistics().waiting == 0
    assert events == []
