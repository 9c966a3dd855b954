"""The table phase × evidence → action: whole, and the document printed from it fresh."""

from __future__ import annotations

import re
from pathlib import Path

from kmsconn.replies import assess
from kmsconn.replies.table import TABLE, Action, Evidence, Phase, markdown
from tools.gen_transactions import MEANINGS, TARGET, text

SOURCE = Path(assess.__file__).read_text(encoding="utf-8")


def test_every_phase_has_a_row_and_every_evidence_and_action_occurs() -> None:
    assert set(TABLE) == set(Phase)
    assert {evidence for row in TABLE.values() for evidence in row} == set(Evidence)
    assert {action for row in TABLE.values() for action in row.values()} == set(Action)


def test_every_evidence_is_found_by_somebody() -> None:
    """A row of the table that nothing leads to would say what the program does not do."""
    assert set(re.findall(r"Evidence\.([A-Z_0-9]+)", SOURCE)) == {evidence.name for evidence in Evidence}


def test_every_action_is_explained() -> None:
    assert set(MEANINGS) == set(Action)


def test_the_document_is_fresh() -> None:
    assert TARGET.read_text(encoding="utf-8") == text(), "make gen"
    assert markdown() in text()
