"""The messages among the vectors of fhevm 0.15."""

from __future__ import annotations

from typing import Any

import betterproto2

from kmsconn._generated.fhevm.kms import v1 as kms
from tests.vectors import load_later


def messages() -> dict[str, Any]:
    """Return the messages of the Core by their names."""
    found: dict[str, Any] = load_later()["protobuf"]
    return found


def kind_of(name: str) -> type[betterproto2.Message]:
    """Return the class of a message."""
    found: type[betterproto2.Message] = getattr(kms, messages()[name]["message"].removeprefix("kms.v1."))
    return found


def wire(name: str) -> bytes:
    """Return the bytes of a message."""
    return bytes.fromhex(messages()[name]["hex"])
