"""``kmsconn doctor`` as a process, with emulated dependencies on loopback: before a start, beside a connector, after all is gone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import trio

from tests.e2e.test_cli_process import PATIENCE, config, kmsconn, running, until
from tests.e2e.test_process import scene
from tests.unit.config.sample_values import KEY

pytestmark = pytest.mark.sampled


async def doctor(path: Path, *more: str) -> tuple[int, str]:
    """Run the doctor and return its exit status and what it printed."""
    status, out, err = await kmsconn("doctor", "-c", str(path), *more)
    return status, out + err


def names(folder: Path) -> set[str]:
    """Return the names of the files in a folder."""
    return {one.name for one in folder.iterdir()}


async def checks(path: Path) -> dict[str, Any]:
    """Run the doctor and return its lines by what was checked."""
    status, out = await doctor(path, "--json")
    found = json.loads(out)
    assert found["well"] is (status == 0)
    return {line["checked"]: line for line in found["checks"]}


async def test_before_a_start_beside_a_connector_and_after_all_is_gone(tmp_path: Path) -> None:
    """The doctor makes no file; beside a connector it is told of its journal and its port; without dependencies it ends with 1."""
    with trio.fail_after(3 * PATIENCE):
        lasting = ("--rate", "4", "--duration", "600")
        async with scene(tmp_path, *lasting, reply_timeout=3 * PATIENCE) as emulated:
            path = emulated.config
            await trio.sleep(2)
            files = names(tmp_path)
            status, out = await doctor(path)
            assert status == 0, out
            assert names(tmp_path) == files

            async with running(path) as (process, lines):
                await until(lines, "ready")
                await until(lines, "reply_included")
                found = await checks(path)
                faults = [line for line in found.values() if line["status"] == "fault"]
                assert faults == []
                [journal] = [line for name, line in found.items() if name.endswith(".db")]
                assert "in use by process" in journal["found"]
                [port] = [line for name, line in found.items() if name.startswith("monitoring_endpoint")]
                assert port["found"].startswith("a running kmsconn")
                assert process.poll() is None
        status, out = await doctor(path)
        assert status == 1
        assert "host and port in gateway_url" in out


async def test_without_dependencies_each_is_named_and_no_secret_is(tmp_path: Path) -> None:
    """Status 1; the private key is nowhere."""
    with trio.fail_after(PATIENCE):
        status, out = await doctor(config(tmp_path))
    assert status == 1
    assert "start the Core" in out
    assert KEY.removeprefix("0x") not in out
