"""``replay``: runs what is recorded of a request again and compares the bytes of its reply. Sends nothing, and changes nothing.

Dry: event, calldata and signed transaction are read and written again from what the journal keeps. Else the Core is asked for the answer
once more, through the running connector, and its calldata is compared too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import attrs

from kmsconn.errors import KmsconnError, Undecodable
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.hexes import to_hex
from kmsconn.ethereum.transactions import decode_transaction
from kmsconn.journal.values import Row
from kmsconn.operate.control.commands import (
    DRY,
    REQUEST,
    Arguments,
    Command,
    CommandError,
    Commands,
    Context,
    name_of,
    one_row,
)
from kmsconn.protocols.profile import Profile
from kmsconn.requests.pipeline import answer_again
from kmsconn.requests.rows import operation_of


@attrs.frozen
class ReplayCheck:
    """One comparison: what was compared, whether it is the same (None: it cannot be told), and what was found."""

    check: str
    same: bool | None
    found: str


async def replay_request(context: Context, arguments: Arguments) -> Any:
    """Compare a reply with what comes of its recorded inputs: ``request``; ``dry``: without asking the Core."""
    dry, row = arguments["dry"], await one_row(context, arguments["request"])
    checks = [*kept_checks(context.profile, row)]
    if not dry:
        checks.append(await _core_check(context, row))
    same = all(one.same is not False for one in checks)
    return {**name_of(row), "dry": dry, "same": same, "checks": [attrs.asdict(one) for one in checks]}


def kept_checks(profile: Profile, row: Row) -> Iterator[ReplayCheck]:
    """Yield what can be compared without anybody else. Raises CommandError where no answer is kept."""
    if row.answer is None:
        raise CommandError(
            f"row {row.rid} is {row.state} and keeps no answer: it was not answered, or retention has cleared it"
        )
    yield _checked("event", lambda: _event(profile, row))
    yield _checked("calldata", lambda: _calldata(profile, row, row.answer.calldata if row.answer else b""))
    if row.reply.raw is None:
        yield ReplayCheck("transaction", None, "the reply is not signed, or its bytes are cleared")
    else:
        yield _checked("transaction", lambda: _transaction(row, row.reply.raw or b""))


def _checked(check: str, compare: Callable[[], tuple[bool | None, str]]) -> ReplayCheck:
    try:
        return ReplayCheck(check, *compare())
    except (Undecodable, ValueError) as error:
        return ReplayCheck(check, False, f"cannot be decoded: {error}")


def _event(profile: Profile, row: Row) -> tuple[bool | None, str]:
    if not row.event.log.topics:
        return None, "retention has cleared the event"
    content = profile.decode(row.event.log)
    if content is None or content.id != row.id:
        return False, "the event asks for something else than the row says"
    digest = profile.digest(row.event.log)
    if digest != row.event.digest:
        return False, f"the event's digest is {to_hex(digest)}, kept is {to_hex(row.event.digest)}"
    return True, f"it decodes to the same request, digest {to_hex(digest)}"


def _calldata(profile: Profile, row: Row, kept: bytes) -> tuple[bool | None, str]:
    function = operation_of(profile, row).reply
    if function is None:
        return None, f"{profile.name} does not name the function of replies to {row.kind}"
    values = function.decode(kept)
    again = function.encode(*values)
    if again != kept:
        return False, f"{function.signature} encodes to {len(again)} other bytes than the {len(kept)} kept"
    if values[0] != row.id:
        return False, f"the reply is to 0x{values[0]:x}"
    return True, f"{function.signature}, {len(kept)} bytes, encodes to the same"


def _transaction(row: Row, raw: bytes) -> tuple[bool | None, str]:
    signed = decode_transaction(raw)
    calldata = b"" if row.answer is None else row.answer.calldata
    differences = [
        name
        for name, kept, found in (
            ("hash", row.reply.hash, signed.hash),
            ("calldata", calldata, signed.transaction.data),
            ("contract", row.event.contract, signed.transaction.to),
            ("nonce", row.reply.nonce, signed.transaction.nonce),
        )
        if kept is not None and kept != found
    ]
    if differences:
        return False, f"the signed transaction has another {' and another '.join(differences)}"
    return (
        True,
        f"{to_hex(signed.hash)} carries the calldata, nonce {signed.transaction.nonce}, from {checksum(signed.sender)}",
    )


async def _core_check(context: Context, row: Row) -> ReplayCheck:
    """Ask the Core again. Raises CommandError where that cannot be done."""
    if context.running is None:
        raise CommandError(
            "only a running connector asks the Core; --dry-run compares what the journal keeps"
        )
    try:
        answered = await answer_again(context.running.components.pipeline, row)
    except KmsconnError as error:
        return ReplayCheck("core", None, f"no answer to compare with: {error}")
    kept = b"" if row.answer is None else row.answer.calldata
    if answered.answer is None:
        return ReplayCheck("core", False, "no reply of this node comes of it now")
    if answered.answer.calldata != kept:
        found = f"the Core's answer gives {len(answered.answer.calldata)} bytes that differ from the {len(kept)} kept"
        return ReplayCheck("core", False, found)
    return ReplayCheck("core", True, f"the Core's answer gives the same {len(kept)} bytes")


COMMANDS: Final[Commands] = {"replay": Command(replay_request, REQUEST, DRY)}
