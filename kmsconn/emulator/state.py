"""The state of one chain: keys and values, the changes of each block, and cheap looks into the past. Knows no contract.

A block's changes hold the old and the new value of every key it wrote, so that a block can be taken back, put back, or looked
behind: an overlay reads the state as of some blocks ago, and takes the writes of a call that must leave no trace.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final, Protocol

Key = tuple[Any, ...]
Changes = Mapping[Key, tuple[Any, Any]]


class _Missing:
    """The value of a key that was never written."""

    def __repr__(self) -> str:
        return "MISSING"


MISSING: Final = _Missing()
NO_CHANGES: Final[Changes] = {}


class Storage(Protocol):
    """What an execution reads and writes. Values are immutable."""

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default`` when it was never written."""
        ...

    def set(self, key: Key, value: Any) -> None:
        """Write ``value``."""
        ...


class ChainState:
    """The state at the head, with the writes since the last sealed block."""

    def __init__(self) -> None:
        self._values: dict[Key, Any] = {}
        self._written: list[tuple[Key, Any]] = []

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key``, or ``default`` when it was never written."""
        return self._values.get(key, default)

    def set(self, key: Key, value: Any) -> None:
        """Write ``value`` as part of the block that is being built."""
        self._written.append((key, self._values.get(key, MISSING)))
        self._values[key] = value

    def set_always(self, key: Key, value: Any) -> None:
        """Write ``value`` outside all blocks: no reorganisation takes it back, and the past shows it as well."""
        self._values[key] = value

    def checkpoint(self) -> int:
        """Return a mark for ``rollback``."""
        return len(self._written)

    def rollback(self, mark: int) -> None:
        """Take back every write since ``mark``."""
        while len(self._written) > mark:
            self._restore(*self._written.pop())

    def seal(self) -> Changes:
        """End a block: return what it changed and begin the next."""
        if not self._written:
            return NO_CHANGES
        first: dict[Key, Any] = {}
        for key, old in self._written:
            first.setdefault(key, old)
        self._written.clear()
        return {key: (old, self._values[key]) for key, old in first.items()}

    def take_back(self, changes: Changes) -> None:
        """Undo the newest block that was not undone yet."""
        for key, (old, _) in changes.items():
            self._restore(key, old)

    def _restore(self, key: Key, old: Any) -> None:
        if old is MISSING:
            self._values.pop(key, None)
        else:
            self._values[key] = old


class Overlay:
    """A state that differs from another one in some keys; its own writes touch nothing else."""

    def __init__(self, base: ChainState, difference: Mapping[Key, Any]) -> None:
        self._base = base
        self._difference = difference
        self._written: dict[Key, Any] = {}

    def fresh(self) -> Overlay:
        """Return the same state without the writes made to this overlay."""
        return Overlay(self._base, self._difference)

    def get(self, key: Key, default: Any = None) -> Any:
        """Return the value of ``key`` in this state."""
        value = self._written.get(key, MISSING)
        if value is not MISSING:
            return value
        if key in self._difference:
            value = self._difference[key]
            return default if value is MISSING else value
        return self._base.get(key, default)

    def set(self, key: Key, value: Any) -> None:
        """Write ``value`` into this overlay only."""
        self._written[key] = value


def difference(undone: Iterable[Changes], done: Iterable[Changes] = ()) -> dict[Key, Any]:
    """Return what distinguishes another state from the head's: blocks undone (newest first), then blocks done (oldest first)."""
    values: dict[Key, Any] = {}
    for changes in undone:
        values.update((key, old) for key, (old, _) in changes.items())
    for changes in done:
        values.update((key, new) for key, (_, new) in changes.items())
    return values
