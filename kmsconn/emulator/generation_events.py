"""How requests and replies of a generation look on its Gateway, for whoever reads the chain. Data; reads none itself.

Source: fhevm-0.14.md, 1.2 and 2.1.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import attrs

from kmsconn.ethereum.abi import Log
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.abi import DECRYPTION
from kmsconn.protocols.fhevm.profile import EVENTS

_SELECTOR_BYTES, _WORD_BYTES = 4, 32
_TAG_BITS = 248


@attrs.frozen
class GenerationEvents:
    """Topics of request events, selectors of replies and topics of consensus with their kinds; all have the id first.

    ``tags``: what is put before ids where those of two kinds may be equal, so that each request has a name of its own.
    """

    requests: Mapping[bytes, Kind]
    replies: Mapping[bytes, Kind]
    consensus: Mapping[bytes, Kind]
    content_digest: Callable[[Log], bytes]
    tags: Mapping[Kind, int] = attrs.Factory(dict)

    def name(self, kind: Kind, identifier: int) -> int:
        """Return the name of a request."""
        return self.tags.get(kind, 0) << _TAG_BITS | identifier

    def requested(self, topics: tuple[bytes, ...]) -> int | None:
        """Return the name of the request that a log of the contract announces; None for any other log."""
        kind = self.requests.get(topics[0])
        return None if kind is None else self.name(kind, int.from_bytes(topics[1]))

    def agreed(self, topics: tuple[bytes, ...]) -> int | None:
        """Return the name of the request that has enough answers, as a log of the contract says; None for any other log."""
        kind = self.consensus.get(topics[0])
        return None if kind is None else self.name(kind, int.from_bytes(topics[1]))

    def replied(self, calldata: bytes) -> int | None:
        """Return the name of the request that a call of the contract answers; None for any other call."""
        kind = self.replies.get(calldata[:_SELECTOR_BYTES])
        identifier = calldata[_SELECTOR_BYTES : _SELECTOR_BYTES + _WORD_BYTES]
        return None if kind is None else self.name(kind, int.from_bytes(identifier))


REPLIES = {
    "publicDecryptionResponse": Kind.PUBLIC_DECRYPTION,
    "userDecryptionResponse": Kind.USER_DECRYPTION,
}

FHEVM = GenerationEvents(
    {topic0: kind for topic0, kind in EVENTS.kinds.items() if kind in REPLIES.values()},
    {DECRYPTION.function(name).selector: kind for name, kind in REPLIES.items()},
    {
        DECRYPTION.event("PublicDecryptionResponse").topic0: Kind.PUBLIC_DECRYPTION,
        DECRYPTION.event("UserDecryptionResponseThresholdReached").topic0: Kind.USER_DECRYPTION,
    },
    EVENTS.digest,
)
