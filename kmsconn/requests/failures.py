"""Decides what becomes of a request that failed, and whom an alert blames: one row for each class of error (docs/outcomes.md). Pure.

A request waits, ever longer, or it ends. Nothing that a dependency says ends a decryption before its deadline: the chain does, or an
operator. Key management must go on in the order of the chain, so there the Core is believed. Over HTTP someone waits, who repeats what
may change: an answer about the request is told at once, and what may be a dependency's fault once the client's patience is over. A
dependency that does not answer at all is waited for: the client's own time ends first, and the same request finds the work where it
stands.

A row is found by the class of an error, or the nearest one that it is made of. What became of a request without an error is decided
elsewhere: ``pipeline`` lets one expire, ``contexts`` ends what a destroyed context leaves, ``replies.table`` has what is answered.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Final

import attrs

from kmsconn.errors import (
    Aborted,
    AbortedByCore,
    AlreadyDone,
    Broken,
    ContextInvalid,
    Denied,
    Destroyed,
    DestroyedOnce,
    Down,
    Forgotten,
    JournalFailed,
    LongPollEnded,
    Misconfigured,
    NoCiphertext,
    NotAttested,
    NotMember,
    Over,
    Overloaded,
    Refused,
    RejectedByCore,
    RequestError,
    Retryable,
    SignatureNotTaken,
    StageTimeout,
    Terminal,
    Unreachable,
    WindowNotOpen,
    WindowOver,
    WrongSignature,
)
from kmsconn.journal.rows import Row, RowProgress
from kmsconn.model.alerts import STANDSTILL, Reason
from kmsconn.model.http_answers import FailureCode, HttpFailure
from kmsconn.model.life import RowCause, State
from kmsconn.model.requests import Request
from kmsconn.transport.waiting import Backoff

SOON: Final = Backoff(first=0.5, cap=60.0)
SELDOM: Final = Backoff(first=0.5, cap=300.0)
"""What a Core says of one decryption may be true until its restart: a call in five minutes costs nothing."""
DENIED: Final = Backoff(first=0.5, cap=3600.0, least=0.9)
"""A chain that denied a right says so again: at most 39 times in a day, half of them within the first hour, in which rights are given."""
NOW: Final = Backoff(first=0.0, cap=0.0)
"""Behind all others that are due."""

SPREAD: Final = 5.0  # seconds over which those are spread who wait for the same question
LAST_LOOK: Final = 60.0
"""Seconds after the end of a request's time until its last look: chain time is believed at a second."""

OTHER_CONTENT: Final = "other-content"
"""The cause of a wrong answer where the journal knows other content under the id: the Core may still hold that until its restart."""
TAKEN: Final = "taken-ids"
"""The cause of a result that does not come after a start that this connector did not make."""
RESTART: Final = "restart this Core: a start that failed inside it leaves the id taken until then"
NOT_A_NODE: Final = "not-a-node"
NAMED_BY_REQUESTS: Final = frozenset({"not-configured", "not-served"})
"""Causes that a request alone brings about, by the chain that it names."""

RESULT_LATE_AFTER: Final = 300.0
"""Seconds since the first poll without a result: a decryption takes seconds."""
TAKEN_KEY_ID_AFTER: Final = 3600.0
"""Likewise of an id that the Core had already, for a key or an epoch, which may take that long."""

FOR_ALL_AFTER: Final = 10.0
"""Seconds for which one request meets what would hold up every other one, until that is critical: buckets restart, connections break."""

SECOND_CHANCE: Final = "second chance: "
"""The beginning of the reason of a row that has one."""
UNEXPECTED: Final = "an unexpected error, which this node has noted"
"""What a client is told of a traceback."""


class Told(Enum):
    """When a client over HTTP hears of a failure."""

    NEVER = auto()
    LATE = auto()  # once its patience is over
    AT_ONCE = auto()


