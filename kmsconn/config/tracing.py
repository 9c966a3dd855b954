"""Where traces go, from the standard ``OTEL_*`` variables. Never stops a start: what is not understood is a warning.

Reads no environment by itself. Traces are on when an endpoint is named and ``OTEL_SDK_DISABLED`` is not true. Headers are secrets.

Source: the specification of OpenTelemetry, "Environment Variable Specification" and "OTLP Exporter Configuration".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Final
from urllib.parse import unquote

import attrs

from kmsconn.config.settings import TracingSettings
from kmsconn.config.values import Secret
from kmsconn.transport.urls import parse

Warn = Callable[[str, str, str], None]
"""Takes the variable, what is wrong with it, and what is done instead."""

ENDPOINT: Final = "OTEL_EXPORTER_OTLP_ENDPOINT"
TRACES_ENDPOINT: Final = "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"
TRACES_PATH: Final = "/v1/traces"
GRPC_PORT: Final = 4317

_SAMPLERS: Final = {"always_on": 1.0, "always_off": 0.0, "traceidratio": None}
"""What part of the traces each sampler takes; None: its argument says so."""

_IGNORED: Final = ("CERTIFICATE", "CLIENT_CERTIFICATE", "CLIENT_KEY")


@attrs.frozen
class _Variables:
    """The variables of an environment; an empty one counts as not set."""

    environ: Mapping[str, str]
    warn: Warn

    def get(self, name: str, default: str = "") -> str:
        return self.environ.get(name, "").strip() or default

    def of_exporter(self, name: str, default: str = "") -> tuple[str, str]:
        """Return the variable of the exporter that counts, that for traces first, and its value."""
        special = f"OTEL_EXPORTER_OTLP_TRACES_{name}"
        if value := self.get(special):
            return special, value
        general = f"OTEL_EXPORTER_OTLP_{name}"
        return general, self.get(general, default)

    def number(self, name: str, value: str, default: float) -> float:
        """Return a number above zero."""
        if not value:
            return default
        try:
            number = float(value)
        except ValueError:
            number = math.nan
        if 0 < number < math.inf:
            return number
        self.warn(name, "is not a number above zero", f"{default:g} is used")
        return default


def tracing_of(environ: Mapping[str, str], service_name: str, warn: Warn) -> TracingSettings | None:
    """Return where traces go, None where they go nowhere. ``service_name`` counts where no variable names the service."""
    variables = _Variables(environ, warn)
    if variables.get("OTEL_SDK_DISABLED").lower() == "true":
        return None
    endpoint = _endpoint(variables)
    if endpoint is None or not _wanted(variables):
        return None
    _warn_of_ignored(variables)
    return TracingSettings(
        endpoint=endpoint,
        headers=_headers(variables),
        resource=_resource(variables, service_name),
        ratio=_ratio(variables),
        timeout=variables.number(*variables.of_exporter("TIMEOUT"), 10_000.0) / 1000,
        gzip=variables.of_exporter("COMPRESSION")[1].lower() == "gzip",
        delay=_of_batches(variables, "SCHEDULE_DELAY", 5_000.0) / 1000,
        queue=int(_of_batches(variables, "MAX_QUEUE_SIZE", 2048)),
        batch=int(_of_batches(variables, "MAX_EXPORT_BATCH_SIZE", 512)),
    )


def _of_batches(variables: _Variables, name: str, default: float) -> float:
    variable = f"OTEL_BSP_{name}"
    return max(1.0, variables.number(variable, variables.get(variable), default))


def _endpoint(variables: _Variables) -> str | None:
    """Return the URL that spans are posted to: the one for traces as it is, the general one with the path of traces."""
    name, url = TRACES_ENDPOINT, variables.get(TRACES_ENDPOINT)
    if not url:
        name, url = ENDPOINT, variables.get(ENDPOINT)
        url = url and url.rstrip("/") + TRACES_PATH
    if not url:
        return None
    if fault := _fault_of(url):
        variables.warn(name, fault, "traces are off: name a URL such as http://collector:4318")
        return None
    if parse(url).port == GRPC_PORT:
        variables.warn(
            name, f"has port {GRPC_PORT}, which collectors use for gRPC", "OTLP over HTTP is usually at 4318"
        )
    return url


def _fault_of(url: str) -> str:
    try:
        scheme = parse(url).scheme
    except ValueError as error:
        return str(error)
    return "" if scheme in {"http", "https"} else f"has the scheme {scheme}, not http or https"


def _wanted(variables: _Variables) -> bool:
    exporters = {one.strip() for one in variables.get("OTEL_TRACES_EXPORTER", "otlp").split(",")}
    if exporters == {"none"}:
        return False
    if "otlp" not in exporters:
        variables.warn(
            "OTEL_TRACES_EXPORTER", "names no exporter that kmsconn has", "traces are off: set otlp"
        )
        return False
    return True


def _warn_of_ignored(variables: _Variables) -> None:
    name, protocol = variables.of_exporter("PROTOCOL", "http/protobuf")
    if protocol != "http/protobuf":
        variables.warn(name, "is not http/protobuf", "http/protobuf is used: name the collector's HTTP port")
    for ignored in _IGNORED:
        name, value = variables.of_exporter(ignored)
        if value:
            variables.warn(name, "has no effect", "the system's certificate authorities count")


def _headers(variables: _Variables) -> dict[str, Secret]:
    name, text = variables.of_exporter("HEADERS")
    return {key: Secret(value) for key, value in _pairs(name, text, variables.warn)}


def _resource(variables: _Variables, service_name: str) -> dict[str, str]:
    name = "OTEL_RESOURCE_ATTRIBUTES"
    given = dict(_pairs(name, variables.get(name), variables.warn))
    service = variables.get("OTEL_SERVICE_NAME") or given.get("service.name") or service_name
    return {**given, "service.name": service}


def _pairs(name: str, text: str, warn: Warn) -> list[tuple[str, str]]:
    """Return the ``key=value`` of a list as W3C Baggage writes it: split at commas, values percent-encoded."""
    pairs = []
    for part in filter(str.strip, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals or not key.strip():
            warn(name, "holds a part that is not key=value", "that part is not used")
        else:
            pairs.append((unquote(key.strip()), unquote(value.strip())))
    return pairs


def _ratio(variables: _Variables) -> float:
    """Return what part of the traces is exported. A request has no parent elsewhere, so ``parentbased_`` changes nothing."""
    name = "OTEL_TRACES_SAMPLER"
    sampler = variables.get(name, "parentbased_always_on").removeprefix("parentbased_")
    if sampler not in _SAMPLERS:
        variables.warn(name, "is no sampler that kmsconn has", "every trace is exported")
    ratio = _SAMPLERS.get(sampler, 1.0)
    return _argument(variables) if ratio is None else ratio


def _argument(variables: _Variables) -> float:
    name = "OTEL_TRACES_SAMPLER_ARG"
    try:
        ratio = float(variables.get(name, "1"))
    except ValueError:
        ratio = math.nan
    if 0 <= ratio <= 1:
        return ratio
    variables.warn(name, "is not a number between 0 and 1", "every trace is exported")
    return 1.0
