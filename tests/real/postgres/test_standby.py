"""A synchronous standby of a real server that is away: each commit waits for it, and the alert says so before the first one is given up."""

from __future__ import annotations

import pytest
import trio

from bench.cluster import Cluster
from kmsconn.model.events import AlertCleared, AlertRaised, Severity
from tests.real.postgres.crowd import Crowd, open_crowd

pytestmark = pytest.mark.rotating

FORMS = ("public", "direct", "delegated")
TOLD = 5.0
"""Seconds in which it must be told."""
LONG = 60.0
"""Seconds until all goes on, also where a process was begun anew meanwhile."""


def require(server: Cluster, standbys: str) -> None:
    """Have a server confirm no commit before these standbys have it; empty: none."""
    server.run(f"ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")
    server.run("SELECT pg_reload_conf()")


def unwritable(crowd: Crowd) -> list[AlertRaised]:
    return [one for one in crowd.of("one", AlertRaised) if one.cause == "unwritable"]


async def test_an_absent_standby_is_told_as_what_it_is_and_all_goes_on_without_it(
    own_server: Cluster,
) -> None:
    database = own_server.make_database()
    async with open_crowd(own_server.address(database)) as crowd, crowd.living("one"):
        crowd.ask(*FORMS)
        await crowd.wait_answered(3)
        assert unwritable(crowd) == []
        require(own_server, "replica_7")
        crowd.ask(*FORMS)
        await crowd.wait(lambda: unwritable(crowd), TOLD)
        [alert] = unwritable(crowd)
        assert "synchronous_standby_names is replica_7" in alert.text
        assert "0 standbys are connected" in alert.text
        assert "synchronous_standby_names" in alert.remedy
        assert (alert.dependency, alert.severity) == ("journal", Severity.CRITICAL)
        await trio.sleep(1.0)
        require(own_server, "")
        await crowd.wait_answered(6)
        await crowd.wait(
            lambda: any(one.cause == "unwritable" for one in crowd.of("one", AlertCleared)), LONG
        )
