"""How operators name requests: by the row number of the journal, or by the on-chain id with 0x."""

from __future__ import annotations

from typing import Any, Final

from kmsconn.journal import inspecting, queries
from kmsconn.journal.values import Row
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import Arguments, CommandError, Context

ROW_LIMIT: Final = 1 << 63  # a larger number without 0x is an on-chain id
WORD_CHARACTERS: Final = 500  # of a reason that an operator gives


def name_of(row: Row) -> dict[str, Any]:
    """Return what an answer calls a request."""
    return {"row": row.rid, "kind": row.kind.value, "id": f"0x{row.id:064x}"}


async def named_rows(context: Context, name: object) -> tuple[Row, ...]:
    """Return the rows that a row number or an on-chain id means. Raises CommandError where there are none."""
    number, is_id = _reference(name)
    if is_id:
        rows = await context.journal.run(inspecting.of_id, number)
    else:
        row = await context.journal.run(queries.row, number)
        rows = () if row is None else (row,)
    if not rows:
        raise CommandError(
            f"the journal has no request {name!s:.80}; `kmsconn requests list` shows its requests"
        )
    return rows


def _reference(name: object) -> tuple[int, bool]:
    text = str(name)
    try:
        number = int(text, 0)
    except ValueError:
        number = -1
    if not 0 <= number < 1 << 256:
        raise CommandError(
            f"{name!r:.80} is no request: a row number, or an on-chain id with 0x, is expected"
        )
    return number, text[:2].lower() == "0x" or number >= ROW_LIMIT


async def one_row(context: Context, name: object) -> Row:
    """Return the row that a name means. Raises CommandError where it means none, or several."""
    rows = await named_rows(context, name)
    if len(rows) > 1:
        several = ", ".join(f"{row.rid} ({row.kind}, {row.state})" for row in rows)
        raise CommandError(
            f"several requests have the id {name!s:.80}; name one by its row number: {several}"
        )
    return rows[0]


def kind_of(context: Context, arguments: Arguments) -> Kind:
    """Return the kind that an argument names. Raises CommandError for one that this generation has not."""
    kinds = {kind.value: kind for kind in context.profile.operations}
    name = arguments.get("kind")
    kind = kinds.get(name) if isinstance(name, str) else None
    if kind is None:
        raise CommandError(f"there is no kind {name!r:.80}; there are {', '.join(kinds)}")
    return kind


def word_of(arguments: Arguments, *, needed: bool) -> str:
    """Return the reason that an operator gives, on one line. Raises CommandError where it is missing or too long."""
    given = arguments.get("reason") or ""
    if not isinstance(given, str):
        raise CommandError("reason must be a text")
    word = " ".join(given.split())
    if needed and not word:
        raise CommandError("a reason is needed: it is kept with the request")
    if len(word) > WORD_CHARACTERS:
        raise CommandError(f"reason has at most {WORD_CHARACTERS} characters")
    return word
