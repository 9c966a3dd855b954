"""Block hashes that are kept to notice a reorganisation, however deep, and to find where it began. Pure; never asks a node.

A checkpoint says: everything that was read of a contract so far was read of a chain that holds this block. Every read asks for the
newest one's hash together with the head and the logs, so a read of another branch shows at once. Kept are all of the last ``DENSE``
blocks at which a read ended, and below them sixteen for each doubling of the distance: some 450 for a thousand million blocks.
A fork is then found within an eighth of its depth, and reading begins again there.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

DENSE = 64  # blocks below the newest one that are all kept
_PER_DOUBLING = 16


@attrs.frozen(order=True)
class Checkpoint:
    """A block by number and hash."""

    number: int
    hash: bytes


Checkpoints = tuple[Checkpoint, ...]
"""In the order of their numbers, which differ."""


@attrs.frozen
class Extension:
    """Block hashes to be kept: all of them, those that are new to the journal, and the numbers of those that it may forget."""

    kept: Checkpoints = ()
    keep: Checkpoints = ()
    forget: tuple[int, ...] = ()


NO_EXTENSION = Extension()


def spacing(distance: int) -> int:
    """Return how many blocks share one checkpoint, so far below the newest one: a power of two."""
    return 1 if distance < DENSE else 1 << (distance // _PER_DOUBLING).bit_length() - 1


def thinned(checkpoints: Iterable[Checkpoint]) -> Checkpoints:
    """Return those to keep: of each run of blocks that share one the lowest, so that the oldest and the newest always stay.

    Repeating: what was kept before is enough to know what is kept later.
    """
    ordered = sorted(checkpoints)
    kept: dict[tuple[int, int], Checkpoint] = {}
    for one in ordered:
        share = spacing(ordered[-1].number - one.number)
        kept.setdefault((share, one.number // share), one)
    return tuple(kept.values())


def up_to(checkpoints: Checkpoints, number: int) -> Checkpoints:
    """Return those that are not above a block."""
    return tuple(one for one in checkpoints if one.number <= number)
