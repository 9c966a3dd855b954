"""Events as log lines, one each, for people (console) or machines (JSON). Configures nothing global; a line never raises.

URLs that stand in a reason lose their user info and query here once more: what came from a library may hold them.
"""

from __future__ import annotations

import logging
import re
import traceback
from collections.abc import Callable, Collection, Mapping
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, Final, TextIO

import attrs
import msgspec
from structlog.dev import ConsoleRenderer

from kmsconn.config.description import LogFormat
from kmsconn.ethereum.addresses import ADDRESS_BYTES, Address, checksum
from kmsconn.model import events
from kmsconn.model.life import State
from kmsconn.observe.tally import Takes
from kmsconn.transport.urls import hide_urls as hide_urls_in

LEVELS: Final[dict[type, int]] = {
    events.RequestRecorded: logging.INFO,
    events.RequestsMoved: logging.WARNING,
    events.ChainReorganised: logging.WARNING,
    events.LogQuarantined: logging.ERROR,
    events.UnknownRequestsHeard: logging.WARNING,
    events.CursorMoved: logging.DEBUG,
    events.BackfillProgressed: logging.INFO,
    events.StageFinished: logging.DEBUG,
    events.StageFailed: logging.DEBUG,
    events.RequestDeferred: logging.INFO,
    events.RequestClosed: logging.WARNING,
    events.AnswerKept: logging.INFO,
    events.AnswerMismatch: logging.WARNING,
    events.ReplySigned: logging.DEBUG,
    events.ReplySent: logging.DEBUG,
    events.ForeignTransaction: logging.WARNING,
    events.ReplyIncluded: logging.INFO,
    events.ReplyFinalized: logging.DEBUG,
    events.ReplyReturned: logging.WARNING,
    events.ReplyCompared: logging.DEBUG,
    events.ReplyUnmatched: logging.WARNING,
    events.ReplyMissing: logging.WARNING,
    events.CiphertextMismatch: logging.WARNING,
    events.AttestationMismatch: logging.WARNING,
    events.HttpAnswered: logging.DEBUG,
    events.AlertRaised: logging.WARNING,
    events.AlertCleared: logging.INFO,
}
"""The level of each type of event; a test says that none is missing."""

_BIG = 2**53  # beyond it JSON readers lose digits
_CAPITAL = re.compile(r"(?<!^)(?=[A-Z])")


