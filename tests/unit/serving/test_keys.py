"""API keys: who is found by which header, and the limits of each client."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.serving.keys import ApiClients
from kmsconn.serving.reloading import RELOAD_SECONDS
from tests.unit.serving.scene import KEY, OTHER_KEY, Scene, key, public_body, serving, wall
from tests.unit.transport.test_aws import write_pair


def bearer(text: str, scheme: str = "Bearer") -> list[bytes]:
    return [f"{scheme} {text}".encode()]


def refused(clients: ApiClients, headers: list[bytes]) -> FailureCode | None:
    try:
        clients.find(headers)
    except HttpFailure as failure:
        return failure.code
    return None


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER"])
def test_a_key_is_found_by_its_digest_whatever_the_case_of_the_scheme(scheme: str) -> None:
    clients = ApiClients([key(OTHER_KEY, "other"), key()])
    assert clients.find(bearer(KEY, scheme)).key.id == "relayer"


@pytest.mark.parametrize(
    "headers",
    [
        [],
        [b""],
        [b"Bearer"],
        [b"Bearer "],
        bearer("unknown"),
        bearer(KEY, "Basic"),
        bearer(KEY) * 2,
        [KEY.encode()],
        bearer(KEY + "x"),
    ],
)
def test_anything_else_is_refused(headers: list[bytes]) -> None:
    assert refused(ApiClients([key()]), headers) is FailureCode.SENDER_AUTHENTICATION_FAILED


def test_an_empty_key_is_none_even_where_its_digest_is_configured() -> None:
    assert refused(ApiClients([key("")]), [b"Bearer "]) is FailureCode.SENDER_AUTHENTICATION_FAILED


def test_without_keys_everybody_is_one_client() -> None:
    assert ApiClients([]).find([]).key.id == ""


def test_every_key_is_compared_whichever_is_right(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[bytes] = []

    def compare(known: bytes, given: bytes) -> bool:
        compared.append(known)
        return known == given

    monkeypatch.setattr("kmsconn.serving.keys.hmac.compare_digest", compare)
    ApiClients([key(), key(OTHER_KEY, "other")]).find(bearer(KEY))
    assert len(compared) == 2


def test_a_replaced_key_is_no_key_and_the_use_of_one_that_stays_is_kept() -> None:
    clients = ApiClients([key(max_in_flight=1), key(OTHER_KEY, "other")])
    holder = clients.find(bearer(KEY))
    with holder.request(0):
        clients.replace([key(max_in_flight=1), key("a third key", "third")])
        assert refused(clients, bearer(OTHER_KEY)) is FailureCode.SENDER_AUTHENTICATION_FAILED
        with pytest.raises(HttpFailure, match="limit"), clients.find(bearer(KEY)).request(0):
            pass


def test_requests_in_flight_are_limited_for_each_key() -> None:
    clients = ApiClients([key(max_in_flight=2), key(OTHER_KEY, "other")])
    holder = clients.find(bearer(KEY))
    with holder.request(0), holder.request(0):
        with pytest.raises(HttpFailure) as refusal, holder.request(0):
            pass
        assert refusal.value.code is FailureCode.RATE_LIMITED
        with clients.find(bearer(OTHER_KEY)).request(0):
            pass
    with holder.request(0):
        pass


@pytest.mark.parametrize(
    ("rate", "asked"),
    [
        (2.0, {10.0: [True, True, False], 10.5: [True, False], 100.0: [True, True, False]}),
        (0.5, {0.0: [True], 1.0: [False], 2.0: [True]}),
    ],
)
def test_requests_a_second_are_limited_with_a_seconds_worth_or_one_at_once(
    rate: float, asked: dict[float, list[bool]]
) -> None:
    holder = ApiClients([key(requests_per_second=rate)]).find(bearer(KEY))

    def let_in(now: float) -> bool:
        try:
            with holder.request(now):
                return True
        except HttpFailure:
            return False

    assert {now: [let_in(now) for _ in expected] for now, expected in asked.items()} == asked


def test_neither_key_nor_digest_shows() -> None:
    clients = ApiClients([key()])
    shown = repr(clients.find(bearer(KEY)))
    assert KEY not in shown
    assert key().sha256.hex() not in shown
    assert repr(key().sha256) not in shown


PUBLIC = "/v1/public-decrypt"


def write(path: Path, *texts: str) -> None:
    """Replace a file of keys in one step."""
    entries = (
        f'[[keys]]\nid = "k{n}"\nsha256 = "{key(text).sha256.hex()}"\n' for n, text in enumerate(texts)
    )
    new = path.with_suffix(".new")
    new.write_text("\n".join(entries))
    os.replace(new, path)  # noqa: PTH105 - what mv does


async def statuses(scene: Scene) -> list[int]:
    """Return what the holders of both keys get."""
    return [(await scene.client().post(PUBLIC, public_body(), one)).status for one in (KEY, OTHER_KEY)]


async def test_a_changed_file_is_used_within_seconds(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write(path, KEY)
    async with serving(keys=(key(),), keys_file=path) as scene:
        assert await statuses(scene) == [200, 401]
        write(path, KEY, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS + 1)
        assert await statuses(scene) == [200, 200]
        write(path, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS)
        assert await statuses(scene) == [401, 200]


@pytest.mark.parametrize("text", [None, "", "[[keys]", '[[keys]]\nid = "a"\nsha256 = "x"'])
async def test_a_faulty_file_or_none_changes_nothing_and_is_told_until_it_is_right(
    tmp_path: Path, text: str | None
) -> None:
    path = tmp_path / "keys.toml"
    write(path, KEY)
    async with serving(keys=(key(),), keys_file=path) as scene:
        path.unlink()
        if text is not None:
            path.write_text(text)
        await trio.sleep(RELOAD_SECONDS + 1)
        assert [one for one in scene.events if isinstance(one, AlertRaised)] == []
        await trio.sleep(3 * RELOAD_SECONDS)
        [alert] = [one for one in scene.events if isinstance(one, AlertRaised)]
        assert (alert.dependency, alert.cause) == ("http api", "api-keys")
        assert "stays in use" in alert.text
        assert await statuses(scene) == [200, 401]
        write(path, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS)
        assert await statuses(scene) == [401, 200]
    assert AlertCleared("http api", "api-keys") in scene.events


async def test_a_certificate_that_ends_soon_is_told_until_it_is_renewed(tmp_path: Path) -> None:
    now = datetime.fromtimestamp(wall(), UTC)
    files = write_pair(tmp_path, now + timedelta(days=13))
    async with serving(tls=files) as scene:
        await trio.sleep(3 * RELOAD_SECONDS)
        [alert] = [one for one in scene.events if isinstance(one, AlertRaised)]
        assert (alert.dependency, alert.cause) == ("http api", "certificate-ends")
        assert "tls_config.cert_path ends on 2027-01-28" in alert.text
        assert scene.service.statistics().certificate_end == (now + timedelta(days=13)).timestamp()
        write_pair(tmp_path, now + timedelta(days=90))
        await trio.sleep(2 * RELOAD_SECONDS)
        assert scene.events[-1] == AlertCleared("http api", "certificate-ends")
