"""What is generated is what ``make gen`` would write; what is not is named, written, or removed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import changelog, generate, site_pages
from tools.changelog import FOLDER, Fragment, main, read_fragment, read_fragments, released, sections
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


OLD = "# Changelog\n\nWhat changed.\n\n## Unreleased\n\n### Written by hand\n- A line.\n\n## 0.1.0 · 2026-01-01\n\n- The first.\n"
FIXED, ADDED = (
    Fragment(Path("b.fixed.md"), "fixed", "Two\nlines."),
    Fragment(Path("c.added.md"), "added", "New."),
)


def test_the_fragments_of_the_repository_are_readable() -> None:
    read_fragments(FOLDER)


def test_sections_stand_in_the_order_of_the_kinds() -> None:
    assert sections([FIXED, ADDED]) == "### Added\n- New.\n\n### Fixed\n- Two\n  lines.\n"


def test_a_release_has_what_was_written_by_hand_and_the_fragments_and_leaves_nothing_unreleased() -> None:
    assert released(OLD, "0.2.0", "2026-02-03", [ADDED]) == (
        "# Changelog\n\nWhat changed.\n\n## Unreleased\n\n## 0.2.0 · 2026-02-03\n\n### Written by hand\n- A line.\n"
        "\n### Added\n- New.\n\n## 0.1.0 · 2026-01-01\n\n- The first.\n"
    )


def test_two_releases_follow_each_other() -> None:
    first = released(OLD, "0.2.0rc1", "2026-02-03", [])
    second = released(first, "0.2.0", "2026-02-04", [FIXED])
    assert (
        second.index("## Unreleased")
        < second.index("## 0.2.0 ")
        < second.index("## 0.2.0rc1 ")
        < second.index("## 0.1.0")
    )


EMPTY = "# Changelog\n\n## Unreleased\n\n## 0.1.0 · 2026-01-01\n"


@pytest.mark.parametrize(
    ("text", "version", "fragments", "told"),
    [
        *((OLD, version, [ADDED], "is not a version") for version in ("0.2", "v0.2.0", "0.2.0-rc1", "")),
        (OLD, "0.1.0", [ADDED], r"has 0\.1\.0 already"),
        (EMPTY, "0.2.0", [], "nothing is unreleased"),
    ],
)
def test_what_is_no_release_is_refused(text: str, version: str, fragments: list[Fragment], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        released(text, version, "2026-02-03", fragments)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("thing.md", "A line."),
        ("thing.improved.md", "A line."),
        ("Thing.fixed.md", "A line."),
        ("thing.fixed.txt", "A line."),
        ("thing.fixed.md", " \n"),
        ("thing.fixed.md", "- A bullet."),
    ],
)
def test_a_faulty_fragment_is_refused_by_name(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=rf"^{name} should"):
        read_fragment(tmp_path / name)


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A changelog with one fragment."""
    (tmp_path / "CHANGELOG.md").write_text(OLD)
    (tmp_path / "changelog.d").mkdir()
    (tmp_path / "changelog.d" / "README.md").write_text("# Fragments")
    (tmp_path / "changelog.d" / "one.added.md").write_text("New.\n")
    monkeypatch.setattr(changelog, "CHANGELOG", tmp_path / "CHANGELOG.md")
    monkeypatch.setattr(changelog, "FOLDER", tmp_path / "changelog.d")
    return tmp_path


def test_without_a_version_the_sections_are_printed_and_nothing_changes(
    repository: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([]) == 0
    assert capsys.readouterr().out == "### Added\n- New.\n"
    assert (repository / "CHANGELOG.md").read_text() == OLD
    assert (repository / "changelog.d" / "one.added.md").exists()


def test_a_release_is_written_and_its_fragments_go(repository: Path) -> None:
    assert main(["--release", "0.2.0"]) == 0
    assert "### Added\n- New.\n" in (repository / "CHANGELOG.md").read_text()
    assert [path.name for path in (repository / "changelog.d").iterdir()] == ["README.md"]


def test_a_refused_release_changes_nothing(repository: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--release", "next"]) == 1
    assert "next is not a version" in capsys.readouterr().err
    assert (repository / "CHANGELOG.md").read_text() == OLD
    assert (repository / "changelog.d" / "one.added.md").exists()
