"""The board: an alert is raised once for each dependency and cause, after its patience, and cleared by its own key alone."""

from __future__ import annotations

from hashlib import sha256

import attrs
import pytest

from kmsconn.model import alerts
from kmsconn.model.alerts import PATIENCE, STANDSTILL, UPDATE, Board, Lane, Progress, Reason
from kmsconn.model.causes import CAUSES
from kmsconn.model.debounce import Debounce
from kmsconn.model.events import AlertCleared, AlertRaised, Event, Severity
from kmsconn.model.http_answers import FailureCode, HttpFailure, HttpResult
from kmsconn.model.requests import PROFILE_ALIASES, PROFILES, Kind, TraceContext, profile_named, trace_of


@attrs.define
class Wall:
    """A board with what it told, and a clock that a test sets."""

    seen: list[Event] = attrs.field(factory=list)
    now: float = 0.0
    board: Board = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self.board = Board(self.seen.append, lambda: self.now)


@pytest.fixture
def wall() -> Wall:
    return Wall()


def test_the_same_alert_is_raised_once_as_its_cause_says(wall: Wall) -> None:
    for wall.now in (0.0, 2 * UPDATE):
        wall.board.set("unreachable", "core[0]", "refused")
        wall.board.set("overloaded", "core[0]", "429")
    assert wall.seen == [
        AlertRaised("core[0]", "unreachable", "refused", Severity.CRITICAL, CAUSES["unreachable"].remedy),
        AlertRaised("core[0]", "overloaded", "429", Severity.WARNING, CAUSES["overloaded"].remedy),
    ]


def test_a_cause_that_is_in_no_table_cannot_be_raised(wall: Wall) -> None:
    with pytest.raises(KeyError):
        wall.board.set("bad-day", "core[0]", "it rains")


def test_a_text_is_said_again_after_a_minute_and_a_severity_at_once(wall: Wall) -> None:
    for second in range(int(UPDATE) + 2):
        wall.now = float(second)
        wall.board.set("wallet", "txmanager", "no", count=second)
    assert [event.count for event in wall.seen if isinstance(event, AlertRaised)] == [0, int(UPDATE)]
    wall.board.set("wallet", "txmanager", "no", critical=True)
    assert isinstance(wall.seen[-1], AlertRaised)
    assert wall.seen[-1].critical


def test_the_end_is_said_once_and_only_of_what_was_raised(wall: Wall) -> None:
    wall.board.set("unreachable", "gateway", None)
    wall.board.set("unreachable", "gateway", "refused")
    wall.board.set("wrong-chain", "gateway", "chain 5")
    for _ in range(2):
        wall.board.set("unreachable", "gateway", "")
    assert wall.seen[2:] == [AlertCleared("gateway", "unreachable")]
    assert [alert.cause for alert in wall.board] == ["wrong-chain"]


@pytest.mark.parametrize("cause", [name for name, one in CAUSES.items() if one.after])
def test_what_fails_for_a_moment_is_not_told(cause: str, wall: Wall) -> None:
    after = CAUSES[cause].after
    for wall.now, text in (
        (0.0, "lag"),
        (after - 1, "lag"),
        (after, None),
        (after + 1, "lag"),
        (2 * after, "lag"),
    ):
        wall.board.set(cause, "gateway", text)
    assert wall.seen == []
    wall.now = 2 * after + 1
    wall.board.set(cause, "gateway", "lag")
    wall.board.set(cause, "gateway", None)
    assert [type(event) for event in wall.seen] == [AlertRaised, AlertCleared]


def test_an_owner_shows_what_there_is_and_clears_what_is_gone_and_its_own(wall: Wall) -> None:
    [first, second, other] = [AlertRaised(name, "paused", "by us", Severity.WARNING) for name in "abc"]
    wall.board.show("ours", [first, second])
    wall.board.show("theirs", [other])
    wall.board.show("ours", [second])
    assert wall.seen == [first, second, other, AlertCleared("a", "paused")]
    assert [*wall.board] == [second, other]


def test_an_alert_is_as_severe_as_its_cause_unless_it_says_otherwise() -> None:
    assert AlertRaised("core[0]", "unreachable", "refused").severity is Severity.CRITICAL
    assert AlertRaised("keygen", "undone", "rejected").severity is Severity.WARNING
    assert AlertRaised("new_kms_epoch", "undone", "rejected", Severity.CRITICAL).critical


