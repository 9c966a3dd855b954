"""The variables of OpenTelemetry as settings."""

from __future__ import annotations

import pytest

from kmsconn.config.description import Secret
from kmsconn.config.settings import TracingSettings
from kmsconn.config.tracing import tracing_of

URL = "http://collector:4318"


def read(**variables: str) -> tuple[TracingSettings | None, list[str]]:
    warned: list[str] = []
    settings = tracing_of(variables, "kmsconn", lambda name, _what, _instead: warned.append(name))
    return settings, warned


def well(**variables: str) -> TracingSettings:
    settings, warned = read(**{"OTEL_EXPORTER_OTLP_ENDPOINT": URL, **variables})
    assert settings is not None
    assert warned == []
    return settings


@pytest.mark.parametrize(
    ("variables", "warned"),
    [
        ({}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_SDK_DISABLED": "true"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "none"}, []),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": URL, "OTEL_TRACES_EXPORTER": "zipkin"}, ["OTEL_TRACES_EXPORTER"]),
        *(
            ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": url}, ["OTEL_EXPORTER_OTLP_TRACES_ENDPOINT"])
            for url in ("collector:4318", "ftp://collector", "http://")
        ),
    ],
)
def test_traces_are_off_without_an_endpoint_or_by_a_switch(
    variables: dict[str, str], warned: list[str]
) -> None:
    assert read(OTEL_SERVICE_NAME="node-1", **variables) == (None, warned)


def test_the_general_endpoint_gets_the_path_of_traces_and_that_for_traces_is_used_as_it_is() -> None:
    assert well().endpoint == f"{URL}/v1/traces"
    assert well(OTEL_EXPORTER_OTLP_ENDPOINT=f"{URL}/otlp/").endpoint == f"{URL}/otlp/v1/traces"
    assert well(OTEL_EXPORTER_OTLP_TRACES_ENDPOINT="https://one/spans").endpoint == "https://one/spans"


def test_times_are_milliseconds_and_compression_is_a_word() -> None:
    settings = well(OTEL_EXPORTER_OTLP_TIMEOUT="2500", OTEL_BSP_SCHEDULE_DELAY="200")
    assert (settings.timeout, settings.delay) == (2.5, 0.2)
    assert well(OTEL_EXPORTER_OTLP_COMPRESSION="gzip").gzip
    assert not well(OTEL_EXPORTER_OTLP_COMPRESSION="none").gzip


def test_headers_are_secrets_and_those_for_traces_win() -> None:
    settings = well(
        OTEL_EXPORTER_OTLP_HEADERS="x-key=general",
        OTEL_EXPORTER_OTLP_TRACES_HEADERS="api-key=s3cr3t%3D, tenant=a",
    )
    assert settings.headers == {"api-key": Secret("s3cr3t="), "tenant": Secret("a")}
    assert "s3cr3t" not in repr(settings)


def test_user_info_of_the_endpoint_is_not_shown() -> None:
    assert "hidden" not in repr(well(OTEL_EXPORTER_OTLP_ENDPOINT="http://me:hidden@collector:4318"))


def test_the_service_is_named_by_its_variable_then_by_the_resource_then_by_the_option() -> None:
    of_resource = {"OTEL_RESOURCE_ATTRIBUTES": "service.name=two,deployment.environment=test"}
    assert well(**of_resource, OTEL_SERVICE_NAME="one").resource["service.name"] == "one"
    assert well(**of_resource).resource == {"service.name": "two", "deployment.environment": "test"}
    assert well().resource["service.name"] == "kmsconn"


@pytest.mark.parametrize(
    ("sampler", "argument", "ratio"),
    [
        ("always_on", "", 1.0),
        ("always_off", "", 0.0),
        ("parentbased_always_off", "", 0.0),
        ("traceidratio", "0.25", 0.25),
        ("parentbased_traceidratio", "", 1.0),
    ],
)
def test_samplers(sampler: str, argument: str, ratio: float) -> None:
    assert well(OTEL_TRACES_SAMPLER=sampler, OTEL_TRACES_SAMPLER_ARG=argument).ratio == ratio


def test_a_part_of_the_traces_is_chosen_by_the_low_half_of_the_id() -> None:
    settings = TracingSettings(URL, ratio=0.5)
    assert settings.samples((7 << 64) | ((1 << 63) - 1))
    assert not settings.samples(1 << 63)
    assert not TracingSettings(URL, ratio=0.0).samples(0)
    assert TracingSettings(URL, ratio=1.0).samples((1 << 128) - 1)


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://collector:4317"),
        ("OTEL_EXPORTER_OTLP_PROTOCOL", "grpc"),
        ("OTEL_EXPORTER_OTLP_CERTIFICATE", "ca.pem"),
        ("OTEL_EXPORTER_OTLP_TIMEOUT", "soon"),
        ("OTEL_EXPORTER_OTLP_HEADERS", "s3cr3t"),
        ("OTEL_TRACES_SAMPLER", "jaeger_remote"),
    ],
)
def test_what_is_not_understood_is_a_warning_and_traces_stay_on(variable: str, value: str) -> None:
    settings, warned = read(**{"OTEL_EXPORTER_OTLP_ENDPOINT": URL, variable: value})
    assert settings is not None
    assert warned == [variable]


def test_a_ratio_that_is_none_is_a_warning() -> None:
    settings, warned = read(
        OTEL_EXPORTER_OTLP_ENDPOINT=URL, OTEL_TRACES_SAMPLER="traceidratio", OTEL_TRACES_SAMPLER_ARG="2"
    )
    assert (settings and settings.ratio, warned) == (1.0, ["OTEL_TRACES_SAMPLER_ARG"])
