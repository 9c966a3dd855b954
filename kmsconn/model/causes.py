"""Every cause of an alert: what it means, and what to do. ``docs/alerts.md`` is printed from this table."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class Cause:
    """What an alert with this cause is about, and what to do unless the alert itself says something better."""

    dependency: str
    meaning: str
    remedy: str


CAUSES: Final[Mapping[str, Cause]] = {
    "unreachable": Cause(
        "gateway, ethereum, host chain N, core[N], coprocessor 0x…, wallet",
        "Nobody answers there: refused, silent, not serving, or every URL failed in turn",
        "see that it runs and that the option names it; requests wait and nothing is lost",
    ),
    "wrong-chain": Cause(
        "a chain's name with the URL",
        "A node is on another chain than configured; it is not used",
        "correct the URL or the chain id",
    ),
    "wrong-contract": Cause(
        "gateway, ethereum, host chain N",
        "A configured contract is not there any more: its address has no code, or that of another contract",
        "see that the node is of this network, and that the option that the text names is right",
    ),
    "no-answer-yet": Cause(
        "gateway, ethereum, host chain N",
        "It was reached at the start and has not given a usable answer yet",
        "see what the text says of it; the start goes on by itself",
    ),
    "logs": Cause(
        "a chain's name with the contract",
        "No node has given logs of the contract that could be trusted for 10 s: nothing new is heard",
        "see whether the node keeps logs, follows the chain, and takes the range",
    ),
    "back-fill": Cause(
        "a chain's name with the contract",
        "Blocks between the cursor and the head cannot be read",
        "use a node that keeps the history since the cursor",
    ),
    "missing-requests": Cause(
        "completeness 0x…",
        "The contract has numbered requests that the journal does not know; their blocks are read again",
        "use a node that shows all logs of those blocks",
    ),
    "not-finalizing": Cause(
        "ethereum",
        "The finalized block is more than 45 minutes behind the head: key management is not heard",
        "see whether the network finalizes, and whether the node follows its consensus client",
    ),
    "unreadable": Cause(
        "coprocessor registry",
        "The registry of coprocessors cannot be read; the last snapshot counts on",
        "see gateway_config_contract, and that the Gateway answers its views",
    ),
    "no-bucket": Cause(
        "coprocessor 0x…",
        "A coprocessor has no bucket registered; its ciphertexts are asked of the others",
        "the coprocessor's operator registers one",
    ),
    "calls-fail": Cause(
        "gateway, ethereum, host chain N, checks, buckets, core[N]",
        "Calls fail although it can be reached: errors of a node, HTTP statuses of buckets, statuses of a Core or of a proxy before it",
        "see what the text says of it, and that it serves; requests wait",
    ),
    "too-slow": Cause(
        "checks, buckets, core[N]",
        "A stage used up its time, or a Core gives no result of decryptions for 5 minutes",
        "see why it takes so long; requests wait",
    ),
    "overloaded": Cause(
        "gateway, ethereum, host chain N, buckets, core[N]",
        "It asks for less",
        "give it more resources or a higher limit, or lower the sizes of the pools",
    ),
    "misconfigured": Cause(
        "checks, buckets, core[N]",
        "It refuses what is configured: no right, no such call, an address that is not allowed",
        "change what the text names and restart",
    ),
    "not-configured": Cause(
        "host chain N",
        "Requests name handles of a host chain that is not configured",
        "add the chain to host_chains; nothing to do where this network has no such chain",
    ),
    "not-a-node": Cause(
        "a context",
        "This node is not in the context of requests; critical where it is in no valid one",
        "use the wallet that was registered for the node",
    ),
    "wrong-signer": Cause(
        "core[N]",
        "The Core signs with another key than the one registered for this node; nothing of it is sent",
        "give the Core the registered key, or see that kms_core_endpoints names this node's Core",
    ),
    "wrong-answer": Cause(
        "core[N]",
        "The Core answers what no honest Core answers; nothing of it is sent",
        "compare the Core's version with the profile, and look into its log",
    ),
    "internal-error": Cause(
        "core[N]", "The Core says INTERNAL", "look into the Core's log; requests wait until it answers"
    ),
    "rejects": Cause(
        "core[N]",
        "The Core says that requests are invalid",
        "look into the Core's log; requests wait until others pass",
    ),
    "result-lost": Cause(
        "core[N]",
        "The Core has the request and not its result, which its restart lost",
        "the generation must be done again",
    ),
    "taken-ids": Cause(
        "core[N]",
        "The Core says that it has requests and never gives a result of them",
        "restart that Core",
    ),
    "overdue": Cause(
        "a request of key management",
        "It has waited for more than an hour",
        "see what the text says it waits for",
    ),
    "undone": Cause(
        "new_kms_context and the other kinds of key management",
        "Such a request ended without being done, and none of its kind was done since; critical for contexts and epochs, "
        "without which nothing is answered later",
        "mend what the text names, then `kmsconn requests retry`",
    ),
    "used-by-another": Cause(
        "wallet",
        "Replies under this node's key are in the contract that this connector did not send",
        "stop the other connector, or give it a key of its own",
    ),
    "funds": Cause(
        "txmanager …", "The account cannot pay; signed replies are kept", "send funds to the account"
    ),
    "fees": Cause(
        "txmanager …",
        "The price of gas is beyond the options, or cannot be had",
        "see the options that the text names",
    ),
    "cost": Cause(
        "txmanager …",
        "A reply would cost more than max_reply_cost",
        "raise max_reply_cost, if replies really cost as much",
    ),
    "gas-estimate": Cause(
        "txmanager …",
        "The estimate of a reply is above the block's gas limit; that reply waits",
        "see the node",
    ),
    "wallet": Cause(
        "txmanager …", "The wallet does not sign", "see that the signer can be reached and may be used"
    ),
    "broadcast": Cause(
        "txmanager …", "A node does not take transactions", "see the node; the same bytes are sent again"
    ),
    "contract-refuses": Cause(
        "txmanager …",
        "The contract refuses every reply for now, as when it is paused or the account is no node of the context",
        "see the contract and the account; the replies wait, and go out once one is taken",
    ),
    "not-included": Cause(
        "txmanager …",
        "No block has taken a signed reply for minutes, whatever the node says to its bytes",
        "see that the node passes transactions on, and that the chain makes blocks; the reply is sent again",
    ),
    "rounds": Cause(
        "txmanager …", "A round of the transaction manager failed", "see the text; it goes on by itself"
    ),
    "gas-estimate-unanswered": Cause(
        "txmanager …", "A node does not estimate a reply; that reply waits", "see the node"
    ),
    "contract-unanswered": Cause(
        "txmanager …", "A node does not answer a call about a reply", "see the node"
    ),
    "receipt-unanswered": Cause(
        "txmanager …", "A node does not give receipts", "see the node; the contract is asked instead"
    ),
    "trace-unanswered": Cause(
        "txmanager …", "A node does not trace a failed reply", "see the node; the reason stays unknown"
    ),
    "unwritable": Cause(
        "journal", "The journal cannot be written: nothing is answered meanwhile", "free the disk, or mend it"
    ),
    "misplaced": Cause(
        "journal", "The file of the journal was moved or replaced", "move the same file back, or restart"
    ),
    "permissions": Cause("journal file", "Others may read the journal", "chmod 600"),
    "damaged-rows": Cause(
        "journal rows", "Rows of the journal cannot be read and were set aside", "check the disk"
    ),
    "unexpected-error": Cause(
        "connector",
        "An unexpected error; that request is quarantined",
        "report it with its traceback",
    ),
}
"""By cause. A scene of the tests refuses an alert whose cause is not here."""

NOWHERE = Cause("", "", "see the text")


def remedy_of(cause: str) -> str:
    """Return what to do about a cause where the alert says nothing better."""
    return CAUSES.get(cause, NOWHERE).remedy
