"""``kmsconn run`` as a process whose dependencies never answer: it starts, says why it is not ready, refuses a twin, and ends at once."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from subprocess import PIPE
from tempfile import TemporaryDirectory
from typing import Any

import httpx2
import pytest
import trio

from tests.unit.config.sample_values import KEY, write_toml

PATIENCE = 60  # seconds of real time; a loaded machine starts processes slowly
LOOK_AGAIN = 0.02  # seconds
TAIL = 30  # lines of a log
NOBODY = "http://127.0.0.1:9"


def config(folder: Path, **changes: Any) -> Path:
    chains = [{"url": NOBODY, "chain_id": 5, "acl_address": "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D"}]
    silent = {
        "gateway_url": NOBODY,
        "ethereum_url": NOBODY,
        "kms_core_endpoints": [NOBODY],
        "host_chains": chains,
    }
    own = {
        "journal": f"sqlite:///{folder}/journal.db",
        "monitoring_endpoint": "127.0.0.1:0",
        "log_format": "json",
    }
    return write_toml(folder, {**silent, **own, "drain_grace": "0s", **changes})


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("KMS_CONNECTOR_")}


@asynccontextmanager
async def running(
    path: Path, *more: str
) -> AsyncIterator[tuple[trio.Process, AsyncIterator[dict[str, Any]]]]:
    """Run ``kmsconn run``; gives the process and its log lines. Killed at the end if it is still there.

    It writes into a file: a pipe that nobody reads for a while is full after 64 KiB, and then the connector stands still.
    """
    command = [sys.executable, "-m", "kmsconn.operate.commands.main", "run", "-c", str(path), *more]
    with TemporaryDirectory() as folder:
        log, errors = Path(folder, "log"), Path(folder, "errors")
        with log.open("wb") as out, errors.open("wb") as err:  # noqa: ASYNC230 - new files
            process = await trio.lowlevel.open_process(command, stdout=out, stderr=err, env=environment())
        try:
            yield process, log_lines(process, log)
        except BaseException:
            show(log, errors)
            raise
        finally:
            process.kill()
            with trio.move_on_after(PATIENCE, shield=True):
                await process.wait()


def show(*files: Path) -> None:
    """Print the ends of files; pytest shows them with a test that failed, also where its time was up."""
    for file in files:
        lines = file.read_text(errors="replace").splitlines()[-TAIL:]
        sys.stderr.write("".join(f"{file.name}: {line}\n" for line in lines))


async def log_lines(process: trio.Process, log: Path) -> AsyncIterator[dict[str, Any]]:
    """Yield what a process logs into a file, until it has ended."""
    kept = b""
    with log.open("rb") as file:
        while True:
            has_ended = process.poll() is not None
            *whole, kept = (kept + file.read()).split(b"\n")
            for line in whole:
                yield json.loads(line)
            if has_ended:
                return
            await trio.sleep(LOOK_AGAIN)


async def until(lines: AsyncIterator[dict[str, Any]], event: str) -> dict[str, Any]:
    async for line in lines:
        if line["event"] == event:
            return line
    raise AssertionError(f"the log ended before {event}")


async def kmsconn(*arguments: str) -> tuple[int, str, str]:
    """Run a command; return its status and what it printed."""
    result = await trio.run_process(
        [sys.executable, "-m", "kmsconn.operate.commands.main", *arguments],
        capture_stdout=True,
        capture_stderr=True,
        check=False,
        env=environment(),
    )
    return result.returncode, result.stdout.decode(), result.stderr.decode()


async def as_json(*arguments: str) -> Any:
    """Run a command that ends well; return what it printed."""
    status, out, err = await kmsconn(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


@asynccontextmanager
async def listening(
    path: Path, control: Path
) -> AsyncIterator[tuple[trio.Process, AsyncIterator[dict[str, Any]]]]:
    """Run ``kmsconn run`` and wait until it listens at its control socket."""
    async with running(path) as (process, lines):
        await until(lines, "wallet")
        while not control.exists():  # noqa: ASYNC240, ASYNC110 - another process makes it
            await trio.sleep(0.01)
        yield process, lines


async def test_without_dependencies_it_names_them_refuses_a_twin_and_ends_with_0_at_sigterm(
    tmp_path: Path,
) -> None:
    with trio.fail_after(PATIENCE):
        path = config(tmp_path)
        async with running(path) as (process, lines), httpx2.AsyncClient(trust_env=False) as client:
            url = (await until(lines, "started"))["monitoring"]
            await until(lines, "alert_raised")
            assert (await client.get(f"{url}/liveness")).status_code == 200
            health = await client.get(f"{url}/healthz")
            assert health.status_code == 503
            assert "gateway" in health.json()["details"]
            assert "kmsconn_ready 0.0" in (await client.get(f"{url}/metrics")).text
            status, _, said = await kmsconn("run", "-c", str(path))
            assert (status, "in use" in said) == (3, True)
            process.send_signal(signal.SIGTERM)
            assert (await until(lines, "draining"))["signal"] == "SIGTERM"
            await until(lines, "ended")
            assert await process.wait() == 0


async def test_faults_end_it_with_2_and_show_no_secret(tmp_path: Path) -> None:
    with trio.fail_after(PATIENCE):
        status, _, said = await kmsconn("run", "-c", str(config(tmp_path, private_key=KEY[:-2])))
    assert status == 2
    assert "private_key" in said
    assert KEY[:8] not in said


async def test_no_secret_stands_in_the_log_or_in_what_the_monitoring_address_says(tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("hunter2-is-the-token")
    token.chmod(0o600)
    secretive = config(
        tmp_path,
        gateway_url="http://user:hunter2@127.0.0.1:9/?key=hunter2",
        status_page_token_file=str(token),
    )
    paths = (
        "/status.json",
        "/status",
        "/status.js",
        "/metrics",
        "/healthz",
        "/version",
        "/status/requests/1",
    )
    with trio.fail_after(PATIENCE):
        async with running(secretive) as (process, lines), httpx2.AsyncClient(trust_env=False) as client:
            url = (await until(lines, "started"))["monitoring"]
            logged = [await until(lines, "alert_raised")]
            assert (await client.get(f"{url}/status.json")).status_code == 401
            shown = {"authorization": "Bearer hunter2-is-the-token"}
            answers = {path: (await client.get(url + path, headers=shown)) for path in paths}
            process.send_signal(signal.SIGTERM)
            logged += [line async for line in lines]
    assert answers["/status.json"].json()["alerts"]
    said = json.dumps(logged) + "".join(f"{answer.headers}{answer.text}" for answer in answers.values())
    assert not [secret for secret in ("hunter2", KEY, KEY[:8]) if secret in said]


async def test_a_network_fills_in_what_is_published_and_the_file_wins(tmp_path: Path) -> None:
    path = tmp_path / "least.toml"
    lines = (
        'gateway_url = "http://127.0.0.1:9"',
        'ethereum_url = "http://127.0.0.1:9"',
        'kms_core_endpoints = ["http://127.0.0.1:9"]',
        f'private_key = "{KEY}"',
        'decryption_contract.address = "0xA4dc265D54D25D41565c60d36097E8955B03decD"',
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o600)
    _, said, _ = await kmsconn("validate", "-c", str(path), "--network", "testnet")
    assert "gateway      10901 at" in said
    assert "ACL 0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D" in said
    assert "decryption   0xA4dc265D54D25D41565c60d36097E8955B03decD" in said
    assert "chain 80002 of testnet is not listed" in said


async def test_a_file_of_httpz_starts_and_its_settings_and_wallet_are_logged(tmp_path: Path) -> None:
    path = tmp_path / "kms-connector.toml"
    lines = (
        'profile = "httpz-rc7"',
        'gwl2_url = "ws://user:hunter2@127.0.0.1:9/path"',
        'kms_core_endpoint = "http://127.0.0.1:9"',
        'mnemonic = "test test test test test test test test test test test junk"',
        "chain_id = 31337",
        'decryption_manager_address = "0x5FbDB2315678afecb367f032d93F642f64180aa3"',
        'httpz_address = "0x0000000000000000000000000000000000000001"',
        'monitoring_endpoint = "127.0.0.1:0"',
        'log_format = "json"',
        f'journal = "sqlite:///{tmp_path}/journal.db"',
        'drain_grace = "0s"',
    )
    path.write_text("\n".join(lines), encoding="utf-8")
    path.chmod(0o600)
    seen = []
    with trio.fail_after(PATIENCE):
        async with running(path, "--name", "kms-connector-2") as (process, log):
            async for line in log:
                seen.append(line)
                if line["event"] == "wallet":
                    process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    assert {"profile", "tx sender", "gateway", "journal"} <= {line.get("name") for line in seen}
    assert [line["address"] for line in seen if line["event"] == "wallet"] == [
        "0x3c44cdddb6a900fa2b585dd299e03d12fa4293bc"
    ]
    assert "ended" in {line["event"] for line in seen}
    assert not any(secret in json.dumps(seen) for secret in ("hunter2", "junk", "/path"))


async def test_a_reader_that_goes_away_ends_a_command_without_a_word(tmp_path: Path) -> None:
    """As in ``kmsconn config explain --all | head -n 1``."""
    command = [sys.executable, "-m", "kmsconn", "config", "explain", "--all", "-c", str(config(tmp_path))]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(command, stdout=PIPE, stderr=PIPE, env=environment())
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.aclose()
        assert [chunk async for chunk in process.stderr] == []
        assert await process.wait() == 141


FROM_THE_FIRST_LINE = "import runpy, kmsconn; print(flush=True); runpy.run_module('kmsconn', run_name='__main__', alter_sys=True)"
"""Says that Python itself has started, and has found us: what a signal does before that is Python's own affair."""


