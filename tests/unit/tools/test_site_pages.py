"""The documentation site's own pages and links: those beside docs are pages too, and each link of Markdown gets its place."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import site_pages
from tools.site_pages import DOCS, ROOT, with_links


@pytest.mark.parametrize(
    ("folder", "name", "link", "expected"),
    [
        pytest.param(DOCS, "grpc", "peers.md#x", "peers.md#x", id="a page beside it"),
        pytest.param(DOCS / "runbook", "runbook/X", "../options.md", "../options.md", id="a page above it"),
        pytest.param(DOCS, "grpc", "../kmsconn/errors.py", "repository:kmsconn/errors.py", id="a file"),
        pytest.param(DOCS, "grpc", "../deploy", "repository:deploy", id="a folder"),
        pytest.param(DOCS, "grpc", "../CONTRIBUTING.md", "contributing.rst", id="a page from the root"),
        pytest.param(ROOT, "contributing", "docs/testing.md", "testing.md", id="from the root into docs"),
        pytest.param(DOCS, "grpc", "https://a.example/b.md", "https://a.example/b.md", id="elsewhere"),
        pytest.param(DOCS, "grpc", "#a-heading", "#a-heading", id="on the page"),
    ],
)
def test_a_link_gets_its_place_on_the_site(folder: Path, name: str, link: str, expected: str) -> None:
    assert with_links(f"See [it]({link}).", folder, name) == f"See [it]({expected})."


def test_what_is_fenced_stays() -> None:
    block = "```python\nfound[0](../kmsconn/errors.py)\n```\n"
    assert with_links(block, DOCS, "grpc") == block


def test_a_page_with_pages_beneath_it_gets_their_list() -> None:
    assert "runbook/*" in site_pages.subpages("alerts")
    assert site_pages.subpages("grpc") == ""


def test_the_changelog_has_what_its_fragments_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.fixed.md").write_text("A leak is closed.\n", encoding="utf-8")
    monkeypatch.setattr(site_pages, "FOLDER", tmp_path)
    shown = site_pages.with_fragments("# Changelog\n\n## Unreleased\n\n## 0.1.0\n")
    assert shown.index("## Unreleased") < shown.index("- A leak is closed.") < shown.index("## 0.1.0")
