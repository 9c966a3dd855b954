"""Operations that end more than the event names: contexts and epochs of which nothing is asked any more. Never ends a request."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, TypeVar

from kmsconn.model.requests import Content

C = TypeVar("C", bound=Content)


class EndsOthers(ABC, Generic[C]):
    """An operation that takes others along; a mixin of ``port.Operation``."""

    @abstractmethod
    def over(self, content: C, found: Any, replies: Sequence[bytes]) -> frozenset[int]:
        """Return the contexts and epochs that are over besides those of ``Order.ends``, once the Core has taken the calls.

        ``replies`` are what its endpoints answered to them; ``found`` as in ``start_calls``.
        """
