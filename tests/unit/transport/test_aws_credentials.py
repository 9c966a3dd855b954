"""What is said of credentials of the AWS SDK that are missing or bad."""

from __future__ import annotations

import logging
import os
from pathlib import Path
from typing import Any, ClassVar

import pytest
import trio
from botocore import exceptions

from kmsconn.errors import Misconfigured, Retryable, Unreachable
from kmsconn.transport.aws import AwsService, open_aws
from kmsconn.transport.aws_credentials import SdkCredentials

ROLE = "arn:aws:iam::123456789012:role/signer"
NAMED = "AWS kms: the web-identity token {path} (AWS_WEB_IDENTITY_TOKEN_FILE) "
PUT = ": put the token of the service account there, or name its file"


@pytest.fixture(autouse=True)
def _no_aws(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Nothing of this machine for the SDK."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@pytest.fixture
def token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """Where the environment says that a token is; it is not there yet."""
    path = tmp_path / "token"
    monkeypatch.setenv("AWS_WEB_IDENTITY_TOKEN_FILE", str(path))
    monkeypatch.setenv("AWS_ROLE_ARN", ROLE)
    return path


def put(path: Path, content: str | bytes) -> None:
    """Write a file of the SDK."""
    path.write_bytes(content.encode() if isinstance(content, str) else content)


async def refusal(before_the_call: Any = lambda: None) -> Retryable:
    """Return what a first call meets."""
    try:
        async with open_aws("kms", region="us-east-1", endpoint="http://kms", connections=1) as service:
            before_the_call()
            await service.ask("get_public_key", KeyId="alias/x")
    except Retryable as error:
        return error
    raise AssertionError("nothing was refused")


async def test_without_credentials_every_place_is_named_with_what_is_there(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("AWS_PROFILE", "default")
    put(tmp_path / "config", "[default]\nregion = eu-west-1\n")
    refused = await refusal()
    assert type(refused) is Misconfigured
    assert str(refused) == (
        "AWS kms: NoCredentialsError: none were found in AWS_ACCESS_KEY_ID (not set), "
        "AWS_SECRET_ACCESS_KEY (not set), AWS_WEB_IDENTITY_TOKEN_FILE (not set), "
        f"profile default of {tmp_path}/credentials and {tmp_path}/config (there), "
        "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI (not set), AWS_CONTAINER_CREDENTIALS_FULL_URI (not set), "
        "the metadata service of an instance (switched off by AWS_EC2_METADATA_DISABLED)"
    )


@pytest.mark.parametrize(
    ("name", "value", "lacks"),
    [("ACCESS_KEY_ID", "hunter2", "AWS_SECRET_ACCESS_KEY"), ("PROFILE", "signer", "profile (signer)")],
)
async def test_what_is_lacking_of_credentials_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, lacks: str
) -> None:
    monkeypatch.setenv(f"AWS_{name}", value)
    said = str(await refusal())
    assert lacks in said
    assert "hunter2" not in said


@pytest.mark.parametrize(
    ("content", "wrong"),
    [
        (None, "cannot be read (No such file or directory)"),
        (b"", "is empty"),
        (b" \n\n\n\n\n", "is empty"),
        (b"abc", "is too short"),
        (b"\xff\xfehunter2", "is no text"),
    ],
)
async def test_a_bad_token_is_named_before_it_is_used(
    token: Path, content: bytes | None, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    if content is not None:
        put(token, content)
    refused = await refusal()
    assert type(refused) is Misconfigured
    assert str(refused) == NAMED.format(path=token) + wrong + PUT
    assert caplog.records == []


@pytest.mark.parametrize("role", ["", "signer"])
async def test_a_token_for_no_role_names_the_variable(
    token: Path, role: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(token, "a token")
    monkeypatch.setenv("AWS_ROLE_ARN", role)
    said = str(await refusal())
    assert said.endswith(": let AWS_ROLE_ARN name the role that it is for")
    assert str(token) in said


async def test_a_token_of_a_profile_is_named_by_it(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    put(path, "")
    put(tmp_path / "config", f"[default]\nrole_arn = {ROLE}\nweb_identity_token_file = {path}\n")
    assert str(await refusal()) == f"AWS kms: the web-identity token {path} (profile default) is empty{PUT}"


async def test_a_token_that_nobody_uses_is_not_looked_at(
    token: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keys come before it."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "id")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hunter2")
    async with open_aws("kms", region="us-east-1", endpoint="http://kms", connections=1) as service:
        assert service.name == "AWS kms"


@pytest.mark.parametrize("spoil", [lambda path: path.write_bytes(b""), lambda path: path.unlink()])
async def test_a_token_that_is_spoilt_later_is_named(
    token: Path, spoil: Any, caplog: pytest.LogCaptureFixture
) -> None:
    put(token, "a token")
    caplog.set_level(logging.CRITICAL, "aiobotocore")
    refused = await refusal(lambda: spoil(token))
    assert type(refused) is Misconfigured
    assert str(refused).startswith(NAMED.format(path=token))
    assert refused.__suppress_context__


class _Client:
    def __init__(self, error: Exception) -> None:
        self.error = error

    async def sign(self, **_: Any) -> Any:
        await trio.lowlevel.checkpoint()
        raise self.error


class _Session:
    full_config: ClassVar[dict[str, Any]] = {}

    def get_config_variable(self, name: str) -> str:
        return ""


async def asked(error: Exception, **environment: str) -> Retryable:
    service = AwsService("AWS kms", _Client(error), SdkCredentials(_Session(), environment))
    with pytest.raises(Retryable) as failed:
        await service.ask("sign")
    return failed.value


async def test_a_token_that_aws_refuses_is_named() -> None:
    said: Any = {"Error": {"Code": "InvalidIdentityToken", "Message": "No provider found"}}
    error = exceptions.ClientError(said, "AssumeRoleWithWebIdentity")
    assert str(await asked(error, AWS_WEB_IDENTITY_TOKEN_FILE="/t")) == (
        "AWS kms: the web-identity token /t (AWS_WEB_IDENTITY_TOKEN_FILE): InvalidIdentityToken No provider found"
    )


async def test_an_error_of_the_system_is_none_of_the_answer() -> None:
    failed = await asked(BlockingIOError(11, "hunter2"))
    assert (type(failed), str(failed)) == (Unreachable, "AWS kms: BlockingIOError")
