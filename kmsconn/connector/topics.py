"""What processes over one journal tell each other, by word, and who is woken by it. Carries no data: whoever is woken looks.

A topic is a word with a name: ``due user_decryption``, ``answered 54321``, ``closed <id in hex>``, ``lease``.
"""

from __future__ import annotations

from collections.abc import Callable, Collection

import attrs

Wake = Callable[[str], None]
"""Wakes who waits for something by its name; an empty name wakes all."""


@attrs.define
class Topics:
    """Who is woken by which word."""

    _by_word: dict[str, Wake] = attrs.field(factory=dict)

    def on(self, word: str, wake: Wake) -> None:
        """Let a word wake somebody."""
        self._by_word[word] = wake

    def tell(self, told: Collection[str]) -> None:
        """Wake who waits for these topics; without any, everybody: something may have been told that nobody heard."""
        for topic in told or self._by_word:
            word, _, name = topic.partition(" ")
            if (wake := self._by_word.get(word)) is not None:
                wake(name)
