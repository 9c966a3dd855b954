"""The table of all drills and the names of their targets; which of them are on: puts them on, ends them, lists them. Reads no HTTP."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from functools import partial
from typing import Any, Final

import attrs
import msgspec
import trio

from kmsconn.emulator.bucket_faults import BUCKET_DRILLS
from kmsconn.emulator.core_faults import CORE_DRILLS
from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.drills.chain_drills import CHAIN_DRILLS
from kmsconn.emulator.drills.drill import Drill, DrillError, DrillScene, End, Target
from kmsconn.emulator.drills.other_drills import OTHER_DRILLS, contracts_of
from kmsconn.emulator.users import Users

DRILLS: Final[tuple[type[Drill], ...]] = (*CHAIN_DRILLS, *CORE_DRILLS, *BUCKET_DRILLS, *OTHER_DRILLS)
GROUPS: Final = {"chains": Target.CHAIN, "cores": Target.CORE, "buckets": Target.BUCKET}
"""Names that stand for all targets of a kind."""


def targets_of(dependencies: EmulatedDependencies) -> dict[str, frozenset[Target]]:
    """Return the names of all targets, with the kinds that each is of."""
    own = {name: frozenset({Target(name), Target.CHAIN, Target.ANY}) for name in dependencies.clusters}
    own |= {name: frozenset({Target.CORE, Target.ANY}) for name in dependencies.cores_by_name}
    buckets = range(len(dependencies.buckets))
    own |= {f"bucket{index}": frozenset({Target.BUCKET, Target.ANY}) for index in buckets}
    own |= {name: frozenset({Target.ANY}) for name in dependencies.names if name not in own}
    own |= {name: frozenset({Target.CONTRACT}) for name in contracts_of(dependencies)}
    return own | {str(kind): frozenset({kind}) for kind in (Target.USERS, Target.MONITORING)}


def members_of(name: str, targets: dict[str, frozenset[Target]]) -> list[str]:
    """Return the targets for which a name stands: itself, or all of a group; none where there is no such name."""
    if name in GROUPS:
        return [member for member, kinds in targets.items() if GROUPS[name] in kinds]
    return [name] if name in targets else []


def routes(targets: dict[str, frozenset[Target]]) -> Iterator[str]:
    """Yield the path of each drill for each target there is, with its body in words."""
    for drill in DRILLS:
        for name, kinds in targets.items():
            if drill.target in kinds:
                yield f"POST /{name}/{drill.name} {body_in_words(drill)}"


def body_in_words(drill: type[Drill]) -> str:
    """Return the fields of a drill's body with type and default."""
    inner = ", ".join(f'"{name}": {words}' for name, words in drill.fields().items())
    return "{" + inner + "}"


def find(name: str, kinds: frozenset[Target]) -> type[Drill] | None:
    """Return the drill of this name for a target of these kinds."""
    return next((drill for drill in DRILLS if drill.name == name and drill.target in kinds), None)


class UnknownDrillError(LookupError):
    """There is no drill, or no target, of this name."""


@attrs.frozen
class ActiveDrill:
    """One drill that is on; ``since`` in Trio time."""

    target: str
    drill: Drill
    since: float
    end: End = attrs.field(repr=False)


class ActiveDrills:
    """The drills of one emulation. ``run`` must run for those that have tasks, or look at each block."""

    def __init__(self, dependencies: EmulatedDependencies, users: Users[EmulatedDependencies]) -> None:
        self.scene = DrillScene(dependencies, users)
        self.active: list[ActiveDrill] = []
        """In the order in which they were put on."""
        self._dependencies = dependencies

    def put_on(self, target: str, name: str, content: bytes) -> None:
        """Put a drill on a target, or on all of a group, beside those that are on.

        Raises UnknownDrillError, msgspec.DecodeError for a body that cannot be read, and DrillError for one that cannot be carried out.
        """
        put_on: list[ActiveDrill] = []
        try:
            for member, drill in self._found(target, name):
                one = drill.read(content)
                end = one.put_on(self.scene, member)
                if end is not None:
                    put_on.append(ActiveDrill(member, one, trio.current_time(), end))
        except DrillError:
            for active in reversed(put_on):
                active.end()
            raise
        self.active += put_on

    def end(self, target: str, name: str) -> int:
        """End every drill of this name on a target or group, the newest first; return how many. Raises UnknownDrillError."""
        found = {(member, drill.name) for member, drill in self._found(target, name)}
        return self._end([one for one in self.active if (one.target, one.drill.name) in found])

    def end_all(self) -> int:
        """End every drill; return how many."""
        return self._end(list(self.active))

    def restarted(self, core: str) -> int:
        """End the drills that a restart of this Core ends; return how many."""
        return self._end([one for one in self.active if one.target == core and one.drill.restart_ends])

    def listing(self) -> list[dict[str, Any]]:
        """Return what is on, for JSON; ``seconds``: for how long."""
        now = trio.current_time()
        return [
            {
                "target": one.target,
                "fault": one.drill.name,
                "body": msgspec.to_builtins(one.drill),
                "seconds": round(now - one.since, 3),
            }
            for one in self.active
        ]

    def catalogue(self) -> list[dict[str, Any]]:
        """Return every drill that there is here, for JSON."""
        targets = targets_of(self._dependencies)
        return [
            {
                "fault": drill.name,
                "targets": there,
                "body": drill.fields(),
                "does": drill.does(),
                "connector": drill.connector(),
            }
            for drill in DRILLS
            if (there := [name for name, kinds in targets.items() if drill.target in kinds])
        ]

    def body_of(self, target: str, name: str) -> str:
        """Return the fields of a drill's body in words. Raises UnknownDrillError."""
        return body_in_words(self._found(target, name)[0][1])

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Run what drills need, until cancelled."""
        async with trio.open_nursery() as nursery:
            self.scene.start = partial(_start, nursery)
            task_status.started()
            while True:
                await self._dependencies.gateway.wait_change()
                for look in list(self.scene.each_block):
                    look()

    def _found(self, target: str, name: str) -> list[tuple[str, type[Drill]]]:
        targets = targets_of(self._dependencies)
        members = members_of(target, targets)
        found = [(member, drill) for member in members if (drill := find(name, targets[member])) is not None]
        if not found:
            raise UnknownDrillError(f"/{target}/{name}")
        return found

    def _end(self, ending: list[ActiveDrill]) -> int:
        for one in reversed(ending):
            self.active = [other for other in self.active if other is not one]
            one.end()
        return len(ending)


def _start(nursery: trio.Nursery, work: Callable[[], Awaitable[object]]) -> End:
    scope = trio.CancelScope()
    nursery.start_soon(_within, scope, work)
    return scope.cancel


async def _within(scope: trio.CancelScope, work: Callable[[], Awaitable[object]]) -> None:
    with scope:
        await work()
