"""The steps of a plan: what users ask, and every fault of the dependencies by name (docs/testing.md lists them)."""

from __future__ import annotations

from kmsconn.testing.faults.asking import Ask, AskKey, Grant, Post, Wait
from kmsconn.testing.faults.buckets import BUCKET_FAULTS, BucketTrouble
from kmsconn.testing.faults.chains import KEY_RELEASES, Broke, Foreign, KeyUpgrade, Stall, StrangeLog, Upgrade
from kmsconn.testing.faults.cores import CORE_FAULTS, TRANSIENT, CoreRestart, CoreTrouble, CoreUpgrade
from kmsconn.testing.faults.lines import Outage
from kmsconn.testing.faults.nodes import ChainName, Lag, MethodOutage, NodeTrouble
from kmsconn.testing.faults.processes import ClockStep, Drain, Kill, KillAtWork
from kmsconn.testing.faults.reorgs import Reorg, arrange

__all__ = [
    "BUCKET_FAULTS",
    "CORE_FAULTS",
    "KEY_RELEASES",
    "TRANSIENT",
    "Ask",
    "AskKey",
    "Broke",
    "BucketTrouble",
    "ChainName",
    "ClockStep",
    "CoreRestart",
    "CoreTrouble",
    "CoreUpgrade",
    "Drain",
    "Foreign",
    "Grant",
    "KeyUpgrade",
    "Kill",
    "KillAtWork",
    "Lag",
    "MethodOutage",
    "NodeTrouble",
    "Outage",
    "Post",
    "Reorg",
    "Stall",
    "StrangeLog",
    "Upgrade",
    "Wait",
    "arrange",
]
