"""Every cause of an alert: what it means, and what to do. ``docs/alerts.md`` and the runbook are printed from this table."""

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
    critical: bool = attrs.field(default=False, kw_only=True)
    """Whether requests cannot be answered until something changes, where whoever finds it out says nothing else."""
    after: float = attrs.field(default=0.0, kw_only=True)
    """Seconds for which it must hold before it is told: nodes lag, connections break and processes restart all the time."""
    about_others: bool = attrs.field(default=False, kw_only=True)
    """Whether it is about other processes over the journal, so that the health of the one that tells it does not depend on it."""


CAUSES: Final[Mapping[str, Cause]] = {
    "unreachable": Cause(
        "gateway, ethereum, host chain N, core[N], coprocessor 0x…, wallet",
        "The dependency does not answer: it refused, was silent, does not serve, or every URL failed in turn",
        "check that it runs and that the option has its address; requests wait and none is lost",
        critical=True,
    ),
    "wrong-chain": Cause(
        "a chain's name with the URL",
        "A node is on another chain than configured; the connector does not use it",
        "correct the URL or the chain id",
        critical=True,
    ),
    "wrong-contract": Cause(
        "gateway, ethereum, host chain N",
        "A configured contract is gone: its address has no code, or the code of another contract; or its EIP-712 domain is another one",
        "check that the node belongs to this network, and check the option in the text; signatures wait meanwhile",
        critical=True,
    ),
    "newer-contract": Cause(
        "a chain's name with the contract",
        "A contract is of a newer version than this one knows: what it concerns may fail, and all else goes on",
        "upgrade kmsconn",
        critical=True,
    ),
    "no-answer-yet": Cause(
        "gateway, ethereum, host chain N",
        "The chain was reached at the start and has not given a usable answer yet",
        "see the text; the start continues without a restart",
        critical=True,
    ),
    "logs": Cause(
        "a chain's name with the contract",
        "No node has given usable logs of the contract for 10 s: no new request is heard",
        "check that the node keeps logs, follows the chain, and accepts the range",
        critical=True,
        after=10.0,
    ),
    "unknown-event": Cause(
        "a chain's name with the contract",
        "KMSGeneration, ProtocolConfig or Decryption emits events that this version does not know: it may hear no request of a new release",
        "compare the contract's version with the releases of kmsconn; an upgrade of kmsconn may be due",
    ),
    "back-fill": Cause(
        "a chain's name with the contract",
        "The connector cannot read blocks between the cursor and the head",
        "use a node that keeps the history since the cursor",
        critical=True,
        after=10.0,
    ),
    "missing-requests": Cause(
        "completeness 0x…",
        "The journal lacks requests that the contract has numbered; the connector reads their blocks again",
        "use a node that returns all logs of those blocks",
        critical=True,
    ),
    "not-finalizing": Cause(
        "ethereum",
        "The finalized block is more than 45 minutes behind the head: no request of key management is heard",
        "check that the network finalizes, and that the node follows its consensus client",
        critical=True,
    ),
    "unreadable": Cause(
        "coprocessor registry",
        "The connector cannot read the registry of coprocessors; it uses the last snapshot",
        "check gateway_config_contract, and that the Gateway answers its views",
    ),
    "no-bucket": Cause(
        "coprocessor 0x…",
        "A coprocessor has no bucket registered; the connector asks the others for its ciphertexts",
        "the coprocessor's operator must register one",
    ),
    "calls-fail": Cause(
        "gateway, ethereum, host chain N, checks, buckets, core[N]",
        "The dependency can be reached, but calls fail: errors of a node, HTTP statuses of buckets, statuses of a Core or of a proxy "
        "before it",
        "see the text, and check that the dependency serves; requests wait",
    ),
    "too-slow": Cause(
        "checks, buckets, core[N]",
        'A stage passed its deadline, a dependency says "not yet" for a minute, or a Core gives no result of decryptions for 5 minutes',
        "see what the text says that it lacks, or find out why it is slow; requests wait",
    ),
    "overloaded": Cause(
        "gateway, ethereum, host chain N, buckets, core[N]",
        "The dependency asks for fewer calls",
        "give it more resources or a higher limit, or lower the sizes of the pools",
    ),
    "misconfigured": Cause(
        "checks, buckets, core[N]",
        "The dependency refuses the configured access: missing right, unknown call, or forbidden address",
        "change the option in the text and restart",
    ),
    "not-configured": Cause(
        "host chain N",
        "Requests name handles of a host chain that is not configured",
        "add the chain to host_chains, unless this network has no such chain",
    ),
    "not-a-node": Cause(
        "a context",
        "This node belongs to no valid context",
        "use the wallet that was registered for the node",
    ),
    "wrong-signer": Cause(
        "core[N]",
        "The Core signs with another key than the one registered for this node; its answers are not sent",
        "give the Core the registered key and restart it, since it keeps what it has signed; or check that kms_core_endpoints names this "
        "node's Core",
    ),
    "wrong-answer": Cause(
        "core[N]",
        "The Core gives an answer that no honest Core gives; the answer is not sent",
        "compare the Core's version with the profile, and read its log",
    ),
    "other-content": Cause(
        "core[N]",
        "The Core answers to other content: a reorganisation gave the ids of requests out again, and the Core still has those of before",
        "restart that Core: it starts the requests anew then",
    ),
    "internal-error": Cause(
        "core[N]", "The Core says INTERNAL", "read the Core's log; requests wait until it answers"
    ),
    "aborted": Cause(
        "core[N]",
        "The Core says that it aborted requests",
        "read the Core's log; requests wait until it answers",
    ),
    "rejects": Cause(
        "core[N]",
        "The Core says that requests are invalid",
        "read the Core's log; requests wait until it takes them",
    ),
    "result-lost": Cause(
        "core[N]",
        "The Core lost the result of a request in a restart, or refused to start it: a new epoch, for example, with another preprocessing "
        "id than it has recorded for a key",
        "read what the Core said in the text; a lost result must be generated again, an id can be corrected by preprocessing_ids",
    ),
    "taken-ids": Cause(
        "core[N]",
        "The Core says that it already has requests, but gives no result",
        "restart that Core",
    ),
    "overdue": Cause(
        "a request of key management",
        "The request has waited for more than an hour",
        "see the text for what it waits for",
    ),
    "not-agreed": Cause(
        "a request of key management",
        "This node's reply has been final for more than an hour, and the contract still waits: too few nodes have replied, or they say "
        "different things",
        "compare the replies in the contract's events with those of other nodes; of an epoch also the preprocessing ids "
        "(preprocessing_ids)",
    ),
    "undone": Cause(
        "new_kms_context and the other kinds of key management",
        "A request ended unfinished, and none of its kind was finished since; critical for contexts and epochs, because later "
        "requests need them",
        "fix the problem in the text, then run `kmsconn requests retry`",
    ),
    "paused": Cause(
        "a kind of requests",
        "An operator has paused this kind: its requests are recorded and not worked on, also after a restart",
        "run `kmsconn resume KIND` when the reason is over; requests expire meanwhile",
    ),
    "used-by-another": Cause(
        "wallet",
        "The contract has replies with this node's key that this connector did not send",
        "stop the other connector, or give it its own key",
        critical=True,
    ),
    "replies-differ": Cause(
        "shadow",
        "In shadow mode: a reply of another connector for this node differs from the one prepared here",
        "compare the two in the log's reply_compared lines; stay in shadow mode until the reason is known",
    ),
    "replies-unmatched": Cause(
        "shadow",
        "In shadow mode: another connector replied to a request that has no answer here",
        "see the reason in the log's reply_unmatched lines, and mend it before this connector becomes active",
    ),
    "replies-missing": Cause(
        "shadow",
        "In shadow mode: no connector sent this node's reply until the request's deadline, although it is prepared here",
        "see whether the active connector runs",
    ),
    "funds": Cause(
        "txmanager …", "The account cannot pay; signed replies are kept", "send funds to the account"
    ),
    "fees": Cause(
        "txmanager …",
        "The gas price exceeds the options, or is unknown",
        "see the options in the text",
    ),
    "cost": Cause(
        "txmanager …",
        "A reply would cost more than max_reply_cost",
        "raise max_reply_cost, if replies really cost as much",
    ),
    "gas-estimate": Cause(
        "txmanager …",
        "The gas estimate of a reply is above the block's gas limit; that reply waits",
        "check the node",
    ),
    "wallet": Cause(
        "txmanager …",
        "The wallet does not sign",
        "check that the signer can be reached and that its permissions allow signing",
    ),
    "broadcast": Cause(
        "txmanager …",
        "A node does not take transactions",
        "check the node; the connector sends the same bytes again",
    ),
    "contract-refuses": Cause(
        "txmanager …",
        "The contract refuses replies for now, for example because it is paused or the account is no node of the context",
        "check the contract and the account; the replies wait, and are sent once one is accepted",
    ),
    "key-type-unknown": Cause(
        "txmanager …",
        "The contract reverts without data on a reply that has the digest of a compressed key set: it is of a release that does not know "
        "key type 3",
        "see the text: the contract must be upgraded, or the network must generate keys that are not compressed",
    ),
    "key-missing": Cause(
        "core[N], own public storage",
        "KMSGeneration has a key, CRS or compressed key set that this node does not have: it took no part in making it, or its Core has "
        "another node's storage",
        "give the Core the storage of the registered node; what this node never made, only a backup or the network can give it: tell its "
        "operators before the next epoch, which would wait for this node",
        critical=True,
    ),
    "key-set-missing": Cause(
        "own public storage",
        "The compressed key set of a migrated key is not in this node's public storage, or is another one than the committee has signed",
        "read the Core's log about the copy to the migrated key; coprocessors take the key set from other nodes meanwhile",
    ),
    "not-included": Cause(
        "txmanager …, shadow …",
        "No block has included a signed reply for minutes, whatever the node answers to its broadcast, or the "
        "contract lacks replies that the node gives receipts for",
        "check that the node forwards transactions, and that the chain makes blocks; the connector sends the reply again",
    ),
    "rounds": Cause(
        "txmanager …, shadow …",
        "A round of the transaction manager, or of its shadow, failed",
        "see the text; the next round runs by itself",
    ),
    "gas-estimate-unanswered": Cause(
        "txmanager …, shadow …", "A node does not estimate a reply; that reply waits", "see the node"
    ),
    "contract-unanswered": Cause(
        "txmanager …, shadow …", "A node does not answer a call about a reply", "see the node"
    ),
    "receipt-unanswered": Cause(
        "txmanager …, shadow …",
        "A node does not give receipts",
        "check the node; the connector asks the contract instead",
    ),
    "trace-unanswered": Cause(
        "txmanager …", "A node does not trace a failed reply", "check the node; the reason stays unknown"
    ),
    "unwritable": Cause(
        "journal",
        "The connector cannot write the journal: no request is answered meanwhile",
        "free or repair the disk, or mend the PostgreSQL server: `kmsconn doctor` says what is wrong with it",
        critical=True,
    ),
    "misplaced": Cause(
        "journal",
        "The file of the journal was moved or replaced",
        "move the same file back, or restart",
        critical=True,
    ),
    "lease-late": Cause(
        "membership",
        "This process could not renew its leases in PostgreSQL in time: it broadcasts nothing, and another one may take over",
        "see why the database does not answer this process in time: network, load, a stopped machine",
    ),
    "lease-lost": Cause(
        "membership",
        "Other processes took this one for gone and do its work; its connector was started anew in the same process",
        "see why it was silent for longer than `lease`: a stopped or overloaded machine, or its way to the database",
    ),
    "member-fenced": Cause(
        "a process by its service name and machine",
        "This process took over from another one that had not renewed its leases",
        "see why the process that is named ended or was silent; nothing is lost",
        about_others=True,
    ),
    "role-missing": Cause(
        "role hear, role work, role send",
        "No process over the journal in PostgreSQL has had this role for a minute: requests wait",
        "start a process with this role, or add it to `roles` of one that runs",
        about_others=True,
        critical=True,
        after=60.0,
    ),
    "settings-differ": Cause(
        "an option by its name",
        "Processes over the journal in PostgreSQL have this option otherwise than others, and all must have it alike",
        "set it alike in all processes, and restart those that have it otherwise",
        about_others=True,
    ),
    "old-primary": Cause(
        "journal",
        "A server of the journal takes writes, although another one was promoted in its place: kmsconn writes nothing to it",
        "stop the server that the text names, or make it a standby of the new primary",
    ),
    "journal-went-back": Cause(
        "membership",
        "The database lacks commits that it had confirmed; the connector was started anew and asks the contracts",
        "see which server was promoted or restored, and why it was behind: `synchronous_commit`, replication",
    ),
    "no-pushes": Cause(
        "a chain's name with heads or logs",
        "A node takes no subscription: what it would push is found by polling, some moments later",
        "use a node with eth_subscribe over websockets, if latency matters",
    ),
    "unreadable-push": Cause(
        "gateway, ethereum",
        "A node pushes heads that cannot be read; the connector finds blocks by polling",
        "check the node",
    ),
    "unavailable": Cause(
        "control socket",
        "The socket for commands of operators cannot be opened: `kmsconn status` and others cannot reach this connector",
        "see the text, and restart once it is mended",
    ),
    "clock": Cause(
        "clock of this machine",
        "The clock is not that of the chains; requests are answered all the same, and log lines and the journal have wrong times",
        "set the clock by NTP (chronyd, systemd-timesyncd); if it is right, every node is behind: name a node that has caught up",
    ),
    "permissions": Cause("journal file", "Others may read the journal", "chmod 600"),
    "damaged-rows": Cause(
        "journal rows",
        "The connector cannot read rows of the journal; it has quarantined them",
        "check the disk",
    ),
    "api-keys": Cause(
        "http api",
        "The file of API keys has changed and cannot be used; the keys that were read before stay valid",
        "correct api_keys_file; it is used within seconds",
    ),
    "certificate": Cause(
        "http api",
        "Certificate or key of the HTTP address have changed and cannot be used; the ones that were read before stay in use",
        "correct tls_config.cert_path and tls_config.key_path; they are used within seconds",
    ),
    "certificate-ends": Cause(
        "http api",
        "The certificate of the HTTP address ends within two weeks, or has ended",
        "renew the certificate in tls_config.cert_path; a changed file is used within seconds",
    ),
    "unexpected-error": Cause(
        "connector",
        "An unexpected error; that request is quarantined, or tried again where only memory was missing",
        "report it with its traceback",
        critical=True,
    ),
}
"""By cause. A scene of the tests refuses an alert whose cause is not here."""

NOWHERE = Cause("", "", "see the text")


def remedy_of(cause: str) -> str:
    """Return what to do about a cause where the alert says nothing better."""
    return CAUSES.get(cause, NOWHERE).remedy


def is_critical(cause: str) -> bool:
    """Say whether requests cannot be answered while this holds, where the alert says nothing else."""
    return CAUSES.get(cause, NOWHERE).critical


def is_about_others(cause: str) -> bool:
    """Say whether a cause is about other processes over the journal: it leaves this one healthy."""
    return CAUSES.get(cause, NOWHERE).about_others
