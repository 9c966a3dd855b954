"""Events become numbers."""

from __future__ import annotations

import json

import attrs
import pytest

from kmsconn import errors
from kmsconn.model import events
from kmsconn.model.causes import cause_of
from kmsconn.model.events import AlertRaised, Severity
from kmsconn.model.life import State
from kmsconn.model.requests import NO_BLOCK, Kind
from kmsconn.observe import families
from kmsconn.observe.monitor import Monitor
from kmsconn.observe.server import Identity, Page, answer, make_app
from kmsconn.observe.tally import COUNTING, EventTakers, EventTally, Histogram
from kmsconn.serving.wire import ServedAnswer, ServedRequest
from kmsconn.transport.waiting import StalledTask
from tests.unit.observe.snapshots import EACH, PUBLIC, snapshot


def tallied(*seen: events.Event) -> EventTally:
    return told_to(EventTally(), *seen)


def told_to(tally: EventTally, *seen: events.Event) -> EventTally:
    take = EventTakers(tally.takes).on_event
    for event in seen:
        take(event)
    return tally


def counted(tally: EventTally, family: families.Family) -> dict[tuple[str, ...], object]:
    """Return the series that are no longer 0."""
    return {labels: value for labels, value in tally.families[family].items() if value}


def test_every_event_is_counted_or_left_out_on_purpose() -> None:
    """Of these another event of the same request or dependency is counted."""
    uncounted = {
        events.BackfillProgressed, events.AnswerMismatch, events.ReplySigned, events.CiphertextMismatch, events.AlertCleared,
        events.ForeignTransaction,
    }  # fmt: skip
    assert {*COUNTING, *uncounted} == {type(event) for event in EACH}
    known = {one for one in vars(events).values() if isinstance(one, type) and issubclass(one, events.Event)}
    assert {type(event) for event in EACH} == known - {events.Event, events.EventOfRequest}


@pytest.mark.parametrize(
    ("family", "labels", "value"),
    [
        (families.RECEIVED, ("public_decryption_request",), 1),
        (families.REJECTED, ("public_decryption_request",), 3),
        (families.REJECTED, ("user_decryption_request",), 1),
        (families.REORGANISED, ("10901", "back"), 2),
        (families.LOGS_QUARANTINED, ("10901",), 1),
        (families.PICKED, ("public_decryption_request",), 1),
        (families.DEFERRED, ("public_decryption", "submit"), 1),
        (families.SUBMIT_ERRORS, ("public_decryption_request",), 1),
        (families.CLOSED, ("user_decryption", "rejected"), 1),
        (families.ENDS, ("user_decryption", "rejected", "other"), 1),
        (families.CHECK_ERRORS, ("acl",), 1),
        (families.CHECK_ERRORS, ("copro_consensus",), 1),
        (families.RESPONSES, ("public_decryption_response",), 1),
        (families.SENT, ("public_decryption_response",), 1),
        (families.FINALIZED, ("public_decryption",), 1),
        (families.SEND_ERRORS, ("public_decryption_response",), 1),
        (families.ALERTS, ("gateway", "unreachable"), 1),
        (families.LISTENING_ERRORS, ("decryption",), 1),
    ],
)
def test_an_event_moves_its_number(family: families.Family, labels: tuple[str, ...], value: float) -> None:
    assert tallied(*EACH).families[family][labels] == value


@pytest.mark.parametrize(
    ("family", "labels", "seconds"),
    [
        (families.STAGE_SECONDS, ("public_decryption", "check"), 0.03),
        (families.DECRYPTION_LATENCY, ("public_decryption_request",), 0.4),
        (families.HANDOVER_SECONDS, ("public_decryption",), 0.02),
        (families.INCLUSION_SECONDS, ("public_decryption",), 1.4),
        (families.FORWARDING_LATENCY, ("public_decryption_response",), 1.0),
    ],
)
def test_an_event_is_observed_once(family: families.Family, labels: tuple[str, ...], seconds: float) -> None:
    histogram = tallied(*EACH).families[family][labels]
    assert isinstance(histogram, Histogram)
    assert histogram.sum == pytest.approx(seconds)
    assert dict(histogram.cumulative)["+Inf"] == 1


def observed(tally: EventTally, family: families.Family) -> int:
    """Return how many observations there are in a histogram, whatever their labels."""
    found = [one for one in tally.families[family].values() if isinstance(one, Histogram)]
    return sum(dict(one.cumulative)["+Inf"] for one in found)


def test_a_reply_found_in_the_contract_has_no_latency_of_ours() -> None:
    tally = tallied(events.ReplyIncluded(1, PUBLIC, 60, 900.0, found=True))
    assert observed(tally, families.INCLUSION_SECONDS) == 0
    assert counted(tally, families.FOUND) == {("public_decryption",): 1}