@pytest.mark.parametrize("moment", [0.1, 0.3, 1.0])
async def test_ctrl_c_in_the_first_second_ends_without_a_traceback(tmp_path: Path, moment: float) -> None:
    command = [sys.executable, "-c", FROM_THE_FIRST_LINE, "run", "-c", str(config(tmp_path))]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(command, stdout=PIPE, stderr=PIPE, env=environment())
        assert process.stdout is not None
        assert process.stderr is not None
        await process.stdout.receive_some()
        await trio.sleep(moment)
        process.send_signal(signal.SIGINT)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(read_all, process.stdout)
            said = await read_all(process.stderr)
        assert b"Traceback" not in said
        assert await process.wait() in {0, 130, -signal.SIGINT}


async def read_all(stream: trio.abc.ReceiveStream) -> bytes:
    return b"".join([bytes(chunk) async for chunk in stream])


async def test_sigterm_while_the_configuration_is_read_ends_well(tmp_path: Path) -> None:
    """The configuration is a pipe: the process stands there until somebody writes."""
    pipe = tmp_path / "kmsconn.toml"
    os.mkfifo(pipe)
    command = [sys.executable, "-m", "kmsconn", "run", "-c", str(pipe)]
    with trio.fail_after(PATIENCE):
        process = await trio.lowlevel.open_process(command, env=environment())
        try:
            writer = await trio.to_thread.run_sync(os.open, pipe, os.O_WRONLY, abandon_on_cancel=True)
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
            os.close(writer)
        finally:
            process.kill()
