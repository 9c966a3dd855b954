"""How long decryptions are worked on: as the option says, else as the release of the network does. Asks nobody.

Connectors of 0.15 give a decryption up after an hour, those before after a day. What one node does not answer for longer than the others
wait for it is of no use, so the default follows the network. It may change while the connector runs, and rows keep the deadline that they
were recorded with. Source: fhevm-0.15.md, section 3.
"""

from __future__ import annotations

import attrs

DAY, HOUR = 24 * 3600.0, 3600.0
"""Seconds that connectors until 0.14, and from 0.15 on, work on a decryption."""


@attrs.define
class DecryptionExpiry:
    """The age in seconds at which decryptions expire. ``later``: whether the network is one of 0.15; None: nobody knows yet."""

    option: float | None = None
    later: bool | None = None

    def seconds(self) -> float:
        """Return the age at which a request expires that is recorded now."""
        if self.option is not None:
            return self.option
        return HOUR if self.later else DAY

    def longest(self) -> float:
        """Return the greatest age that a request can have been given: it was recorded no earlier."""
        return DAY if self.option is None else self.option

    def shortest(self) -> float:
        """Return the age that a request was given, or less: it was recorded no later, as far as is known."""
        return HOUR if self.option is None and self.later is None else self.seconds()