# When one looks, at which head, what is said there, and whether that is confirmed.
LOOKS: dict[str, tuple[Debounce, list[tuple[float, int, str, bool]]]] = {
    "neither a first look nor the same head": (Debounce(5.0), [(0.0, 100, "", False), (4.9, 100, "", False)]),
    "a later head": (Debounce(5.0), [(0.0, 100, "", False), (0.1, 101, "", True)]),
    "the seconds, without a later head": (Debounce(5.0), [(0.0, 100, "", False), (5.0, 100, "", True)]),
    "not a later head that comes too soon": (
        Debounce(30.0, least=5.0), [(0.0, 100, "", False), (4.9, 101, "", False), (5.0, 101, "", True)],
    ),
    "not a head below that of the first look, which begins anew": (
        Debounce(5.0, anew_below=True),
        [(0.0, 100, "", False), (4.9, 99, "", False), (5.0, 99, "", False), (5.0, 100, "", True)],
    ),
    "a lower head as one more look, where it does not": (
        Debounce(5.0), [(0.0, 100, "", False), (4.9, 99, "", False), (5.0, 99, "", True)],
    ),
    "not something else that is said": (
        Debounce(5.0), [(0.0, 100, "aborted", False), (0.1, 101, "over", False), (0.2, 102, "over", True)],
    ),
}  # fmt: skip


@pytest.mark.parametrize(("look", "looks"), LOOKS.values(), ids=LOOKS)
def test_what_confirms(look: Debounce, looks: list[tuple[float, int, str, bool]]) -> None:
    assert [look.confirms(1, at, head, says) for at, head, says, _ in looks] == [one[-1] for one in looks]


def test_a_suspicion_that_is_cleared_or_not_kept_begins_anew_and_no_other_does() -> None:
    look = Debounce(5.0)
    for subject in (1, 2, 3):
        look.confirms(subject, 0.0, 100)
    look.clear(1)
    look.keep({1, 2})
    assert [look.confirms(subject, 0.1, 101) for subject in (1, 2, 3)] == [False, True, False]


def test_the_oldest_suspicion_is_forgotten_where_there_are_too_many() -> None:
    look = Debounce(5.0, most=2)
    for subject in (1, 2, 3):
        look.confirms(subject, 0.0, 100)
    assert look.confirms(2, 0.1, 101)
    assert look.confirms(3, 0.1, 101)
    assert not look.confirms(1, 0.1, 101)


LANE, SLOW = Lane("keygen"), Reason("core[0]", "too-slow", "x")


def test_held_up_work_goes_on_by_its_step_and_is_forgiven_by_its_cause() -> None:
    held = Progress()
    held.hold(LANE, 1, SLOW, now=0.0, step=2)
    held.hold(LANE, 2, Reason("core[0]", "calls-fail", "x"), now=0.0, step=2)
    held.went_on(1, 1)
    held.forgive("core[0]", {"calls-fail"})
    assert [*held] == [1]
    held.went_on(1, 2)
    assert [*held] == []


def test_what_stops_everybody_is_critical_once_it_has_held_itself_for_as_long() -> None:
    """What the same work waited for before does not count, and what holds up one request alone hides nothing."""
    one, everybody = (
        Reason("buckets", "calls-fail", "x"),
        Reason("buckets", "calls-fail", "all", "", 10.0, True),
    )
    held = Progress()
    held.hold(LANE, 1, one, now=0.0)
    held.hold(LANE, 1, everybody, now=100.0)
    assert held.holdups(109.0) == ()
    held.hold(LANE, 2, one, now=110.0)
    assert [(found.reason.critical, found.count) for found in held.holdups(110.0)] == [(True, 2)]


def stopped(held: Progress, now: float) -> bool:
    return any(found.stopped for found in held.holdups(now))


def test_a_lane_that_stands_still_at_a_step_is_stopped_sooner_than_one_of_which_some_pass_it() -> None:
    held = Progress()
    for rid in range(3):
        held.hold(LANE, rid, SLOW, now=0.0, step=2)
    assert not stopped(held, STANDSTILL - 1)
    assert stopped(held, STANDSTILL)
    held.worked(LANE, 1, 5.0)
    assert stopped(held, STANDSTILL)
    held.worked(LANE, 2, 5.0)
    assert not stopped(held, PATIENCE - 1)
    assert stopped(held, PATIENCE)


def test_a_dependency_that_answers_not_yet_has_a_minute() -> None:
    held = Progress()
    for rid in range(3):
        held.hold(LANE, rid, attrs.evolve(SLOW, answers=True), now=0.0, step=2)
    assert not stopped(held, PATIENCE - 1)
    assert stopped(held, PATIENCE)