def test_a_request_that_ended_is_forgotten() -> None:
    """Else memory would grow with every request."""
    kept = tallied(events.AnswerKept(1, PUBLIC, 0.4), events.AnswerKept(2, PUBLIC, 0.4))
    told_to(kept, events.ReplyIncluded(1, PUBLIC, 60, 1.4))
    told_to(kept, events.RequestClosed(2, PUBLIC, State.REJECTED, ""))
    assert kept.answered == {}


def test_an_observation_on_a_limit_belongs_below_it() -> None:
    histogram = Histogram((1.0, 2.0))
    for value in (1.0, 1.5, 9.0):
        histogram.observe(value)
    assert list(histogram.cumulative) == [("1", 1), ("2", 2), ("+Inf", 3)]


# Key management: labels of 0.14, and numbers of the Gateway that stay those of the Gateway.


@pytest.mark.parametrize(
    ("kind", "event_type", "response_type"),
    [
        (Kind.PREP_KEYGEN, "prep_keygen_request", "prep_keygen_response"),
        (Kind.KEYGEN, "keygen_request", "keygen_response"),
        (Kind.CRSGEN, "crsgen_request", "crsgen_response"),
        (Kind.NEW_KMS_CONTEXT, "new_kms_context", "new_kms_context_response"),
        (Kind.NEW_KMS_EPOCH, "new_kms_epoch", "epoch_result_response"),
    ],
)
def test_the_labels_are_those_of_0_14(kind: Kind, event_type: str, response_type: str) -> None:
    """fhevm-0.14.md, 10.3."""
    told = (events.RequestRecorded(1, kind, 5, 1, 2, bytes(32), 0), events.AnswerKept(1, kind, 3.0))
    found = tallied(*told)
    assert counted(found, families.RECEIVED) == {(event_type,): 1}
    assert counted(found, families.RESPONSES) == {(response_type,): 1}
    assert observed(found, families.DECRYPTION_LATENCY) == 0


@pytest.mark.parametrize("kind", [Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_CONTEXT_DESTROYED])
def test_so_are_those_of_what_has_no_reply(kind: Kind) -> None:
    expected = kind.value if kind is Kind.KMS_CONTEXT_DESTROYED else f"{kind}_request"
    assert families.event_type(kind) == expected


@pytest.mark.parametrize(
    ("kind", "requests", "responses"),
    [
        (Kind.KEYGEN, "keygen_requests", "keygen_responses"),
        (Kind.NEW_KMS_CONTEXT, "new_kms_context", "new_kms_context_responses"),
        (Kind.NEW_KMS_EPOCH, "new_kms_epoch", "epoch_result_responses"),
    ],
)
def test_the_tables_are_those_of_0_14(kind: Kind, requests: str, responses: str) -> None:
    """fhevm-0.14.md, 7.1."""
    assert (families.request_table(kind), families.response_table(kind)) == (requests, responses)


def test_replies_of_other_chains_are_not_counted_as_the_gateways() -> None:
    told = (
        events.ReplySent(1, Kind.KEYGEN, 9, 0.02, "ethereum"),
        events.ReplyReturned(1, Kind.KEYGEN, State.ANSWERED, "status 0", "ethereum"),
    )
    found = tallied(*told).families
    assert found[families.OTHER_SENT] == {("ethereum", "keygen_response"): 1}
    assert found[families.OTHER_RETURNED] == {("ethereum", "keygen_response"): 1}
    assert counted(tallied(*told), families.SENT) == {}


@pytest.mark.parametrize(
    ("error", "check"),
    [
        (errors.Denied("no"), "acl"),
        (errors.WrongSignature("no"), "signature"),
        (errors.SignatureNotTaken("no"), "signature"),
        (errors.ContextInvalid("no"), "kms_context"),
        (errors.Destroyed("context", 7), "kms_context"),
        (errors.NotMember("no"), "kms_context"),
        (errors.Unreachable("no"), "network"),
        (errors.Down("no"), "network"),
        (errors.Overloaded("no"), "network"),
        (errors.StageTimeout("check", 1.0), "network"),
        (errors.Misconfigured("no"), "network"),
    ],
)
def test_a_failed_check_is_counted_by_its_type(error: errors.RequestError, check: str) -> None:
    """The slug of each class is one that the table knows."""
    event = events.StageFailed(1, Kind.PUBLIC_DECRYPTION, "check", errors.cause_of(error))
    assert tallied(event).families[families.CHECK_ERRORS][check,] == 1
    elsewhere = attrs.evolve(event, stage="submit")
    assert tallied(elsewhere).families[families.CHECK_ERRORS][check,] == 0


def test_the_series_of_0_14_are_there_from_the_start() -> None:
    """Whatever has not happened yet: a rate over a series that begins with 1 misses the first."""
    begun = EventTally().families
    assert {labels for (labels,) in begun[families.CHECK_ERRORS]} == {
        "acl", "signature", "copro_consensus", "kms_context", "network",
    }  # fmt: skip
    for family in families.UNSUFFIXED:
        assert begun[family], family.name
        assert set(begun[family].values()) == {0}
    assert len(begun[families.RECEIVED]) == len(Kind)


