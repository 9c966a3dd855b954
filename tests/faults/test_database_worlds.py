"""Whole worlds over a journal on a server: connections end in any statement, commits are kept unheard, the server is away for a while."""

from __future__ import annotations

from pathlib import Path
from random import Random
from typing import Any

import attrs
import pytest

from kmsconn.config.description import PostgresAddress
from kmsconn.errors import JournalUnreachable, OutcomeUnknown
from kmsconn.journal import journal
from kmsconn.journal.postgres import PostgresDriver
from kmsconn.testing.faults import Ask, Kill, Reorg
from kmsconn.testing.world import PlanStep, run_world
from tests.fake_postgres import FakeServer, Hazards, Loss, made_at
from tests.faults.scene import open_scene

NEVER = 10**9
STARTING = 3  # commits that a process makes before it is at work
PLAN: list[PlanStep] = [
    Ask(1.0, "any", 6),
    Ask(6.0, "any", 6),
    Kill(9.0, 2.0),
    Reorg(14.0, 5, "moved"),
    Ask(15.0, "any", 6),
]


class Servers:
    """A server for each world, which keeps the journal in the world's file: invariants read it there."""

    def __init__(self, hazards: Hazards) -> None:
        self.hazards = hazards
        self.starts = 0
        self.server: FakeServer | None = None

    def at(self, path: Path) -> FakeServer:
        """Return the server, a new one where the file is gone."""
        if self.server is None or not path.exists():
            self.server = FakeServer(database=made_at(str(path)), hazards=self.hazards)
        return self.server

    def driver_of(self, where: Path | PostgresAddress, shards: int, _synchronous: str = "") -> PostgresDriver:
        """Take the place of ``journal.driver_of``: a new process, and those before it have lost their connections."""
        assert isinstance(where, Path)
        server = self.at(where)
        self.starts += 1
        for session in server.sessions:
            session.lose()
        self.hazards.calm, server.refusals = STARTING, 0
        driver = server.driver(shards)
        driver.join(server.join())
        return driver


def over_servers(monkeypatch: pytest.MonkeyPatch, hazards: Hazards) -> Servers:
    """Let journals stand on servers that lose connections."""
    servers = Servers(hazards)
    monkeypatch.setattr(journal, "driver_of", servers.driver_of)
    return servers


@attrs.define(eq=False)
class AtCapture:
    """The connection ends once, as the connector lets the audit log's outbox be written. See ``Hazards``."""

    calm: int = 0
    met_so_far: int = 0

    def met(self, server: FakeServer, number: int) -> Loss | None:
        """Return the loss that a statement meets, if there is one."""
        if self.met_so_far or not server.asked[-1].startswith("DO $$"):
            return None
        self.met_so_far += 1
        return Loss(number)


async def test_a_first_start_whose_connection_ends_is_one_to_be_tried_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As one that finds no server: ``until_drained`` tries it again."""
    hazards: Any = AtCapture()
    over_servers(monkeypatch, hazards)
    async with open_scene(tmp_path) as scene:
        with pytest.RaisesGroup(OutcomeUnknown, JournalUnreachable, flatten_subgroups=True):
            async with scene.open(audit_log=tmp_path / "audit.log"):
                raise AssertionError("it has started")
        assert hazards.met_so_far == 1
        async with scene.connected(audit_log=tmp_path / "audit.log"):
            pass


def test_a_world_over_a_server_that_works_keeps_every_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    over_servers(monkeypatch, Hazards(Random(0), NEVER))
    run_world(PLAN, seed=0).check()


@pytest.mark.rotating
@pytest.mark.parametrize("one_in", [400, 60])
@pytest.mark.parametrize("seed", range(6))
def test_worlds_whose_connections_end_lose_and_double_nothing(
    monkeypatch: pytest.MonkeyPatch, seed: int, one_in: int
) -> None:
    servers = over_servers(monkeypatch, Hazards(Random(seed), one_in))
    report = run_world(PLAN, seed=seed)
    report.check()
    assert servers.hazards.met_so_far > 0


@pytest.mark.rotating
@pytest.mark.parametrize("lacks", [1, 8])
@pytest.mark.parametrize("at", [30, 40, 60, 80])
def test_worlds_whose_standby_lacks_commits_lose_and_double_nothing(
    monkeypatch: pytest.MonkeyPatch, at: int, lacks: int
) -> None:
    """The connector starts anew, reads its chains again from the cursor that is there, and asks the contract about each reply."""
    servers = over_servers(monkeypatch, Hazards(Random(at), NEVER, fails_over=(at, lacks)))
    report = run_world(PLAN, seed=at)
    report.check()
    assert servers.starts == 3  # at first, after the kill, and after the fail-over
