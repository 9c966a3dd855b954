"""Files that another program reads are valid by that program's published schema, and a misspelt field would be found."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILES = {
    "deploy/compose/compose.yaml": ("vendor.compose-spec", "healthcheck:", "healthchek:"),
    ".github/workflows/ci.yml": ("vendor.github-workflows", "runs-on:", "run-on:"),
}

pytestmark = [pytest.mark.once, pytest.mark.rotating]


def judged(schema: str, path: Path) -> subprocess.CompletedProcess[str]:
    """Let the checker judge a file by a schema that it brings."""
    command = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", schema, str(path)]
    return subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - a module of the environment


@pytest.mark.parametrize("file", FILES)
def test_a_file_is_valid_by_its_schema(file: str) -> None:
    found = judged(FILES[file][0], ROOT / file)
    assert found.returncode == 0, found.stdout


@pytest.mark.parametrize("file", FILES)
def test_a_misspelt_field_would_be_found(file: str, tmp_path: Path) -> None:
    schema, right, wrong = FILES[file]
    text = (ROOT / file).read_text(encoding="utf-8")
    assert right in text
    path = tmp_path / Path(file).name
    path.write_text(text.replace(right, wrong, 1), encoding="utf-8")
    assert judged(schema, path).returncode == 1
