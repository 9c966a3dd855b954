"""API keys: who is found by which header, and the limits of each client."""

from __future__ import annotations

import pytest

from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.serving.keys import ApiClients
from tests.unit.serving.scene import KEY, OTHER_KEY, key


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


def test_requests_a_second_are_limited_with_a_seconds_worth_at_once() -> None:
    holder = ApiClients([key(requests_per_second=2.0)]).find(bearer(KEY))

    def let_in(now: float) -> bool:
        try:
            with holder.request(now):
                return True
        except HttpFailure:
            return False

    assert [let_in(10.0) for _ in range(3)] == [True, True, False]
    assert [let_in(10.5), let_in(10.5)] == [True, False]
    assert [let_in(100.0) for _ in range(3)] == [True, True, False]


def test_less_than_one_request_a_second_is_one_now_and_then() -> None:
    holder = ApiClients([key(requests_per_second=0.5)]).find(bearer(KEY))
    with holder.request(0):
        pass
    with pytest.raises(HttpFailure), holder.request(1):
        pass
    with holder.request(2):
        pass


def test_neither_key_nor_digest_shows() -> None:
    clients = ApiClients([key()])
    shown = repr(clients.find(bearer(KEY)))
    assert KEY not in shown
    assert key().digest.hex() not in shown
    assert repr(key().digest) not in shown
