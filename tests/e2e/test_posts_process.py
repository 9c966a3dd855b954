"""Decryptions over HTTP with the real command: relayers that repeat their posts, and a connector that is killed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.test_process import SECONDS, assert_well, scene

pytestmark = pytest.mark.sampled

POSTS = 10


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
