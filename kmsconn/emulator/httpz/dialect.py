"""How requests and replies of the first generation look at its DecryptionManager. Data; reads none itself.

Public and user requests are numbered apart, so the numbers of user requests get a tag before them where one name is needed.
Source: httpz-rc7.md, 1.2 and 2.1.
"""

from __future__ import annotations

from typing import Final

from kmsconn.emulator.dialect import REPLIES, Dialect
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7 import events
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER

HTTPZ: Final = Dialect(
    {
        events.PUBLIC.topic0: Kind.PUBLIC_DECRYPTION,
        events.NUMERIC_PUBLIC.topic0: Kind.PUBLIC_DECRYPTION,
        events.USER.topic0: Kind.USER_DECRYPTION,
        events.NUMERIC_USER.topic0: Kind.USER_DECRYPTION,
    },
    {DECRYPTION_MANAGER.function(name).selector: kind for name, kind in REPLIES.items()},
    events.content_digest,
    {Kind.PUBLIC_DECRYPTION: PUBLIC_DECRYPTION_TAG, Kind.USER_DECRYPTION: USER_DECRYPTION_TAG},
)
"""Names are those that fhevm-0.14 gives by itself: a tag, then the number."""
