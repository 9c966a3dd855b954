"""Questions to the users' library of either generation, through a process of Node.js. Blocks."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

SCRIPT = Path(__file__).with_name("tkms.cjs")
SECONDS = 30  # for the library on a busy machine


def ask(folder: Path, question: dict[str, Any]) -> Any:
    """Return what the library in ``folder`` answers; raises CalledProcessError or TimeoutExpired where it does not."""
    text = json.dumps({"library": str(folder), **question})
    done = subprocess.run(  # noqa: S603 - our own script
        ["node", str(SCRIPT)],  # noqa: S607 - wherever it is installed
        input=text.encode(),
        stdout=subprocess.PIPE,
        timeout=SECONDS,
        check=True,
    )
    return json.loads(done.stdout)


def as_numbers(said: Any) -> list[tuple[int, int]]:
    """Return type and value of what the library opened; raises KeyError where it refused."""
    return [(each["fhe_type"], int(each["value"], 16)) for each in said["values"]]
