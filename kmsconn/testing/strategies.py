"""Hypothesis strategies for whole worlds: plans of steps, and how the world is built. Needs the extra ``testing``.

The *length* of a plan is drawn first, since short lists miss what longer ones find. Each world enables a random subset of the faults
(swarm testing): some things only show when others stay away.

What is left out, because the protocol makes it impossible: when an id was given to other content, the Core holds the old content until
it restarts (``World.settle`` restarts it then), and a connector whose journal was lost meanwhile cannot know why the Core's answer does not
fit: it quarantines. So losing the journal and giving ids away never meet in one world.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

import attrs
import msgspec
from hypothesis import strategies as st

from kmsconn.emulator.buckets import BODIES, BucketFault
from kmsconn.emulator.core import OPERATIONS
from kmsconn.emulator.core_faults import CoreFault
from kmsconn.emulator.core_requests import CoreRelease
from kmsconn.emulator.drills.drill import Drill
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.emulator.node_faults import LIMIT_EXCEEDED, NodeFault
from kmsconn.emulator.pool import PoolKind
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.testing import faults
from kmsconn.testing.world import PlanStep, WorldReport, run_world

SPAN = 120.0  # seconds in which the steps of a plan begin
LONGEST = 25  # steps


@attrs.frozen
class Ground:
    """What there is in the worlds of a generation: forms of requests, chains, dependencies to be cut off, calls of a Core."""

    forms: tuple[str, ...]
    chains: tuple[str, ...]
    dependencies: tuple[str, ...]
    methods: tuple[str, ...]


_STORAGE = ("core0", "core1", "bucket0", "bucket1")
GROUNDS = {
    FHEVM: Ground(
        ("any", "any", *GENERATIONS[FHEVM].names),
        ("gateway", "gateway", "gateway", "host", "ethereum"),
        ("gateway", "ethereum", "host", *_STORAGE),
        tuple(name for each in OPERATIONS for name in (each.start, each.result, each.at_once)),
    ),
    HTTPZ_RC7: Ground(
        ("any", "any", *GENERATIONS[HTTPZ_RC7].names),
        ("gateway",),
        ("gateway", *_STORAGE),
        ("Decrypt", "GetDecryptResult", "Reencrypt", "GetReencryptResult"),
    ),
}


@attrs.frozen
class Case:
    """One world to play; its ``repr`` is a line of Python that plays it again."""

    plan: tuple[PlanStep, ...]
    seed: int = 0
    pool: PoolKind = "arbitrum"
    nodes: int = 2
    shards: int = 1
    block_time: float = 1.0
    computing: float = 0.1
    profile: str = FHEVM
    reorg_window: float = 30.0

    def run(self) -> WorldReport:
        """Play it."""
        return run_world(self.plan, **self._options())

    def _options(self) -> dict[str, Any]:
        return attrs.asdict(self, recurse=False, filter=lambda field, _: field.name != "plan")

    def __repr__(self) -> str:
        options = ", ".join(f"{name}={value!r}" for name, value in self._options().items())
        return f"run_world({list(self.plan)!r}, {options})"


def moments() -> st.SearchStrategy[float]:
    """Draw when a step begins; tenths of a second, so that steps meet."""
    return st.integers(0, int(SPAN * 10)).map(lambda tenths: tenths / 10)


def seconds(most: int) -> st.SearchStrategy[float]:
    """Draw how long something lasts."""
    return st.integers(0, most * 10).map(lambda tenths: tenths / 10)


def _asks(ground: Ground) -> st.SearchStrategy[PlanStep]:
    return st.builds(faults.Ask, moments(), st.sampled_from(ground.forms), st.integers(1, 6))


_HOWS = ("refuse", "unreachable", "mute", "lost")

_DEPTHS = st.integers(1, 15) | st.integers(16, 120) | st.integers(100, 480)
"""Blocks; a world has as many as its seconds, or four times as many."""
_PLACES: st.SearchStrategy[Any] = st.sampled_from(["last", "there"])
_SHORTER = st.just(0) | st.integers(0, 480)

_REORGS_IN_PLACE = st.builds(
    faults.Reorg, moments(), _DEPTHS, st.just("moved"), st.none(), seconds(30), _PLACES
)
_REORGS = st.builds(
    faults.Reorg,
    moments(),
    _DEPTHS,
    st.sampled_from(["moved", "swapped", "vanished"]),
    st.none() | seconds(15) | seconds(90),
    st.just(0.0) | seconds(30),
    _PLACES,
    _SHORTER,
    st.just(0.0) | seconds(60),
)

_TRANSIENT = (
    "UNAVAILABLE", "DEADLINE_EXCEEDED", "RESOURCE_EXHAUSTED", "UNKNOWN", "CANCELLED", "NOT_FOUND",
)  # fmt: skip
_CORE_FAULTS: list[CoreFault] = [
    faults.HangingCore(),
    *(faults.SpoiledCore(how=how) for how in ("cut", "cut after", "go away", "restart")),
    *(faults.FailingCore(code=code, after=after) for code in _TRANSIENT for after in (False, True)),
]
_NODE_FAULTS: list[Drill] = [
    # A wrong chain id is a reason to refuse the start, not to wait; the endpoint's own tests show it.
    *(
        faults.Misbehaviour(fault.value, node=node)
        for fault in NodeFault
        if fault is not NodeFault.WRONG_CHAIN_ID
        for node in range(3)
    ),
    *[faults.RefusedCalls(code=LIMIT_EXCEEDED, message="limit exceeded"), faults.ShortEstimate()] * 3,
]
_BUCKET_FAULTS: list[BucketFault] = [
    *(faults.RefusingBucket(code=code) for code in (403, 404, 500, 503)),
    *(faults.SpoiledBodies(how=how) for how in BODIES),
    faults.StalledBodies(after=10),
    faults.OversizedBodies(),
]


def _often(known: Sequence[Drill]) -> st.SearchStrategy[Drill]:
    """Draw one of these faults, for its next few occasions."""
    return st.builds(
        lambda fault, times: msgspec.structs.replace(fault, times=times),
        st.sampled_from(known),
        st.integers(1, 6),
    )


_UNTIL_HEALED: st.SearchStrategy[float | None] = st.none()


def _strikes(
    targets: st.SearchStrategy[Any],
    known: st.SearchStrategy[Drill],
    lasting: st.SearchStrategy[float | None] = _UNTIL_HEALED,
) -> st.SearchStrategy[PlanStep]:
    return st.builds(faults.Strike, moments(), targets, known, lasting)


_ANYWHERE: dict[str, st.SearchStrategy[PlanStep]] = {
    "reorg in place": _REORGS_IN_PLACE,
    "reorg": _REORGS,
    "clock": st.builds(faults.ClockStep, moments(), st.sampled_from([-3600.0, 3600.0, -60.0, 60.0])),
    "foreign": st.builds(faults.Foreign, moments()),
    "kill": st.builds(faults.Kill, moments(), seconds(60)),
    "lost journal": st.builds(faults.Kill, moments(), seconds(30), st.just(True)),
    "kill at work": st.builds(
        faults.KillAtWork, moments(), st.integers(1, 30), st.sampled_from(["before", "after"])
    ),
    "drain": st.builds(faults.Drain, moments(), seconds(30)),
    "core restart": st.builds(faults.CoreRestart, moments()),
    "core upgrade": st.builds(faults.CoreUpgrade, moments(), st.sampled_from(CoreRelease)),
    "bucket": _strikes(st.sampled_from(["bucket0", "bucket1"]), _often(_BUCKET_FAULTS)),
    "stall": _strikes(
        st.just("gateway"), st.builds(faults.StalledChain, st.sampled_from([0, 1, 20, 500])), seconds(70)
    ),
    "broke": _strikes(st.just("gateway"), st.just(faults.Balance()), seconds(60)),
    "strange log": st.builds(faults.StrangeLog, moments()),
    "unheard of": st.builds(faults.AskUnheardOf, moments(), st.integers(1, 3)),
    "upgrade": st.builds(faults.Upgrade, moments(), st.booleans()),
    "lie": st.builds(
        faults.Lying,
        moments(),
        st.sampled_from(sorted(faults.LIES)),
        st.sampled_from([2.2, 20.0, 70.0]),
        st.none() | st.integers(0, 1),
    ),
}


@cache
def faults_of(profile: str) -> dict[str, st.SearchStrategy[PlanStep]]:
    """Return what can go wrong in the worlds of a generation, by name."""
    ground = GROUNDS[profile]
    chains: st.SearchStrategy[Any] = st.sampled_from(ground.chains)
    return _ANYWHERE | {
        "outage": st.builds(
            faults.Outage,
            moments(),
            st.sampled_from(ground.dependencies),
            st.sampled_from(_HOWS),
            seconds(90),
        ),
        "node": _strikes(chains, _often(_NODE_FAULTS)),
        "lag": _strikes(
            chains, st.builds(faults.LaggingNodes, st.integers(1, 20), st.integers(0, 2)), seconds(60)
        ),
        "core": _strikes(
            st.sampled_from(["core0", "core1"]),
            _often(
                [
                    msgspec.structs.replace(fault, method=method)
                    for fault in _CORE_FAULTS
                    for method in ground.methods
                ]
            ),
        ),
    }


FAULTS = (*sorted(faults_of(FHEVM)),)
"""What can go wrong, by name: the same in every generation."""


@st.composite
def plans(draw: st.DrawFn, focus: str | None = None, profile: str = FHEVM) -> tuple[PlanStep, ...]:
    """Draw a plan: requests, and a random subset of the faults, ``focus`` always among them."""
    enabled = draw(st.lists(st.sampled_from(FAULTS), unique=True, min_size=focus is None, max_size=6))
    enabled = [*dict.fromkeys(_compatible([focus, *enabled] if focus else enabled))]
    asks, known = _asks(GROUNDS[profile]), faults_of(profile)
    kinds = [asks, *(known[name] for name in enabled)]
    length = draw(st.integers(1, LONGEST))
    which = st.integers(-1, len(kinds) - 1).map(
        lambda number: kinds[max(0, number)]
    )  # requests twice as often
    plan = [draw(asks), *(draw(draw(which)) for _ in range(length))]
    return tuple(sorted([*plan, draw(kinds[1])] if focus else plan, key=lambda step: step.at))


def _compatible(names: list[str]) -> list[str]:
    """Leave out what never meets; the first one stays."""
    apart = {"reorg", "lost journal"}
    first = next((name for name in names if name in apart), None)
    return [name for name in names if name not in apart or name == first]


@st.composite
def cases(draw: st.DrawFn, focus: str | None = None, profile: str = FHEVM) -> Case:
    """Draw a whole world; in every one of them the fault ``focus``, if given, happens at least once."""
    return Case(
        draw(plans(focus, profile)),
        seed=draw(st.integers(0, 1 << 16)),
        pool=draw(st.sampled_from(["arbitrum", "arbitrum at once", "geth"])),
        nodes=draw(st.integers(1, 3)),
        shards=draw(st.integers(1, 2)),
        block_time=draw(st.sampled_from([1.0, 1.0, 0.25, 3.0])),
        computing=draw(st.sampled_from([0.0, 0.1, 3.0, 20.0])),
        profile=profile,
        reorg_window=draw(st.sampled_from([30.0, 30.0, 10.0])),
    )
