"""Prints docs/transactions.md: the table state × evidence → action of the transaction manager, from the literal that it decides by."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmsconn.txmanager.table import Action, markdown

TARGET = Path(__file__).parents[1] / "docs" / "transactions.md"

INTRODUCTION = """\
# What the transaction manager does with a reply

<!-- Printed by `make gen` from kmsconn/txmanager/table.py; a test says when it is stale. -->

One loop for each chain looks at the chain, works out what is known of every reply, and takes the action that this table names
(`kmsconn/txmanager/decide.py`). The *phase* of a reply follows from its row in the journal and the sender's nonce on chain, the
*evidence* from the answers so far (`kmsconn/txmanager/assess.py`). An answer that fails concerns its own reply alone: all others take
their next step in the same round. Nothing here is remembered beyond the process; journal and chain rebuild it.

## Actions

"""

MEANINGS: dict[Action, str] = {
    Action.WAIT: "nothing: time or another answer brings the next step",
    Action.ASK: "a node is asked the next question about it",
    Action.SIGN: "it gets a nonce, fees and a signature, all durable before it is broadcast",
    Action.BROADCAST: "its bytes are handed to a node; the answer is evidence for a later round and holds nobody up",
    Action.REPRICE: "it is signed again at the same nonce: for more, or for the market's fee where no node holds its bytes",
    Action.MOVE_DOWN: "it is signed again for the nonce of a gap below it, the last reply in flight first, unless a new one takes that",
    Action.FILL_GAP: "an empty transfer to ourselves uses its nonce up, so that later ones can pass",
    Action.CONFIRM: "it is in the chain: the row is included",
    Action.RELEASE: "it gives its nonce up and goes back to answered",
    Action.DEFER: "it waits in the journal without a nonce, longer each time, at most a minute",
    Action.REJECT: "it can never be taken: the row is rejected, with the reason",
    Action.FINISH: "it is not this node's to give: the row is done",
    Action.RESEND: "its block is gone: back to answered; its bytes go out again while their nonce is open",
    Action.RESTART: "its block is gone and no answer is kept: the request starts again",
    Action.FINALIZE: "it is there for good: the row is finalized",
}


def text() -> str:
    """Return the text of docs/transactions.md."""
    actions = "\n".join(f"- **{action}**: {MEANINGS[action]}." for action in Action)
    return f"{INTRODUCTION}{actions}\n\n## The table\n\n{markdown()}"


def main() -> int:
    """Write the file, or say that it is stale."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the file is up to date")
    if not parser.parse_args().check:
        TARGET.write_text(text(), encoding="utf-8")
        return 0
    if TARGET.exists() and TARGET.read_text(encoding="utf-8") == text():
        return 0
    sys.stderr.write(f"{TARGET} is stale: make gen\n")
    return 1


if __name__ == "__main__":
    sys.exit(main())
