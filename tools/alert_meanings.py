"""What each cause of an alert is about and means, for ``docs/alerts.md`` and the runbook; what to do stands in ``kmsconn.model.causes``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class AlertMeaning:
    """The dependencies that alerts with a cause are about, and what the cause means."""

    dependency: str
    meaning: str


MEANINGS: Final[Mapping[str, AlertMeaning]] = {
    "unreachable": AlertMeaning(
        "gateway, ethereum, host chain N, core[N], coprocessor 0x…, wallet",
        "The dependency does not answer: it refused, was silent, does not serve, or every URL failed in turn",
    ),
    "wrong-chain": AlertMeaning(
        "a chain's name with the URL",
        "A node is on another chain than configured; the connector does not use it",
    ),
    "wrong-contract": AlertMeaning(
        "gateway, ethereum, host chain N",
        "A configured contract is gone: its address has no code, or the code of another contract; or its EIP-712 domain is another one",
    ),
    "newer-contract": AlertMeaning(
        "a chain's name with the contract",
        "A contract is of a newer version than this one knows: what it concerns may fail, and all else goes on",
    ),
    "no-answer-yet": AlertMeaning(
        "gateway, ethereum, host chain N",
        "The chain was reached at the start and has not given a usable answer yet",
    ),
    "logs": AlertMeaning(
        "a chain's name with the contract",
        "No node has given usable logs of the contract for 10 s: no new request is heard",
    ),
    "unknown-event": AlertMeaning(
        "a chain's name with the contract, or completeness 0x…",
        "KMSGeneration, ProtocolConfig or Decryption emits events that this version does not know: it may hear no request of a new "
        "release. About completeness: the contract has numbered requests in such a form, which are not answered",
    ),
    "back-fill": AlertMeaning(
        "a chain's name with the contract",
        "The connector cannot read blocks between the cursor and the head",
    ),
    "missing-requests": AlertMeaning(
        "completeness 0x…",
        "The journal lacks requests that the contract has numbered; the connector reads their blocks again",
    ),
    "not-finalizing": AlertMeaning(
        "ethereum",
        "The finalized block is more than 45 minutes behind the head: no request of key management is heard",
    ),
    "unreadable": AlertMeaning(
        "coprocessor registry",
        "The connector cannot read the registry of coprocessors; it uses the last snapshot",
    ),
    "no-bucket": AlertMeaning(
        "coprocessor 0x…",
        "A coprocessor has no bucket registered; the connector asks the others for its ciphertexts",
    ),
    "calls-fail": AlertMeaning(
        "gateway, ethereum, host chain N, checks, buckets, core[N]",
        "The dependency can be reached, but calls fail: errors of a node, HTTP statuses of buckets, statuses of a Core or of a proxy "
        "before it",
    ),
    "too-slow": AlertMeaning(
        "checks, buckets, core[N]",
        'A stage passed its deadline, a dependency says "not yet" for 8 s, or a Core gives no result of decryptions for 5 minutes',
    ),
    "overloaded": AlertMeaning(
        "gateway, ethereum, host chain N, buckets, core[N]",
        "The dependency asks for fewer calls",
    ),
    "misconfigured": AlertMeaning(
        "checks, buckets, core[N]",
        "The dependency refuses the configured access: missing right, unknown call, or forbidden address",
    ),
    "not-configured": AlertMeaning(
        "host chain N",
        "Requests name handles of a host chain that is not configured",
    ),
    "not-served": AlertMeaning(
        "host chain N",
        "Requests name handles of a host chain of a kind that this version does not serve; they wait until they expire",
    ),
    "not-a-node": AlertMeaning(
        "a context",
        "This node belongs to no valid context",
    ),
    "wrong-signer": AlertMeaning(
        "core[N]",
        "The Core signs with another key than the one registered for this node; its answers are not sent",
    ),
    "wrong-answer": AlertMeaning(
        "core[N]",
        "The Core gives an answer that no honest Core gives; the answer is not sent",
    ),
    "other-content": AlertMeaning(
        "core[N]",
        "The Core answers to other content: a reorganisation gave the ids of requests out again, and the Core still has those of before",
    ),
    "internal-error": AlertMeaning(
        "core[N]",
        "The Core says INTERNAL",
    ),
    "aborted": AlertMeaning(
        "core[N]",
        "The Core says that it aborted requests",
    ),
    "rejects": AlertMeaning(
        "core[N]",
        "The Core says that requests are invalid",
    ),
    "result-lost": AlertMeaning(
        "core[N]",
        "The Core lost the result of a request in a restart, or refused to start it: a new epoch, for example, with another "
        "preprocessing id than it has recorded for a key",
    ),
    "taken-ids": AlertMeaning(
        "core[N]",
        "The Core says that it already has requests, but gives no result",
    ),
    "overdue": AlertMeaning(
        "a request of key management",
        "The request has waited for more than an hour",
    ),
    "not-agreed": AlertMeaning(
        "a request of key management",
        "This node's reply has been final for more than an hour, and the contract still waits: too few nodes have replied, or they say "
        "different things",
    ),
    "undone": AlertMeaning(
        "new_kms_context and the other kinds of key management",
        "A request ended unfinished, and none of its kind was finished since; critical for contexts and epochs, because later requests "
        "need them",
    ),
    "paused": AlertMeaning(
        "a kind of requests",
        "An operator has paused this kind: its requests are recorded and not worked on, also after a restart",
    ),
    "used-by-another": AlertMeaning(
        "wallet",
        "Blocks older than the reorg window hold transactions of this node's account that this connector did not sign",
    ),
    "replies-differ": AlertMeaning(
        "shadow",
        "In shadow mode: a reply of another connector for this node differs from the one prepared here",
    ),
    "replies-unmatched": AlertMeaning(
        "shadow",
        "In shadow mode: another connector replied to a request that has no answer here",
    ),
    "replies-missing": AlertMeaning(
        "shadow",
        "In shadow mode: no connector sent this node's reply until the request's deadline, although it is prepared here",
    ),
    "funds": AlertMeaning(
        "txmanager …",
        "The account cannot pay; signed replies are kept",
    ),
    "fees": AlertMeaning(
        "txmanager …",
        "The gas price exceeds the options, or is unknown",
    ),
    "cost": AlertMeaning(
        "txmanager …",
        "A reply would cost more than max_reply_cost",
    ),
    "gas-estimate": AlertMeaning(
        "txmanager …",
        "The gas estimate of a reply is above the block's gas limit; that reply waits",
    ),
    "out-of-gas": AlertMeaning(
        "txmanager …",
        "A reply was mined with status 0 and all its gas used, so its estimate was too low; it is not included yet",
    ),
    "wallet": AlertMeaning(
        "txmanager …",
        "The wallet does not sign",
    ),
    "broadcast": AlertMeaning(
        "txmanager …",
        "A node does not take transactions",
    ),
    "contract-refuses": AlertMeaning(
        "txmanager …",
        "The contract refuses replies for now, for example because it is paused or the account is no node of the context",
    ),
    "key-type-unknown": AlertMeaning(
        "txmanager …",
        "The contract reverts without data on a reply that has the digest of a compressed key set: it is of a release that does not know "
        "key type 3",
    ),
    "key-missing": AlertMeaning(
        "core[N]",
        "KMSGeneration has a key or CRS that this node does not have: it took no part in making it, or its Core has another node's storage",
    ),
    "migration-missed": AlertMeaning(
        "core[N]",
        "A key was migrated without this node, whose Core has recorded it with another preprocessing id than the other Cores; it refuses "
        "the next epoch",
    ),
    "key-set-missing": AlertMeaning(
        "own public storage",
        "The compressed key set of a migrated key is not in this node's public storage, or is another one than the committee has signed",
    ),
    "not-included": AlertMeaning(
        "txmanager …, shadow …",
        "No block has included a signed reply for minutes, whatever the node answers to its broadcast, or the contract lacks replies "
        "that the node gives receipts for",
    ),
    "nonce-gaps": AlertMeaning(
        "txmanager …",
        "More nonces below signed replies are free than empty transfers may be paid for: a node told a nonce that is too high, or another "
        "process sends from the account. Sixteen are paid at once, and one a minute; a wider hole is left by taking other nonces",
    ),
    "rounds": AlertMeaning(
        "txmanager …, shadow …",
        "A round of the transaction manager, or of its shadow, failed",
    ),
    "gas-estimate-unanswered": AlertMeaning(
        "txmanager …, shadow …",
        "A node does not estimate a reply; that reply waits",
    ),
    "contract-unanswered": AlertMeaning(
        "txmanager …, shadow …",
        "A node does not answer a call about a reply",
    ),
    "receipt-unanswered": AlertMeaning(
        "txmanager …, shadow …",
        "A node does not give receipts",
    ),
    "trace-unanswered": AlertMeaning(
        "txmanager …",
        "A node does not trace a failed reply",
    ),
    "unwritable": AlertMeaning(
        "journal",
        "The connector cannot write the journal: no request is answered meanwhile",
    ),
    "misplaced": AlertMeaning(
        "journal",
        "The file of the journal was moved or replaced",
    ),
    "lease-late": AlertMeaning(
        "membership",
        "This process could not renew its leases in PostgreSQL in time: it broadcasts nothing, and another one may take over",
    ),
    "lease-lost": AlertMeaning(
        "membership",
        "Other processes took this one for gone and do its work; its connector was started anew in the same process",
    ),
    "member-fenced": AlertMeaning(
        "a process by its service name and machine",
        "This process took over from another one that had not renewed its leases",
    ),
    "role-missing": AlertMeaning(
        "role hear, role work, role send",
        "No process over the journal in PostgreSQL has had this role for a minute: requests wait",
    ),
    "settings-differ": AlertMeaning(
        "an option by its name",
        "Processes over the journal in PostgreSQL have this option otherwise than others, and all must have it alike",
    ),
    "old-primary": AlertMeaning(
        "journal",
        "A server of the journal takes writes, although another one was promoted in its place: kmsconn writes nothing to it",
    ),
    "journal-went-back": AlertMeaning(
        "membership",
        "The database lacks commits that it had confirmed; the connector was started anew and asks the contracts",
    ),
    "no-pushes": AlertMeaning(
        "a chain's name with heads or logs",
        "A node takes no subscription: what it would push is found by polling, some moments later",
    ),
    "unreadable-push": AlertMeaning(
        "gateway, ethereum",
        "A node pushes heads that cannot be read; the connector finds blocks by polling",
    ),
    "unavailable": AlertMeaning(
        "control socket",
        "The socket for commands of operators cannot be opened: `kmsconn status` and others cannot reach this connector",
    ),
    "clock": AlertMeaning(
        "clock of this machine",
        "The clock is not that of the chains; requests are answered all the same, and log lines and the journal have wrong times",
    ),
    "permissions": AlertMeaning(
        "journal file",
        "Others may read the journal",
    ),
    "damaged-rows": AlertMeaning(
        "journal rows",
        "The connector cannot read rows of the journal; it has quarantined them",
    ),
    "api-keys": AlertMeaning(
        "http api",
        "The file of API keys has changed and cannot be used; the keys that were read before stay valid",
    ),
    "certificate": AlertMeaning(
        "http api",
        "Certificate or key of the HTTP address have changed and cannot be used; the ones that were read before stay in use",
    ),
    "certificate-ends": AlertMeaning(
        "http api",
        "The certificate of the HTTP address ends within two weeks, or has ended",
    ),
    "unexpected-error": AlertMeaning(
        "connector",
        "An unexpected error; that request is quarantined, or tried again where only memory was missing",
    ),
}
"""By cause; a test says that none is missing."""
