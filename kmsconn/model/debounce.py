"""What nodes say counts only when a later look says the same, at a later head or some seconds later.

Behind one URL may stand many nodes, and one of them may lag, be on a fork or answer nonsense. A chain without traffic makes no blocks,
hence the seconds. What is remembered is a cache: a process that begins anew looks twice again. Asks nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Hashable

import attrs

CONFIRMING = 5.0
"""Seconds between two looks that confirm each other: one node's wild answer is not heard twice so far apart."""


@attrs.frozen
class Suspicion:
    """Something that a later look has to confirm: the head and the time of the first look that said it, and of the last."""

    first_head: int
    first_at: float
    head: int
    at: float

    @classmethod
    def noted(cls, before: Suspicion | None, head: int, at: float) -> Suspicion:
        """Return the suspicion after one more look."""
        return (
            cls(head, at, head, at) if before is None else cls(before.first_head, before.first_at, head, at)
        )

    def is_confirmed(self, seconds: float, least: float = 0.0) -> bool:
        """Say whether a later head confirms it, ``least`` seconds after the first look, or any head ``seconds`` after it."""
        waited = self.at - self.first_at
        return waited >= seconds or (waited >= least and self.head > self.first_head)


@attrs.define
class Debounce:
    """Suspicions by what they are about. The numbers are those of ``Suspicion.is_confirmed``; at most ``most`` are remembered.

    ``anew_below``: a head below that of the first look begins anew; else it counts as one more look.
    """

    seconds: float
    least: float = 0.0
    most: int | None = None
    anew_below: bool = False
    _noted: dict[Hashable, tuple[str, Suspicion]] = attrs.field(factory=dict)

    def confirms(self, subject: Hashable, now: float, head: int = 0, says: str = "") -> bool:
        """Note what a look at ``head`` says of a subject; say whether an earlier look confirms it.

        Something else that is said begins anew.
        """
        said, before = self._noted.get(subject, (says, None))
        if before is None or said != says or (self.anew_below and head < before.first_head):
            self.clear(subject)
            if self.most is not None and len(self._noted) >= self.most:
                del self._noted[next(iter(self._noted))]
            before = None
        suspicion = Suspicion.noted(before, head, now)
        self._noted[subject] = says, suspicion
        return suspicion.is_confirmed(self.seconds, self.least)

    def clear(self, subject: Hashable) -> None:
        """Forget a suspicion: another look says otherwise."""
        self._noted.pop(subject, None)

    def keep(self, subjects: Collection[Hashable]) -> None:
        """Forget all other suspicions: they were cleared, and begin anew if they come back."""
        if self._noted:
            self._noted = {subject: one for subject, one in self._noted.items() if subject in subjects}
