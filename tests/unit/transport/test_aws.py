"""What errors of the AWS SDK mean."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from botocore import exceptions
from botocore.loaders import JSONFileLoader
from botocore.parsers import ResponseParserError
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from kmsconn.config.working import ServerTls
from kmsconn.errors import Misconfigured, Overloaded, Retryable, Unreachable
from kmsconn.transport.aws import AwsService, open_aws, prepare, read_error
from kmsconn.transport.certificates import SOON, end_of, told_end


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


def write_pair(folder: Path, end: datetime) -> ServerTls:
    """Write a certificate that ends then, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    files = ServerTls(folder / "c.pem", folder / "c.key")
    form, encryption = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    files.key_path.write_bytes(key.private_bytes(serialization.Encoding.PEM, form, encryption))
    files.cert_path.write_text(pem(end, key))
    return files


def pem(end: datetime, key: ec.EllipticCurvePrivateKey | None = None) -> str:
    """Return a certificate that ends then, signed by itself."""
    key = key or ec.generate_private_key(ec.SECP256R1())
    name = "kms"
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    builder = (
        x509.CertificateBuilder().subject_name(subject).issuer_name(subject).public_key(key.public_key())
    )
    builder = builder.serial_number(2**150).not_valid_before(end - timedelta(days=90)).not_valid_after(end)
    builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName("k" * 60)] * 5), critical=False)
    return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM).decode()


@pytest.mark.parametrize("year", [2027, 2049, 2050, 2120])
def test_the_end_of_a_certificate(tmp_path: Path, year: int) -> None:
    """Years from 2050 on are written otherwise (RFC 5280, 4.1.2.5)."""
    end = datetime(year, 2, 3, 4, 5, 6, tzinfo=UTC)
    path = tmp_path / "c.pem"
    path.write_text("a comment\n" + pem(end))
    assert end_of(path) == end.timestamp()


def test_of_a_chain_the_first_to_end_counts(tmp_path: Path) -> None:
    first = datetime(2027, 1, 1, tzinfo=UTC)
    path = tmp_path / "c.pem"
    path.write_text(
        pem(datetime(2030, 1, 1, tzinfo=UTC)) + pem(first) + pem(datetime(2040, 1, 1, tzinfo=UTC))
    )
    assert end_of(path) == first.timestamp()


@pytest.mark.parametrize(
    "text", ["", "no certificate", "-----BEGIN CERTIFICATE-----\nMAMC\n-----END CERTIFICATE-----\n"]
)
def test_a_file_without_a_certificate_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "c.pem"
    path.write_text(text)
    with pytest.raises(ValueError, match="certificate"):
        end_of(path)


def test_it_is_told_two_weeks_before_and_after_its_end() -> None:
    assert told_end(SOON + 1, 0) == ""
    assert told_end(SOON, 0) == "ends on 1970-01-15 00:00 UTC"
    assert told_end(SOON, SOON) == "ended on 1970-01-15 00:00 UTC: clients refuse it"
