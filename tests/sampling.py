"""How much of what could be tried one run tries: a small sample by default, a larger one in CI, all when asked.

``KMSCONN_SAMPLES=ci`` is what ``.ci/run`` plays on the newest Python. Each kind of sample has its own variable beside it, which goes
first: ``KMSCONN_SAMPLE`` (worlds for each kind of fault), ``KMSCONN_POINTS`` (points of each scenario), ``KMSCONN_HOSTILE`` (hostile
answers in each kind of world), ``KMSCONN_LONG`` (``all`` that is marked), ``KMSCONN_EXAMPLES`` (examples of each law).
``KMSCONN_DAY`` is the number of the day whose turn it is, as a failed test tells it.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Sequence
from typing import TypeVar

import pytest

_T = TypeVar("_T")

CI = os.environ.get("KMSCONN_SAMPLES") == "ci"
DAY = 86_400
USUAL = 4
TURNS = {"long": 6, "sampled": 8, "rotating": 4} if CI else {"long": 12, "sampled": 24, "rotating": 8}
"""Of the tests with a mark one in so many is run, others each day."""
EXAMPLES = 100
"""Examples of a law: a half of them in CI, a quarter elsewhere."""


def sample(variable: str, *, small: int, ci: int) -> str:
    """Return how large a sample is: what its variable says, or the small or the large number."""
    return os.environ.get(variable) or str(ci if CI else small)


def today() -> int:
    """Return the number of the day, by which the turns go: KMSCONN_DAY, or what it was when this run began.

    The first process of a run hands it to its workers. Over midnight each would choose other tests, and xdist refuses that.
    """
    return int(os.environ.setdefault("KMSCONN_DAY", str(int(time.time() // DAY))))


def out_of_turn(marked: Sequence[_T], turns: int, day: int) -> list[_T]:
    """Return what is left out on a day: all but one in ``turns``."""
    return [one for at, one in enumerate(marked) if (at + day) % turns]


def left_out(items: Sequence[pytest.Item]) -> set[pytest.Item]:
    """Return the tests that have their turn on another day; none with ``KMSCONN_LONG=all``."""
    if os.environ.get("KMSCONN_LONG") == "all":
        return set()
    marked = {mark: [item for item in items if item.get_closest_marker(mark)] for mark in TURNS}
    return {item for mark in TURNS for item in out_of_turn(marked[mark], TURNS[mark], today())}


def points(total: int, wanted: int, turn: int = 0) -> range:
    """Return about ``wanted`` of the numbers 1 to ``total``, evenly spread; another ``turn`` gives others, and all come in turn."""
    stride = max(1, math.ceil(total / wanted))
    return range(1 + turn % stride, total + 1, stride)


def points_of(total: int, usual: int = USUAL) -> range:
    """Return the numbers from 1 to ``total`` that this run tries: half of ``usual`` in CI, a quarter elsewhere."""
    wanted = sample("KMSCONN_POINTS", small=-(-usual // 4), ci=-(-usual // 2))
    return points(total, total if every_point() else int(wanted), today())


def every_point() -> bool:
    """Say whether everything there is is tried."""
    return os.environ.get("KMSCONN_POINTS") == "all"


def examples(usual: int = EXAMPLES) -> int:
    """Return how many examples of a law are tried: half of ``usual`` in CI, a quarter elsewhere, else as ``KMSCONN_EXAMPLES`` says."""
    share = int(sample("KMSCONN_EXAMPLES", small=EXAMPLES // 4, ci=EXAMPLES // 2))
    return max(1, usual * share // EXAMPLES)
