"""How many worlds are played.

``make test`` plays a fixed sample (tests/sampling.py); ``make worlds`` plays thousands of new ones, ``KMSCONN_WORLDS=n`` n of them.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

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
