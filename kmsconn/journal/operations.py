"""What an operation of the journal is: a function over an open database, declared once. Never runs one.

``await journal.run(operation, ...)`` has it applied: whole or not at all, in the order of the calls, several in one commit. When the
call returns, what the operation did is durable. An operation that changes several rows, or one row with several statements, stands in
``Database.savepoint``.

An operation that moves a request returns whether it moved: False means that the row was no longer in a state that allows it, and that
nothing was changed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

AnyOperation = TypeVar("AnyOperation", bound=Callable[..., Any])

_OFF_LOOP = "is_off_loop"
_COUNTED = "is_counted"
_READS = "is_reading"


def _always(*_args: Any, **_kwargs: Any) -> bool:
    return True


def off_loop(when: Callable[..., bool] = _always) -> Callable[[AnyOperation], AnyOperation]:
    """Mark an operation that may take milliseconds, which the loop does not have: it is applied in a thread.

    ``when`` says so of the operation's arguments, without the database.
    """

    def mark(operation: AnyOperation) -> AnyOperation:
        setattr(operation, _OFF_LOOP, when)
        return operation

    return mark


def is_off_loop(operation: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Say whether an operation with these arguments is applied in a thread."""
    when: Callable[..., bool] | None = getattr(operation, _OFF_LOOP, None)
    return when is not None and when(*args, **kwargs)


def counted(operation: AnyOperation) -> AnyOperation:
    """Mark an operation that is one statement, and returns whether that changed a row: it can be sent together with others."""
    setattr(operation, _COUNTED, True)
    return operation


def is_counted(operation: Callable[..., Any]) -> bool:
    """Say whether an operation is one statement and the count of its rows."""
    return getattr(operation, _COUNTED, False)


def reads(operation: AnyOperation) -> AnyOperation:
    """Mark an operation that changes nothing, whatever its arguments are: it needs no turn where reading has connections of its own."""
    setattr(operation, _READS, True)
    return operation


def is_reading(operation: Callable[..., Any]) -> bool:
    """Say whether an operation changes nothing."""
    return getattr(operation, _READS, False)
