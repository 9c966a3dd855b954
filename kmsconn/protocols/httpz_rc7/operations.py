"""What the first generation does, one row for each kind of request. Data; what depends on a request's content is for ``profile``.

Source: httpz-rc7.md, 2.1 and 8.3; outcomes: deadlines.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation

# Replies of several nodes share a block, so an estimate does not tell who will be the one that completes a request. It reads the
# signatures of all, and for a user decryption the shares of all, out of storage into one event: some 75 gas for a byte of each node,
# where the estimate has some 700 for a byte of its own share that it stores. What is not used is not paid.
_COMPLETING_KEYS, _COMPLETING_PUBLIC, _COMPLETING_USER = 500_000, 250_000, 250_000
_SHARES_PERCENT = 150  # of the estimate: up to 13 nodes

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
            spare_percent=_SHARES_PERCENT,
        ),
        Operation(Kind.PREP_KEYGEN, PoolName.KEY_GENERATION, signed=False, spare_gas=_COMPLETING_KEYS),
        Operation(Kind.KEYGEN, PoolName.KEY_GENERATION, spare_gas=_COMPLETING_KEYS),
        Operation(Kind.PREP_KSKGEN, PoolName.KEY_GENERATION, signed=False, spare_gas=_COMPLETING_KEYS),
        Operation(Kind.KSKGEN, PoolName.KEY_GENERATION, signed=False, spare_gas=_COMPLETING_KEYS),
        Operation(Kind.CRSGEN, PoolName.KEY_GENERATION, spare_gas=_COMPLETING_KEYS),
    )
}

REPLIES = {
    Kind.PUBLIC_DECRYPTION: "publicDecryptionResponse",
    Kind.USER_DECRYPTION: "userDecryptionResponse",
    Kind.PREP_KEYGEN: "preprocessKeygenResponse",
    Kind.KEYGEN: "keygenResponse",
    Kind.PREP_KSKGEN: "preprocessKskgenResponse",
    Kind.KSKGEN: "kskgenResponse",
    Kind.CRSGEN: "crsgenResponse",
}
"""The reply function of each kind."""
