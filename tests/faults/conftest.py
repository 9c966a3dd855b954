"""How many worlds are played, and where the files of a test lie.

``make test`` plays a fixed sample (tests/sampling.py); ``make worlds`` plays thousands of new ones, ``KMSCONN_WORLDS=n`` n of them.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings

from kmsconn.testing.world import memory_backed
from tests.sampling import sample

_COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    "print_blob": True,
}
WORLDS = int(os.environ.get("KMSCONN_WORLDS", "0"))
SAMPLE_OF_EACH = int(sample("KMSCONN_SAMPLE", small=2, ci=2))
"""Worlds for each kind of fault; the first is the simplest there is."""
SAMPLE = settings(max_examples=SAMPLE_OF_EACH, derandomize=True, database=None, **_COMMON)  # type: ignore[arg-type]
FEW = settings(SAMPLE, max_examples=2)
MANY = settings(max_examples=WORLDS or 1, **_COMMON)  # type: ignore[arg-type]


@pytest.fixture
def tmp_path() -> Iterator[Path]:
    """A folder in memory where the machine has one: in virtual time nothing is won by waiting for a disk."""
    with tempfile.TemporaryDirectory(dir=memory_backed()) as folder:
        yield Path(folder)
