"""Judges this machine's clock by the chains' newest blocks, and each chain by the clock. Pure."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence

from kmsconn.model.clocks import CLOCK_AHEAD, CLOCK_BEHIND, OTHER_NODE, SET_CLOCK, wrong_clock
from kmsconn.operate.doctor.diagnosis import Diagnosis, fault, ok, skipped, warning

CLOCK = "clock of this machine"
STEADY_LAG = 180.0  # seconds that the newest block of a chain with steady blocks may be old
QUIET_LAG = 3600.0  # seconds likewise of a chain that makes blocks for transactions only


def judge(heads: Mapping[str, float], steady: Collection[str], now: float) -> Sequence[Diagnosis]:
    """Judge the clock, and where it is right each chain; ``heads`` are the times of the newest blocks by chain name.

    The newest block of all counts for the clock: one node may be behind, hardly all of them.
    """
    if not heads:
        return [skipped(CLOCK, "no chain has told its newest block")]
    clock = judge_clock(max(heads.values()), now)
    if clock is not None:
        return [clock]
    newest = now - max(heads.values())
    return [
        ok(CLOCK, f"within {max(CLOCK_AHEAD, CLOCK_BEHIND):g} s of the newest block ({newest:+.0f} s)"),
        *(judge_head(name, now - time, steady=name in steady) for name, time in heads.items()),
    ]


def judge_clock(newest: float, now: float) -> Diagnosis | None:
    """Return what is wrong with the clock by the newest block of all; None where nothing is."""
    found = wrong_clock(newest, now)
    if not found:
        return None
    more = f"; if it is right, every node is behind: {OTHER_NODE}" if now > newest else ""
    return fault(CLOCK, found, f"{SET_CLOCK}{more}")


def judge_head(name: str, age: float, *, steady: bool) -> Diagnosis:
    """Judge the age of a chain's newest block by a clock that is right."""
    checked, found = f"{name}: newest block", f"{age:.0f} s old"
    if steady and age > STEADY_LAG:
        return fault(checked, f"{found}: the node is behind", f"{OTHER_NODE}, or wait until this one has")
    if age > QUIET_LAG:
        return warning(
            checked, f"{found}: the chain is quiet, or the node is behind", f"if it is behind, {OTHER_NODE}"
        )
    return ok(checked, found)
