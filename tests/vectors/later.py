"""The vectors of fhevm 0.15: what came after 0.14."""

from __future__ import annotations

import json
from functools import cache
from typing import Any

import betterproto2

from kmsconn._generated.fhevm.kms import v1 as kms
from tests.vectors import HERE


@cache
def load() -> dict[str, Any]:
    """Return all vectors of fhevm 0.15; do not change them."""
    content: dict[str, Any] = json.loads((HERE / "fhevm-0.15.json").read_text())
    return content


def messages() -> dict[str, Any]:
    """Return the messages of the Core by their names."""
    found: dict[str, Any] = load()["protobuf"]
    return found


def kind_of(name: str) -> type[betterproto2.Message]:
    """Return the class of a message."""
    found: type[betterproto2.Message] = getattr(kms, messages()[name]["message"].removeprefix("kms.v1."))
    return found


def wire(name: str) -> bytes:
    """Return the bytes of a message."""
    return bytes.fromhex(messages()[name]["hex"])
