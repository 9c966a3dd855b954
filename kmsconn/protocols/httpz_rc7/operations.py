"""What the first generation does, one row for each kind of request. Data; what depends on a request's content is for ``profile``.

Source: httpz-rc7.md, 2.1 and 8.3; outcomes: deadlines.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation

OPERATIONS = {
    operation.kind: operation
    for operation in (
        Operation(Kind.PUBLIC_DECRYPTION, PoolName.PUBLIC_DECRYPTION, expires=True),
        Operation(Kind.USER_DECRYPTION, PoolName.USER_DECRYPTION, expires=True),
        Operation(Kind.PREP_KEYGEN, PoolName.KEY_GENERATION, signed=False),
        Operation(Kind.KEYGEN, PoolName.KEY_GENERATION),
        Operation(Kind.PREP_KSKGEN, PoolName.KEY_GENERATION, signed=False),
        Operation(Kind.KSKGEN, PoolName.KEY_GENERATION, signed=False),
        Operation(Kind.CRSGEN, PoolName.KEY_GENERATION),
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
