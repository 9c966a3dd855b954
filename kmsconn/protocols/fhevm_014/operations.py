"""What generation 0.14 does, one row for each kind of request. Data; what depends on a request's content is for ``profile``.

Source: fhevm-0.14.md, 5.1 and 7.5; kms-core-grpc.md, 5; outcomes: deadlines.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation

_LONG_POLL = {"answer": 315.0}  # the Core holds the call for 300 s (5.1)
_LOST_SOON = 5.0  # seconds between tries where the Core keeps a result in memory only (L10)
# Replies of several nodes share a block, so an estimate does not tell who will be the one that completes a request. It pays for the lists
# and events of all: recorded were 176,000 more for a CRS of four nodes, 66,000 for an epoch, 43,000 and 9,500 for each signature of a
# public decryption. What is not used is not paid.
_COMPLETING_KEYS, _COMPLETING_PUBLIC, _COMPLETING_USER = 500_000, 250_000, 50_000

OPERATIONS = {
    operation.kind: operation
    for operation in (
        Operation(
            Kind.PUBLIC_DECRYPTION,
            PoolName.PUBLIC_DECRYPTION,
            expires=True,
            spare_gas=_COMPLETING_PUBLIC,
        ),
        Operation(
            Kind.USER_DECRYPTION,
            PoolName.USER_DECRYPTION,
            expires=True,
            spare_gas=_COMPLETING_USER,
        ),
        Operation(
            Kind.PREP_KEYGEN,
            PoolName.KEY_GENERATION,
            stages=_LONG_POLL,
            longest_wait=_LOST_SOON,
            spare_gas=_COMPLETING_KEYS,
        ),
        Operation(  # its start waits for a preparation that is still under way
            Kind.KEYGEN,
            PoolName.KEY_GENERATION,
            stages={**_LONG_POLL, "submit": 120.0},
            longest_wait=_LOST_SOON,
            spare_gas=_COMPLETING_KEYS,
        ),
        Operation(Kind.CRSGEN, PoolName.KEY_GENERATION, longest_wait=_LOST_SOON, spare_gas=_COMPLETING_KEYS),
        Operation(Kind.ABORT_KEYGEN, PoolName.ABORTS, signed=False),
        Operation(Kind.ABORT_CRSGEN, PoolName.ABORTS, signed=False),
        Operation(Kind.NEW_KMS_CONTEXT, PoolName.PROTOCOL_CONFIG, signed=False, spare_gas=_COMPLETING_KEYS),
        Operation(  # nodes of the previous context send shares and activate nothing (P13)
            Kind.NEW_KMS_EPOCH,
            PoolName.PROTOCOL_CONFIG,
            outsiders=True,
            stages={"submit": 300.0},
            longest_wait=_LOST_SOON,
            spare_gas=_COMPLETING_KEYS,
        ),
        Operation(Kind.KMS_CONTEXT_DESTROYED, PoolName.PROTOCOL_CONFIG, signed=False),
        Operation(Kind.KMS_EPOCH_DESTROYED, PoolName.PROTOCOL_CONFIG, signed=False),
    )
}
