"""How ``kmsconn status`` tells how a connector is, on one screen; of a stopped one, what its journal knows. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Final

from kmsconn.config.values import Role
from kmsconn.operate.commands.command import duration_text, time_text

_ETHER: Final = 10**18  # wei
_LABEL: Final = 14  # characters of the names on the left
_ALL_ROLES: Final = len(Role)
_LONG_SILENT: Final = 10.0  # seconds: twice the usual lease
_COUNTED: Final = {"reads": "contract", "sends": "account"}
"""What is leased several times, by the first word of the lease."""


def as_text(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield the lines of the screen."""
    yield _row(answer["profile"], f"kmsconn {answer['version']}, {_state(answer)}")
    if answer["running"] and answer["details"] and not answer["alerts"]:  # which say it with their remedies
        yield _row("", answer["details"])
    yield from _requests(answer)
    yield from _contracts(answer)
    for one in answer.get("processes", ()):
        yield _row("process", _member(one))
    for role in _missing_roles(answer.get("processes", ())):
        yield _row("NOBODY", f"has the role {role}: requests wait until a process with it is started")
    for one in answer.get("different_settings", ()):
        yield _row("DIFFERENT", f"{one['option']}: {one['text']}; set it alike in all processes")
    if answer["running"]:
        yield from _process(answer)


def _contracts(answer: Mapping[str, Any]) -> Iterator[str]:
    """Yield how far each contract is read, and how far that is behind the head where a connector runs."""
    heads = {chain["chain_id"]: chain["head"] for chain in answer.get("chains", {}).values()}
    for one in answer["cursors"]:
        head = heads.get(one["chain_id"])
        behind = "" if head is None else f", {max(0, head + 1 - one['next_block'])} blocks behind the head"
        yield _row("contract", f"{one['contract']} of chain {one['chain_id']}, read below block {one['next_block']}{behind}")  # fmt: skip


def _row(label: str, text: str) -> str:
    return f"{label:<{_LABEL}} {' '.join(text.split(chr(10)))}"


def _state(answer: Mapping[str, Any]) -> str:
    if not answer["running"]:
        number = len(answer.get("processes", ()))
        if not number:
            return "stopped; this is what its journal knows"
        return f"{number} process{'es' if number > 1 else ''} at work; this is what their journal knows"
    words = {True: "healthy", False: "not healthy", None: "health unknown"}[answer["healthy"]]
    ready = "draining" if answer["draining"] else "ready" if answer["ready"] else "not ready"
    return f"up for {duration_text(answer['uptime'])}, {ready}, {words}"


def _requests(answer: Mapping[str, Any]) -> Iterator[str]:
    for kind, states in answer["requests"].items():
        yield _row(kind, ", ".join(f"{rows} {state}" for state, rows in states.items()))
    if not answer["requests"]:
        yield _row("requests", "none yet")
    oldest = answer["oldest_request"]
    if oldest is not None:
        named = f"row {oldest['row']}, {oldest['kind']} {oldest['id']}"
        reason = f": {oldest['reason']}" if oldest["reason"] else ""
        yield _row("oldest open", f"{named}, for {duration_text(oldest['seconds'])}{reason}")
    for label, key in (
        ("off chain", "off_chain"),
        ("undecodable", "undecodable_logs"),
        ("damaged rows", "damaged_rows"),
    ):
        if answer[key]:
            yield _row(label, str(answer[key]))
    yield from pauses(answer, f"{'PAUSED':<{_LABEL}} ")


def pauses(answer: Mapping[str, Any], label: str) -> Iterator[str]:
    """Yield the kinds that are paused now."""
    for one in answer["paused"]:
        said = f": {one['reason']}" if one["reason"] else ""
        yield f"{label}{one['kind']} since {time_text(one['since'])}{said}"


def _process(answer: Mapping[str, Any]) -> Iterator[str]:
    yield _row("workers", ", ".join(f"{name} {one['busy']}/{one['places']}" for name, one in answer["workers"].items()))  # fmt: skip
    for name, chain in answer["chains"].items():
        yield _row(name, _chain(chain))
    for name, core in answer["cores"].items():
        yield _row(name, {True: "serves", None: "not asked yet"}.get(core["serving"], core["text"]))
    for name, one in answer["buckets"].items():
        yield _row("bucket", f"{name}: asked {one['asked']} times, failed {one['failed']}")
    for name, one in answer["transactions"].items():
        yield _row(f"sends {name}"[:_LABEL], _transactions(one))
    if answer["missing_requests"]:
        yield _row("missing", f"{answer['missing_requests']} requests that the contract has numbered")
    for one in answer["alerts"] or ():
        yield _row(one["severity"].upper(), f"{one['dependency']}: {one['text']}")
        if one["remedy"]:
            yield _row("", f"→ {one['remedy']}")


def _missing_roles(processes: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return the roles that none of several processes has."""
    there = {role for one in processes for role in one["roles"]}
    return [role.value for role in Role if there and role not in there]


def _member(one: Mapping[str, Any]) -> str:
    """Tell of a process over a journal in PostgreSQL what it holds, and the roles it has where those are not all."""
    roles = "" if len(one["roles"]) == _ALL_ROLES else f", {' '.join(one['roles'])} only"
    silent = f", SILENT for {duration_text(one['silent'])}" if one["silent"] > _LONG_SILENT else ""
    return f"{one['name']}, up for {duration_text(one['uptime'])}{roles}{silent}: {', '.join(_duties(one['leases'])) or 'no lease'}"


def _duties(leases: Iterable[str]) -> Iterator[str]:
    """Name what a process holds: the leases of several contracts, or accounts, by their number."""
    by_kind: dict[str, list[str]] = {}
    for lease in leases:
        kind, _, of = lease.partition(" ")
        by_kind.setdefault(kind, []).append(of)
    for kind, several in by_kind.items():
        number = (
            f"{len(several)} {_COUNTED[kind]}{'s' if len(several) > 1 else ''}" if kind in _COUNTED else ""
        )
        yield f"{kind} {number or ', '.join(several)}".strip()


def _chain(chain: Mapping[str, Any]) -> str:
    words = [chain["endpoint"] or "no connection"]
    if chain["head"] is not None:
        words.append(f"head {chain['head']}, {duration_text(chain['head_age'])} ago")
    if chain["finalized_age"] is not None:
        words.append(f"final {duration_text(chain['finalized_age'])} ago")
    if chain["reconnects"]:
        words.append(f"{chain['reconnects']} reconnects")
    return ", ".join(words)


def _transactions(one: Mapping[str, Any]) -> str:
    balance = "unknown" if one["balance"] is None else f"{int(one['balance']) / _ETHER:.6g} ether"
    left = "" if one["replies_left"] is None else f" ({one['replies_left']} replies)"
    nonce = "unknown" if one["next_nonce"] is None else one["next_nonce"]
    replies = f"{one['waiting']} waiting, {one['in_flight']} in flight, {one['included']} included"
    return f"next nonce {nonce}, {replies}, balance {balance}{left}"
