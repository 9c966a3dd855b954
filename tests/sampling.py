"""How much of what could be tried one run tries: a small sample by default, a larger one in CI, all when asked.

``KMSCONN_SAMPLES=ci`` is what ``.ci/run`` plays on the newest Python. Each kind of sample has its own variable beside it, which goes
first: ``KMSCONN_SAMPLE`` (worlds for each kind of fault), ``KMSCONN_POINTS`` (points of each scenario), ``KMSCONN_HOSTILE`` (hostile
answers in each kind of world), ``KMSCONN_LONG`` (``all`` that is marked), ``KMSCONN_EXAMPLES`` (examples of each law).

Where all points are played, one test takes longer than the limit for one that hangs: ``make long POINTS=all`` has none.

``KMSCONN_TURN`` says which sample is played: 0 where nobody says it, so that every run of ``make test`` plays the same one.
``.ci/run`` takes it from the commit and prints it, and a failed test tells it.
"""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from typing import TypeVar

import pytest

_T = TypeVar("_T")

CI = os.environ.get("KMSCONN_SAMPLES") == "ci"
USUAL = 4
TURNS = {"long": 6, "sampled": 8, "rotating": 4} if CI else {"long": 12, "sampled": 24, "rotating": 8}
"""Of the tests with a mark one in so many is run, others in another turn."""
EXAMPLES = 100
"""Examples of a law: a half of them in CI, a quarter elsewhere."""


def sample(variable: str, *, small: int, ci: int) -> str:
    """Return how large a sample is: what its variable says, or the small or the large number."""
    return os.environ.get(variable) or str(ci if CI else small)


def this_turn() -> int:
    """Return the number by which samples are chosen: KMSCONN_TURN, else 0. A date would have each day hide what another showed."""
    return int(os.environ.get("KMSCONN_TURN") or 0)


def out_of_turn(marked: Sequence[_T], turns: int, turn: int) -> list[_T]:
    """Return what is left out in a turn: all but one in ``turns``."""
    return [one for at, one in enumerate(marked) if (at + turn) % turns]


def left_out(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that another turn plays; none with ``KMSCONN_LONG=all``."""
    if os.environ.get("KMSCONN_LONG") == "all":
        return set()
    marked = {mark: [item for item in items if item.get_closest_marker(mark)] for mark in TURNS}
    return {item for mark in TURNS for item in out_of_turn(marked[mark], TURNS[mark], this_turn())}


def points(total: int, wanted: int, turn: int = 0) -> range:
    """Return about ``wanted`` of the numbers 1 to ``total``, evenly spread; another ``turn`` gives others, and all come in turn."""
    stride = max(1, math.ceil(total / wanted))
    return range(1 + turn % stride, total + 1, stride)


def points_of(total: int, usual: int = USUAL) -> range:
    """Return the numbers from 1 to ``total`` that this run tries: half of ``usual`` in CI, a quarter elsewhere."""
    wanted = sample("KMSCONN_POINTS", small=-(-usual // 4), ci=-(-usual // 2))
    return points(total, total if every_point() else int(wanted), this_turn())


def every_point() -> bool:
    """Say whether everything there is is tried."""
    return os.environ.get("KMSCONN_POINTS") == "all"


def examples(usual: int = EXAMPLES) -> int:
    """Return how many examples of a law are tried: half of ``usual`` in CI, a quarter elsewhere, else as ``KMSCONN_EXAMPLES`` says."""
    share = int(sample("KMSCONN_EXAMPLES", small=EXAMPLES // 4, ci=EXAMPLES // 2))
    return max(1, usual * share // EXAMPLES)
