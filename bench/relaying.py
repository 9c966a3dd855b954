"""``python -m bench.relaying``: relayers in a process of their own, which post prepared decryptions to a connector at a steady rate.

Reads the posts from a file, prints a line once it is ready and waits for one, then posts, and prints what became of each as JSON. A post
is repeated while its answer says that it may be, as a relayer does.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs
import trio

from kmsconn.emulator.load import HttpPost
from kmsconn.errors import Unreachable
from kmsconn.transport.dialling import real_ports
from kmsconn.transport.http import HttpClient, open_http

CONNECTIONS = 1000
"""Of all relayers to the connector: as many clients as may wait there."""
AGAIN_SECONDS = 1.0
"""Until a post is repeated that may be."""
READY, GO = "ready", "go"


@attrs.define
class Relayer:
    """Posts, and notes of each when it was first sent and answered (Unix seconds), the code, and how often it was repeated."""

    http: HttpClient
    url: str
    headers: Mapping[str, str] = attrs.field(repr=False)
    done: list[tuple[float, float, str, int]] = attrs.field(factory=list)

    async def run(self, posts: Sequence[HttpPost], rate: float, patience: float) -> None:
        """Post all of them, and wait ``patience`` seconds at most for the last answers."""
        async with trio.open_nursery() as nursery:
            start = trio.current_time()
            for number, post in enumerate(posts):
                await trio.sleep_until(start + number / rate)
                nursery.start_soon(self._post, post)
            nursery.cancel_scope.deadline = trio.current_time() + patience

    async def _post(self, post: HttpPost) -> None:
        sent, code, repeated = time.time(), "", -1
        while not code:
            repeated += 1
            if repeated:
                await trio.sleep(AGAIN_SECONDS)
            code = await self._code(post)
        self.done.append((sent, time.time(), code, repeated))

    async def _code(self, post: HttpPost) -> str:
        """Return the code of an answer, empty where the same post may be repeated."""
        try:
            answer = await self.http.post(self.url + post.path, post.body, self.headers)
            if answer.status == 200:
                return "ok"
            failure = json.loads(answer.body)
            return "" if failure["retryable"] else str(failure["code"])
        except Unreachable:
            return ""


async def main(arguments: argparse.Namespace) -> None:
    """Post what the file has, and print what became of it."""
    read: Iterator[dict[str, Any]] = json.loads(arguments.posts.read_text())["posts"]
    posts = [HttpPost(one["form"], one["path"], one["body"].encode()) for one in read]
    print(READY, flush=True)
    await trio.to_thread.run_sync(sys.stdin.readline)
    headers = {"Authorization": f"Bearer {arguments.key}"} if arguments.key else {}
    async with open_http(real_ports(), CONNECTIONS) as http:
        relayer = Relayer(http, arguments.url, headers)
        await relayer.run(posts, arguments.rate, arguments.patience)
    print(json.dumps({"posted": len(posts), "done": relayer.done}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(prog="python -m bench.relaying", description=__doc__)
    parser.add_argument(
        "posts", type=Path, help="the file of the posts, as the emulator's control port gives them"
    )
    parser.add_argument("url", help="of the connector's HTTP address")
    parser.add_argument("--key", default="", help="the API key (none)")
    parser.add_argument("--rate", type=float, default=100.0, help="posts per second (100)")
    parser.add_argument("--patience", type=float, default=30.0, help="seconds for the last answers (30)")
    trio.run(main, parser.parse_args())
