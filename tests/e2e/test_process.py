"""The real commands as processes over sockets: killed and started again, for both generations, as a shadow, and the bench's own client."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from argparse import Namespace
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio

from bench.connector import STRAIGHT, Recipe
from bench.offering import open_pair
from bench.shadow import run
from kmsconn.emulator.config_file import journal_beside

PATIENCE = 60.0  # seconds for a whole test on a busy machine; an undisturbed run takes about seven
RATE, SECONDS = 20, 3
COUNT = RATE * SECONDS
TAIL = 30  # lines of a log
STARTING = 40.0  # seconds until the emulator has written its file, on a busy machine; undisturbed it is one


def command(*arguments: str) -> list[str]:
    """Return the command line of ``kmsconn`` in this environment."""
    return [sys.executable, "-m", "kmsconn.operate.commands.main", *arguments]


def installed(lock: str, *arguments: str) -> list[str]:
    """Return the same as in an environment that has the packages of a lock file and no others."""
    return [sys.executable, "-m", "tests.installations", lock, *arguments]


@attrs.define
class Scene:
    """An emulator that runs, and the configuration file of its connector."""

    config: Path
    emulator: trio.Process
    logs: Path
    lock: str
    _runs: int = 0

    @property
    def journal(self) -> Path:
        return journal_beside(self.config)

    def wipe_journal(self) -> None:
        """Delete the journal with everything beside it."""
        for path in self.journal.parent.glob(f"{self.journal.name}*"):
            path.unlink()

    @asynccontextmanager
    async def connector(self, **variables: str) -> AsyncIterator[trio.Process]:
        """Run the connector with the packages of an operator's; leaving the block kills it if it still lives.

        ``variables`` stand in its environment beside ours.
        """
        self._runs += 1
        with (self.logs / f"run-{self._runs}.log").open("w") as log:
            arguments = installed(self.lock, "run", "-c", str(self.config))
            options: dict[str, Any] = {
                "stdout": log,
                "stderr": subprocess.STDOUT,
                "env": {**os.environ, **variables},
            }
            async with process(arguments, **options) as connector:
                yield connector

    async def is_included(self) -> None:
        """Return once the running connector has got a reply included: however slow the machine, it is at work then."""
        await self.has_logged('"reply_included"')

    async def has_logged(self, text: str) -> None:
        """Return once the running connector has logged a text."""
        log = self.logs / f"run-{self._runs}.log"
        while text not in log.read_text():
            await trio.sleep(0.05)

    def tails(self) -> str:
        """Return the ends of all logs, for who has to find out why a test failed."""
        texts = {
            path.name: path.read_text().splitlines()[-TAIL:] for path in sorted(self.logs.glob("run-*.log"))
        }
        return "".join(f"{name}: {line}\n" for name, lines in texts.items() for line in lines)

    async def verdict(self) -> dict[str, Any]:
        """Wait for the end of the emulator and return its last line, with its exit status."""
        assert self.emulator.stdout is not None
        text = b"".join([chunk async for chunk in self.emulator.stdout])
        found: dict[str, Any] = json.loads(text.decode().splitlines()[-1])
        return found | {"status": await self.emulator.wait()}


@asynccontextmanager
async def process(
    arguments: list[str], *, reply_timeout: float = PATIENCE, **options: Any
) -> AsyncIterator[trio.Process]:
    """Run a process that does not outlive the block, within the reply_timeout of a test."""
    with trio.fail_after(reply_timeout):
        async with trio.open_nursery() as nursery:
            run = partial(trio.run_process, arguments, check=False, deliver_cancel=_kill, **options)
            running: trio.Process = await nursery.start(run)
            yield running
            nursery.cancel_scope.cancel()


async def _kill(running: trio.Process) -> None:
    running.kill()


@asynccontextmanager
async def scene(folder: Path, *more: str, reply_timeout: float = PATIENCE) -> AsyncIterator[Scene]:
    """Run the emulator, and begin once its configuration file is there."""
    config = folder / "kmsconn.toml"
    load = ["--rate", str(RATE), "--duration", str(SECONDS), "--json", *more]
    arguments = command("emulate", "--write-config", str(config), *load)
    async with process(arguments, reply_timeout=reply_timeout, stdout=subprocess.PIPE) as emulator:
        with trio.fail_after(STARTING):
            while not config.exists():  # noqa: ASYNC110 - another process makes it
                await trio.sleep(0.05)
        made = Scene(config, emulator, folder, "aws.txt" if "httpz-rc7" in more else "run.txt")
        try:
            yield made
        except BaseException:
            sys.stderr.write(made.tails())  # not a note: what says that the time is up is another exception
            raise


def assert_well(verdict: dict[str, Any], count: int = COUNT) -> None:
    """Check that every request was answered once."""
    counts = {name: verdict[name] for name in ("emitted", "answered", "doubled", "open", "strays", "status")}
    assert counts == {
        "emitted": count, "answered": count, "doubled": 0, "open": 0, "strays": 0, "status": 0,
    }  # fmt: skip


@pytest.mark.sampled
async def test_every_request_is_answered_once(tmp_path: Path) -> None:
    async with scene(tmp_path) as running, running.connector():
        assert_well(await running.verdict())


@pytest.mark.sampled
async def test_kills_lose_and_double_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path) as running:
        for lived in (1.2, 1.0):
            async with running.connector() as connector:
                await trio.sleep(lived)
                connector.kill()
                await connector.wait()
        async with running.connector():
            assert_well(await running.verdict())


@pytest.mark.sampled
async def test_a_drain_under_load_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with scene(tmp_path, "--computing", "0.5") as running:
        async with running.connector() as connector:
            await running.is_included()
            connector.send_signal(signal.SIGTERM)
            assert await connector.wait() == 0
        async with running.connector():
            assert_well(await running.verdict())


@pytest.mark.sampled
async def test_a_journal_that_is_deleted_is_rebuilt_from_the_chain(tmp_path: Path) -> None:
    async with scene(tmp_path) as running:
        async with running.connector() as connector:
            await trio.sleep(2)
            connector.kill()
            await connector.wait()
        running.wipe_journal()
        async with running.connector():
            assert_well(await running.verdict())


@pytest.mark.sampled
async def test_without_a_connector_everything_stays_open_until_somebody_ends_it(tmp_path: Path) -> None:
    async with scene(tmp_path) as running:
        await trio.sleep(SECONDS + 1)
        running.emulator.send_signal(signal.SIGINT)
        verdict = await running.verdict()
    assert (verdict["emitted"], verdict["open"], verdict["status"]) == (COUNT, COUNT, 1)


@pytest.mark.sampled
async def test_two_shards_share_the_requests(tmp_path: Path) -> None:
    async with scene(tmp_path, "--shards", "2", "--size", "70000") as running, running.connector():
        assert_well(await running.verdict())


@pytest.mark.sampled
@pytest.mark.parametrize("form", ["--json", "--seed=3"])
async def test_the_demonstration_ends_well(form: str) -> None:
    with trio.fail_after(PATIENCE):
        ended = await trio.run_process(
            command("demo", "--requests", "8", "--rate", "20", form), capture_stdout=True
        )
    assert b"8" in ended.stdout
    assert b"\x1b" not in ended.stdout


POSTS = 10


@pytest.mark.sampled
async def test_kills_keep_no_client_without_its_answer(tmp_path: Path) -> None:
    """The Core computes for half a second, so that posts are in work whenever the connector dies."""
    async with scene(tmp_path, "--posts", str(POSTS), "--computing", "0.5") as running:
        async with running.connector() as connector:
            await running.has_logged(
                '"http_public_decryption"'
            )  # a reply on chain may be there before the first post is
            connector.kill()
            await connector.wait()
        async with running.connector():
            verdict = await running.verdict()
        assert_well(verdict)
        posts = verdict["posts"]
        assert (posts["posted"], posts["codes"]) == (POSTS * SECONDS, {"ok": POSTS * SECONDS})
        assert posts["repeated"] > 0


PROFILE = ("--profile", "httpz-rc7")


@pytest.mark.rotating
async def test_pairs_of_requests_are_answered_once_through_a_kill(tmp_path: Path) -> None:
    async with scene(tmp_path, *PROFILE, "--forms", "public", "user") as running:
        async with running.connector() as connector:
            await trio.sleep(2)
            connector.kill()
            await connector.wait()
        async with running.connector():
            assert_well(await running.verdict(), COUNT)


@pytest.mark.rotating
async def test_the_configuration_of_that_era_is_found_valid(tmp_path: Path) -> None:
    async with scene(tmp_path, *PROFILE) as running:
        validating = command("validate", "-c", str(running.config))
        ended = await trio.run_process(validating, capture_stdout=True)
    said = ended.stdout.decode()
    assert said.splitlines()[-1] == f"the configuration {running.config} is valid"
    assert "httpz-rc7" in said
    assert "warning" not in said


@pytest.mark.rotating
async def test_the_demonstration_of_the_first_generation_ends_well() -> None:
    with trio.fail_after(PATIENCE):
        demo = command("demo", *PROFILE, "--requests", "8", "--rate", "20", "--json")
        ended = await trio.run_process(demo, capture_stdout=True)
    said = json.loads(ended.stdout)
    counts = {name: said[name] for name in ("emitted", "answered", "open", "doubled", "strays")}
    assert counts == {"emitted": 8, "answered": 8, "open": 0, "doubled": 0, "strays": 0}


@pytest.mark.rotating
async def test_a_shadow_process_compares_every_reply_and_tells_planted_differences(tmp_path: Path) -> None:
    """In the second half the shadow's shard of the Core gives other values for about half of the requests."""
    found = await run(Namespace(rate=10.0, seconds=4.0, plant=True, forms=["public"]), tmp_path)
    assert found.status["doubled"] == 0
    assert found.likenesses["equal"] + found.likenesses["different"] == found.offered == 40
    assert found.likenesses["different"] == found.told == found.differing > 0
    assert set(found.differences) == {"decryptedResult"}
    assert found.gained["count"] == found.offered


PAIR_PATIENCE = 90


async def test_the_straight_client_answers_every_request_once(tmp_path: Path) -> None:
    with trio.fail_after(PAIR_PATIENCE):
        async with open_pair(Recipe(STRAIGHT), tmp_path, size=64, computing=0.0) as pair:
            status = await pair.dependencies.get("/status")
            pair.look()
    assert (status["emitted"], status["answered"], status["doubled"]) == (20, 20, 0)
    assert pair.samples["connector"][0].resident > 0
