"""Routes, bodies, statuses and error documents of the HTTP API (fhevm-0.15.md, 5.1-5.6), byte for byte."""

from __future__ import annotations

import asyncio
import json
import resource

import pytest
import trio
import trio.testing
from jsonschema import Draft202012Validator

from kmsconn.model.events import Event
from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.requests import Content
from kmsconn.observe.families import HTTP_ROUTES
from kmsconn.protocols.fhevm.http_decryption import HttpLimits, read_public
from kmsconn.serving.decryptions import (
    ALLOWED,
    IDLE_SECONDS,
    READERS,
    SPARE_CONNECTIONS,
    VERSION_PATHS,
    connections_limit,
)
from tests.unit.serving.scene import (
    CHAIN,
    KEY,
    FakeDecryptions,
    Scene,
    handle,
    key,
    public_body,
    serving,
    user_body,
)
from tools.gen_http_api import POSTED, document

PUBLIC, USER = "/v1/public-decrypt", "/v1/user-decrypt"


def id_of(body: bytes) -> str:
    return f"0x{read_public(json.loads(body), HttpLimits({CHAIN})).id:064x}"


@pytest.mark.parametrize("path", [*VERSION_PATHS, "/version?x=1", "http://kms/version"])
async def test_the_version_is_that_of_the_original(scene: Scene, path: str) -> None:
    answer = await scene.client().ask("GET", path)
    assert (answer.status, answer.body) == (200, b'{"version":"v1"}')
    assert answer.headers["content-type"] == "application/json"


async def test_a_public_decryption_is_answered_with_its_id_and_the_cores_words(scene: Scene) -> None:
    answer = await scene.client().post(PUBLIC, public_body())
    assert answer.status == 200
    assert (
        answer.body
        == (
            f'{{"decryptionId":"{id_of(public_body())}","decryptedResult":"0x0102","signature":"0x03","extraData":"0x"}}'
        ).encode()
    )
    assert scene.answered == [(PUBLIC, 200, "ok", "")]


async def test_a_user_decryption_is_read_and_answered(scene: Scene) -> None:
    assert (await scene.client().post(USER, user_body())).status == 200
    assert [content.kind for content in scene.decryptions.asked] == ["http_user_decryption"]


@pytest.mark.parametrize(
    "path", ["/", "/v1", f"{PUBLIC}/", "/version/", "/v1/public%2Ddecrypt", "/V1/public-decrypt"]
)
async def test_another_path_is_not_found_and_has_an_empty_body(scene: Scene, path: str) -> None:
    answer = await scene.client().post(path, public_body())
    assert (answer.status, answer.body, answer.headers.get("location")) == (404, b"", None)
    assert scene.answered == [("other", 404, "not_found", "")]


@pytest.mark.parametrize(
    ("method", "path", "allow"),
    [("GET", PUBLIC, "POST"), ("PUT", USER, "POST"), ("POST", "/version", "GET,HEAD")],
)
async def test_another_method_is_not_allowed_and_the_right_ones_are_named(
    scene: Scene, method: str, path: str, allow: str
) -> None:
    answer = await scene.client().ask(method, path)
    assert (answer.status, answer.body, answer.headers["allow"]) == (405, b"", allow)


async def test_a_path_comes_before_the_key_and_the_key_before_the_body(keyed: Scene) -> None:
    assert (await keyed.client().post("/elsewhere", b"{")).status == 404
    assert (await keyed.client().ask("GET", PUBLIC)).status == 405
    assert (await keyed.client().post(PUBLIC, b"{")).status == 401
    assert (await keyed.client().post(PUBLIC, b"{", KEY)).status == 400


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff",
        b"[" * 200_000,
        b"{}",
        public_body(more=1),
        public_body(ctHandles=[]),
        public_body(ctHandles=["0x00"]),
        public_body(ctHandles=[handle(fhe_type=200)]),
        public_body(ctHandles=[handle(1, 8)] * 9),
        public_body(ctHandles=["0x" + "11" * 32]),
        public_body(extraData="0x99"),
    ],
)
async def test_a_body_that_is_none_is_malformed_and_not_to_be_repeated(scene: Scene, body: bytes) -> None:
    answer = await scene.client().post(PUBLIC, body)
    assert answer.status == 400
    assert (answer.json["code"], answer.json["retryable"]) == ("malformed", False)
    assert list(answer.json) == ["code", "message", "retryable"]
    assert scene.decryptions.asked == []


async def test_an_unknown_attestation_type_has_its_own_code_whatever_the_payload_is(scene: Scene) -> None:
    answer = await scene.client().post(USER, user_body(attestationType="other", payload=3))
    assert (answer.status, answer.json["code"]) == (400, "unsupported_attestation_type")


@pytest.mark.parametrize("code", list(FailureCode))
async def test_each_failure_has_its_status_and_flag_and_names_its_decryption(code: FailureCode) -> None:
    failure = HttpFailure(code, "why")
    async with serving(FakeDecryptions(fails=failure)) as scene:
        answer = await scene.client().post(PUBLIC, public_body())
    assert answer.status == failure.status
    assert answer.json == {
        "code": code.value,
        "message": "why",
        "retryable": failure.retryable,
        "decryptionId": id_of(public_body()),
    }


