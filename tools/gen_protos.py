"""Writes the protobuf message classes of each generation into ``kmsconn/_generated``; never gRPC stubs."""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
GENERATIONS = {"fhevm": "fhevm", "httpz-rc7": "httpz_rc7"}
NO_STUBS = "client_generation=none,server_generation=none"


def generate(generation: str) -> dict[Path, str]:
    """Return the message classes of a folder of ``protos/``: path inside the package → text.

    Raises RuntimeError when protoc refuses.
    """
    with tempfile.TemporaryDirectory() as folder:
        _run_protoc(ROOT / "protos" / generation, Path(folder))
        files = sorted(path for path in Path(folder).rglob("*") if path.is_file())
        return {path.relative_to(folder): path.read_text() for path in files}


def _run_protoc(protos: Path, target: Path) -> None:
    from grpc_tools import protoc  # type: ignore[import-untyped]

    # The plug-in and the formatter that it runs live beside the interpreter.
    os.environ["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    # Only files that define messages: a service would become an empty package.
    sources = sorted(path.name for path in protos.glob("*.proto") if "\nmessage " in path.read_text())
    options = [f"--python_betterproto2_out={target}", f"--python_betterproto2_opt={NO_STUBS}"]
    if status := protoc.main(["protoc", f"-I{protos}", *options, *sources]):
        raise RuntimeError(f"protoc ended with {status}")


def files() -> dict[Path, str | None]:
    """Return the text of every file of the generated packages; None of what no longer belongs to one."""
    found: dict[Path, str | None] = {}
    for generation, package in GENERATIONS.items():
        target = ROOT / "kmsconn" / "_generated" / package
        present = [path for path in target.rglob("*") if path.suffix in {".py", ".typed"}]
        found |= dict.fromkeys(present) | {target / name: text for name, text in generate(generation).items()}
    return found
