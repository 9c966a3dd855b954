"""Settings stand in groups, and are made and changed by their own names."""

from __future__ import annotations

import pytest

from kmsconn.config.settings import GROUP_OF, GROUPS
from tests.vectors import keys


def test_no_two_settings_have_one_name() -> None:
    """``of`` and ``but`` find the group by the name alone."""
    assert len(GROUP_OF) == sum(len(group.__attrs_attrs__) for group in GROUPS.values())


def test_settings_of_several_groups_change_at_once_and_all_others_stay() -> None:
    changed = keys.SETTINGS.but(drain_grace=5.0, reorg_window=7.0)
    assert (changed.work.drain_grace, changed.reading.reorg_window) == (5.0, 7.0)
    assert changed.but(drain_grace=20.0, reorg_window=30.0) == keys.SETTINGS.but(
        drain_grace=20.0, reorg_window=30.0
    )


def test_a_name_that_is_no_setting_is_refused() -> None:
    with pytest.raises(TypeError, match="patience"):
        keys.SETTINGS.but(patience=1.0)
