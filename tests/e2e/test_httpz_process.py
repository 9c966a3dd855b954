"""The real commands for the first generation, as processes over sockets: dependencies of that era, and a connector that is killed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import trio

from tests.e2e.test_process import COUNT, PATIENCE, assert_well, command, scene

pytestmark = pytest.mark.rotating

PROFILE = ("--profile", "httpz-rc7")


async def test_pairs_of_requests_are_answered_once_through_a_kill(tmp_path: Path) -> None:
    async with scene(tmp_path, *PROFILE, "--forms", "public", "user") as running:
        async with running.connector() as connector:
            await trio.sleep(2)
            connector.kill()
            await connector.wait()
        async with running.connector():
            assert_well(await running.verdict(), COUNT)


async def test_the_configuration_of_that_era_is_found_valid(tmp_path: Path) -> None:
    async with scene(tmp_path, *PROFILE) as running:
        validating = command("validate", "-c", str(running.config))
        ended = await trio.run_process(validating, capture_stdout=True)
    said = ended.stdout.decode()
    assert said.splitlines()[-1] == f"the configuration {running.config} is valid"
    assert "httpz-rc7" in said
    assert "warning" not in said


async def test_the_demonstration_of_the_first_generation_ends_well() -> None:
    with trio.fail_after(PATIENCE):
        demo = command("demo", *PROFILE, "--requests", "8", "--rate", "20", "--json")
        ended = await trio.run_process(demo, capture_stdout=True)
    said = json.loads(ended.stdout)
    counts = {name: said[name] for name in ("emitted", "answered", "open", "doubled", "strays")}
    assert counts == {"emitted": 8, "answered": 8, "open": 0, "doubled": 0, "strays": 0}
