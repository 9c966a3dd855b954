"""Operations that choose something when a request is first started, and must start it the same way ever after. Never keeps a choice.

An option may change between two starts of a request, and between a request and the one that continues it. The Core then holds something
that was made for the earlier choice. So the journal keeps the choice as a text with the request, before the Core hears of it.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from kmsconn.model.requests import Content, Kind

C = TypeVar("C", bound=Content)


class Choosing(ABC, Generic[C]):
    """An operation with a choice; a mixin of ``port.Operation``."""

    @abstractmethod
    def choose(self, content: C, before: str) -> str:
        """Choose for a request that has no choice yet; ``before`` is the choice of the request that it continues, where one is kept."""

    @abstractmethod
    def chosen(self, content: C, choice: str) -> C:
        """Return a content that is started as was chosen for it."""

    def continues(self, content: C) -> tuple[Kind, int] | None:
        """Return kind and id of the request of the same contract that a request continues; None: it continues none."""
        return None
