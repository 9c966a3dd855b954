"""The families of metrics that events feed, as data: names, meanings, labels, buckets. Counts nothing."""

from __future__ import annotations

from enum import StrEnum
from functools import cache
from typing import Final

import attrs

from kmsconn.model.life import State
from kmsconn.model.requests import Kind

_LATENCY: Final = (0.005, 0.01, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
_LONG: Final = (0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 300.0, 1800.0, 3600.0, 86400.0)


class Shape(StrEnum):
    """What a family of series is to Prometheus."""

    COUNTER = "counter"
    GAUGE = "gauge"
    HISTOGRAM = "histogram"


@attrs.frozen(eq=False)  # each stands once, and is looked up with every event
class Family:
    """A name with its meaning and labels. ``buckets`` are the upper limits of a histogram, in seconds."""

    name: str
    doc: str
    labels: tuple[str, ...] = ()
    shape: Shape = Shape.COUNTER
    buckets: tuple[float, ...] = ()


# Names of the 0.14 services (fhevm-0.14.md, 10.4), where they still mean something here.
RECEIVED = Family(
    "kms_connector_gw_listener_event_received_counter", "Requests new to the journal", ("event_type",)
)
REJECTED = Family(
    "kms_connector_gw_listener_event_rejected_counter",
    "Requests that were heard and cannot be read, or are in a form that is not known",
    ("event_type",),
)
LISTENING_ERRORS = Family(
    "kms_connector_gw_listener_event_listening_errors", "Alerts raised for a chain", ("contract",)
)
CHECK_ERRORS = Family(
    "kms_connector_worker_request_check_errors",
    "Checks that a request did not pass (copro_consensus: ciphertexts whose attestations do not agree with the chain)",
    ("check_type",),
)
PICKED = Family(
    "kms_connector_worker_event_received_counter", "Requests that passed their checks", ("event_type",)
)
PICK_ERRORS = Family(
    "kms_connector_worker_event_received_errors",
    "Requests that failed by an unexpected error",
    ("event_type",),
)
CIPHERTEXTS = Family("kms_connector_worker_s3_ciphertext_retrieval_counter", "Ciphertexts that were fetched")
CIPHERTEXT_ERRORS = Family(
    "kms_connector_worker_s3_ciphertext_retrieval_errors", "URLs from which a ciphertext could not be fetched"
)
SUBMITTED = Family(
    "kms_connector_worker_grpc_request_sent_counter", "Requests that the Core accepted", ("event_type",)
)
SUBMIT_ERRORS = Family(
    "kms_connector_worker_grpc_request_sent_errors", "Requests deferred while submitting", ("event_type",)
)
POLLED = Family("kms_connector_worker_grpc_response_polled_counter", "Answers of the Core", ("event_type",))
POLL_ERRORS = Family(
    "kms_connector_worker_grpc_response_polled_errors",
    "Requests deferred while waiting for their answer",
    ("event_type",),
)
DECRYPTION_LATENCY = Family(
    "kms_connector_worker_decryption_latency_seconds",
    "Time from the record in the journal to the durable answer",
    ("event_type",),
    Shape.HISTOGRAM,
    (0.01, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0),
)
RESPONSES = Family(
    "kms_connector_tx_sender_response_received_counter",
    "Durable answers handed to the transaction manager",
    ("response_type",),
)
RESPONSE_ERRORS = Family(
    "kms_connector_tx_sender_response_received_errors",
    "Durable answers whose request ended before a reply was included",
    ("response_type",),
)
SENT = Family(
    "kms_connector_tx_sender_gateway_tx_sent_counter", "Replies handed to the Gateway", ("response_type",)
)
SEND_ERRORS = Family(
    "kms_connector_tx_sender_gateway_tx_sent_errors",
    "Replies that came back from the Gateway",
    ("response_type",),
)
FORWARDING_LATENCY = Family(
    "kms_connector_tx_sender_response_forwarding_latency_seconds",
    "Time from the durable answer to the inclusion",
    ("response_type",),
    Shape.HISTOGRAM,
    (0.1, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0, 30.0),
)

# Our own.
STAGE_SECONDS = Family(
    "kmsconn_stage_seconds",
    "Duration of one successful pass of a stage",
    ("kind", "stage"),
    Shape.HISTOGRAM,
    _LATENCY,
)
HANDOVER_SECONDS = Family(
    "kmsconn_handover_seconds",
    "Time from the durable answer to the transaction's broadcast",
    ("kind",),
    Shape.HISTOGRAM,
    _LATENCY,
)
INCLUSION_SECONDS = Family(
    "kmsconn_inclusion_seconds",
    "Time from the record in the journal to the inclusion, but for decryptions that the Core has refused, which an alert counts",
    ("kind",),
    Shape.HISTOGRAM,
    _LONG,
)
OTHER_SENT = Family(
    "kmsconn_replies_sent_total",
    "Replies handed to chains other than the Gateway",
    ("chain", "response_type"),
)
OTHER_RETURNED = Family(
    "kmsconn_replies_returned_total",
    "Replies that came back from chains other than the Gateway",
    ("chain", "response_type"),
)
FOUND = Family(
    "kmsconn_found_included_total", "Replies that the contract had before this connector sent them", ("kind",)
)
FINALIZED = Family("kmsconn_finalized_total", "Replies that became final", ("kind",))
SHADOW_COMPARED = Family(
    "kmsconn_shadow_compared_total",
    "Replies of another connector that a shadow compared with its own, by how they stand to each other",
    ("kind", "likeness"),
)
SHADOW_DIFFERENCES = Family(
    "kmsconn_shadow_differences_total",
    "Replies of another connector that differ from those of a shadow, by the argument that differs first",
    ("kind", "field"),
)
SHADOW_UNMATCHED = Family(
    "kmsconn_shadow_unmatched_total",
    "Replies of another connector to requests that have no answer in the shadow",
    ("kind",),
)
SHADOW_MISSING = Family(
    "kmsconn_shadow_missing_total",
    "Requests answered in the shadow to which no connector replied until their deadline",
    ("kind",),
)
SHADOW_GAINED = Family(
    "kmsconn_shadow_gained_seconds",
    "Time from the shadow's durable answer to the inclusion of the other connector's reply; negative where the other was faster",
    ("kind",),
    Shape.HISTOGRAM,
    (-60.0, -10.0, -2.5, -1.0, -0.5, -0.25, 0.0, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0),
)
DEFERRED = Family("kmsconn_deferred_total", "Deferrals of requests", ("kind", "stage"))
CLOSED = Family("kmsconn_closed_total", "Requests that ended without a reply", ("kind", "state"))
ENDS = Family(
    "kmsconn_ends_total", "Requests that ended without a reply, by reason", ("kind", "state", "reason")
)
REORGANISED = Family(
    "kmsconn_reorganised_total",
    "Requests found moved, gone from the chain, or back on it",
    ("chain", "change"),
)
REORGANISATIONS = Family(
    "kmsconn_reorganisations_total",
    "Reorganisations that replaced blocks already read for a contract",
    ("chain",),
)
REORGANISATION_DEPTH = Family(
    "kmsconn_reorganisation_depth_blocks",
    "Blocks already read that the last reorganisation replaced",
    ("chain",),
    Shape.GAUGE,
)
LOGS_QUARANTINED = Family("kmsconn_logs_quarantined_total", "Logs that could not be decoded", ("chain",))
ALERTS = Family("kmsconn_alerts_total", "Alerts that were raised", ("dependency", "cause"))
CURSOR = Family("kmsconn_cursor_block", "First block not read yet", ("chain", "contract"), Shape.GAUGE)
HEAD = Family("kmsconn_head_block", "Head seen with the cursor", ("chain", "contract"), Shape.GAUGE)
LAG = Family("kmsconn_lag_blocks", "Blocks between cursor and head", ("chain", "contract"), Shape.GAUGE)

HTTP_REQUESTS = Family(
    "kmsconn_http_requests_total",
    "Requests over HTTP that have ended, by path, code of the answer (ok: none failed) and id of the client's key",
    ("route", "code", "client"),
)
HTTP_SECONDS = Family(
    "kmsconn_http_request_seconds",
    "Time from the head of a request over HTTP to its answer, where it was answered",
    ("route",),
    Shape.HISTOGRAM,
    _LATENCY,
)
HTTP_OK: Final = "ok"
HTTP_ROUTES: Final = ("/v1/public-decrypt", "/v1/user-decrypt")

DECRYPTIONS: Final = (Kind.PUBLIC_DECRYPTION, Kind.USER_DECRYPTION)
"""Those from the chain. What comes over HTTP is measured from its first request on, since most nodes serve none."""
STAGES: Final = ("check", "gather", "submit", "answer")
WITHOUT_REPLY: Final = frozenset(
    {
        Kind.HTTP_PUBLIC_DECRYPTION,
        Kind.HTTP_USER_DECRYPTION,
        Kind.ABORT_KEYGEN,
        Kind.ABORT_CRSGEN,
        Kind.KMS_CONTEXT_DESTROYED,
        Kind.KMS_EPOCH_DESTROYED,
    }
)

_EVENT_TYPES: Final = {
    Kind.NEW_KMS_CONTEXT: "new_kms_context",
    Kind.NEW_KMS_EPOCH: "new_kms_epoch",
    Kind.KMS_CONTEXT_DESTROYED: "kms_context_destroyed",
    Kind.KMS_EPOCH_DESTROYED: "kms_epoch_destroyed",
}
_RESPONSE_TYPES: Final = {Kind.NEW_KMS_EPOCH: "epoch_result_response"}


UNKNOWN: Final = "unknown"
"""The label of what is heard of no kind."""


@cache
def event_type(kind: Kind) -> str:
    """Return the label of a kind of request (fhevm-0.14.md, 10.3)."""
    return _EVENT_TYPES.get(kind, f"{kind}_request")


@cache
def response_type(kind: Kind) -> str:
    """Return the label of a kind of reply (fhevm-0.14.md, 10.3)."""
    return _RESPONSE_TYPES.get(kind, f"{kind}_response")


def request_table(kind: Kind) -> str:
    """Return the table of 0.14 that held the requests of a kind (fhevm-0.14.md, 7.1)."""
    return _EVENT_TYPES.get(kind, f"{kind}_requests")


def response_table(kind: Kind) -> str:
    """Return the table of 0.14 that held the replies of a kind (fhevm-0.14.md, 7.1)."""
    return f"{response_type(kind)}s"


UNSUFFIXED: Final = (
    RECEIVED, REJECTED, LISTENING_ERRORS, CHECK_ERRORS, PICKED, PICK_ERRORS, CIPHERTEXTS, CIPHERTEXT_ERRORS, SUBMITTED, SUBMIT_ERRORS,
    POLLED, POLL_ERRORS, RESPONSES, RESPONSE_ERRORS, SENT, SEND_ERRORS,
)  # fmt: skip
"""The counters of 0.14, whose names lack the ``_total`` that prometheus-client expects."""

CHECK_TYPES: Final = {
    "denied": "acl",
    "wrong-signature": "signature",
    "signature-not-taken": "signature",
    "not-member": "kms_context",
    "destroyed": "kms_context",
    "context-invalid": "kms_context",
    "unreachable": "network",
    "down": "network",
    "overloaded": "network",
    "stage-timeout": "network",
    "misconfigured": "network",
}
"""Which check of 0.14 it was, by the cause of a failed one (fhevm-0.14.md, 10.4)."""

CONSENSUS: Final = "copro_consensus"

_WITHOUT_REPLY_ENDED: Final = (State.EXPIRED, State.REJECTED, State.QUARANTINED, State.DONE)
_EVENT: Final = tuple((event_type(kind),) for kind in Kind)
_RESPONSE: Final = tuple((response_type(kind),) for kind in Kind if kind not in WITHOUT_REPLY)
_BY_EVENT: Final = (RECEIVED, REJECTED, PICKED, PICK_ERRORS, SUBMITTED, SUBMIT_ERRORS, POLLED, POLL_ERRORS)
_BY_RESPONSE: Final = (RESPONSES, RESPONSE_ERRORS, SENT, SEND_ERRORS)

_KINDS: Final = tuple((kind,) for kind in Kind)
_DECRYPTIONS: Final = tuple((kind,) for kind in DECRYPTIONS)
_STAGES: Final = tuple((kind, stage) for kind in DECRYPTIONS for stage in STAGES)

FROM_THE_START: Final[dict[Family, tuple[tuple[str, ...], ...]]] = {
    **dict.fromkeys(_BY_EVENT, _EVENT),
    **dict.fromkeys(_BY_RESPONSE, _RESPONSE),
    LISTENING_ERRORS: (("decryption",), ("ethereum",)),
    CHECK_ERRORS: tuple((check,) for check in sorted({*CHECK_TYPES.values(), CONSENSUS})),
    CIPHERTEXTS: ((),),
    CIPHERTEXT_ERRORS: ((),),
    FOUND: _KINDS,
    FINALIZED: _KINDS,
    DECRYPTION_LATENCY: tuple((event_type(kind),) for kind in DECRYPTIONS),
    FORWARDING_LATENCY: tuple((response_type(kind),) for kind in DECRYPTIONS),
    STAGE_SECONDS: _STAGES,
    HANDOVER_SECONDS: _DECRYPTIONS,
    INCLUSION_SECONDS: _DECRYPTIONS,
    SHADOW_GAINED: _DECRYPTIONS,
    HTTP_SECONDS: tuple((route,) for route in HTTP_ROUTES),
    DEFERRED: _STAGES,
    CLOSED: tuple((kind, state) for kind in DECRYPTIONS for state in _WITHOUT_REPLY_ENDED),
}
"""The series that are there from the first scrape on, with 0: a rate has no gap then, and an alert on it no blind spot.

Histograms and what is counted by stage or state are there for decryptions, of which there are many; those of key management, a few in a
year, come with their first value: each histogram is a dozen lines of every scrape.
"""