class LineLog:
    """Writes lines of at least a level to a stream; ``auto`` means for people on a terminal, else JSON.

    Lines that the stream does not take are counted, since logging must not end the connector.
    """

    def __init__(self, stream: TextIO, level: str, log_format: LogFormat) -> None:
        self._stream = stream
        self.least = logging.getLevelNamesMapping()[level.upper()]
        self.lost = 0
        self._render = _as_json
        terminal = stream.isatty()
        if log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and terminal):
            for_people, written = ConsoleRenderer(colors=terminal), msgspec.to_builtins
            self._render = lambda line: for_people(
                None, "", hide_urls(line) | {"timestamp": written(line["timestamp"])}
            )

    def log(self, level: int, event: str, **fields: Any) -> None:
        """Write one line of a level, unless that is below the least."""
        if level >= self.least:
            self.write(level, event, fields)

    def write(self, level: int, event: str, line: dict[str, Any]) -> None:
        """Write one line with these fields, to which it adds."""
        line["event"], line["level"] = event, logging.getLevelName(level).lower()
        line["timestamp"] = datetime.now(UTC)
        try:
            self._stream.write(f"{self._render(line)}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    def info(self, event: str, **fields: Any) -> None:
        """Write what an operator may want to know."""
        self.log(logging.INFO, event, **fields)

    def warning(self, event: str, **fields: Any) -> None:
        """Write what an operator should look at."""
        self.log(logging.WARNING, event, **fields)


def _as_json(line: dict[str, Any]) -> str:
    """Return a line as JSON; few have a traceback or a URL, and the whole line shows whether it has one."""
    if (error := line.pop("exc_info", None)) is not None:
        line["exception"] = "".join(traceback.format_exception(*error)).rstrip()
    text = msgspec.json.encode(line, enc_hook=str)
    if b"://" in text:
        text = msgspec.json.encode(hide_urls(line), enc_hook=str)
    return text.decode()


def hide_urls(line: dict[str, Any]) -> dict[str, Any]:
    """Cut user info and query from every URL in the texts of a line."""
    for key, value in line.items():
        if isinstance(value, str) and "://" in value:
            line[key] = hide_urls_in(value)
    return line


Context = Callable[[events.Event], Mapping[str, str]]
"""Says what a line about an event has beside its fields."""


def line_takes(log: LineLog, context: Context | None = None) -> Takes:
    """Return what logs each event that is important enough, by its name, with its fields and its ``context``."""

    def line_of(kind: type) -> Callable[[Any], None]:
        name, usual, weigh = event_name(kind.__name__), LEVELS[kind], _WEIGHING.get(kind)

        def write(event: Any) -> None:
            importance = usual if weigh is None else weigh(event)
            if importance >= log.least:
                line = fields_of(event)
                if context is not None:
                    line |= context(event)
                log.write(importance, name, line)

        return write

    return {kind: line_of(kind) for kind, usual in LEVELS.items() if usual >= log.least or kind in _WEIGHING}


def _alert_level(event: events.AlertRaised) -> int:
    return logging.ERROR if event.critical else LEVELS[events.AlertRaised]


def _closed_level(event: events.RequestClosed) -> int:
    # Whoever asked over HTTP is told, and may ask as often as it likes.
    expected = _EXPECTED_OVER_HTTP if event.told else _EXPECTED
    return logging.INFO if event.state in expected else LEVELS[events.RequestClosed]


def _compared_level(event: events.ReplyCompared) -> int:
    return _LIKENESS_LEVELS.get(event.likeness, LEVELS[events.ReplyCompared])


_EXPECTED: Final = frozenset({State.DONE, State.ABORTED})
_EXPECTED_OVER_HTTP: Final = _EXPECTED | {State.REJECTED, State.EXPIRED}
_LIKENESS_LEVELS: Final = {"different": logging.WARNING, "recomputed": logging.INFO}
_WEIGHING: Final[dict[type, Callable[[Any], int]]] = {
    events.AlertRaised: _alert_level,
    events.RequestClosed: _closed_level,
    events.ReplyCompared: _compared_level,
}
"""The types whose level depends on the event: a critical alert is more, the end of what ended as it should less than others of its type."""


def event_name(kind: str) -> str:
    """Return ``request_recorded`` for ``RequestRecorded``."""
    return _CAPITAL.sub("_", kind).lower()


def fields_of(event: Any) -> dict[str, Any]:
    """Return the fields of an event as texts and numbers; an absent one is left out, and so is the place of what came over HTTP."""
    kind = type(event)
    placeless = kind is events.RequestRecorded and event.over_http
    names, writes, values = _WITHOUT_PLACE if placeless else _FIELDS[kind]
    return {
        name: value if write is None else write(value)
        for name, write, value in zip(names, writes, values(event), strict=True)
        if value is not None
    }


def _bytes(value: bytes) -> str:
    return checksum(Address(value)) if len(value) == ADDRESS_BYTES else f"0x{value.hex()}"


def _integer(value: int) -> int | str:
    return f"0x{value:x}" if value >= _BIG else value


_WRITING: Final[dict[str, Callable[[Any], Any]]] = {
    "bytes": _bytes,
    "Address": _bytes,
    "int": _integer,
    "float": lambda value: round(value, 6),
}
"""How the values of fields are written that do not stand as they are, by what the fields are declared as."""

_Fields = tuple[list[str], list[Callable[[Any], Any] | None], Callable[[Any], tuple[Any, ...]]]
"""Names of fields, how each is written, and what returns their values."""


def _fields(kind: type, without: Collection[str] = ()) -> _Fields:
    chosen = [field for field in attrs.fields(kind) if field.name not in without]
    names = [one.name for one in chosen]
    return names, [_WRITING.get(str(one.type).removesuffix(" | None")) for one in chosen], attrgetter(*names)


_FIELDS: Final = {kind: _fields(kind) for kind in LEVELS}
_WITHOUT_PLACE: Final = _fields(
    events.RequestRecorded, without=("chain_id", "block", "transaction_hash", "log_index")
)


_RAISES_TOO = frozenset({"aiobotocore.credentials"})
"""Libraries that log the traceback of an error that they also raise: the kind of the error is enough."""


class LibraryLogs(logging.Handler):
    """Sends what libraries log through the standard library's logging to our logger, under the library's name."""

    def __init__(self, log: Callable[..., Any]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with the traceback it carries, if any."""
        message, exc_info = record.getMessage(), record.exc_info
        if record.name in _RAISES_TOO and exc_info and exc_info[0]:
            message, exc_info = f"{message} {exc_info[0].__name__}", None
        self._log(record.levelno, "library", library=record.name, message=message, exc_info=exc_info)
