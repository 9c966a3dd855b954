"""The invariants forgives what a reorganisation explains, and nothing else."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, make_id
from kmsconn.model.events import Event, ReplyFinalized, ReplySigned, RequestRecorded
from kmsconn.model.requests import Kind
from kmsconn.testing.invariants import Invariants

PUBLIC = Kind.PUBLIC_DECRYPTION
RECORDED = RequestRecorded(1, PUBLIC, make_id(PUBLIC_DECRYPTION_TAG, 7), 1, 1, bytes(32), 0)


@pytest.fixture
def invariants(autojump_clock: Any, tmp_path: Path) -> Invariants:
    dependencies = FhevmDependencies.make(lambda: 1_767_225_600.0)
    dependencies.gateway.finality = 2
    journal = tmp_path / "journal.db"
    with closing(sqlite3.connect(journal, isolation_level=None)) as file:
        file.execute("CREATE TABLE request (rid INTEGER, digest BLOB)")
        file.execute("INSERT INTO request VALUES (1, ?)", (bytes(32),))
    return Invariants(dependencies, journal, 4.0)


@pytest.mark.parametrize(
    ("event", "promise"),
    [(ReplyFinalized(1, PUBLIC), "S15"), (ReplySigned(1, PUBLIC, 0, bytes(32)), "S3")],
    ids=["final", "signed"],
)
async def test_a_deep_reorganisation_excuses_nothing_that_did_not_stand_in_its_blocks(
    invariants: Invariants, event: Event, promise: str
) -> None:
    """There never was such a request, nor a reply to it."""
    chain = invariants.dependencies.gateway
    for _ in range(5):
        chain.mine()
    invariants.hear(RECORDED)
    invariants.reorganised(chain.reorg(4))
    invariants.hear(event)
    assert [text.split(": ")[1] for text in invariants.violations] == [promise]
