"""AWS services through their SDK, on plain Trio: one client for one service, its errors mapped once. Knows no operation.

The SDK resolves credentials and, where none is given, the region and the endpoint by itself, from the process's environment and files:
that is what operators of AWS expect. Proxies are the settings', as for everybody else. It never retries here; whoever asks knows when
to ask again. Deadlines are the caller's scopes.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from functools import cache, partial
from typing import Any, Final

import attrs

from kmsconn.errors import Misconfigured, Overloaded, Retryable, Unreachable
from kmsconn.transport.aws_credentials import WEB_IDENTITY, SdkCredentials
from kmsconn.transport.proxies import NO_PROXIES, Proxies
from kmsconn.transport.urls import parse

CONNECT_SECONDS: Final = 5.0
READ_SECONDS: Final = 30.0  # a scope of the caller comes first
REGION_BESIDE_ENDPOINT: Final = "us-east-1"  # an SDK does not start without a region; an endpoint needs none

_LONGEST_MESSAGE = 200
_NOT_OF_AWS = (AttributeError, TypeError, ValueError, LookupError, RecursionError, OSError)
"""What the SDK's parsers fall over with where the answer is JSON of another shape, or nested without end; OSError is of its files."""

_MODELS = ("service-2", "endpoint-rule-set-1")  # of each service
_DATA = ("endpoints", "partitions", "sdk-default-configuration", "_retry")  # of all

_TOO_MANY = frozenset(
    {
        "ThrottlingException",
        "Throttling",
        "TooManyRequestsException",
        "RequestLimitExceeded",
        "LimitExceededException",
        "SlowDown",
    }
)
_SAID_WITH_4XX = frozenset({"KMSInternalException", "DependencyTimeoutException", "KeyUnavailableException"})
_TOO_MANY_STATUS = frozenset({429, 503})
_SERVER_ERRORS = 500


@attrs.frozen
class AwsService:
    """One service of AWS, asked by the names of its operations."""

    name: str
    _client: Any
    _credentials: SdkCredentials | None = None

    async def ask(self, operation: str, **parameters: Any) -> Mapping[str, Any]:
        """Call an operation, in snake case, and return what it answers.

        Raises Overloaded for throttling, Unreachable where nobody answered, Misconfigured for every other refusal.
        """
        try:
            answer: Mapping[str, Any] = await getattr(self._client, operation)(**parameters)
        except errors_of_the_sdk() + _NOT_OF_AWS as error:
            # not chained: an answer of AWS may quote what was signed, a session token among it
            raise _meaning(self.name, error, self._credentials) from None
        return answer


@cache
def _knowledge() -> Any:
    """Return what reads the SDK's descriptions of services, each file once in a process."""
    from aiobotocore.session import get_session
    from botocore.loaders import create_loader

    return create_loader(get_session().get_config_variable("data_path"))


def prepare(service: str) -> None:
    """Import the SDK and read what it knows of a service, so that opening a client takes milliseconds and not a quarter of a second.

    Blocks, and asks nobody. Repeating: costs nothing.
    """
    import aiobotocore.config
    import aiobotocore.httpxsession  # noqa: F401 - so that it is there

    for name in _MODELS:
        _knowledge().load_service_model(service, name, api_version=None)
    for name in _DATA:
        _knowledge().load_data(name)