class Blames(Enum):
    """Whom an alert blames for a failure."""

    NOBODY = auto()  # it is an answer about the request, or has an alert of its own
    NEEDED = auto()  # the dependency that the stage needs
    WHEN_LATE = auto()  # likewise, where it is said for long


@attrs.frozen
class Rule:
    """What becomes of a request: how long it waits (``then``), or by which transition it ends.

    ``in_order``: the transition that ends key management, which does not wait; ``chance``: seconds until it is tried once more before.
    ``again``: the request begins again at the Core. ``kept``: why it ended, for its client.
    """

    then: Backoff | str
    told: Told = Told.NEVER
    kept: RowCause = RowCause.NONE
    blames: Blames = Blames.NOBODY
    in_order: str = ""
    chance: float = 0.0
    again: bool = False


def _failed(
    then: Backoff, kept: RowCause, in_order: str = "", chance: float = 0.0, *, again: bool = False
) -> Rule:
    return Rule(then, Told.LATE, kept, Blames.NEEDED, in_order, chance, again)


RULES: Final[Mapping[type[BaseException], Rule]] = {
    # a dependency does not do its part
    Unreachable: Rule(SOON, blames=Blames.NEEDED),
    Down: Rule(SOON),
    Overloaded: Rule(SOON, blames=Blames.NEEDED),
    StageTimeout: Rule(SOON, blames=Blames.NEEDED),
    Misconfigured: _failed(SOON, RowCause.DEPENDENCY_FAILED),
    NotAttested: _failed(SOON, RowCause.NO_CONSENSUS),
    NoCiphertext: _failed(SOON, RowCause.NO_CIPHERTEXT),
    JournalFailed: Rule(SOON),
    # the Core refuses, or answers what no honest one answers
    RejectedByCore: _failed(SELDOM, RowCause.DEPENDENCY_FAILED, "reject", again=True),
    Refused: _failed(SELDOM, RowCause.DEPENDENCY_FAILED, "reject", 3600.0, again=True),
    AbortedByCore: _failed(SELDOM, RowCause.DEPENDENCY_FAILED, "reject", 2.0, again=True),
    Broken: _failed(SELDOM, RowCause.DEPENDENCY_FAILED, "quarantine", again=True),
    # not now
    Forgotten: Rule(SOON, blames=Blames.WHEN_LATE, again=True),
    LongPollEnded: Rule(NOW, blames=Blames.WHEN_LATE),
    Retryable: Rule(SOON, blames=Blames.WHEN_LATE),
    DestroyedOnce: Rule(SOON, blames=Blames.WHEN_LATE),  # a later head says whether that is so
    # an answer about the request, which may change
    Denied: Rule(DENIED, Told.AT_ONCE, RowCause.ACCESS_DENIED),
    SignatureNotTaken: Rule(SOON, Told.AT_ONCE, RowCause.SIGNATURE_REFUSED),
    WindowNotOpen: Rule(SOON, Told.AT_ONCE, RowCause.SIGNATURE_REFUSED),
    ContextInvalid: Rule(SOON, Told.AT_ONCE, RowCause.CONTEXT_NOT_VALID),
    NotMember: Rule(SOON, Told.AT_ONCE, RowCause.CONTEXT_NOT_VALID),
    # the chain ends it
    Terminal: Rule("reject"),
    WrongSignature: Rule("reject", kept=RowCause.SIGNATURE_REFUSED),
    WindowOver: Rule("reject", kept=RowCause.SIGNATURE_REFUSED),
    Destroyed: Rule("reject", kept=RowCause.DESTROYED),
    Aborted: Rule("reject", in_order="abort"),  # nobody can abort anything but a generation (L11)
    AlreadyDone: Rule("found_finalized"),
    Over: Rule("finish"),
    # whatever else
    BaseException: Rule("quarantine", kept=RowCause.REPEATABLE),
}


def rule_of(error: BaseException) -> Rule:
    """Return the row of an error."""
    return next(RULES[one] for one in type(error).__mro__ if one in RULES)


