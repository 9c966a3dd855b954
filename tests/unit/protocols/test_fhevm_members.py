"""Contexts as the Gateway knows them: what "invalid context" means for a reply, by the reverts of the real contracts."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import from_hex
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.deployment import GatewayContexts
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.port import Verdict
from tests.vectors import load, vector_settings

PROFILE = Fhevm(vector_settings())
CONFIG = GatewayContexts(1, Address(b"\x01" * 20))
CURRENT = make_id(CONTEXT_TAG, 2)


def verdict(plan: Any, current: int = CURRENT) -> Verdict:
    """Put an plan to a Gateway whose current context is this."""
    [_] = next(plan)
    with pytest.raises(StopIteration) as end:
        plan.send([current])
    found: Verdict = end.value.value
    return found


@pytest.mark.parametrize(
    ("context", "expected"),
    [
        (make_id(CONTEXT_TAG, 1), Verdict.FINAL),
        (CURRENT, Verdict.FINAL),
        (make_id(CONTEXT_TAG, 3), Verdict.RETRY),  # a node that lags, or a context that is not there yet
        (make_id(CONTEXT_TAG, 0), Verdict.RETRY),
        (make_id(EPOCH_TAG, 1), Verdict.RETRY),
        (0, Verdict.RETRY),
    ],
)
def test_an_invalid_context_that_was_issued_was_destroyed(context: int, expected: Verdict) -> None:
    assert verdict(CONFIG.after_invalid(context)) is expected


def recorded(kind: str) -> bytes:
    """Return what the real contract said to a reply under a destroyed context."""

    def entries(found: Any) -> Any:
        if isinstance(found, dict):
            if found.get("name") == f"{kind}: context 1 destroyed":
                yield found
            found = list(found.values())
        if isinstance(found, list):
            for one in found:
                yield from entries(one)

    [entry] = entries(load())
    return b"".join(map(from_hex, [entry["selector"], *entry["arguments"]]))


@pytest.mark.parametrize(
    ("name", "kind"), [("public", Kind.PUBLIC_DECRYPTION), ("user", Kind.USER_DECRYPTION)]
)
def test_a_reply_under_a_destroyed_context_is_final(name: str, kind: Kind) -> None:
    revert = PROFILE.operations[kind].revert(recorded(name))
    assert (revert.name, revert.verdict) == ("InvalidKmsContext", Verdict.RETRY)
    assert revert.plan is not None
    assert verdict(revert.plan()) is Verdict.FINAL
