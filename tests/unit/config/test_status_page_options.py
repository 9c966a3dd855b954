"""The options of the status page: where it needs a token, and what a token is."""

from __future__ import annotations

from pathlib import Path

import pytest

from kmsconn.config.values import Secret, StatusPage
from tests.unit.config.sample_values import faults_of, load, warnings_of

TOKEN = "0123456789abcdef"
ANYWHERE, HERE = "0.0.0.0:9100", "127.0.0.1:9100"


def token_file(folder: Path, content: str = TOKEN, mode: int = 0o600) -> str:
    path = folder / "token"
    path.write_text(content)
    path.chmod(mode)
    return str(path)


def test_by_default_there_is_no_token_and_loopback_alone_is_served(tmp_path: Path) -> None:
    monitoring = load(tmp_path, {}).monitoring
    assert (monitoring.status_page, monitoring.status_page_token) == (StatusPage.LOOPBACK, None)


def test_on_at_another_address_needs_a_token(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"status_page": "on", "monitoring_endpoint": ANYWHERE})
    assert "needs status_page_token_file" in faults["status_page"].message


def test_on_at_a_loopback_address_needs_none(tmp_path: Path) -> None:
    values = {"status_page": "on", "monitoring_endpoint": HERE}
    assert load(tmp_path, values).monitoring.status_page is StatusPage.ON


def test_the_token_is_read_from_its_file_and_never_shows(tmp_path: Path) -> None:
    values = {
        "status_page": "on",
        "monitoring_endpoint": ANYWHERE,
        "status_page_token_file": token_file(tmp_path, f"{TOKEN}\n"),
    }
    settings = load(tmp_path, values)
    assert settings.monitoring.status_page_token == Secret(TOKEN)
    assert TOKEN not in repr(settings)


@pytest.mark.parametrize("content", ["", "\n", "short", "two words in it ok", "ünïcödé-tokens-are-none"])
def test_a_file_without_a_token_is_a_fault_that_does_not_quote_it(tmp_path: Path, content: str) -> None:
    faults = faults_of(tmp_path, {"status_page_token_file": token_file(tmp_path, content)})
    assert "holds no token" in faults["status_page_token_file"].message
    assert not content.strip() or content not in str(faults)


def test_a_missing_file_is_a_fault(tmp_path: Path) -> None:
    faults = faults_of(tmp_path, {"status_page_token_file": str(tmp_path / "absent")})
    assert "cannot be read" in faults["status_page_token_file"].message


def test_a_file_that_others_may_read_is_warned_about(tmp_path: Path) -> None:
    path = token_file(tmp_path, mode=0o644)
    assert "0644" in warnings_of(tmp_path, {"status_page_token_file": path})[path].message
