"""The error tree, ordered by what the caller should do.

Foreign errors (gRPC status, JSON-RPC code, revert selector, HTTP status, sqlite3) are mapped onto these at the edge, each by one
total table. Texts never hold a secret: URLs are shown without user info and query.
"""

from __future__ import annotations

import re
import traceback
from typing import Self

import attrs

_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class KmsconnError(Exception):
    """Everything that this package raises on purpose."""


def let_go(error: BaseException) -> None:
    """Clear the frames that an error came through, and those of what caused it: they hold bodies, messages and plaintexts.

    An error that is a local variable of the frame that raises it makes a cycle, which stays until the collector comes. For whoever ends
    an error's way; its text and its traceback's lines stay. Repeating: no effect.
    """
    behind: BaseException | None = error
    while behind is not None:
        traceback.clear_frames(behind.__traceback__)
        behind = behind.__cause__ or behind.__context__


# --- before anything runs -------------------------------------------------------------------------------------------


@attrs.frozen
class Fault:
    """One thing that is wrong with the configuration: its place (``host_chains[1].url``), what is wrong, what to do."""

    place: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        text = f"{self.place}: {self.message}"
        return f"{text}; {self.remedy}" if self.remedy else text


class ConfigError(KmsconnError):
    """The configuration is wrong; all faults at once. Exit status 2."""

    def __init__(self, faults: tuple[Fault, ...]) -> None:
        self.faults = faults
        super().__init__("\n".join(str(fault) for fault in faults))


class StartRefused(KmsconnError):
    """Running would be unsafe: wrong chain id, foreign or locked journal, zero threshold. Exit status 3."""


class JournalUnreachable(StartRefused):
    """The server of a journal does not answer, or takes no writes at present: ``kmsconn run`` waits for it, a command is refused."""


class JournalTooNew(StartRefused):
    """A newer version has changed the tables of the journal so that this one may not use them: nobody waits for that to pass."""


class WrongContract(StartRefused):
    """The contract at a configured address is not what is meant. Believed when it is said twice: a node may lag behind a deployment."""


# --- one request ----------------------------------------------------------------------------------------------------


class RequestError(KmsconnError):
    """One request could not take its next step; the rest goes on. ``stage``: which one, as far as it is known.

    ``dependency`` names whose fault it is where that is not the stage's usual one, ``cause`` is the slug of its alert, and ``remedy``
    says what the operator can do.
    """

    stage = ""
    dependency = ""
    cause = ""
    remedy = ""
    for_all = False
    """Whether no request that needs the same can pass while this holds."""

    def of(self, dependency: str = "", cause: str = "", remedy: str = "") -> Self:
        """Return this error with what its alert says."""
        self.dependency = dependency or self.dependency
        self.cause, self.remedy = cause or self.cause, remedy or self.remedy
        return self


class Retryable(RequestError):
    """Nothing is wrong with the request: try again later. Nothing is charged to the request.

    ``again_in``: seconds before which trying again would be in vain, where that is known.
    """

    again_in: float | None = None


class Unreachable(Retryable):
    """A dependency did not answer: refused, reset, hung, 5xx, UNAVAILABLE."""

    cause = "calls-fail"


class Down(Unreachable):
    """A dependency is gone, and an alert of its own says so: whoever needs it waits and raises none."""


class NotAttested(Unreachable):
    """The coprocessors do not agree on a ciphertext."""


class NoCiphertext(NotAttested):
    """Every bucket answers that it does not have a ciphertext."""


class Overloaded(Retryable):
    """A dependency asks for less: 429, RESOURCE_EXHAUSTED, table full."""

    cause = "overloaded"


class NotYet(Retryable):
    """The dependency answered: not now. Access not granted yet, key not known yet, result not ready."""


class LongPollEnded(NotYet):
    """The Core is still at work: ask again when nobody else needs the place."""


class Denied(NotYet):
    """A host chain's access control list says no. It rarely changes its mind: asked again ever more rarely."""


class WindowNotOpen(NotYet):
    """The window that the user signed has not begun."""


class SignatureNotTaken(NotYet):
    """The user's contract does not take the signature at present (ERC-1271)."""


class ContextInvalid(NotYet):
    """The context or epoch of a request is not valid on chain at present."""


