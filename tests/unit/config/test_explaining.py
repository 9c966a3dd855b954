"""Where each value comes from, in words that show no secret."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.findings import ExplainedOption, explain
from kmsconn.config.sources import read_sources
from tests.unit.config.sample_values import ACL, KEY, write_toml


def explained(
    folder: Path, changes: dict[str, Any] | None = None, **environ: str
) -> dict[str, ExplainedOption]:
    """Explain the complete configuration with changes, by option."""
    reading = read_sources(write_toml(folder, changes), environ=environ)
    rows = explain(reading.generation.table, reading.findings.given, reading.values, "kmsconn.toml")
    return {row.name: row for row in rows}


def test_a_value_of_the_file_names_the_file(tmp_path: Path) -> None:
    row = explained(tmp_path)["gateway_chain_id"]
    assert (row.value, row.source) == ("10901", "kmsconn.toml")


def test_a_value_of_the_environment_names_its_variable(tmp_path: Path) -> None:
    row = explained(tmp_path, KMS_CONNECTOR_DECRYPTION_POLLING="250ms")["decryption_polling"]
    assert (row.value, row.source) == ("250ms", "KMS_CONNECTOR_DECRYPTION_POLLING")


def test_a_default_is_called_one(tmp_path: Path) -> None:
    assert explained(tmp_path)["log_level"].source == "default"


def test_an_option_that_must_be_set_and_is_not_says_so(tmp_path: Path) -> None:
    row = explained(tmp_path, {"gateway_chain_id": None})["gateway_chain_id"]
    assert (row.value, row.source) == ("–", "not set")


def test_every_option_has_its_row_and_its_variable(tmp_path: Path) -> None:
    rows = explained(tmp_path)
    assert rows["pools.aborts"].variable == "KMS_CONNECTOR_POOLS__ABORTS"
    assert len(rows) > 60


def test_roles_are_shown_as_words_in_the_order_of_the_reference(tmp_path: Path) -> None:
    assert explained(tmp_path)["roles"].value == "hear, work, send"


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"gateway_url": "https://user:hunter2@node/hunter2?key=hunter2"},
        {"host_chains": [{"url": "https://hunter2@node/hunter2", "chain_id": 5, "acl_address": ACL}]},
        {"aws_kms_config.key_id": "hunter2"},
    ],
)
def test_no_row_shows_a_secret(tmp_path: Path, changes: dict[str, Any]) -> None:
    printed = str(list(explained(tmp_path, changes).values()))
    assert KEY not in printed
    if "aws_kms_config.key_id" not in changes:
        assert "hunter2" not in printed
