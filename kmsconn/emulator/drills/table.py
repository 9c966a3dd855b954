"""The table of all drills, from which the 404 list, the catalogue and docs/drills.md are made; and the names of their targets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from kmsconn.emulator.dependencies import EmulatedDependencies
from kmsconn.emulator.drills.bucket_drills import BUCKET_DRILLS
from kmsconn.emulator.drills.chain_drills import CHAIN_DRILLS
from kmsconn.emulator.drills.core_drills import CORE_DRILLS
from kmsconn.emulator.drills.drill import Drill, Target
from kmsconn.emulator.drills.other_drills import OTHER_DRILLS, contracts_of

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
