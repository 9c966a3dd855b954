"""What is generated is what ``make gen`` would write; what is not is named, written, or removed."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from tools import generate


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
