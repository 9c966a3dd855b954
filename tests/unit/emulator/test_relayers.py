"""Relayers: what they post is what the API reads, they repeat what may be repeated, and count how it ended."""

from __future__ import annotations

import json
from collections.abc import Mapping
from random import Random
from typing import Any

import pytest
import trio
import trio.testing

from kmsconn.emulator.dependencies import HOST_ID
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.relayers import AGAIN_SECONDS, POSTED_FORMS, HttpPost, Relayers
from kmsconn.emulator.traffic import Traffic
from kmsconn.errors import Unreachable
from kmsconn.protocols.fhevm.http_decryption import HttpLimits
from kmsconn.serving.decryptions import READERS
from kmsconn.transport.http import Response

URL = "http://kms"
OK = Response(200, {}, b"{}")


def failure(code: str, *, retryable: bool) -> Response:
    return Response(503, {}, json.dumps({"code": code, "message": "", "retryable": retryable}).encode())


class Answers:
    """Stands for the HTTP client: gives answers in turn, the last one for ever."""

    def __init__(self, *answers: Response | Unreachable) -> None:
        self.answers, self.posted = list(answers), list[tuple[str, bytes]]()

    async def post(self, url: str, body: bytes, headers: Mapping[str, str] | None = None) -> Response:
        self.posted.append((url, body))
        await trio.sleep(0.5)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, Unreachable):
            raise answer
        return answer

    async def head(self, url: str, headers: Mapping[str, str] | None = None) -> Response:
        await trio.lowlevel.checkpoint()
        return OK


@pytest.fixture
def traffic() -> Traffic:
    return Traffic(FhevmDependencies.make(lambda: 1_767_225_600.0), Random(1))


@pytest.mark.parametrize("form", POSTED_FORMS)
def test_every_form_is_a_body_that_the_api_reads(traffic: Traffic, form: str) -> None:
    prepared = traffic.prepare(form)
    post = HttpPost.of(prepared)
    content = READERS[post.path](json.loads(post.body), HttpLimits({HOST_ID}))
    assert [one.handle for one in content.references] == [one.handle for one in prepared.ciphertexts]


def test_the_older_forms_are_not_posted(traffic: Traffic) -> None:
    with pytest.raises(ValueError, match="direct is not asked for over HTTP"):
        HttpPost.of(traffic.prepare("direct"))


async def ran(traffic: Traffic, http: Answers, rate: float = 1, seconds: float = 1) -> Any:
    relayers = Relayers(traffic, (URL,))
    await relayers.run(http, rate, seconds, ("public",))  # type: ignore[arg-type]
    return relayers.verdict()


async def test_a_post_is_repeated_while_that_may_help(traffic: Traffic) -> None:
    http = Answers(failure("timeout", retryable=True), Unreachable("gone"), OK)
    verdict = await ran(traffic, http)
    assert (verdict.posted, verdict.answered, verdict.repeated, verdict.well) == (1, 1, 2, True)
    assert len(set(http.posted)) == 1
    assert verdict.p50 == 1.5 + 2 * AGAIN_SECONDS


@pytest.mark.parametrize(
    ("answer", "codes"),
    [
        (failure("unprocessable", retryable=False), {"unprocessable": 1}),
        (Response(408, {}, b""), {"status 408": 1}),
    ],
)
async def test_a_final_failure_is_counted_by_its_code_or_status(
    traffic: Traffic, answer: Response, codes: dict[str, int]
) -> None:
    verdict = await ran(traffic, Answers(answer))
    assert (verdict.codes, verdict.well) == (codes, False)


async def test_what_is_never_answered_does_not_hold_the_end(traffic: Traffic) -> None:
    verdict = await ran(traffic, Answers(Unreachable("gone")), rate=2, seconds=2)
    assert (verdict.posted, verdict.answered, verdict.well) == (4, 0, False)


async def test_ciphertexts_of_answered_posts_are_dropped(traffic: Traffic) -> None:
    await ran(traffic, Answers(OK), rate=5, seconds=2)
    assert [len(bucket.bucket.objects) for bucket in traffic.dependencies.buckets] == [
        0 for _ in traffic.dependencies.buckets
    ]
