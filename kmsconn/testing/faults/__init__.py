"""The steps of a plan: what users ask, and every fault of the dependencies by name (docs/testing.md lists them)."""

from __future__ import annotations

from kmsconn.emulator.buckets import OversizedBodies, RefusingBucket, SpoiledBodies, StalledBodies
from kmsconn.emulator.core_faults import FailingCore, HangingCore, SpoiledCore
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.drills.chain_drills import Balance, LaggingNodes, StalledChain
from kmsconn.emulator.node_faults import Misbehaviour, RefusedCalls, ShortEstimate
from kmsconn.testing.faults.asking import (
    KEY_RELEASES,
    Ask,
    AskKey,
    AskUnheardOf,
    Foreign,
    Grant,
    KeyUpgrade,
    Post,
    StrangeLog,
    Upgrade,
    Wait,
)
from kmsconn.testing.faults.disturbances import (
    ClockStep,
    CoreRestart,
    CoreUpgrade,
    Drain,
    Kill,
    KillAtWork,
    Outage,
    Strike,
)
from kmsconn.testing.faults.lies import LIES, Lying
from kmsconn.testing.faults.reorgs import Reorg, arrange

__all__ = [
    "KEY_RELEASES",
    "LIES",
    "Ask",
    "AskKey",
    "AskUnheardOf",
    "Balance",
    "ClockStep",
    "CoreRelease",
    "CoreRestart",
    "CoreUpgrade",
    "Drain",
    "FailingCore",
    "Foreign",
    "Grant",
    "HangingCore",
    "KeyUpgrade",
    "Kill",
    "KillAtWork",
    "LaggingNodes",
    "Lying",
    "Misbehaviour",
    "Outage",
    "OversizedBodies",
    "Post",
    "RefusedCalls",
    "RefusingBucket",
    "Reorg",
    "ShortEstimate",
    "SpoiledBodies",
    "SpoiledCore",
    "StalledBodies",
    "StalledChain",
    "StrangeLog",
    "Strike",
    "Upgrade",
    "Wait",
    "arrange",
]