async def test_a_crash_is_an_unknown_failure_and_not_the_end(caplog: pytest.LogCaptureFixture) -> None:
    class Broken(FakeDecryptions):
        async def decrypt(self, content: object) -> None:  # type: ignore[override]
            raise KeyError("secret")

    async with serving(Broken()) as scene:
        answer = await scene.client().post(PUBLIC, public_body())
        assert (answer.status, answer.json["code"], answer.json["retryable"]) == (500, "unknown", True)
        assert b"secret" not in answer.body
        assert (await scene.client().ask("GET", "/version")).status == 200
    assert "kmsconn.serving.exchange" in {record.name for record in caplog.records}


async def test_a_connection_serves_one_request_after_another(scene: Scene) -> None:
    client = scene.client()
    for number in range(1, 4):
        assert (await client.post(PUBLIC, public_body(number))).status == 200
        await trio.sleep(IDLE_SECONDS - 1)
    assert len(scene.decryptions.asked) == 3


async def test_head_and_body_of_an_answer_are_sent_together_and_one_without_is_not_held_back(
    scene: Scene,
) -> None:
    """Each call of the system costs a tenth of a millisecond, and a packet of its own on its way."""
    client = scene.client()
    await client.send("POST", PUBLIC, public_body())
    sent = bytes(await client.stream.receive_some(65536))
    assert (sent[:12], sent[-1:]) == (b"HTTP/1.1 200", b"}")
    client = scene.client()
    await client.send("HEAD", "/version")
    assert bytes(await client.stream.receive_some(65536)).endswith(b"\r\n\r\n")


async def test_what_a_client_pipelines_is_answered_in_turn() -> None:
    async with serving(FakeDecryptions(seconds=12)) as scene:
        stream = scene.listener.connect()
        body = public_body()
        one = b"POST /v1/public-decrypt HTTP/1.1\r\nHost: kms\r\nContent-Length: %d\r\n\r\n%s" % (
            len(body),
            body,
        )
        await stream.send_all(one * 3)
        started = trio.current_time()
        data = b""
        while data.count(b"HTTP/1.1 200") < 3 or not data.endswith(b"}"):
            data += bytes(await stream.receive_some(65536))
        assert trio.current_time() - started == 36


UPGRADES = (
    b"Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQAAP__\r\n",
)


@pytest.mark.parametrize("upgrade", UPGRADES)
async def test_an_upgrade_is_ignored(scene: Scene, upgrade: bytes) -> None:
    client = scene.client()
    for _ in range(2):
        await client.stream.send_all(b"GET /version HTTP/1.1\r\nHost: kms\r\n" + upgrade + b"\r\n")
        answer = bytes(await client.stream.receive_some(65536))
        assert answer.startswith(b"HTTP/1.1 200 ")
        assert answer.endswith(b'{"version":"v1"}')


@pytest.mark.parametrize(
    ("descriptors", "expected"),
    [(1024, 512), (1 << 20, 1000 + SPARE_CONNECTIONS), (resource.RLIM_INFINITY, 1000 + SPARE_CONNECTIONS)],
)
def test_half_of_the_descriptors_are_left_for_the_chain_and_the_core(
    monkeypatch: pytest.MonkeyPatch, descriptors: int, expected: int
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (descriptors, descriptors))
    assert connections_limit(1000) == expected


async def test_key_shows_in_no_event_and_no_log_line(keyed: Scene, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(0)
    assert (await keyed.client().post(PUBLIC, public_body(), KEY)).status == 200
    assert (await keyed.client().post(PUBLIC, public_body(), KEY + "?")).status == 401
    shown = f"{keyed.events}{[record.getMessage() for record in caplog.records]}"
    assert KEY not in shown
    assert key().sha256.hex() not in shown
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


BODIES = {"/v1/public-decrypt": public_body(), "/v1/user-decrypt": user_body()}


def validator(schema: object) -> Draft202012Validator:
    """Return what judges a value by a schema of the document."""
    assert isinstance(schema, dict)
    return Draft202012Validator({**schema, "components": document()["components"]})


def test_the_document_has_every_path_and_code_and_metrics_the_paths_that_are_posted_to() -> None:
    paths = document()["paths"]
    assert paths.keys() == ALLOWED.keys()
    assert tuple(READERS) == HTTP_ROUTES
    responses = paths["/v1/user-decrypt"]["post"]["responses"]
    assert all(f"`{code}`" in responses[str(int(code.status))]["description"] for code in FailureCode)


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_and_answers_are_as_described(path: str) -> None:
    described = document()["paths"][path]["post"]
    validator(described["requestBody"]["content"]["application/json"]["schema"]).validate(
        json.loads(BODIES[path])
    )
    async with serving(FakeDecryptions(result=POSTED[path].result)) as scene:
        answer = await scene.client().post(path, BODIES[path])
    validator(described["responses"]["200"]["content"]["application/json"]["schema"]).validate(answer.json)


async def test_failures_are_as_described() -> None:
    described = document()["paths"]["/v1/public-decrypt"]["post"]["responses"]["403"]
    async with serving(FakeDecryptions(fails=HttpFailure(FailureCode.ACL_DENIED, "no"))) as scene:
        answer = await scene.client().post("/v1/public-decrypt", public_body())
    validator(described["content"]["application/json"]["schema"]).validate(answer.json)
