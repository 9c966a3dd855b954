"""What is generated is what ``make gen`` would write; what is not is named, written, or removed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import generate, site_pages
from tools.site_pages import DOCS, ROOT, with_links


@pytest.mark.parametrize("generator", generate.GENERATORS)
def test_what_is_generated_is_fresh(generator: str) -> None:
    if generator == "gen_protos":
        pytest.importorskip("grpc_tools")
    assert [path.name for path, _ in generate.stale([generator])] == [], "make gen"


def test_a_stale_file_is_named_or_written_and_one_too_many_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    old, new, gone, fresh = (tmp_path / name for name in ("old", "deep/new", "gone", "fresh"))
    for path in (old, gone, fresh):
        path.write_text("as it was")
    files = {old: "changed", new: "new", gone: None, fresh: "as it was", tmp_path / "never": None}
    monkeypatch.setitem(sys.modules, "tools.one", SimpleNamespace(files=lambda: files))
    monkeypatch.setattr(generate, "ROOT", tmp_path)
    monkeypatch.setattr(generate, "stale", lambda: list(STALE(["one"])))
    assert generate.main(["--check"]) == 1
    assert capsys.readouterr().err == "".join(
        f"{one} is stale: make gen\n" for one in ("old", "deep/new", "gone")
    )
    assert generate.main([]) == 0
    assert (old.read_text(), new.read_text(), gone.exists(), fresh.read_text()) == (
        "changed",
        "new",
        False,
        "as it was",
    )
    assert generate.main(["--check"]) == 0


STALE = generate.stale


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
