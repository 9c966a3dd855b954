"""Prints the decision table of the transaction manager (docs/transactions.md), and what is red without each row (docs/testing.md)."""

from __future__ import annotations

from pathlib import Path

from kmsconn.replies.table import ROWS
from kmsconn.replies.view import Action
from tools.gen_monitoring import between

DOCS = Path(__file__).parents[1] / "docs"
TARGET, TESTING = DOCS / "transactions.md", DOCS / "testing.md"

INTRODUCTION = """\
# Actions of the transaction manager

<!-- Printed by `make gen` from kmsconn/replies/table.py; a test fails when it is stale. -->

One loop per chain reads the chain and takes for every reply the action of the first row below that matches. The *phase* of a reply
follows from its row in the journal and the sender's nonce on chain, the *evidence* from the answers so far. A failed query affects only
its own reply: all others take their next step in the same round. Evidence lives in memory; journal and chain rebuild it.

The *probe* of a reply is one question: would the contract take it from this node, at the latest block? It counts while it is younger than
five seconds and not older than the *epoch*, which rises at a start, at a fork or the suspicion of one, at a lower head or nonce, and at
another transaction of the account. What one look says of an absence is *believed* once a later head, or the reorg window, says the same.

An included reply whose receipt holds an event of the contract needs no row to become final: once its block is, the header of that block,
which lists its transaction and has the hash that the receipt names, finalizes all such replies of the block at once. Every other one, and
each that a header does not prove, is asked about by the rows for *included*.

[testing.md](testing.md#rows) names the worlds that fail without each row.

"""


MEANINGS: dict[Action, str] = {
    Action.CONFIRM: "mark the row as included; the reply is in the chain",
    Action.FINISH: "mark the row as done; other nodes give this reply",
    Action.REJECT: "reject the row with the reason; the contract will never accept the reply",
    Action.SIGN: "give the reply a nonce, fees and a signature, all durable before the broadcast; or its earlier bytes again",
    Action.DEFER: "let the reply wait in the journal without a nonce, longer each time, at most a minute",
    Action.FILL: "use a nonce up by an empty transfer to the own account, so that later nonces can pass",
    Action.REPRICE: "sign the reply again at the same nonce: for a higher fee, or for the market's fee if no node holds its bytes",
    Action.BROADCAST: "send the reply's bytes to a node; the answer is evidence for a later round and blocks no other reply",
    Action.RELEASE: "free the reply's nonce; the row is answered again, and its bytes are kept",
    Action.TAKE_BACK: "mark the row as answered; its bytes go out again while their nonce is open. Without an answer it begins anew",
    Action.FINALIZE: "mark the row as finalized; the reply's block is final",
    Action.ASK: "send the next queries about the reply to a node",
    Action.WAIT: "take no action; time or another answer brings the next step",
}


def text() -> str:
    """Return the text of docs/transactions.md."""
    return INTRODUCTION + markdown()


def files() -> dict[Path, str]:
    """Return the files with their texts."""
    return {TARGET: text(), TESTING: between(TESTING.read_text(encoding="utf-8"), red_without())}


def red_without() -> str:
    """Return the worlds that are red without each row."""
    worlds = (", ".join(f"`{world}`" for world in row.worlds) for row in ROWS)
    rows = [
        f"| {number} | {row.phase}: {row.action} | {found} |"
        for number, (row, found) in enumerate(zip(ROWS, worlds, strict=True), 1)
    ]
    return "\n".join(["| # | row | red without it |", "|--:|---|---|", *rows, ""])


def markdown() -> str:
    """Return the actions and the table."""
    actions = "\n".join(f"- **{action}**: {MEANINGS[action]}." for action in Action)
    rows = [
        f"| {number} | {row.phase} | {(row.when.__doc__ or '').removesuffix('.')} | {row.action} |"
        for number, row in enumerate(ROWS, 1)
    ]
    table = "\n".join(["| # | phase | evidence | action |", "|--:|---|---|---|", *rows])
    return f"## Actions\n\n{actions}\n\n## The table\n\n{table}\n"
