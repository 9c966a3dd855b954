"""Events as log lines, one each, for people (console) or machines (JSON). Configures nothing global; a line never raises.

URLs that stand in a reason lose their user info and query here once more: what came from a library may hold them.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Collection, Mapping, MutableMapping
from operator import attrgetter
from typing import Any, Final, TextIO

import attrs
import msgspec
import structlog

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

EventDict = MutableMapping[str, Any]


class LineWriter:
    """Writes lines to a stream; lines that it does not take are counted, since logging must not end the connector."""

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.lost = 0

    def write(self, line: str) -> None:
        """Write one line."""
        try:
            self._stream.write(f"{line}\n")
            self._stream.flush()
        except (OSError, ValueError):
            self.lost += 1

    debug = info = warning = error = critical = msg = write


def make_logger(stream: TextIO, level: str, log_format: LogFormat) -> structlog.typing.FilteringBoundLogger:
    """Return a logger of its own that writes to ``stream``; ``auto`` means console on a terminal, else JSON."""
    terminal = stream.isatty()
    console = log_format is LogFormat.CONSOLE or (log_format is LogFormat.AUTO and terminal)
    logger: structlog.typing.FilteringBoundLogger = structlog.wrap_logger(
        LineWriter(stream),
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([hide_urls, structlog.dev.ConsoleRenderer(colors=terminal)] if console else [_render_json]),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=True,
    )
    return logger


def _render_json(logger: Any, name: str, event: EventDict) -> str:
    """Return a line as JSON; few have a traceback or a URL, and the whole line shows whether it has one."""
    if "exc_info" in event:
        event = structlog.processors.format_exc_info(logger, name, event)
    line = msgspec.json.encode(event, enc_hook=str)
    if b"://" in line:
        line = msgspec.json.encode(hide_urls(logger, name, event), enc_hook=str)
    return line.decode()


def hide_urls(_: Any, __: str, event: EventDict) -> EventDict:
    """Cut user info and query from every URL in the texts of a line."""
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = hide_urls_in(value)
    return event


Context = Callable[[events.Event], Mapping[str, str]]
"""Says what a line about an event has beside its fields."""


def line_takes(
    logger: structlog.typing.FilteringBoundLogger, level: str, context: Context | None = None
) -> Takes:
    """Return what logs each event of at least ``level``, by its name, with its fields and its ``context``."""
    least = logging.getLevelNamesMapping()[level.upper()]
    log = logger.bind().log  # a logger that was never bound binds itself anew for each line

    def line_of(kind: type) -> Callable[[Any], None]:
        name, usual, weigh = event_name(kind.__name__), LEVELS[kind], _WEIGHING.get(kind)

        def write(event: Any) -> None:
            importance = usual if weigh is None else weigh(event)
            if importance >= least:
                more = {} if context is None else context(event)
                log(importance, name, **fields_of(event), **more)

        return write

    return {kind: line_of(kind) for kind, usual in LEVELS.items() if usual >= least or kind in _WEIGHING}


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
    fields = {}
    names, writes, values = _WITHOUT_PLACE if placeless else _FIELDS[kind]
    for name, write, value in zip(names, writes, values(event), strict=True):
        if value is not None:
            fields[name] = value if write is None else write(value)
    return fields


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


class LibraryLogs(logging.Handler):
    """Sends what libraries log through the standard library's logging to our logger, under the library's name."""

    def __init__(self, log: Callable[..., Any]) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Log a record with the traceback it carries, if any."""
        self._log(
            record.levelno,
            "library",
            library=record.name,
            message=record.getMessage(),
            exc_info=record.exc_info,
        )