class DestroyedOnce(ContextInvalid):
    """A node says that a context or epoch was destroyed, and no later head has confirmed it: nothing is answered under it meanwhile."""


class NotMember(Retryable):
    """This node is not in the request's context, named in ``context``: others answer it. ``alone``: it is in no valid one at all."""

    def __init__(self, message: str, context: str = "", *, alone: bool = False) -> None:
        super().__init__(message)
        self.context, self.alone = context, alone


class Forgotten(Retryable):
    """The Core does not know the id (restarted, evicted): submit again."""


class StageTimeout(Retryable):
    """A stage used up its time."""

    cause = "too-slow"

    def __init__(self, stage: str, seconds: float) -> None:
        super().__init__(f"{stage} took longer than {seconds:g} s")
        self.stage = stage


class Misconfigured(Retryable):
    """Only the operator can mend it (UNAUTHENTICATED, UNIMPLEMENTED, a chain not configured): wait, and say so."""

    cause = "misconfigured"


class Lost(Misconfigured):
    """The Core seemed to have it already and does not know its result: it was restarted before anybody had asked (L10), or refused it."""

    cause = "result-lost"


class JournalFailed(Retryable):
    """The journal could not keep what it was told: disk full, I/O error, closed. Nothing may be built on that operation."""


class StartAgain(KmsconnError):
    """What this process knows of the journal does not hold any more: the connector ends, and ``kmsconn run`` starts it anew."""


class LeaseLost(StartAgain):
    """Other processes took this one for gone, and do its work: it may change nothing."""


class JournalWentBack(StartAgain):
    """The database lacks commits that it had confirmed: a fail-over to a server that was behind, or a restored backup."""


class OutcomeUnknown(StartAgain):
    """The connection to the database of the journal ended within a commit: it was kept or not, and a new start finds which."""


class Terminal(RequestError):
    """Trying again cannot help."""


class Rejected(Terminal):
    """The request can never be answered; kept with its reason for an operator's ``retry``."""


class WrongSignature(Rejected):
    """The user's signature does not stand for the request, and never will."""


class WindowOver(Rejected):
    """The window that the user signed is over."""


class Destroyed(Rejected):
    """A context or epoch that the request names is over for good: its ``identifier``, and ``what`` it is in words."""

    def __init__(self, what: str, identifier: int) -> None:
        super().__init__(what, identifier)
        self.what, self.identifier = what, identifier

    def __str__(self) -> str:
        return f"{self.what} was destroyed"


class RejectedByCore(Rejected):
    """The Core says that it will never do it: the end of a request of key management, never of a decryption."""

    cause = "rejects"


class Refused(Terminal):
    """The Core refused it for good (INTERNAL): key management has one second chance later, a decryption waits."""

    cause = "internal-error"


class AbortedByCore(Refused):
    """The Core says that it aborted the operation: its start is tried once more, after the chain was asked whether it still stands.

    A result call ends so for whatever the Core failed at with the word "abort" in its text (kms-core-grpc.md 5.1): who asked for
    it, if anybody did, only the chain can say.
    """

    cause = "aborted"


class Aborted(Terminal):
    """The operation was aborted on purpose: the chain says so."""


class AlreadyDone(Terminal):
    """Somebody, usually we before a crash, did it already: success."""


class Over(Terminal):
    """Nobody waits for it any more, and nothing went wrong."""


class Broken(RequestError):
    """A dependency answered something that no honest one answers: nothing is sent; key management is quarantined, a decryption waits."""

    cause = "wrong-answer"

    def __init__(self, where: str, message: str) -> None:
        super().__init__(f"{where}: {message}")


class NonceTaken(KmsconnError):
    """Another signed reply of the chain holds the nonce; nothing was changed."""


class Undecodable(KmsconnError):
    """Bytes that do not have the announced form: a log, a view result, a protobuf message, a transaction."""


class CallReverted(KmsconnError):
    """A contract refused a call: which call, the name of its error, and the error's arguments as text."""

    def __init__(self, called: str, name: str, arguments: tuple[str, ...]) -> None:
        super().__init__(f"{called} reverts: {name}({', '.join(arguments)})")
        self.called, self.name, self.arguments = called, name, arguments


def cause_of(error: BaseException) -> str:
    """Return a stable slug for why something failed: its class, such as ``not-member``."""
    return _CAPITAL.sub("-", type(error).__name__).lower()
