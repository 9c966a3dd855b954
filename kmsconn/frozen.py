"""``attrs.frozen`` for values that are made many times a request: frozen for type checkers, without the price at run time.

The ``__init__`` of a frozen class goes around its own ``__setattr__`` for each field, which takes three times as long.
"""

from functools import partial
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from attrs import frozen
else:
    frozen = partial(attrs.define, unsafe_hash=True, on_setattr=None)

__all__ = ["frozen"]
