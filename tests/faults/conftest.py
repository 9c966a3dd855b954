"""How many worlds are played, and what is told about them at the end.

``make test`` plays a fixed sample; ``make worlds`` plays thousands of new ones; ``KMSCONN_WORLDS=n`` plays n new ones.
"""

from __future__ import annotations

import os

from hypothesis import HealthCheck, Phase, settings

_COMMON = {
    "deadline": None,
    "suppress_health_check": list(HealthCheck),
    "phases": (Phase.explicit, Phase.reuse, Phase.generate, Phase.shrink),
    "print_blob": True,
}
WORLDS = int(os.environ.get("KMSCONN_WORLDS", "0"))
SAMPLE_OF_EACH = 4  # worlds for each kind of fault
SAMPLE = settings(max_examples=SAMPLE_OF_EACH, derandomize=True, database=None, **_COMMON)  # type: ignore[arg-type]
FEW = settings(SAMPLE, max_examples=1)
MANY = settings(max_examples=WORLDS or 1, **_COMMON)  # type: ignore[arg-type]
