"""Routes, bodies, statuses and error documents of the HTTP API (fhevm-0.15.md, 5.1-5.6), byte for byte."""

from __future__ import annotations

import json

import pytest
import trio
import trio.testing

from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.protocols.fhevm.http_decryption import HttpLimits, read_public
from kmsconn.serving.decryptions import IDLE_SECONDS, VERSION_PATHS
from tests.unit.serving.scene import (
    CHAIN,
    KEY,
    FakeDecryptions,
    Scene,
    handle,
    public_body,
    serving,
    user_body,
)

PUBLIC, USER = "/v1/public-decrypt", "/v1/user-decrypt"


def id_of(body: bytes) -> str:
    return f"0x{read_public(json.loads(body), HttpLimits({CHAIN})).id:064x}"


@pytest.mark.parametrize("path", VERSION_PATHS)
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
    "path",
    ["/", "/v1", f"{PUBLIC}/", "/version/", "/v1/public%2Ddecrypt", "/V1/public-decrypt"],
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


async def test_a_query_and_an_absolute_target_change_nothing(scene: Scene) -> None:
    assert (await scene.client().ask("GET", "/version?x=1")).status == 200
    assert (await scene.client().ask("GET", "http://kms/version")).status == 200


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


async def test_head_and_body_of_an_answer_are_sent_together(scene: Scene) -> None:
    """Each call of the system costs a tenth of a millisecond, and a packet of its own on its way."""
    client = scene.client()
    await client.send("POST", PUBLIC, public_body())
    sent = bytes(await client.stream.receive_some(65536))
    assert (sent[:12], sent[-1:]) == (b"HTTP/1.1 200", b"}")


async def test_an_answer_without_a_body_is_not_held_back(scene: Scene) -> None:
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
