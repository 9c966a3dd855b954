"""A committee of four as processes over sockets: one emulator, four connectors, of whom one is killed for good."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.emulator.config_file import member_config
from kmsconn.emulator.traffic import KEY_ID

from .test_process import STARTING, command, process

pytestmark = pytest.mark.sampled

MEMBERS, RATE, SECONDS = 4, 5, 3
COUNT = RATE * SECONDS


async def test_a_committee_with_a_node_killed_finds_consensus_on_every_request(tmp_path: Path) -> None:
    """Three of four must agree; the dead one's verdict says what it owes."""
    config = tmp_path / "k.toml"
    files = [member_config(config, member, MEMBERS) for member in range(MEMBERS)]
    arguments = ["--members", str(MEMBERS), "--rate", str(RATE), "--duration", str(SECONDS), "--json"]
    async with AsyncExitStack() as stack:
        emulate = command("emulate", "--write-config", str(config), *arguments)
        emulator = await stack.enter_async_context(process(emulate, stdout=subprocess.PIPE))
        with trio.fail_after(STARTING):
            while not all(file.exists() for file in files):
                await trio.sleep(0.05)
        logs = [stack.enter_context(file.with_suffix(".log").open("w")) for file in files]
        *_, doomed = [
            await stack.enter_async_context(
                process(command("run", "-c", str(file)), stdout=log, stderr=subprocess.STDOUT)
            )
            for file, log in zip(files, logs, strict=True)
        ]
        while '"reply_included"' not in files[-1].with_suffix(".log").read_text():
            await trio.sleep(0.05)
        doomed.kill()
        verdict = await said(emulator)
    assert (verdict["emitted"], verdict["consensus"], verdict["status"]) == (COUNT, COUNT, 0)
    assert [node["open"] for node in verdict["nodes"][:-1]] == [0, 0, 0]
    assert (verdict["doubled"], verdict["strays"]) == (0, 0)


async def said(emulator: trio.Process) -> dict[str, Any]:
    """Wait for the end of the emulator and return its last line, with its exit status."""
    assert emulator.stdout is not None
    text = b"".join([chunk async for chunk in emulator.stdout])
    found: dict[str, Any] = json.loads(text.decode().splitlines()[-1])
    return found | {"status": await emulator.wait()}


async def test_a_grpcio_server_stands_in_the_place_of_a_core(tmp_path: Path) -> None:
    """It is led through announcement, key, CRS, context and epoch; then its plaintexts are the values in the file."""
    config, ciphertexts = tmp_path / "k.toml", tmp_path / "ciphertexts.json"
    entries = []
    for number, (kind, value) in enumerate((("euint8", 200), ("euint64", 2**40), ("ebool", True))):
        (tmp_path / f"{number}.bin").write_bytes(bytes([number]) * 500)
        entry = {"path": f"{number}.bin", "type": kind, "value": value, "format": "compressed_on_cpu"}
        entries.append(entry | {"key_id": f"{KEY_ID:064x}"})
    ciphertexts.write_text(json.dumps(entries))
    serving = [sys.executable, "-m", "tests.real.grpcio_core_process", "of the test", str(ciphertexts)]
    async with AsyncExitStack() as stack:
        core = await stack.enter_async_context(
            process(serving, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        )
        assert core.stdout is not None
        port, signer = (await core.stdout.receive_some()).decode().split()
        real = ["--core", f"http://127.0.0.1:{port}", "--signer", signer, "--params", "test"]
        load = ["--ciphertexts", str(ciphertexts), "--rate", str(RATE), "--duration", str(SECONDS), "--json"]
        emulator = await stack.enter_async_context(
            process(command("emulate", "--write-config", str(config), *real, *load), stdout=subprocess.PIPE)
        )
        with trio.fail_after(STARTING):
            while not config.exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.05)
        log = stack.enter_context(config.with_suffix(".log").open("w"))
        await stack.enter_async_context(
            process(command("run", "-c", str(config)), stdout=log, stderr=subprocess.STDOUT)
        )
        verdict = await said(emulator)
    assert verdict["keys"]["steps"] == ["announcement", "key", "CRS", "context", "epoch"]
    assert (verdict["answered"], verdict["open"], verdict["keys"]["well"]) == (COUNT, 0, True)
    assert (verdict["plaintexts"]["compared"] > 0, verdict["plaintexts"]["wrong"]) == (True, 0)
    assert verdict["status"] == 0