@asynccontextmanager
async def open_aws(
    service: str,
    *,
    region: str | None,
    endpoint: str | None,
    connections: int,
    proxies: Proxies = NO_PROXIES,
    **options: Any,
) -> AsyncIterator[AwsService]:
    """Open a client of one service; ``options`` are further ones of the SDK's ``Config``.

    Raises Misconfigured where the SDK finds no region or cannot read what it was given, Unreachable where the service that gives a
    container or an instance its credentials does not answer.
    """
    from aiobotocore.config import AioConfig
    from aiobotocore.httpxsession import HttpxSession
    from aiobotocore.session import get_session

    session = get_session()
    session.register_component("data_loader", _knowledge())
    config = AioConfig(
        http_session_cls=HttpxSession,
        connect_timeout=CONNECT_SECONDS,
        read_timeout=READ_SECONDS,
        max_pool_connections=connections,
        retries={"total_max_attempts": 1},
        user_agent_extra="kmsconn",
        **options,
    )
    session.set_default_client_config(
        config
    )  # credentials of containers and instances are asked for on Trio too
    region = region or session.get_config_variable("region") or (endpoint and REGION_BESIDE_ENDPOINT)
    make = partial(session.create_client, service, region_name=region, endpoint_url=endpoint)
    name = f"AWS {service}"
    credentials = SdkCredentials(session, os.environ)
    async with AsyncExitStack() as stack:
        try:
            found = await _proxies_of_the_sdk(make, config, proxies)
            client = make(config=config.merge(AioConfig(proxies=found)))
            entered = await stack.enter_async_context(client)
            used = await session.get_credentials()
        except errors_of_the_sdk() as error:
            raise _meaning(name, error, credentials) from None
        except ValueError as error:
            raise Misconfigured(f"{name}: {type(error).__name__}") from None
        # Said before the SDK asks for credentials with the token: its own words are a traceback.
        if used is not None and used.method == WEB_IDENTITY and (fault := credentials.token_fault()):
            raise Misconfigured(f"{name}: {fault}")
        yield AwsService(name, entered, credentials)


async def _proxies_of_the_sdk(make: Callable[..., Any], config: Any, proxies: Proxies) -> dict[str, str]:
    """Return what the SDK is told of proxies, never left to its own reading of the environment.

    It takes one proxy for each scheme, whatever the host; so a client without any is asked first where it would connect.
    """
    if proxies == NO_PROXIES:
        return {}
    async with make(config=config) as client:
        url = parse(client.meta.endpoint_url)
    proxy = proxies.of(url.host, url.port, tls=url.tls)
    return {} if proxy is None else {url.scheme: proxy.address}


def errors_of_the_sdk() -> tuple[type[Exception], ...]:
    """Return what its calls, and the reading of its answers, raise."""
    from botocore.exceptions import BotoCoreError, ClientError
    from botocore.parsers import ResponseParserError

    return BotoCoreError, ClientError, ResponseParserError


def _meaning(service: str, error: Exception, credentials: SdkCredentials | None) -> Retryable:
    """Return what an error of a call means, or of its credentials."""
    if credentials is not None and (fault := credentials.fault_behind(error)):
        return Misconfigured(f"{service}: {fault}")
    if isinstance(error, errors_of_the_sdk()):
        token = credentials.token_refused_by(error) if credentials is not None else ""
        return read_error(f"{service}: {token}" if token else service, error)
    if isinstance(error, OSError):
        return Unreachable(f"{service}: {type(error).__name__}")
    return Unreachable(f"{service}: the answer is not one of AWS KMS")


def read_error(service: str, error: Exception) -> Retryable:
    """Return what an error of the SDK means."""
    from botocore import exceptions
    from botocore.parsers import ResponseParserError

    silent = (
        exceptions.HTTPClientError,
        exceptions.ConnectionError,
        exceptions.MetadataRetrievalError,
        exceptions.CredentialRetrievalError,
        ResponseParserError,
    )
    if isinstance(error, exceptions.ClientError):
        return _refusal(service, error.response)
    kind = Unreachable if isinstance(error, silent) else Misconfigured
    return kind(f"{service}: {type(error).__name__}")


def _refusal(service: str, response: Mapping[str, Any]) -> Retryable:
    code = str(response.get("Error", {}).get("Code", ""))
    status = int(response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
    message = f"{service}: {code or f'HTTP {status}'}"
    if code in _TOO_MANY or status in _TOO_MANY_STATUS:
        return Overloaded(message)
    if status >= _SERVER_ERRORS or code in _SAID_WITH_4XX:
        return Unreachable(message)
    return Misconfigured(f"{message} {_first_line(response)}".rstrip())


def _first_line(response: Mapping[str, Any]) -> str:
    """Return the first line of what AWS says; the further ones may quote the request with its session token."""
    said = str(response.get("Error", {}).get("Message", "")).strip().partition("\n")[0]
    return said[:_LONGEST_MESSAGE]
