"""One profile for all releases of fhevm since 0.14, under each of its names."""

from __future__ import annotations

import pytest

from kmsconn.model.profiles import PROFILE_ALIASES, PROFILES, profile_named


@pytest.mark.parametrize("alias", PROFILE_ALIASES)
def test_an_alias_means_a_generation(alias: str) -> None:
    assert profile_named(f" {alias.upper()}") == "fhevm"


@pytest.mark.parametrize("name", PROFILES)
def test_a_name_means_itself(name: str) -> None:
    assert profile_named(name) == name


def test_another_name_is_refused_with_those_that_there_are() -> None:
    with pytest.raises(ValueError, match=r"must be fhevm or httpz-rc7, not 'fhevm-0\.16'"):
        profile_named("fhevm-0.16")