@attrs.frozen
class Circumstances:
    """What a decision needs to know of a request beside its error.

    ``expires``: it has a deadline; what has none is key management. ``generates``: it can be aborted. ``longest_wait`` in seconds.
    ``left``: seconds of chain time until it is too late, None: not known. ``patience`` and ``age``: seconds for which a client over HTTP
    waits, None: nobody does, and since when. ``random`` in [0, 1) draws the jitter.
    """

    progress: RowProgress
    expires: bool = True
    generates: bool = False
    longest_wait: float = SOON.cap
    left: float | None = None
    patience: float | None = None
    age: float = 0.0
    random: float = 0.5


@attrs.frozen
class Waits:
    """A request waits for so many ``seconds``. ``anew``: what was waited for before does not count. ``again``: begins again at the Core."""

    seconds: float
    cause: RowCause = RowCause.NONE
    anew: bool = False
    again: bool = False


@attrs.frozen
class Ends:
    """A request ends by a transition of ``model.life``; ``cause`` is kept of why."""

    transition: str
    cause: RowCause = RowCause.NONE


def decide(error: BaseException, at: Circumstances) -> Waits | Ends:
    """Return what becomes of a request for an error."""
    rule = rule_of(error)
    if not isinstance(rule.then, Backoff):
        transition = rule.in_order if at.generates and rule.in_order else rule.then
        return Ends(transition, rule.kept if at.patience is not None else rule.kept & ~RowCause.REPEATABLE)
    if _is_told(rule, at):
        return Ends("reject", rule.kept | RowCause.REPEATABLE)
    if rule.in_order and not at.expires and getattr(error, "cause", "") != OTHER_CONTENT:
        if not rule.chance or RowCause.SECOND_CHANCE in at.progress.cause:
            return Ends(rule.in_order)
        return Waits(rule.chance, RowCause.SECOND_CHANCE, again=True)
    return _waits(rule, rule.then, error, at)


def _is_told(rule: Rule, at: Circumstances) -> bool:
    if at.patience is None:
        return False
    return rule.told is Told.AT_ONCE or (rule.told is Told.LATE and at.age >= at.patience)


def _waits(rule: Rule, backoff: Backoff, error: BaseException, at: Circumstances) -> Waits:
    anew = _is_another_wait(backoff, error, at.progress)
    starts = anew or (isinstance(error, Forgotten) and at.progress.submitted)
    seconds = _seconds(backoff, error, 0 if starts else at.progress.deferred, at)
    if at.left is not None:
        seconds = min(seconds, max(LAST_LOOK, at.left + LAST_LOOK))
    if at.patience is not None and at.age < at.patience:  # the last try is at its end
        seconds = min(seconds, at.patience - at.age)
    return Waits(seconds, _cause(backoff, error), anew, rule.again)


def _cause(backoff: Backoff, error: BaseException) -> RowCause:
    """Return what the journal counts a waiting request under, if no alert shall take it for one that could be answered."""
    if backoff is SELDOM:
        return RowCause.REFUSED_BY_CORE
    named = getattr(error, "cause", "") in NAMED_BY_REQUESTS
    return RowCause.CHAIN_NOT_SERVED if named else RowCause.NONE


def _is_another_wait(backoff: Backoff, error: BaseException, progress: RowProgress) -> bool:
    """Say whether what was waited for before makes this wait no longer."""
    if backoff is SELDOM:
        return RowCause.REFUSED_BY_CORE not in progress.cause
    return backoff is DENIED and progress.reason.removeprefix(SECOND_CHANCE) != str(error)


