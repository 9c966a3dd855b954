"""The message classes in the package are those that the .proto texts give."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_the_message_classes_are_fresh() -> None:
    pytest.importorskip("grpc_tools")
    command = [sys.executable, str(ROOT / "tools" / "gen_protos.py"), "--check"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)  # noqa: S603 - our own script
    assert (run.returncode, run.stdout) == (0, "")


def test_the_message_classes_need_no_grpcio() -> None:
    packages = "kmsconn._generated.fhevm.kms.v1, kmsconn._generated.httpz_rc7.kms.v1"
    code = f"import sys, {packages}; print([n for n in sys.modules if n.startswith('grpc')])"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert run.stdout.strip() == "[]"
