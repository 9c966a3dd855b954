"""Buckets are strangers: what they register, announce and withhold costs nobody else anything."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import trio

from kmsconn.ciphertexts.fetch import ByteBudget, Fetcher
from kmsconn.ciphertexts.places import BucketPolicy
from kmsconn.ciphertexts.sources import BothForms
from kmsconn.errors import Misconfigured, Retryable, Unreachable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.model.requests import CiphertextReference
from kmsconn.transport.http import _announced
from kmsconn.transport.ports import offload_inline
from tests.left_behind import left_behind

BODY = b"ciphertext"
REFERENCE = CiphertextReference(bytes(30) + b"\x05\x00", 1, keccak256(BODY), (Address(bytes(20)),))
GOOD = "https://good.example"
BIG = 1 << 20


class Registry:
    def __init__(self, *buckets: str) -> None:
        self._buckets = list(buckets)

    async def find(self, _senders: Any) -> Any:
        await trio.lowlevel.checkpoint()
        return self._buckets


class Answer:
    def __init__(
        self, body: bytes = BODY, status: int = 200, headers: dict[str, str] | None = None, hang: bool = False
    ) -> None:
        self.status, self.headers, self._body, self._hang = status, headers or {}, body, hang
        self.announced = _announced(self.headers)

    async def __aiter__(self) -> Any:
        if self._hang:
            await trio.sleep_forever()
        yield self._body


class Cut(Answer):
    """Breaks behind its body."""

    async def __aiter__(self) -> Any:
        for piece in (self._body[:BIG], self._body[BIG:]):
            yield bytes(bytearray(piece))
        raise Unreachable("cut")


class Http:
    """Gives each host's answer; ``asked`` holds every URL."""

    def __init__(self, **answers: Answer) -> None:
        self.answers = answers
        self.asked: list[str] = []

    @asynccontextmanager
    async def stream_get(self, url: str, *, max_bytes: int, begun: Any = lambda: None) -> Any:
        await trio.lowlevel.checkpoint()
        begun()
        self.asked.append(url)
        yield self.answers[url.split("/")[2].split(".", maxsplit=1)[0]]


def fetcher(http: Http, *buckets: str, **policy: bool) -> Fetcher:
    client: Any = http
    directory: Any = Registry(*buckets)
    return Fetcher(BothForms(client, directory), BucketPolicy(**policy), offload_inline, 1 << 20)


async def fetch(one: Fetcher, budget: ByteBudget | None = None) -> Any:
    with (budget or ByteBudget(1 << 20)).lease() as lease:
        return await one.fetch(REFERENCE, lease)


@pytest.mark.parametrize(
    "bucket", ["https://[bad/", "https://a:port/", "ht tp://x", "", "https://", "https://a\\b/"]
)
async def test_a_bucket_registered_as_no_url_is_passed_over(bucket: str) -> None:
    """Its text comes from the chain: it must not quarantine requests that name it."""
    found = await fetch(fetcher(Http(good=Answer()), bucket, GOOD))
    assert found.body == BODY


async def test_when_the_policy_forbids_every_bucket_only_the_operator_can_help() -> None:
    with pytest.raises(Misconfigured, match="allow_http_buckets"):
        await fetch(fetcher(Http(), "http://plain.example", "http://other.example"))


async def test_a_bucket_that_fails_beside_a_forbidden_one_is_just_unreachable() -> None:
    with pytest.raises(Unreachable, match="allow_http_buckets"):
        await fetch(fetcher(Http(good=Answer(status=404)), "http://plain.example", GOOD))


@pytest.mark.parametrize("length", ["x", "-1", "9" * 5000, "1e3", "\u00b2"])
async def test_an_announced_length_that_is_none_does_not_matter(length: str) -> None:
    answer = Answer(headers={"content-length": length})
    assert (await fetch(fetcher(Http(good=answer), GOOD))).body == BODY


async def test_what_a_failed_try_had_reserved_is_given_back_at_once() -> None:
    """Else a bucket that announces much and sends the wrong bytes eats the budget of the ones after it."""
    budget = ByteBudget(1000)
    liar = Answer(body=b"wrong", headers={"content-length": "900"})
    held = []

    class Watching(Http):
        @asynccontextmanager
        async def stream_get(self, url: str, *, max_bytes: int, begun: Any = lambda: None) -> Any:
            held.append(budget.used)
            async with super().stream_get(url, max_bytes=max_bytes, begun=begun) as answer:
                yield answer

    with budget.lease() as lease:
        found = await fetcher(Watching(liar=liar, good=Answer()), "https://liar.example", GOOD).fetch(
            REFERENCE, lease
        )
        assert budget.used == len(found.body)
    assert held == [0, 0, 0]
    assert budget.used == 0


async def test_the_loser_of_a_race_gives_back_what_it_had_reserved() -> None:
    budget = ByteBudget(1000)
    slow = Answer(headers={"content-length": "900"}, hang=True)
    with budget.lease() as lease:
        await fetcher(Http(slow=slow, good=Answer()), "https://slow.example", GOOD).fetch(REFERENCE, lease)
        assert budget.used == len(BODY)


async def test_waiting_for_the_budget_is_no_silence_of_the_bucket() -> None:
    budget = ByteBudget(1000)
    other = budget.lease()
    await other.attempt().reserve(1000)

    async def free_later() -> None:
        await trio.sleep(30)
        other.__exit__()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(free_later)
        found = await fetch(fetcher(Http(good=Answer(headers={"content-length": "10"})), GOOD), budget)
    assert found.body == BODY


async def test_a_bucket_without_a_host_is_retryable() -> None:
    with pytest.raises(Retryable):
        await fetch(fetcher(Http(), "https://"))


@pytest.mark.parametrize("answer", [Answer(bytes(BIG)), Cut(bytes(BIG + 1))], ids=["wrong", "cut"])
@pytest.mark.parametrize("buckets", [("bad", "worse"), ("bad", "good")], ids=["all", "one"])
async def test_a_refused_body_is_let_go_of_at_once(answer: Answer, buckets: tuple[str, str]) -> None:
    """Reproduced: 9.7 GB under a budget of 128 MiB, since errors in lists held the frames that had read, until a collection came."""
    http = Http(bad=answer, worse=answer, good=Answer())
    one = fetcher(http, *(f"https://{bucket}.example" for bucket in buckets))

    async def gather() -> None:
        with suppress(Unreachable):
            await fetch(one, ByteBudget(4 * BIG))

    assert await left_behind(gather) < BIG
