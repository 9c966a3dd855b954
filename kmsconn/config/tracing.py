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

from kmsconn.config.description import Secret
from kmsconn.config.settings import TracingSettings
from kmsconn.transport.urls import parse

Warn = Callable[[str, str, str], None]
"""Takes the variable, what is wrong with it, and what is done instead."""

GENERAL: Final = "OTEL_EXPORTER_OTLP_"
FOR_TRACES: Final = "OTEL_EXPORTER_OTLP_TRACES_"
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

    def of_exporter(self, name: str) -> str:
        """Return the variable of the exporter that counts: that for traces where it is set."""
        return FOR_TRACES + name if self.get(FOR_TRACES + name) else GENERAL + name

    def number(self, name: str, default: float, *, part: bool = False) -> float:
        """Return a number above zero, or a part of the traces."""
        try:
            number = float(self.get(name) or default)
        except ValueError:
            number = math.nan
        if 0 <= number <= 1 if part else 0 < number < math.inf:
            return number
        range_, instead = ("between 0 and 1", "every trace is exported") if part else ("above zero", "")
        self.warn(name, f"is not a number {range_}", instead or f"{default:g} is used")
        return default

    def pairs(self, name: str) -> dict[str, str]:
        """Return the ``key=value`` of a list as W3C Baggage writes it: split at commas, values percent-encoded."""
        pairs = {}
        for written in filter(str.strip, self.get(name).split(",")):
            key, equals, value = written.partition("=")
            if not equals or not key.strip():
                self.warn(name, "holds a part that is not key=value", "that part is not used")
            else:
                pairs[unquote(key.strip())] = unquote(value.strip())
        return pairs


def tracing_of(environ: Mapping[str, str], service_name: str, warn: Warn) -> TracingSettings | None:
    """Return where traces go, None where they go nowhere. ``service_name`` counts where no variable names the service."""
    given = _Variables(environ, warn)
    if given.get("OTEL_SDK_DISABLED").lower() == "true":
        return None
    endpoint = _endpoint(given)
    if endpoint is None or not _wanted(given):
        return None
    _warn_of_ignored(given)
    headers, resource = given.pairs(given.of_exporter("HEADERS")), given.pairs("OTEL_RESOURCE_ATTRIBUTES")
    service = given.get("OTEL_SERVICE_NAME") or resource.get("service.name") or service_name
    return TracingSettings(
        endpoint=endpoint,
        headers={key: Secret(value) for key, value in headers.items()},
        resource={**resource, "service.name": service},
        ratio=_ratio(given),
        timeout=given.number(given.of_exporter("TIMEOUT"), 10_000.0) / 1000,
        gzip=given.get(given.of_exporter("COMPRESSION")).lower() == "gzip",
        delay=max(1.0, given.number("OTEL_BSP_SCHEDULE_DELAY", 5_000.0)) / 1000,
        queue=int(max(1.0, given.number("OTEL_BSP_MAX_QUEUE_SIZE", 2048))),
        batch=int(max(1.0, given.number("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", 512))),
    )


def _endpoint(given: _Variables) -> str | None:
    """Return the URL that spans are posted to: the one for traces as it is, the general one with the path of traces."""
    name = given.of_exporter("ENDPOINT")
    url = given.get(name)
    if not url:
        return None
    if name == GENERAL + "ENDPOINT":
        url = url.rstrip("/") + TRACES_PATH
    try:
        parsed, fault = parse(url), ""
        if parsed.scheme not in {"http", "https"}:
            fault = f"has the scheme {parsed.scheme}, not http or https"
    except ValueError as error:
        fault = str(error)
    if fault:
        given.warn(name, fault, "traces are off: name a URL such as http://collector:4318")
        return None
    if parsed.port == GRPC_PORT:
        used = f"has port {GRPC_PORT}, which collectors use for gRPC"
        given.warn(name, used, "OTLP over HTTP is usually at 4318")
    return url


def _wanted(given: _Variables) -> bool:
    exporters = {one.strip() for one in given.get("OTEL_TRACES_EXPORTER", "otlp").split(",")}
    if "otlp" not in exporters and exporters != {"none"}:
        given.warn("OTEL_TRACES_EXPORTER", "names no exporter that kmsconn has", "traces are off: set otlp")
    return "otlp" in exporters


def _warn_of_ignored(given: _Variables) -> None:
    name = given.of_exporter("PROTOCOL")
    if given.get(name, "http/protobuf") != "http/protobuf":
        given.warn(name, "is not http/protobuf", "http/protobuf is used: name the collector's HTTP port")
    for name in map(given.of_exporter, _IGNORED):
        if given.get(name):
            given.warn(name, "has no effect", "the system's certificate authorities count")


def _ratio(given: _Variables) -> float:
    """Return what part of the traces is exported. A request has no parent elsewhere, so ``parentbased_`` changes nothing."""
    name = "OTEL_TRACES_SAMPLER"
    sampler = given.get(name, "parentbased_always_on").removeprefix("parentbased_")
    if sampler not in _SAMPLERS:
        given.warn(name, "is no sampler that kmsconn has", "every trace is exported")
    ratio = _SAMPLERS.get(sampler, 1.0)
    return given.number("OTEL_TRACES_SAMPLER_ARG", 1.0, part=True) if ratio is None else ratio
