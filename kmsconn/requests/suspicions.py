"""Debounces final answers of a chain: one that ends a request counts only once a later head confirms it. Never asks anybody itself.

What one node says once must close nothing (``model.debounce``).
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager

import attrs
import trio

from kmsconn.chain.heads import HeadTracker
from kmsconn.errors import Aborted, AlreadyDone, Destroyed, NotYet, Over, Rejected
from kmsconn.model.debounce import CONFIRMING, Debounce

WITHOUT_BLOCKS = (
    30.0  # seconds after which the same answer counts although the chain made no block: it has no traffic
)
_REMEMBERED = 4096  # subjects; a forgotten one is looked at once more


@attrs.define
class Suspicions:
    """Final answers that no later head has confirmed yet, by what they are about. ``heads`` of the chains that gave them."""

    heads: Mapping[int, HeadTracker]
    _debounce: Debounce = attrs.field(
        factory=lambda: Debounce(WITHOUT_BLOCKS, least=CONFIRMING, most=_REMEMBERED, anew_below=True),
        init=False,
    )

    def confirms(self, subject: Hashable, chain_id: int, cause: str = "") -> bool:
        """Note that a chain says something final; say whether an earlier look, at an earlier head, had it already."""
        return self._debounce.confirms(subject, trio.current_time(), self._head(chain_id), cause)

    def clear(self, subject: Hashable) -> None:
        """Forget what was said: another look says otherwise."""
        self._debounce.clear(subject)

    @contextmanager
    def of(self, subject: Hashable, chain_id: int) -> Iterator[None]:
        """Turn an end that a chain names for the first time into NotYet; let it through where a later head says the same.

        AlreadyDone is judged by the age of its block and Destroyed for all requests together (``Contexts``): both pass.
        """
        try:
            yield
        except (AlreadyDone, Destroyed):
            raise
        except (Rejected, Aborted, Over) as error:
            if self.confirms(subject, chain_id, type(error).__name__):
                self.clear(subject)
                raise
            raise NotYet(f"{error}; asked again at a later head") from error
        else:
            self.clear(subject)

    def _head(self, chain_id: int) -> int:
        tracker = self.heads.get(chain_id)
        return -1 if tracker is None or tracker.number is None else tracker.number
