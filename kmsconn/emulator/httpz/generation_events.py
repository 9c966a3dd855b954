"""How requests and replies of the first generation look at its DecryptionManager. Data; reads none itself.

Public and user requests are numbered apart, so the numbers of user requests get a tag before them where one name is needed.
Source: httpz-rc7.md, 1.2 and 2.1.
"""

from __future__ import annotations

from typing import Final

from kmsconn.emulator.generation_events import REPLIES, GenerationEvents
from kmsconn.ethereum.ids import PUBLIC_DECRYPTION_TAG, USER_DECRYPTION_TAG
from kmsconn.model.requests import Kind
from kmsconn.protocols.httpz_rc7.abi import DECRYPTION_MANAGER
from kmsconn.protocols.httpz_rc7.profile import EVENTS
from kmsconn.protocols.httpz_rc7.user_decryption import NAMELESS_EVENT

HTTPZ: Final = GenerationEvents(
    {
        topic0: kind
        for topic0, kind in EVENTS.kinds.items()
        if kind in REPLIES.values() and topic0 != NAMELESS_EVENT.topic0
    },
    {DECRYPTION_MANAGER.function(name).selector: kind for name, kind in REPLIES.items()},
    {
        DECRYPTION_MANAGER.event("PublicDecryptionResponse").topic0: Kind.PUBLIC_DECRYPTION,
        DECRYPTION_MANAGER.event("UserDecryptionResponse").topic0: Kind.USER_DECRYPTION,
    },
    EVENTS.digest,
    {Kind.PUBLIC_DECRYPTION: PUBLIC_DECRYPTION_TAG, Kind.USER_DECRYPTION: USER_DECRYPTION_TAG},
)
"""Names are those that fhevm gives by itself: a tag, then the number."""
