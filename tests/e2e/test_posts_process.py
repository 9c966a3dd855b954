"""Decryptions over HTTP with the real command: relayers that repeat their posts, a connector that is killed, and one without the extra."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from tests.e2e.test_process import SECONDS, assert_well, scene

pytestmark = pytest.mark.sampled

POSTS = 10


async def test_kills_keep_no_client_without_its_answer(tmp_path: Path) -> None:
    """The Core computes for half a second, so that posts are in work whenever the connector dies."""
    async with scene(tmp_path, "--posts", str(POSTS), "--computing", "0.5") as running:
        running.lock = "http.txt"
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


async def test_without_the_extra_the_start_is_refused_with_the_command_to_install_it(tmp_path: Path) -> None:
    async with (
        scene(tmp_path, "--posts", "1", "--rate", "0", "--duration", "1") as running,
        running.connector() as connector,
    ):
        with trio.fail_after(40):
            assert await connector.wait() == 3
        assert "pip install 'kmsconn[http]'" in running.tails()
