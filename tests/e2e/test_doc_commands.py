"""The command lines of the documentation run as they stand there, in a folder of their own; the others are parsed (tests/architecture).

``kmsconn`` and ``.venv/bin/python`` are those of this environment. Ports that a page names are replaced by free ones.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import STDOUT

import pytest
import trio

from kmsconn.emulator.network import reserve_ports
from tests.doc_commands import BESIDE, ENDS, ROOT, STAYS

PATIENCE = 180  # seconds of real time; a loaded machine starts processes slowly
ENDING = 40  # seconds: longer than drain_grace
TOML = re.compile(r"^```toml\n(.*?)^```$", re.MULTILINE | re.DOTALL)
FIRST, DRILL, HTTPZ, RUN, RUN_AGAIN = STAYS


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder that looks like a checkout with its environment."""
    programs = tmp_path / ".venv" / "bin"
    programs.mkdir(parents=True)
    for name, words in (("kmsconn", "-m kmsconn.operate.commands.main"), ("python", "")):
        program = programs / name
        program.write_text(f'#!/bin/sh\nexec {sys.executable} {words} "$@"\n')
        program.chmod(0o755)
    (tmp_path / "docs").symlink_to(ROOT / "docs")
    blocks = TOML.findall((ROOT / "docs" / "first-node.md").read_text(encoding="utf-8"))
    (tmp_path / "first-node.toml").write_text("\n".join(blocks))
    (tmp_path / "first-node.toml").chmod(0o600)
    (tmp_path / "wallet.key").write_text("11" * 32)
    (tmp_path / "wallet.key").chmod(0o600)
    (tmp_path / ".curlrc").write_text("fail\n")  # an HTTP error is an error of the command
    (tmp_path / "bad.toml").write_text('kms_core_endpont = "http://127.0.0.1:9"\n')
    return tmp_path


def environment(folder: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith("KMS_CONNECTOR_")}
    own = {"PATH": f"{folder}/.venv/bin:{kept['PATH']}", "PYTHONPATH": str(ROOT), "CURL_HOME": str(folder)}
    return kept | own


async def ended(command: str, folder: Path) -> tuple[int, str]:
    """Run a command line in a shell; return its status and what it printed."""
    shell = ["bash", "-o", "pipefail", "-c", command]
    with trio.fail_after(PATIENCE):
        run = await trio.run_process(
            shell, check=False, capture_stdout=True, stderr=STDOUT, cwd=folder, env=environment(folder)
        )
    return run.returncode, run.stdout.decode()


@asynccontextmanager
async def started(command: str, folder: Path, log: str) -> AsyncIterator[Path]:
    """Start a command line, give the file of what it prints, and end it with SIGTERM after the block."""
    path = folder / log
    with path.open("wb") as file:
        process = await trio.lowlevel.open_process(
            ["bash", "-c", f"exec {command}"], stdout=file, stderr=STDOUT, cwd=folder, env=environment(folder)
        )
        try:
            yield path
        finally:
            process.send_signal(signal.SIGTERM)
            with trio.move_on_after(ENDING, shield=True):
                await process.wait()
            process.kill()


async def line_with(path: Path, text: str) -> str:
    """Wait until a line with a text is printed."""
    while not (found := [line for line in printed_in(path) if text in line]):
        await trio.sleep(0.05)
    return found[0]


def printed_in(path: Path) -> list[str]:
    return path.read_text(encoding="utf-8").splitlines()[:-1]  # the last one may be unfinished


@pytest.fixture
def toml(folder: Path) -> Path:
    """Make the configuration that an emulation writes, of dependencies that are gone."""
    command = [sys.executable, "-m", "kmsconn.operate.commands.main", *FIRST.replace("60", "0.1").split()[1:]]
    subprocess.run(command, cwd=folder, env=environment(folder), check=False, timeout=PATIENCE)  # noqa: S603 - our own command
    return folder / "kmsconn.toml"


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize(("command", "status"), ENDS.items(), ids=ENDS)
async def test_a_command_line_ends_as_it_should(
    command: str, status: int, folder: Path, request: pytest.FixtureRequest
) -> None:
    if "kmsconn.toml" in command:
        request.getfixturevalue("toml")
    found, printed = await ended(command, folder)
    assert found == status, printed


@pytest.mark.slow
@pytest.mark.rotating
@pytest.mark.parametrize(("emulate", "run"), [(FIRST, RUN), (DRILL, RUN_AGAIN)], ids=["quickstart", "drills"])
async def test_a_connector_and_what_a_page_does_beside_it(emulate: str, run: str, folder: Path) -> None:
    with trio.fail_after(PATIENCE), reserve_ports(1) as (control,):
        async with started(emulate.replace("9200", str(control)), folder, "emulate.log"):
            while not (folder / "kmsconn.toml").exists():
                await trio.sleep(0.05)
            async with started(run, folder, "run.log") as log:
                begun = await line_with(log, "started")
                place = re.search(r"http://(127\.0\.0\.1:\d+)", begun)
                assert place is not None, begun
                await line_with(log, "reply_included")
                await line_with(log, "ready")
                for command in beside(emulate):
                    there = re.sub(r"127\.0\.0\.1:(9100|46169)", place[1], command)
                    found, printed = await ended(there.replace("9200", str(control)), folder)
                    assert found == BESIDE[command], (command, printed)


def beside(emulate: str) -> list[str]:
    """Return what is done beside an emulation: faults only where it takes them."""
    kept = [one for one in BESIDE if shutil.which("curl") or not one.startswith("curl")]
    return [one for one in kept if ("9200" in one) == ("9200" in emulate)]


@pytest.mark.slow
@pytest.mark.rotating
async def test_the_first_generation_is_served_and_logged(folder: Path) -> None:
    with trio.fail_after(PATIENCE):
        async with started(HTTPZ, folder, "emulate.log") as log:
            await line_with(log, "gateway  request")
