"""What the Cores of all nodes work on, and how they are slowed down so that it can be aborted under way."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import attrs

from kmsconn.emulator.core import EmulatedCore
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies

_FOR_EVER = 1e9  # seconds of a generation that will be aborted


@attrs.frozen
class KeyCores:
    """The Cores of all nodes; ``members`` are the nodes of the present committee."""

    dependencies: FhevmDependencies
    members: tuple[int, ...]

    @contextmanager
    def slow(self) -> Iterator[None]:
        """Let what begins within the block take for ever, so that it can be aborted under way."""
        before = {core: core.management.jobs.generating for core in self._cores()}
        try:
            for core in before:
                core.management.jobs.generating = _FOR_EVER
            yield
        finally:
            for core, seconds in before.items():
                core.management.jobs.generating = seconds

    def at_work(self, kind: str, identifier: int) -> bool:
        """Tell whether every Core of the present committee works on something."""
        name = identifier.to_bytes(32)
        committee = [shards for node, shards in enumerate(self._nodes()) if node in self.members]
        return all(any(core.management.at_work(kind, name) for core in shards) for shards in committee)

    def any_at_work(self, kind: str, identifier: int) -> bool:
        """Tell whether a Core works on something."""
        return self.any(lambda core: core.management.at_work(kind, identifier.to_bytes(32)))

    def any(self, holds: Callable[[EmulatedCore], bool]) -> bool:
        """Tell whether something holds for one of the Cores."""
        return any(holds(core) for core in self._cores())

    def _nodes(self) -> list[list[EmulatedCore]]:
        """The shards of the Core of each node."""
        own = [shard.core for shard in self.dependencies.cores]
        return [own, *([faults.core] for faults in self.dependencies.others)]

    def _cores(self) -> list[EmulatedCore]:
        return [core for shards in self._nodes() for core in shards]
