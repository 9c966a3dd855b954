"""Values of ``kmsconn.frozen`` behave as ``attrs.frozen`` ones do, but for their making."""

from __future__ import annotations

import attrs

from kmsconn.frozen import frozen


@frozen
class Point:
    """A value with each sort of default."""

    x: int
    y: int = 0
    names: tuple[str, ...] = attrs.field(factory=tuple, repr=False)


def test_they_are_hashed_by_value_have_slots_and_are_made_by_plain_assignments() -> None:
    assert {Point(1): "here"}[attrs.evolve(Point(2), x=1)] == "here"
    assert repr(Point(1)) == "Point(x=1, y=0)"
    assert not hasattr(Point(1), "__dict__")
    assert "_setattr" not in Point.__init__.__code__.co_varnames
