"""Every cause of an alert: what to do, how bad it is, and how long it must hold. What each means to people is for ``docs/alerts.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import attrs


@attrs.frozen
class Cause:
    """What to do about alerts with this cause unless the alert itself says something better."""

    remedy: str
    critical: bool = attrs.field(default=False, kw_only=True)
    """Whether requests cannot be answered until something changes, where whoever finds it out says nothing else."""
    after: float = attrs.field(default=0.0, kw_only=True)
    """Seconds for which it must hold before it is told: nodes lag, connections break and processes restart all the time."""
    leaves_ready: bool = attrs.field(default=False, kw_only=True)
    """Whether who tells it stays ready, however bad it is: it is about other processes over the journal, or all nodes tell it at once."""


CAUSES: Final[Mapping[str, Cause]] = {
    "unreachable": Cause("check that it runs and that the option has its address; requests wait and none is lost", critical=True),
    "wrong-chain": Cause("correct the URL or the chain id", critical=True),
    "wrong-contract": Cause(
        "check that the node belongs to this network, and check the option in the text; signatures wait meanwhile", critical=True,
    ),
    "newer-contract": Cause("upgrade kmsconn", critical=True, leaves_ready=True),
    "no-answer-yet": Cause("see the text; the start continues without a restart", critical=True),
    "logs": Cause("check that the node keeps logs, follows the chain, and accepts the range", critical=True, after=10.0),
    "unknown-event": Cause("compare the contract's version with the releases of kmsconn; an upgrade of kmsconn may be due"),
    "back-fill": Cause("use a node that keeps the history since the cursor", critical=True, after=10.0),
    "missing-requests": Cause("use a node that returns all logs of those blocks", critical=True),
    "not-finalizing": Cause("check that the network finalizes, and that the node follows its consensus client", critical=True),
    "unreadable": Cause("check gateway_config_contract, and that the Gateway answers its views"),
    "no-bucket": Cause("the coprocessor's operator must register one"),
    "calls-fail": Cause("see the text, and check that the dependency serves; requests wait"),
    "too-slow": Cause("see what the text says that it lacks, or find out why it is slow; requests wait"),
    "overloaded": Cause("give it more resources or a higher limit, or lower the sizes of the pools"),
    "misconfigured": Cause("change the option in the text and restart"),
    "not-configured": Cause("add the chain to host_chains, unless this network has no such chain"),
    "not-served": Cause("nothing here can answer them; see docs/solana.md, and the releases of kmsconn"),
    "not-a-node": Cause("use the wallet that was registered for the node"),
    "wrong-signer": Cause(
        "give the Core the registered key and restart it, since it keeps what it has signed; or check that kms_core_endpoints names this "
        "node's Core"
    ),
    "wrong-answer": Cause("compare the Core's version with the profile, and read its log"),
    "other-content": Cause("restart that Core: it starts the requests anew then"),
    "internal-error": Cause("read the Core's log; requests wait until it answers"),
    "aborted": Cause("read the Core's log; requests wait until it answers"),
    "rejects": Cause("read the Core's log; requests wait until it takes them"),
    "result-lost": Cause(
        "read what the Core said in the text; a lost result must be generated again; a preprocessing id is corrected by "
        "preprocessing_ids only where all nodes name the same, since they sign it: see that no node has missed a key's migration"
    ),
    "taken-ids": Cause("restart that Core"),
    "overdue": Cause("see the text for what it waits for"),
    "not-agreed": Cause(
        "compare the replies in the contract's events with those of other nodes; of an epoch also the preprocessing ids "
        "(preprocessing_ids)"
    ),
    "undone": Cause("fix the problem in the text, then run `kmsconn requests retry`"),
    "paused": Cause("run `kmsconn resume KIND` when the reason is over; requests expire meanwhile"),
    "used-by-another": Cause("stop the other connector, or give it its own key", critical=True),
    "replies-differ": Cause("compare the two in the log's reply_compared lines; stay in shadow mode until the reason is known"),
    "replies-unmatched": Cause("see the reason in the log's reply_unmatched lines, and mend it before this connector becomes active"),
    "replies-missing": Cause("see whether the active connector runs"),
    "funds": Cause("send funds to the account"),
    "fees": Cause("see the options in the text"),
    "cost": Cause("raise max_reply_cost, if replies really cost as much"),
    "gas-estimate": Cause("check the node"),
    "out-of-gas": Cause(
        "check the node, whose estimates may be too low; the reply is sent again with more gas, and each failed one is paid"
    ),
    "wallet": Cause("check that the signer can be reached and that its permissions allow signing"),
    "broadcast": Cause("check the node; the connector sends the same bytes again"),
    "contract-refuses": Cause("check the contract and the account; the replies wait, and are sent once one is accepted"),
    "key-type-unknown": Cause("see the text: the contract must be upgraded, or the network must generate keys that are not compressed"),
    "key-missing": Cause(
        "give the Core the storage of the registered node; what this node never made, only a backup or the network can give it: tell its "
        "operators before the next epoch, which would wait for this node",
        critical=True,
    ),
    "migration-missed": Cause(
        "before the next epoch, which would wait for this node: have the Core's record of the key changed to the preprocessing id that the "
        "epoch names, or have the network announce a context without this node; preprocessing_ids does not help, because the other "
        "Cores refuse the earlier id and nodes that name different ones do not agree",
        critical=True,
    ),
    "key-set-missing": Cause(
        "read the Core's log about the copy to the migrated key; coprocessors take the key set from other nodes meanwhile"
    ),
    "not-included": Cause(
        "check that the node forwards transactions, and that the chain makes blocks; the connector sends the reply again"
    ),
    "nonce-gaps": Cause("see why the node told a nonce too high, or who else sends from the account", critical=True),
    "rounds": Cause("see the text; the next round runs by itself"),
    "gas-estimate-unanswered": Cause("see the node"),
    "contract-unanswered": Cause("see the node"),
    "receipt-unanswered": Cause("check the node; the connector asks the contract instead"),
    "trace-unanswered": Cause("check the node; the reason stays unknown"),
    "unwritable": Cause(
        "free or repair the disk, or mend the PostgreSQL server: `kmsconn doctor` says what is wrong with it", critical=True,
    ),
    "misplaced": Cause("move the same file back, or restart", critical=True),
    "lease-late": Cause("see why the database does not answer this process in time: network, load, a stopped machine"),
    "lease-lost": Cause("see why it was silent for longer than `lease`: a stopped or overloaded machine, or its way to the database"),
    "member-fenced": Cause("see why the process that is named ended or was silent; nothing is lost", leaves_ready=True),
    "role-missing": Cause(
        "start a process with this role, or add it to `roles` of one that runs", critical=True, after=60.0, leaves_ready=True,
    ),
    "settings-differ": Cause("set it alike in all processes, and restart those that have it otherwise", leaves_ready=True),
    "old-primary": Cause("stop the server that the text names, or make it a standby of the new primary"),
    "journal-went-back": Cause("see which server was promoted or restored, and why it was behind: `synchronous_commit`, replication"),
    "no-pushes": Cause("use a node with eth_subscribe over websockets, if latency matters"),
    "unreadable-push": Cause("check the node"),
    "unavailable": Cause("see the text, and restart once it is mended"),
    "clock": Cause(
        "set the clock by NTP (chronyd, systemd-timesyncd); if it is right, every node is behind: name a node that has caught up"
    ),
    "permissions": Cause("chmod 600"),
    "damaged-rows": Cause("check the disk"),
    "api-keys": Cause("correct api_keys_file; it is used within seconds"),
    "certificate": Cause("correct tls_config.cert_path and tls_config.key_path; they are used within seconds"),
    "certificate-ends": Cause("renew the certificate in tls_config.cert_path; a changed file is used within seconds"),
    "unexpected-error": Cause("report it with its traceback", critical=True),
}  # fmt: skip
"""By cause. A scene of the tests refuses an alert whose cause is not here."""

_NOWHERE: Final = Cause("see the text")


def cause_of(name: str) -> Cause:
    """Return a cause by its name, as an alert has it."""
    return CAUSES.get(name, _NOWHERE)
