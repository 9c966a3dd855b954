"""What generation 0.14 does, one row for each kind of request. Data; what depends on a request's content is for ``profile``.

Source: fhevm-0.14.md, 5.1 and 7.5; outcomes: deadlines.
"""

from __future__ import annotations

from kmsconn.model.requests import Kind, PoolName
from kmsconn.protocols.port import Operation

OPERATIONS = {
    operation.kind: operation
    for operation in (
        Operation(Kind.PUBLIC_DECRYPTION, PoolName.PUBLIC_DECRYPTION, expires=True),
        Operation(Kind.USER_DECRYPTION, PoolName.USER_DECRYPTION, expires=True),
    )
}
