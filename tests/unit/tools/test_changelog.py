"""Fragments become the sections of a release, and faulty ones are refused by name."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import changelog
from tools.changelog import FOLDER, Fragment, main, read_fragment, read_fragments, released, sections

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
