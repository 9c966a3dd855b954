"""The families of metrics that a snapshot of the connector feeds, as data. Reads no snapshot."""

from __future__ import annotations

from kmsconn.observe.families import Family, Shape


def _gauge(name: str, doc: str, *labels: str) -> Family:
    return Family(name, doc, labels, Shape.GAUGE)


UNPROCESSED = _gauge(
    "kms_connector_unprocessed_operations",
    "Rows of the journal by their 0.14 table and status",
    "table",
    "status",
)
READY = _gauge("kmsconn_ready", "1 once every dependency has answered")
LIVE = _gauge("kmsconn_live", "1 while every part of the process makes progress, as `/liveness` says")
HEALTHY = _gauge(
    "kmsconn_healthy",
    "1 while every dependency can be used and no critical alert that makes it unready is raised, as `/healthz` says",
)
DRAINING = _gauge("kmsconn_draining", "1 while the connector drains")
ALERT = _gauge(
    "kmsconn_alert", "1 for a raised warning, 2 for a raised critical alert", "dependency", "cause"
)
HEAD_TIME = _gauge("kmsconn_head_timestamp_seconds", "Timestamp of the Gateway's head")
REQUESTS = _gauge("kmsconn_requests", "Requests in the journal", "kind", "state")
OPEN = _gauge("kmsconn_open_requests", "Requests whose reply is not final yet", "kind")
DEFERRED = _gauge("kmsconn_deferred_requests", "Requests that wait for their next attempt", "kind")
OLDEST = _gauge(
    "kmsconn_oldest_open_seconds",
    "Age of the oldest request whose reply is not final yet, but for decryptions that the Core has refused, which an alert counts",
    "kind",
)
ANSWERABLE = _gauge(
    "kmsconn_oldest_answerable_seconds",
    "Likewise without requests that name a host chain which is not configured, or not served by this version",
    "kind",
)
QUARANTINED = _gauge("kmsconn_quarantined_requests", "Requests in quarantine", "kind")
QUARANTINED_LOGS = _gauge("kmsconn_quarantined_logs", "Logs in quarantine")
OFF_CHAIN = _gauge("kmsconn_off_chain_requests", "Requests that a reorganisation took from the chain")
GAPS = _gauge("kmsconn_gaps", "Requests that the contract has numbered and the journal lacks")
HTTP_WAITING = _gauge("kmsconn_http_waiting", "Clients over HTTP that wait for an answer")
HTTP_PLACES = _gauge("kmsconn_http_waiting_limit", "Clients over HTTP that may wait for an answer at once")
HTTP_CONNECTIONS = _gauge("kmsconn_http_connections", "Open connections of clients over HTTP")
HTTP_BODY_BYTES = _gauge("kmsconn_http_body_bytes", "Bytes of bodies over HTTP that are being received")
HTTP_CERTIFICATE_END = _gauge(
    "kmsconn_http_certificate_end_timestamp_seconds", "Time at which the certificate of the HTTP address ends"
)
HTTP_DROPPED = Family(
    "kmsconn_http_connections_dropped_total",
    "Connections over HTTP that had to go for another one, or found no place",
)
SKIPPED = Family("kmsconn_attestations_skipped_total", "Ciphertexts whose attestations were not compared")
BUSY = _gauge("kmsconn_pool_busy", "Busy workers of a pool", "kind")
PLACES = _gauge("kmsconn_pool_places", "Workers of a pool", "kind")
BYTES = _gauge("kmsconn_ciphertext_bytes", "Bytes of ciphertexts in memory")
JOURNAL_FREE = _gauge("kmsconn_journal_free_bytes", "Free bytes on the file system of the journal")
MEMBERS = _gauge("kmsconn_members", "Processes that share the journal in PostgreSQL, as this one sees them")
LEASES = _gauge("kmsconn_lease_held", "Leases of the journal in PostgreSQL that this process holds", "lease")

DELETED = _gauge(
    "kmsconn_deleted_requests", "Rows that retention has deleted since the journal was made", "kind", "state"
)
BALANCE = _gauge("kmsconn_account_balance_eth", "Balance of the tx sender", "chain")
REPLIES_LEFT = _gauge(
    "kmsconn_replies_left", "Replies that the balance pays for at the present cost", "chain"
)
NEXT_NONCE = _gauge("kmsconn_next_nonce", "Next nonce of the account on chain", "chain")
IN_FLIGHT = _gauge("kmsconn_replies_in_flight", "Replies that are signed and not included", "chain")
UNSENT = _gauge("kmsconn_replies_waiting", "Answers that wait to be signed", "chain")
HEAD_AGE = _gauge("kmsconn_head_age_seconds", "Seconds since the timestamp of the head", "chain")
FINALIZED_AGE = _gauge(
    "kmsconn_finalized_age_seconds", "Seconds since the timestamp of the finalized block", "chain"
)
RECONNECTS = Family("kmsconn_reconnects_total", "Connections to a chain after the first one", ("chain",))
BUCKET_ATTEMPTS = Family(
    "kmsconn_bucket_attempts_total", "Requests to a bucket for a ciphertext", ("bucket",)
)
BUCKET_FAILURES = Family(
    "kmsconn_bucket_failures_total",
    "Requests to a bucket that did not return the right ciphertext",
    ("bucket",),
)
