"""A world that failed is printed as Python, and the printed line plays the same world again."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.testing import faults
from kmsconn.testing.strategies import Case, cases
from kmsconn.testing.world import PlanStep


def case_again(plan: Iterable[PlanStep], **options: Any) -> Case:
    """Stand in for ``run_world``: return the case that would be played."""
    return Case(tuple(plan), **options)


NAMES = {"run_world": case_again, **{name: getattr(faults, name) for name in faults.__all__}}


@pytest.mark.parametrize("profile", [FHEVM, HTTPZ_RC7])
@given(data=st.data())
def test_the_repr_of_a_case_is_python_that_gives_it_again(profile: str, data: st.DataObject) -> None:
    case = data.draw(cases(profile=profile))
    assert eval(repr(case), dict(NAMES)) == case  # noqa: S307 - it was printed here
