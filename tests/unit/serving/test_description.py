"""The OpenAPI document: fresh, and what the server does."""

from __future__ import annotations

import json

import pytest
from jsonschema import Draft202012Validator

from kmsconn.model.http_answers import MEANINGS, FailureCode, HttpFailure
from kmsconn.observe.families import HTTP_ROUTES
from kmsconn.serving.decryptions import ALLOWED, DECRYPTION_ROUTES
from tests.unit.serving.scene import FakeDecryptions, public_body, serving, user_body
from tools.gen_http_api import TARGET, document, text

BODIES = {"/v1/public-decrypt": public_body(), "/v1/user-decrypt": user_body()}


def validator(schema: object) -> Draft202012Validator:
    """Return what judges a value by a schema of the document."""
    assert isinstance(schema, dict)
    return Draft202012Validator({**schema, "components": document()["components"]})


def test_the_printed_document_is_fresh() -> None:
    """``make gen`` prints it again."""
    assert TARGET.read_text(encoding="utf-8") == text()


def test_the_document_has_every_path_and_no_other() -> None:
    assert document()["paths"].keys() == ALLOWED.keys()


def test_metrics_have_the_paths_to_which_decryptions_are_posted() -> None:
    assert tuple(route.path for route in DECRYPTION_ROUTES) == HTTP_ROUTES


def test_every_code_is_described_under_its_status() -> None:
    responses = document()["paths"]["/v1/user-decrypt"]["post"]["responses"]
    assert all(
        f"`{code}`" in responses[str(int(MEANINGS[code].status))]["description"] for code in FailureCode
    )


@pytest.mark.parametrize("path", BODIES)
async def test_bodies_and_answers_are_as_described(path: str) -> None:
    described = document()["paths"][path]["post"]
    validator(described["requestBody"]["content"]["application/json"]["schema"]).validate(
        json.loads(BODIES[path])
    )
    [result] = (route.result for route in DECRYPTION_ROUTES if route.path == path)
    async with serving(FakeDecryptions(result=result)) as scene:
        answer = await scene.client().post(path, BODIES[path])
    validator(described["responses"]["200"]["content"]["application/json"]["schema"]).validate(answer.json)


async def test_failures_are_as_described() -> None:
    described = document()["paths"]["/v1/public-decrypt"]["post"]["responses"]["403"]
    async with serving(FakeDecryptions(fails=HttpFailure(FailureCode.ACL_DENIED, "no"))) as scene:
        answer = await scene.client().post("/v1/public-decrypt", public_body())
    validator(described["content"]["application/json"]["schema"]).validate(answer.json)
