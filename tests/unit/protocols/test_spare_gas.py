"""A reply may be the one that completes its request: each kind that is answered has gas for it, in both generations."""

from __future__ import annotations

import pytest

from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.protocols.httpz_rc7.profile import HttpzRc7
from kmsconn.protocols.profile import Profile
from tests import vectors
from tests.vectors import httpz

UNANSWERED = {Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED, Kind.KMS_EPOCH_DESTROYED}


@pytest.mark.parametrize("profile", [Fhevm(vectors.vector_settings()), HttpzRc7(httpz.settings())])
def test_every_kind_that_is_answered_has_spare_gas(profile: Profile) -> None:
    without = {kind for kind, operation in profile.operations.items() if not operation.spare(100_000)}
    assert without <= UNANSWERED


def test_shares_of_others_cost_by_their_size() -> None:
    """A first-generation user decryption reads the shares of all nodes out of storage into its event."""
    operation = HttpzRc7(httpz.settings()).operations[Kind.USER_DECRYPTION]
    assert (
        operation.spare(4_000_000) - operation.spare(1_000_000) == 3_000_000 * operation.spare_percent // 100
    )
