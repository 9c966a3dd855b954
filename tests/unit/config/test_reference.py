"""The printed reference and the sample file."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from kmsconn.config.forms import duration_text
from kmsconn.config.options import OPTIONS
from kmsconn.config.sources import load_config
from tests.unit.config.sample_values import KEY
from tools.options_reference import reference, sample

DOCS = Path(__file__).parents[3] / "docs"


def test_the_printed_reference_is_fresh() -> None:
    """``make gen`` prints it again."""
    assert (DOCS / "options.md").read_text(encoding="utf-8") == reference()


def test_the_printed_sample_is_fresh() -> None:
    """``make gen`` prints it again."""
    assert (DOCS / "kmsconn.sample.toml").read_text(encoding="utf-8") == sample()


def test_the_reference_names_every_option() -> None:
    assert [name for name in OPTIONS if f"| `{name}` |" not in reference()] == []


def test_the_sample_loads_once_a_wallet_is_given() -> None:
    settings = load_config(DOCS / "kmsconn.sample.toml", environ={"KMS_CONNECTOR_PRIVATE_KEY": KEY})
    assert settings.warnings == ()


def test_the_defaults_in_the_sample_are_the_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With every commented default switched on the settings stay the same; a default path begins in the working directory."""
    monkeypatch.chdir(tmp_path)
    environ = {"KMS_CONNECTOR_PRIVATE_KEY": KEY}
    without_default = "|".join(re.escape(name) for name, option in OPTIONS.items() if option.default is None)
    path = tmp_path / "all.toml"
    path.write_text(re.sub(rf"^#(?! |{without_default})", "", sample(), flags=re.MULTILINE), encoding="utf-8")
    assert load_config(path.name, environ=environ) == load_config(
        DOCS / "kmsconn.sample.toml", environ=environ
    )


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.5, "500ms"), (3.0, "3s"), (90.0, "90s"), (300.0, "5m"), (86400.0, "24h")]
)
def test_durations_are_printed_in_their_largest_whole_unit(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text
