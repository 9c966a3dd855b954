"""Rules that spoil the calls of a node: which calls one strikes, and what comes instead of the honest result. Carries no call out."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Never

import attrs
import trio

Honest = Callable[[], Any]
"""Carries the call out. Raises NodeError."""
Spoiled = Callable[[Honest], Any]
"""Gives the result instead. Raises NodeError; returns a function to be awaited where the caller must wait."""

_SELECTOR_TEXT = len("0x") + 8
_ID_TEXT = 64


@attrs.define(eq=False)
class CallRule:
    """One rule. ``share`` of the calls of ``methods`` (none named: of all) are struck, ``times`` of them in all (None: no end).

    ``containing``: only calls in whose parameters this text stands. ``one``: the first reply that is struck is struck again in every
    call about it, and no other: a transaction hash, or the contract's function and id at the start of the calldata, tell replies apart.
    """

    act: Spoiled
    methods: frozenset[str] = frozenset()
    share: float = 1.0
    times: int | None = None
    containing: str = ""
    one: bool = False
    random: Random = attrs.field(factory=lambda: Random(0), repr=False)
    _chosen: str = ""

    def strikes(self, method: str, params: Sequence[Any]) -> bool:
        """Decide about one call, and count it."""
        if self.times == 0 or (self.methods and method not in self.methods):
            return False
        if self.containing and self.containing.lower() not in json.dumps(params).lower():
            return False
        if self.one and self._chosen and subject_of(params) != self._chosen:
            return False
        if self.random.random() >= self.share:
            return False
        self._chosen = self._chosen or subject_of(params)
        self.times = None if self.times is None else self.times - 1
        return True


def subject_of(params: Sequence[Any]) -> str:
    """Return what a call is about: its first parameter, of a call object the function and the id at the start of its calldata."""
    first = params[0] if params else ""
    if isinstance(first, dict):
        return str(first.get("data") or first.get("input") or "")[: _SELECTOR_TEXT + _ID_TEXT]
    return str(first)


def hanging(honest: Honest) -> Any:
    """Never answer; the call is not carried out."""
    del honest
    return _never


async def _never() -> Never:
    await trio.sleep_forever()
    raise AssertionError
