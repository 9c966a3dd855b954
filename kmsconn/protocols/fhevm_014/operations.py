"""What generation 0.14 does, one row for each kind of request. Data; what depends on a request's content is for ``profile``.

Source: fhevm-0.14.md, 5.1 and 7.5; kms-core-grpc.md, 5; outcomes: deadlines.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation

_LONG_POLL = {"answer": 315.0}  # the Core holds the call for 300 s (5.1)
_LOST_SOON = 5.0  # seconds between tries where the Core keeps a result in memory only (L10)
_HOUR = 3600.0  # a centralised Core cannot destroy epochs (kms-core-grpc.md, 2), and must not hold what comes behind for ever

OPERATIONS = {
    operation.kind: operation
    for operation in (
        Operation(Kind.PUBLIC_DECRYPTION, PoolName.PUBLIC_DECRYPTION, expires=True),
        Operation(Kind.USER_DECRYPTION, PoolName.USER_DECRYPTION, expires=True),
        Operation(Kind.PREP_KEYGEN, PoolName.KEY_GENERATION, stages=_LONG_POLL, longest_wait=_LOST_SOON),
        Operation(  # its start waits for a preparation that is still under way
            Kind.KEYGEN,
            PoolName.KEY_GENERATION,
            stages={**_LONG_POLL, "submit": 120.0},
            longest_wait=_LOST_SOON,
        ),
        Operation(Kind.CRSGEN, PoolName.KEY_GENERATION, longest_wait=_LOST_SOON),
        Operation(Kind.ABORT_KEYGEN, PoolName.ABORTS, signed=False),
        Operation(Kind.ABORT_CRSGEN, PoolName.ABORTS, signed=False),
        Operation(Kind.NEW_KMS_CONTEXT, PoolName.PROTOCOL_CONFIG, signed=False),
        Operation(  # nodes of the previous context send shares and activate nothing (P13)
            Kind.NEW_KMS_EPOCH,
            PoolName.PROTOCOL_CONFIG,
            outsiders=True,
            stages={"submit": 300.0},
            longest_wait=_LOST_SOON,
        ),
        Operation(Kind.KMS_CONTEXT_DESTROYED, PoolName.PROTOCOL_CONFIG, signed=False, patience=_HOUR),
        Operation(Kind.KMS_EPOCH_DESTROYED, PoolName.PROTOCOL_CONFIG, signed=False, patience=_HOUR),
    )
}
