"""The document that is printed from the decision table is fresh, and every action is explained."""

from __future__ import annotations

from kmsconn.replies.table import MEANINGS, ROWS, Action
from tools.gen_transactions import TARGET, text


def test_every_action_occurs_and_is_explained() -> None:
    assert {row.action for row in ROWS} == set(Action) == set(MEANINGS)


def test_the_document_is_fresh() -> None:
    assert TARGET.read_text(encoding="utf-8") == text(), "make gen"
