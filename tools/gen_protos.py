"""Writes the protobuf message classes of each generation into ``kmsconn/_generated``; never gRPC stubs.

``make gen`` calls it; with ``--check`` it writes nothing and exits with 1 when the classes are stale.
"""

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


def stale(generation: str, package: str) -> list[Path]:
    """Return the files of a generated package that differ from what would be generated now."""
    target = ROOT / "kmsconn" / "_generated" / package
    wanted = {target / name: text for name, text in generate(generation).items()}
    present = {path for path in target.rglob("*") if path.suffix in {".py", ".typed"}}
    changed = {path for path, text in wanted.items() if not path.exists() or path.read_text() != text}
    return sorted(changed | (present - set(wanted)))


def write(generation: str, package: str) -> None:
    """Generate one package anew and remove what no longer belongs to it."""
    target = ROOT / "kmsconn" / "_generated" / package
    texts = generate(generation)
    for path in stale(generation, package):
        name = path.relative_to(target)
        if name not in texts:
            path.unlink()
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(texts[name])


def main(arguments: list[str]) -> int:
    """Write all packages, or with ``--check`` name the stale files. Returns the exit status."""
    if "--check" not in arguments:
        for generation, package in GENERATIONS.items():
            write(generation, package)
        return 0
    found = [path for generation, package in GENERATIONS.items() for path in stale(generation, package)]
    for path in found:
        print(f"stale: {path.relative_to(ROOT)}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