def test_work_that_hung_before_it_failed_is_held_up_since_it_began() -> None:
    held = Progress()
    for rid in range(3):
        held.hold(LANE, rid, SLOW, now=60.0, since=0.0)
    assert stopped(held, 60.0)


def test_work_that_is_not_there_is_counted_and_stops_no_lane() -> None:
    held = Progress()
    for rid in range(3):
        held.hold(LANE, rid, SLOW, now=0.0)
    held.not_there.add(1)
    assert not stopped(held, PATIENCE)
    assert [found.count for found in held.holdups(PATIENCE)] == [3]
    assert [*held.stopped(PATIENCE)] == [(LANE, (0, 1, 2))]


def test_of_each_lane_so_much_work_is_remembered_and_no_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(alerts, "REMEMBERED", 2)
    held = Progress()
    for rid in range(3):
        held.hold(LANE, rid, SLOW, now=0.0)
    held.hold(Lane("crsgen"), 9, SLOW, now=0.0)
    assert [*held] == [0, 1, 9]


TABLE = {
    "malformed": (400, False),
    "unsupported_attestation_type": (400, False),
    "sender_authentication_failed": (401, False),
    "acl_denied": (403, True),
    "user_signature_rejected": (403, True),
    "ciphertext_not_found": (404, True),
    "kms_context_destroyed": (410, False),
    "kms_context_invalid": (412, True),
    "unprocessable": (422, False),
    "rate_limited": (429, True),
    "copro_consensus_failed": (502, True),
    "upstream_transient": (502, True),
    "overloaded": (503, True),
    "timeout": (504, True),
    "unknown": (500, True),
}


def test_each_code_has_the_status_and_the_flag_of_the_specification() -> None:
    assert {code.value: (int(code.status), code.retryable) for code in FailureCode} == TABLE


@pytest.mark.parametrize("code", FailureCode)
def test_a_failure_has_the_flag_of_its_code(code: FailureCode) -> None:
    failure = HttpFailure(code, "why")
    assert (failure.status, failure.retryable) == (code.status, code.retryable)


def test_the_document_of_a_failure_names_its_decryption_and_its_flag_may_differ() -> None:
    malformed = {"code": "malformed", "message": "why", "retryable": False}
    assert HttpFailure(FailureCode.MALFORMED, "why").document() == malformed
    failure = HttpFailure(FailureCode.USER_SIGNATURE_REJECTED, "over", retryable=False, decryption_id=5)
    told = {"code": "user_signature_rejected", "message": "over", "retryable": False}
    assert failure.document() == {**told, "decryptionId": "0x" + "5".zfill(64)}


def test_a_result_has_its_id_first_and_its_bytes_in_hex() -> None:
    result = HttpResult(0xAB, {"decryptedResult": b"\x01\x02", "signature": b"", "extraData": b"\x00"})
    assert list(result.document().items()) == [
        ("decryptionId", "0x" + "ab".zfill(64)),
        ("decryptedResult", "0x0102"),
        ("signature", "0x"),
        ("extraData", "0x00"),
    ]


def test_a_profile_is_meant_by_its_name_or_an_alias_alone() -> None:
    assert {profile_named(f" {alias.upper()}") for alias in PROFILE_ALIASES} == {"fhevm"}
    assert [profile_named(name) for name in PROFILES] == [*PROFILES]
    with pytest.raises(ValueError, match=r"must be fhevm or httpz-rc7, not 'fhevm-0\.16'"):
        profile_named("fhevm-0.16")


PUBLIC = Kind.PUBLIC_DECRYPTION


def test_an_operator_can_compute_the_trace_id_with_sha256sum() -> None:
    said = f"kmsconn:10901:public_decryption:{7:064x}".encode()
    assert trace_of(10901, PUBLIC, 7).trace_hex == sha256(said).hexdigest()[:32]


def test_another_id_kind_or_deployment_is_another_trace() -> None:
    traces = {
        trace_of(10901, PUBLIC, 7),
        trace_of(10901, PUBLIC, 8),
        trace_of(10901, Kind.USER_DECRYPTION, 7),
        trace_of(10902, PUBLIC, 7),
    }
    assert len({trace.trace_id for trace in traces}) == len({trace.span_id for trace in traces}) == 4


def test_the_header_has_the_form_of_w3c_trace_context() -> None:
    trace = TraceContext(0x4BF92F3577B34DA6A3CE929D0E0E4736, 0x00F067AA0BA902B7)
    assert trace.traceparent(sampled=True) == "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    assert trace.traceparent(sampled=False).endswith("-00")
