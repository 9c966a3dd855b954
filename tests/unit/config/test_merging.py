"""Three files of the services of 0.14 become one: what is kept, renamed, united, dropped, and what is a conflict."""

from __future__ import annotations

import tomllib
from typing import Any

import pytest

from kmsconn.config.findings import Given
from kmsconn.config.merging import Merged, merge, toml_text
from kmsconn.errors import ConfigError

ACL = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D"


def merged(**files: dict[str, Any]) -> Merged:
    """Merge files that are given as values by dotted name."""
    return merge(
        {f"{file}.toml": {n: Given(v, n, n) for n, v in values.items()} for file, values in files.items()}
    )


def test_an_option_of_one_file_is_kept() -> None:
    assert merged(a={"decryption_polling": "1s"}, b={}).options == {"decryption_polling": "1s"}


def test_endpoints_are_united_in_the_order_of_the_files() -> None:
    options = merged(a={"gateway_url": "http://x"}, b={"gateway_url": ["ws://y", "http://x"]}).options
    assert options == {"gateway_url": ["http://x", "ws://y"]}


def test_an_alias_becomes_its_option_and_a_note_says_so() -> None:
    result = merged(a={"ct_attestation.enabled": False})
    assert result.options == {"attestation": "off"}
    assert result.notes == ("a.toml: ct_attestation.enabled becomes attestation",)


@pytest.mark.parametrize(
    ("name", "value", "why"),
    [
        ("service_name", "kms-connector-tx-sender", "one process"),
        ("database_url", "postgres://hunter2@db/x", "the database of the three services stays"),
        ("database_pool_size", 16, "the database of the three services stays"),
        ("task_limit", 1000, "pools.public_decryption"),
        ("grpc_pol_interval", "1s", "did you mean grpc_poll_interval?"),
    ],
)
def test_what_has_no_place_here_is_dropped_with_its_reason_and_without_its_value(
    name: str, value: Any, why: str
) -> None:
    result = merged(a={name: value})
    assert result.options == {}
    assert result.notes[0].startswith(f"a.toml: {name} is dropped: ")
    assert why in result.notes[0]
    assert "hunter2" not in result.notes[0]


def test_of_two_durations_the_first_is_taken_and_a_note_says_so() -> None:
    result = merged(a={"healthcheck_timeout": "3s"}, b={"healthcheck_timeout": "5s"})
    assert result.options == {"healthcheck_timeout": "3s"}
    assert result.notes == (
        "b.toml: healthcheck_timeout is dropped: a.toml gives another value, which is taken",
    )


def test_one_duration_in_two_spellings_is_no_difference() -> None:
    assert merged(a={"healthcheck_timeout": "1m"}, b={"healthcheck_timeout": "60s"}).notes == ()


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("gateway_chain_id", 1, 2),
        ("decryption_contract.address", ACL, "0x" + "11" * 20),
        ("private_key", "11" * 32, "22" * 32),
    ],
)
def test_what_says_which_node_this_is_must_not_differ(name: str, one: Any, other: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        merged(a={name: one}, b={name: other})
    (fault,) = caught.value.faults
    assert str(fault) == f"{name}: differs between a.toml and b.toml; make them the same first"


def test_one_address_in_two_spellings_is_no_conflict() -> None:
    name = "decryption_contract.address"
    assert merged(a={name: ACL}, b={name: ACL.lower()}).options == {name: ACL}


def test_a_merged_file_reads_as_what_was_merged() -> None:
    options = {
        "gateway_url": ["http://x"],
        "gateway_chain_id": 5,
        "trace_reverted_tx": True,
        "service_name": 'a "quoted" text',
        "host_chains": [{"url": "http://h", "chain_id": 6, "acl_address": ACL}],
    }
    assert tomllib.loads(toml_text(options)) == options
