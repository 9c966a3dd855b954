"""Prints docs/transactions.md: the decision table of the transaction manager, from the rows that it decides by."""

from __future__ import annotations

from pathlib import Path

from kmsconn.replies.table import markdown

TARGET = Path(__file__).parents[1] / "docs" / "transactions.md"

INTRODUCTION = """\
# Actions of the transaction manager

<!-- Printed by `make gen` from kmsconn/replies/table.py; a test fails when it is stale. -->

One loop per chain reads the chain and takes for every reply the action of the first row below that matches. The *phase* of a reply
follows from its row in the journal and the sender's nonce on chain, the *evidence* from the answers so far. A failed query affects only
its own reply: all others take their next step in the same round. Evidence lives in memory; journal and chain rebuild it.

The *probe* of a reply is one question: would the contract take it from this node, at the latest block? It counts while it is younger than
five seconds and not older than the *epoch*, which rises at a start, at a fork or the suspicion of one, at a lower head or nonce, and at
another transaction of the account. What one look says of an absence is *believed* once a later head, or the reorg window, says the same.

The last column names the worlds that fail without the row (`tests/unit/replies/test_rows.py`).

"""


def text() -> str:
    """Return the text of docs/transactions.md."""
    return INTRODUCTION + markdown()


def files() -> dict[Path, str]:
    """Return the file with its text."""
    return {TARGET: text()}
