"""Prints docs/transactions.md: the table state × evidence → action of the transaction manager, from the literal that it decides by."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from kmsconn.replies.table import Action, markdown

TARGET = Path(__file__).parents[1] / "docs" / "transactions.md"

INTRODUCTION = """\
# Actions of the transaction manager

<!-- Printed by `make gen` from kmsconn/replies/table.py; a test fails when it is stale. -->

One loop per chain reads the chain, classifies every reply, and takes the action in this table
(`kmsconn/replies/decide.py`). The *phase* of a reply follows from its row in the journal and the sender's nonce on chain, the
*evidence* from the answers so far (`kmsconn/replies/assess.py`). A failed query affects only its own reply: all others take
their next step in the same round. Evidence lives in memory; journal and chain rebuild it.

## Actions

"""

MEANINGS: dict[Action, str] = {
    Action.WAIT: "take no action; time or another answer brings the next step",
    Action.ASK: "send the next query about the reply to a node",
    Action.SIGN: "give the reply a nonce, fees and a signature, all durable before the broadcast",
    Action.BROADCAST: "send the reply's bytes to a node; the answer is evidence for a later round and blocks no other reply",
    Action.REPRICE: "sign the reply again at the same nonce: for a higher fee, or for the market's fee if no node holds its bytes",
    Action.MOVE_DOWN: "sign the reply again for a nonce gap below it, the last reply in flight first, unless a new reply fills the gap",
    Action.FILL_GAP: "use the reply's nonce for an empty transfer to the own account, so that later nonces can pass",
    Action.CONFIRM: "mark the row as included; the reply is in the chain",
    Action.RELEASE: "free the reply's nonce; the row is answered again",
    Action.DEFER: "let the reply wait in the journal without a nonce, longer each time, at most a minute",
    Action.REJECT: "reject the row with the reason; the contract will never accept the reply",
    Action.FINISH: "mark the row as done; other nodes give this reply",
    Action.RESEND: "mark the row as answered, because the reply's block is gone; the same bytes are sent while their nonce is open",
    Action.RESTART: "start the request again, because the reply's block is gone and no answer is kept",
    Action.FINALIZE: "mark the row as finalized; the reply's block is final",
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
