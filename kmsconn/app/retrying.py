"""How long to wait before the next try: inside a worker for seconds, in the journal for up to a minute.

A policy is a value; the loop is here and nowhere else. A step that is retried must be safe to repeat: each stage says why.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import trio

from kmsconn.errors import JournalFailed, Overloaded, Unreachable, let_go
from kmsconn.transport.backoff import Backoff

T = TypeVar("T")


DEFERRAL = Backoff(first=0.5, cap=60.0)
# A chain that denied a right says so again: at most 39 times in a day, half of them within the first hour, in which rights are given.
DENIED = Backoff(first=0.5, cap=3600.0, least=0.9)
# What a Core says of one decryption may be true until its restart: one call in five minutes costs nothing.
SELDOM = Backoff(first=0.5, cap=300.0)
IN_WORKER = Backoff(first=0.1, cap=2.0)
WORKER_WAIT_LIMIT = 5.0  # seconds that a worker waits for a dependency before the request is deferred
DISK_PAUSE = 1.0  # seconds until the journal is asked again after it could not be used


async def retrying(step: Callable[[], Awaitable[T]], random: Callable[[], float]) -> T:
    """Run ``step`` until it ends, waiting while a dependency is unreachable or overloaded, for about ``WORKER_WAIT_LIMIT`` seconds.

    Raises what ``step`` raises; the dependency's error once patience is used up. Cancellation: between tries and inside them.
    """
    give_up = trio.current_time() + WORKER_WAIT_LIMIT
    tries = 0
    while True:
        try:
            return await step()
        except (Unreachable, Overloaded) as error:
            wait = IN_WORKER.seconds(tries, random())
            if trio.current_time() + wait >= give_up:
                raise
            let_go(error)
        tries += 1
        await trio.sleep(wait)


async def until_kept(step: Callable[[], Awaitable[T]]) -> T:
    """Run a step of the journal until the disk takes it: a full disk must not end the tree.

    Cancellation: between tries and inside them. Repeating: ``step`` was not done when it failed.
    """
    while True:
        try:
            return await step()
        except JournalFailed:
            await trio.sleep(DISK_PAUSE)
