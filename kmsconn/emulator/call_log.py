"""What emulated dependencies are asked, as lines of text: one for each request on chain and one for each call of a Core. Prints nothing.

Source: httpz-rc7.md, section 10, row 138.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.ground_truth import GroundTruth, Trace
from kmsconn.ethereum.hexes import to_hex

_ID = re.compile(rb"[0-9a-f]{64}")  # as Cores of both generations are given ids


def log_calls(
    dependencies: EmulatedDependencies, ground_truth: GroundTruth, tell: Callable[[str], None]
) -> None:
    """Let every request and every call be told from now on."""
    ground_truth.on_request = partial(_request, tell)
    for name, core in dependencies.cores_by_name.items():
        core.on_call = partial(_call, tell, name)


def _request(tell: Callable[[str], None], trace: Trace) -> None:
    tell(f"gateway  request {trace.id:064x} in block {trace.block} by {to_hex(trace.transaction_hash)}")


def _call(tell: Callable[[str], None], name: str, method: str, request: bytes) -> None:
    found = _ID.search(request)
    tell(f"{name:8} {method} {found[0].decode() if found else ''}".rstrip())
