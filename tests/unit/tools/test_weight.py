"""Lines of code are those that hold something besides comments and docstrings."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import weight

MODULE = b'"""What it is.\n\nMore."""\n\n# why\nX = (\n    1,\n)\n\n\ndef f() -> str:\n    """Say."""\n    return """a\nb"""\n'


def test_docstrings_and_comments_are_prose_and_texts_are_code(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_bytes(MODULE)
    assert weight.weigh(module) == {"modules": 1, "small": True, "lines": 14, "code": 6, "prose": 4}


def test_the_product_is_the_sum_of_what_a_connector_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "kmsconn/journal/one.py",
        "kmsconn/errors.py",
        "kmsconn/emulator/two.py",
        "tests/test_one.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MODULE)
    monkeypatch.setattr(weight, "ROOT", tmp_path)
    assert "| product | 2 | 2 | 28 | 12 | 8 |" in weight.table()
