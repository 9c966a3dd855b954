"""What all processes over a journal must have alike, in words, and where they differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kmsconn.config.common_settings import SettingDifference, common_settings, differences
from kmsconn.config.settings import Retention
from kmsconn.config.values import Mode
from tests.unit.config.sample_values import load

Words = Callable[..., dict[str, str]]


@pytest.fixture
def words(tmp_path: Path) -> Words:
    """Return the words of a complete configuration with changes."""
    settings = load(tmp_path)
    return lambda **changes: common_settings(settings.but(**changes))


def test_they_are_written_as_an_operator_writes_them(words: Words) -> None:
    assert words(core_endpoints=("http://a:1", "http://b:1"), audit_log=Path("/var/audit")) == {
        "mode": "active",
        "lease": "5s",
        "kms_core_endpoints": "http://a:1, http://b:1",
        "retention.contents": "168h",
        "retention.rows": "2160h",
        "audit_log": "a file",
        "compressed_key_sets": "auto",
        "preprocessing_ids": "none",
    }


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"lease": 10.0}, "lease"),
        ({"mode": Mode.SHADOW}, "mode"),
        ({"core_endpoints": ("http://a:1", "http://b:1")}, "kms_core_endpoints"),
        ({"retention": Retention(3600.0, 7200.0)}, "retention.contents"),
        ({"audit_log": Path("audit")}, "audit_log"),
        ({"compressed_key_sets": True}, "compressed_key_sets"),
        ({"preprocessing_ids": {4: 3}}, "preprocessing_ids"),
    ],
)
def test_each_one_is_told_with_both_processes(words: Words, changes: dict[str, Any], option: str) -> None:
    found = differences([("a (member 1)", words()), ("b (member 2)", words(**changes))])
    (text,) = (one.text for one in found if one.option == option)
    assert "a (member 1)" in text
    assert "b (member 2)" in text


def test_a_value_is_told_with_all_that_have_it() -> None:
    told = differences([("a", {"lease": "5s"}), ("b", {"lease": "9s"}), ("c", {"lease": "5s"})])
    assert told == [SettingDifference("lease", "5s at a, c; 9s at b")]


def test_what_is_alike_or_not_said_is_no_difference(words: Words) -> None:
    assert differences([("a", words()), ("b", words()), ("an older version", {})]) == []
    assert differences([]) == []


def cores(one: str, other: str) -> bool:
    return bool(differences([("a", {"kms_core_endpoints": one}), ("b", {"kms_core_endpoints": other})]))


def test_cores_differ_by_number_and_order() -> None:
    assert cores("http://a:1", "http://a:1, http://b:1")
    assert cores("http://a:1, http://b:1", "http://b:1, http://a:1")
    assert cores("http://a:1, http://b:1", "http://b:1, http://c:1")


def test_a_core_may_have_another_address_on_another_machine() -> None:
    assert not cores("http://localhost:1", "http://core:1")
    assert not cores("http://a:1, http://b:1", "http://a:1, http://localhost:1")