def test_an_unforeseen_error_is_a_failed_pick_and_a_reply_that_is_given_up_a_failed_response() -> None:
    event = events.RequestClosed(1, Kind.PUBLIC_DECRYPTION, State.QUARANTINED, "KeyError", "unexpected")
    assert tallied(event).families[families.PICK_ERRORS]["public_decryption_request",] == 1
    kept = events.AnswerKept(1, Kind.PUBLIC_DECRYPTION, 0.4)
    ended = events.RequestClosed(1, Kind.PUBLIC_DECRYPTION, State.REJECTED, "reverts", "reply")
    assert tallied(kept, ended).families[families.RESPONSE_ERRORS]["public_decryption_response",] == 1
    assert tallied(ended).families[families.RESPONSE_ERRORS]["public_decryption_response",] == 0


HTTP = Kind.HTTP_USER_DECRYPTION
DELIVERED = (
    events.RequestRecorded(1, HTTP, 5, 1, NO_BLOCK, b"", 0),
    events.AnswerKept(1, HTTP, 3.0),
    events.RequestClosed(1, HTTP, State.DONE, "delivered", "delivered", told=True),
)


def test_an_answer_over_http_counts_as_a_decryption_and_as_no_reply() -> None:
    found = tallied(*DELIVERED)
    assert counted(found, families.RECEIVED) == {("http_user_decryption_request",): 1}
    assert observed(found, families.DECRYPTION_LATENCY) == 1
    assert counted(found, families.RESPONSE_ERRORS) == {}
    assert found.families[families.CLOSED][HTTP, State.DONE] == 1


IDENTITY = Identity("kmsconn", "0.1.0")
METRICS, HEALTH = ServedRequest("/metrics"), ServedRequest("/healthz")


def ask(page: Page, request: ServedRequest) -> ServedAnswer:
    found = page(request)
    assert isinstance(found, ServedAnswer)
    return found


def ready_monitor() -> Monitor:
    monitor = Monitor()
    monitor.watch(snapshot)
    return monitor


def test_liveness_is_503_where_a_part_stands_still_and_its_dependency_is_there() -> None:
    """In the words of 0.14 where it is alive."""
    found = answer("/liveness", Monitor(), IDENTITY)
    assert (found.status, json.loads(found.body)) == (200, {"status_code": "200", "status": "alive"})
    monitor = Monitor()
    monitor.watch(lambda: snapshot(stalled=(STALLED,)))
    found = answer("/liveness", monitor, IDENTITY)
    assert found.status == 503
    assert "reader of 0x01 has made no progress for 301 s" in json.loads(found.body)["details"]
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    assert answer("/liveness", monitor, IDENTITY).status == 200, "its dependency is gone"
    draining = Monitor()
    draining.watch(lambda: snapshot(stalled=(STALLED,), draining=True))
    assert answer("/liveness", draining, IDENTITY).status == 200


def test_each_path_has_its_answer() -> None:
    body = json.loads(answer("/version", Monitor(), IDENTITY).body)
    assert body == {"name": "kmsconn", "version": "0.1.0", "build": "unknown"}
    ready = answer("/healthz", ready_monitor(), IDENTITY)
    assert (ready.status, json.loads(ready.body)["healthy"]) == (200, True)
    assert answer("/healthz", Monitor(), IDENTITY).status == 503
    metrics = answer("/metrics", ready_monitor(), IDENTITY)
    assert metrics.content_type.startswith("text/plain; version=0.0.4")
    assert b"kmsconn_ready 1.0" in metrics.body
    assert answer("/", Monitor(), IDENTITY).status == 404


STALLED = StalledTask("reader of 0x01", "gateway", 301.0)


def test_healthz_is_503_with_the_critical_alert_named() -> None:
    monitor = ready_monitor()
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    found = answer("/healthz", monitor, IDENTITY)
    body = json.loads(found.body)
    assert found.status == 503
    assert (body["gateway_connected"], body["details"]) == (False, "gateway: refused")
    told = {"dependency": "gateway", "cause": "unreachable", "text": "refused", "severity": "critical"}
    assert body["alerts"] == [{**told, "remedy": cause_of("unreachable").remedy, "count": 1}]


def test_metrics_are_rendered_at_most_once_a_second() -> None:
    monitor, clock = ready_monitor(), [0.0]
    page = make_app(monitor, IDENTITY, lambda: clock[0])
    before = ask(page, METRICS)
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    clock[0] = 0.9
    assert ask(page, METRICS) is before
    clock[0] = 1.0
    assert b'kmsconn_alert{cause="unreachable",dependency="gateway"} 2.0' in ask(page, METRICS).body


def test_health_is_of_this_moment() -> None:
    monitor = ready_monitor()
    page = make_app(monitor, IDENTITY, lambda: 0.0)
    assert ask(page, HEALTH).status == 200
    monitor.on_event(AlertRaised("gateway", "unreachable", "refused", Severity.CRITICAL))
    assert ask(page, HEALTH).status == 503
