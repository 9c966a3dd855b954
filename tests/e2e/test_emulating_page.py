"""The commands of docs/emulating.md, as they stand there: a committee of four with one killed, and a Core of one's own.

Only durations are shortened, and the address and signer of the Core are those of a server of grpcio.
"""

from __future__ import annotations

import re
import shlex
import signal
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import trio

from .test_process import PATIENCE, STARTING, process

pytestmark = pytest.mark.sampled

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "emulating.md").read_text(encoding="utf-8")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
SHORT = ("--duration 60", "--duration 3")


def section(title: str) -> str:
    """Return what stands under a heading of the page."""
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def commands(title: str, **replaced: str) -> list[str]:
    """Return the commands of a section in their order, with durations shortened and texts replaced."""
    found = [
        body.removeprefix("$ ").strip() for kind, body in FENCE.findall(section(title)) if kind == "console"
    ]
    for old, new in (SHORT, *replaced.items()):
        found = [command.replace(old, new) for command in found]
    return found


def shell(script: str, *, jobs: bool = False) -> list[str]:
    """Return a command line that runs a script in which ``kmsconn`` is the one of this environment."""
    python = shlex.quote(sys.executable)
    defined = f'kmsconn() {{ exec {python} -m kmsconn.operate.commands.main "$@"; }}\n'
    return ["bash", *(["-m"] if jobs else []), "-c", defined + script]


async def first_line(running: trio.Process) -> str:
    """Return the first line that a process prints."""
    text = b""
    while b"\n" not in text:
        assert running.stdout is not None
        text += await running.stdout.receive_some()
    return text.decode()


async def until_there(*paths: Path) -> None:
    with trio.fail_after(STARTING):
        while not all(path.exists() for path in paths):  # noqa: ASYNC110 - another process makes them
            await trio.sleep(0.05)


async def until_said(path: Path, text: str) -> None:
    """Wait until a process has written something into its file."""
    with trio.fail_after(PATIENCE):
        while text not in await trio.Path(path).read_text():
            await trio.sleep(0.05)


async def test_a_committee_with_a_node_killed_finds_consensus_on_every_request(tmp_path: Path) -> None:
    """Three of four must agree. The second shell ends its connectors when its input ends."""
    emulate, run, kill = commands("A committee of four")
    async with AsyncExitStack() as stack:
        out = stack.enter_context((tmp_path / "emulate.out").open("w"))
        emulator = await stack.enter_async_context(process(shell(emulate), stdout=out, cwd=tmp_path))
        await until_there(*(tmp_path / f"emu-{n}.toml" for n in (1, 2, 3, 4)))
        script = f"{run}\nread line\n{kill}\nread line\nkill $(jobs -p)\nwait"
        second = await stack.enter_async_context(
            process(shell(script, jobs=True), stdin=subprocess.PIPE, cwd=tmp_path)
        )
        assert second.stdin is not None
        await until_there(tmp_path / "run-4.log")
        await until_said(tmp_path / "run-4.log", '"reply_included"')
        await second.stdin.send_all(b"\n")
        status = await emulator.wait()
        await second.stdin.aclose()
        await second.wait()
    said = (tmp_path / "emulate.out").read_text().splitlines()
    assert (said[0].split()[:2], said[1].split()) == (["emitted", "15"], ["consensus", "15"])
    assert all(line.split()[2:6] == ["15", "answered,", "0", "open,"] for line in said[2:5])
    assert (said[-1], status) == ("every request found consensus", 0)


async def test_a_core_of_ones_own_is_led_and_its_plaintexts_are_right(tmp_path: Path) -> None:
    """A server of grpcio stands in the place of the Core. The first emulation ends by Ctrl-C, the second by itself."""
    (ciphertexts,) = (body for kind, body in FENCE.findall(section("A Core of one's own")) if kind == "json")
    (tmp_path / "ciphertexts.json").write_text(ciphertexts)
    for name in re.findall(r'"(\w+\.bin)"', ciphertexts):
        (tmp_path / name).write_bytes(name.encode() * 50)
    serving = [
        sys.executable,
        "-m",
        "tests.real.grpcio_core_process",
        "page",
        str(tmp_path / "ciphertexts.json"),
    ]
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(
            process(
                serving, reply_timeout=2 * PATIENCE, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
            )
        )
        port, signer = (await first_line(core)).split()
        lead, run, decrypt, again = commands(
            "A Core of one's own", **{"50051": port, "0x" + "11" * 20: signer}
        )
        leading = await two_shells(tmp_path, lead, run, until="step 5 of 5 is done: epoch")
        decrypting = await two_shells(tmp_path, decrypt.replace("--rate 1", "--rate 5"), again)
    assert "keys: 5 of 5 steps (announcement, key, CRS, context, epoch)" in leading
    assert re.search(r"^plaintexts: [1-9]\d* public replies compared, 0 wrong$", decrypting, re.MULTILINE)
    assert "15 answered, 0 open, 0 doubled" in decrypting
    assert decrypting.endswith("every request was answered once\nstatus 0\n")


async def two_shells(folder: Path, emulate: str, run: str, *, until: str = "") -> str:
    """Run the emulator and a connector until the former ends, or has said something; return what it said, with its exit status."""
    said, config = folder / "said", folder / "own.toml"
    config.unlink(missing_ok=True)
    async with AsyncExitStack() as stack:
        out = stack.enter_context(said.open("w"))
        first = process(shell(emulate), stdout=out, stderr=subprocess.STDOUT, cwd=folder)
        emulator = await stack.enter_async_context(first)
        await until_there(config)
        log = stack.enter_context((folder / "run.log").open("w"))
        await stack.enter_async_context(process(shell(run), stdout=log, stderr=log, cwd=folder))
        if until:
            await until_said(said, until)
            emulator.send_signal(signal.SIGINT)
        status = await emulator.wait()
    return said.read_text() + f"status {status}\n"
