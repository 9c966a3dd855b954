"""What errors of the AWS SDK mean."""

from __future__ import annotations

from typing import Any

import pytest
from botocore import exceptions
from botocore.loaders import JSONFileLoader
from botocore.parsers import ResponseParserError

from kmsconn.errors import Misconfigured, Overloaded, Retryable, Unreachable
from kmsconn.transport.aws import AwsService, open_aws, prepare, read_error


def refusal(code: str, status: int = 400, message: str = "said") -> exceptions.ClientError:
    response: Any = {
        "Error": {"Code": code, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": status},
    }
    return exceptions.ClientError(response, "Sign")


URL = "http://user:hunter2@kms.example"


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (refusal("ThrottlingException"), Overloaded),
        (refusal("LimitExceededException"), Overloaded),
        (refusal("", 429), Overloaded),
        (refusal("", 503), Overloaded),
        (refusal("KMSInternalException", 500), Unreachable),
        (refusal("KeyUnavailableException", 500), Unreachable),
        (refusal("DependencyTimeoutException"), Unreachable),
        (refusal("", 502), Unreachable),
        (refusal("NotFoundException"), Misconfigured),
        (refusal("AccessDeniedException"), Misconfigured),
        (refusal("DisabledException"), Misconfigured),
        (refusal("ExpiredTokenException"), Misconfigured),
        (refusal("a code that is not known", 418), Misconfigured),
        (exceptions.EndpointConnectionError(endpoint_url=URL), Unreachable),
        (exceptions.ConnectTimeoutError(endpoint_url=URL), Unreachable),
        (exceptions.ReadTimeoutError(endpoint_url=URL), Unreachable),
        (exceptions.ConnectionClosedError(endpoint_url=URL), Unreachable),
        (exceptions.SSLError(endpoint_url=URL, error="handshake"), Unreachable),
        (exceptions.HTTPClientError(error="broken"), Unreachable),
        (exceptions.CredentialRetrievalError(provider="p", error_msg="m"), Unreachable),
        (ResponseParserError("no JSON"), Unreachable),
        (exceptions.NoCredentialsError(), Misconfigured),
        (exceptions.NoRegionError(), Misconfigured),
        (exceptions.ParamValidationError(report="r"), Misconfigured),
    ],
)
def test_every_error_of_the_sdk_says_what_to_do(error: Exception, kind: type[Retryable]) -> None:
    ours = read_error("AWS kms", error)
    assert type(ours) is kind
    assert str(ours).startswith("AWS kms: ")
    assert "hunter2" not in str(ours)


def test_a_refusal_is_told_by_code_and_message() -> None:
    told = str(read_error("AWS kms", refusal("AccessDeniedException", message="User: x may not kms:Sign")))
    assert told == "AWS kms: AccessDeniedException User: x may not kms:Sign"


def test_of_a_long_message_only_the_first_line_is_told() -> None:
    quoted = "The signature does not match.\n\nThe Canonical String was\nx-amz-security-token:hunter2"
    assert "hunter2" not in str(read_error("AWS kms", refusal("InvalidSignatureException", message=quoted)))


class _Client:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def sign(self, **_: Any) -> Any:
        raise self.error


async def test_an_error_comes_out_without_the_text_of_the_sdk_behind_it() -> None:
    with pytest.raises(Misconfigured) as refused:
        await AwsService("AWS kms", _Client(refusal("X", message="one\nhunter2"))).ask("sign")
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__


async def test_an_error_that_is_not_of_the_sdk_comes_out_as_it_is() -> None:
    with pytest.raises(ZeroDivisionError):
        await AwsService("AWS kms", _Client(ZeroDivisionError())).ask("sign")


async def test_a_client_of_a_prepared_service_is_opened_without_reading_a_file(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    read: list[str] = []
    load = JSONFileLoader.load_file

    def noted(self: JSONFileLoader, path: str) -> Any:
        read.append(path)
        return load(self, path)

    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    prepare("s3")
    monkeypatch.setattr(JSONFileLoader, "load_file", noted)
    async with open_aws("s3", region="us-east-1", endpoint="http://bucket", connections=1):
        assert read == []
