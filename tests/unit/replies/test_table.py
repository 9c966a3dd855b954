"""The document that is printed from the decision table is fresh, and every action is explained."""

from __future__ import annotations

from kmsconn.replies.table import ROWS, Action
from tools.gen_transactions import MEANINGS


def test_every_action_occurs_and_is_explained() -> None:
    assert {row.action for row in ROWS} == set(Action) == set(MEANINGS)
