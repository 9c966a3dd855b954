"""A journal with one request of each fate, and the context that commands work on."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import attrs

from kmsconn.journal import moves
from kmsconn.journal.rows import Row
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import Context
from tests.unit.requests.bench import CHAIN_TIME, EXPIRY, PROFILE, Bench, open_bench, wall


@attrs.define
class Scene:
    """The context, what was woken, and the rows by their fate."""

    bench: Bench
    context: Context
    woken: list[Kind]
    rows: dict[str, Row]


@asynccontextmanager
async def open_scene(folder: Path) -> AsyncIterator[Scene]:
    """Open a journal in which one request is pending, and one each was rejected, quarantined, expired and finished."""
    async with open_bench(folder) as bench:
        woken: list[Kind] = []
        context = Context(
            bench.journal, PROFILE, lambda: EXPIRY, wall, lambda _chain: float(CHAIN_TIME), woken.append
        )
        rows = {}
        for block, (fate, transition) in enumerate(FATES.items(), start=10):
            rows[fate] = await bench.record(NAMES[fate], block)
            if transition:
                await bench.journal.run(
                    moves.move, transition, rows[fate].rid, reason=f"because it was {fate}"
                )
        yield Scene(bench, context, woken, rows)


FATES = {
    "pending": "",
    "rejected": "reject",
    "quarantined": "quarantine",
    "expired": "expire",
    "done": "finish",
}
NAMES = dict(
    zip(
        FATES,
        ("public_one_v0", "public_three_v0", "public_one_v1", "public_three_v1", "public_one_v2"),
        strict=True,
    )
)
