"""Clients of decryption over HTTP in scenes: contents whose ciphertexts and rights are in their places. Sends nothing."""

from __future__ import annotations

from typing import Any

from kmsconn.emulator.traffic import Traffic
from kmsconn.testing.http_clients import POSTED_FORMS, content_of

POSTED = POSTED_FORMS


def post(traffic: Traffic, form: str, **changes: Any) -> Any:
    """Return what a client asks for in place of a transaction of a form; ``changes`` are to the values of a user's request."""
    return content_of(traffic.prepare(form), **changes)