def _seconds(backoff: Backoff, error: BaseException, tries: int, at: Circumstances) -> float:
    again_in = getattr(error, "again_in", None)
    if (
        again_in is not None
    ):  # all wait for one question; what never expires looks each minute whether it is over
        again_in = again_in if at.expires else min(again_in, SOON.cap)
        return float(again_in + at.random * min(again_in, SPREAD))
    if backoff is SOON:
        backoff = attrs.evolve(SOON, cap=max(SOON.cap, at.longest_wait))
        return min(backoff.seconds(tries, at.random), at.longest_wait)
    return backoff.seconds(tries, at.random)


# --- alerts


def reason_of(error: RequestError, stage: str, needed: str, *, expires: bool, taken: bool) -> Reason | None:
    """Return what holds up a request whose ``stage`` failed; None where nothing can be said of the dependency that it ``needed``.

    A result takes its time, and that of what never expires as long as it likes: of the latter only an id that was ``taken`` is told.
    """
    blames = rule_of(error).blames
    if blames is Blames.NEEDED:
        # Of other content only an operator can free the Core.
        stands = error.for_all or error.cause == OTHER_CONTENT
        after = FOR_ALL_AFTER if error.for_all else 0.0
        # Buckets that answer wait for a coprocessor that is late.
        answers = isinstance(error, NotAttested)
        about = error.dependency or needed
        return Reason(about, error.cause, str(error), error.remedy, after, critical=stands, answers=answers)
    if blames is Blames.NOBODY:
        return None
    waits = stage == "answer" and getattr(error, "again_in", None) is None
    if waits and taken:
        text = "returns ALREADY_EXISTS to start calls that this connector has not made, and returns no result"
        after = RESULT_LATE_AFTER if expires else TAKEN_KEY_ID_AFTER
        return Reason(needed, TAKEN, text, RESTART, after)
    if not expires:
        return None
    after = RESULT_LATE_AFTER if waits else STANDSTILL
    text = f"no result for {after / 60:.0f} minutes: {error}" if waits else str(error)
    return Reason(needed, StageTimeout.cause, text, after=after)


# --- clients over HTTP

_CODES: Final[Mapping[RowCause, FailureCode]] = {
    RowCause.ACCESS_DENIED: FailureCode.ACL_DENIED,
    RowCause.SIGNATURE_REFUSED: FailureCode.USER_SIGNATURE_REJECTED,
    RowCause.NO_CIPHERTEXT: FailureCode.CIPHERTEXT_NOT_FOUND,
    RowCause.NO_CONSENSUS: FailureCode.COPRO_CONSENSUS_FAILED,
    RowCause.CONTEXT_NOT_VALID: FailureCode.KMS_CONTEXT_INVALID,
    RowCause.DESTROYED: FailureCode.KMS_CONTEXT_DESTROYED,
    RowCause.DEPENDENCY_FAILED: FailureCode.UPSTREAM_TRANSIENT,
}
_OTHERWISE: Final[Mapping[State, FailureCode]] = {
    State.REJECTED: FailureCode.UNPROCESSABLE,
    State.QUARANTINED: FailureCode.UNPROCESSABLE,
    State.EXPIRED: FailureCode.TIMEOUT,
}


def expiry_cause(request: Request) -> RowCause:
    """Return what is kept of a request over HTTP whose time is over: that of its user's window, or that which it is worked on."""
    in_window = request.answered_until >= request.deadline
    return RowCause.REPEATABLE if in_window else RowCause.SIGNATURE_REFUSED


def failure_of(row: Row) -> HttpFailure:
    """Return what the client of a request is told that has ended without an answer."""
    causes = row.progress.cause
    if row.state is State.QUARANTINED and RowCause.REPEATABLE in causes:
        return HttpFailure(FailureCode.UNKNOWN, UNEXPECTED, decryption_id=row.id)
    code = next((code for cause, code in _CODES.items() if cause in causes), None)
    if code is None:
        code = _OTHERWISE.get(row.state, FailureCode.UNKNOWN)
    retryable = RowCause.REPEATABLE in causes
    return HttpFailure(code, row.progress.reason, retryable=retryable, decryption_id=row.id)
