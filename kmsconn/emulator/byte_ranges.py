"""What a ``Range`` header asks of an object. Knows one range of bytes; several, and other units, count as none. Never does I/O.

Source: RFC 9110, 14.1.2 and 14.2.
"""

from __future__ import annotations

import re

_PART = re.compile(r"bytes=([0-9]{1,18})-([0-9]{0,18})")
_TAIL = re.compile(r"bytes=-([0-9]{1,18})")


def asked_range(header: str, size: int) -> range | None:
    """Return which of the ``size`` bytes of an object are asked for, none where it does not reach so far.

    None where no range is asked for, or none that can be read: then the whole object is the answer.
    """
    if tail := _TAIL.fullmatch(header):
        return range(max(0, size - int(tail[1])), size)
    if part := _PART.fullmatch(header):
        first = int(part[1])
        last = int(part[2]) if part[2] else max(first, size)
        return range(first, min(last + 1, size)) if first <= last else None
    return None
