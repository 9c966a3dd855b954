"""Every function and event of every revision goes out and comes back by its name."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kmsconn.connector.contracts import Decoded, UnknownLog, interfaces
from kmsconn.ethereum.abi import ContractEvent
from kmsconn.ethereum.abi_types import parse_type
from kmsconn.model.requests import PROFILES
from tests.property.test_ethereum_laws import values_of

FUNCTIONS = [
    (generation, label, function)
    for generation in PROFILES
    for label, abi in interfaces(generation).contracts.items()
    for function in abi.functions_by_selector.values()
]
EVENTS = [
    (generation, label, event)
    for generation in PROFILES
    for label, abi in interfaces(generation).contracts.items()
    for event in abi.events_by_topic.values()
]
SAMPLE = settings(max_examples=8, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])


def name_of(entry: tuple[str, str, Any]) -> str:
    generation, label, one = entry
    return f"{generation}/{label}.{one.signature[:60]}"


def arguments_of(signature: str) -> st.SearchStrategy[tuple[Any, ...]]:
    return values_of(parse_type(signature[signature.index("(") :]))


def emitted(event: ContractEvent) -> st.SearchStrategy[tuple[Any, ...]]:
    """Return values of an event; an indexed one of dynamic type is given as the hash that stands in its topic."""
    kinds = parse_type(event.signature[event.signature.index("(") :]).items  # type: ignore[attr-defined]
    hashed = parse_type("bytes32")
    chosen = [
        hashed if indexed and kind.dynamic else kind
        for kind, indexed in zip(kinds, event.indexed, strict=True)
    ]
    return st.tuples(*[values_of(kind) for kind in chosen])


def test_both_generations_are_here_as_a_whole() -> None:
    """Counted once by hand in the ABI files."""
    assert len(FUNCTIONS) == 59 + 47 + 46 + 26 + 8 + 22
    assert len(EVENTS) == 35 + 3 + 22 + 21 + 18 + 12


@pytest.mark.parametrize("entry", FUNCTIONS, ids=name_of)
@SAMPLE
@given(data=st.data())
def test_a_call_goes_out_and_comes_back(entry: Any, data: st.DataObject) -> None:
    generation, label, function = entry
    known = interfaces(generation)
    values = data.draw(arguments_of(function.signature))
    calldata = known.encode_call(f"{label}.{function.signature}", *values)
    found = known.decode_call(calldata)
    assert (found.signature, found.values) == (function.signature, values)
    assert len(found.names) == len(values)
    assert found.name in str(found)


@pytest.mark.parametrize("entry", FUNCTIONS, ids=name_of)
@SAMPLE
@given(data=st.data())
def test_a_result_comes_back(entry: Any, data: st.DataObject) -> None:
    generation, label, function = entry
    results = data.draw(arguments_of(function.outputs))
    name = f"{label}.{function.signature}"
    assert interfaces(generation).decode_result(name, function.encode_result(*results)) == results


@pytest.mark.parametrize("entry", EVENTS, ids=name_of)
@SAMPLE
@given(data=st.data())
def test_a_log_goes_out_and_comes_back(entry: Any, data: st.DataObject) -> None:
    generation, label, event = entry
    known = interfaces(generation)
    values = data.draw(emitted(event))
    found = known.decode_log(*known.encode_log(f"{label}.{event.signature}", *values))
    assert isinstance(found, Decoded)
    assert (found.signature, found.values) == (event.signature, values)
    assert len(found.names) == len(values)


@given(st.lists(st.binary(min_size=32, max_size=32), max_size=4), st.binary(max_size=100))
def test_foreign_logs_are_reported_and_stop_nobody(topics: list[bytes], data: bytes) -> None:
    for generation in PROFILES:
        found = interfaces(generation).decode_log(topics, data)
        assert isinstance(found, UnknownLog)
        assert "unknown log" in str(found)


@given(st.sampled_from(EVENTS), st.binary(max_size=200), st.integers(0, 3))
def test_a_known_topic_over_any_content_is_decoded_or_reported(entry: Any, data: bytes, extra: int) -> None:
    generation, _, event = entry
    topics = (event.topic0, *[bytes(32)] * extra)
    assert isinstance(interfaces(generation).decode_log(topics, data), Decoded | UnknownLog)


@given(st.binary(max_size=200))
def test_any_revert_can_be_shown(data: bytes) -> None:
    for generation in PROFILES:
        assert interfaces(generation).show_revert(data).name
