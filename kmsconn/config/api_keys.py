"""The file of API keys: ids, digests and limits of the clients of the HTTP API. Pure; never sees a key, and never shows a digest."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Final

from kmsconn.config import forms
from kmsconn.config.structuring import suggestion
from kmsconn.config.working import ApiKey
from kmsconn.errors import Fault

LARGEST_FILE: Final = 1 << 20
"""Bytes of a file of keys: some thousand clients."""

MOST_REQUESTS_PER_SECOND: Final = 1e6
"""Of one key: more than any machine answers."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


class ApiKeysFault(ValueError):  # noqa: N818 - as kmsconn.errors.Fault
    """A file of keys cannot be used; ``faults`` are all that is wrong with it, each with its place inside the file."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def read_api_keys(data: bytes) -> tuple[ApiKey, ...]:
    """Return the keys that a file holds. Raises ApiKeysFault with everything that is wrong."""
    entries = [_read_entry(f"keys[{index}]", entry) for index, entry in enumerate(_entries(data))]
    faults = [fault for _, found in entries for fault in found]
    faults += _twice(values for values, _ in entries)
    if faults:
        raise ApiKeysFault(*faults)
    return tuple(
        ApiKey(one["id"], one["sha256"], one.get("max_in_flight"), one.get("requests_per_second"))
        for one, _ in entries
    )


def _entries(data: bytes) -> list[Any]:
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ApiKeysFault(Fault("keys", "the file is not TOML")) from None
    entries = document.get("keys")
    if document.keys() != {"keys"} or not isinstance(entries, list) or not entries:
        raise ApiKeysFault(Fault("keys", "the file must hold tables [[keys]], and nothing else"))
    return entries


def _read_entry(place: str, entry: object) -> tuple[Mapping[str, Any], list[Fault]]:
    """Return the values of one table by name, and what is wrong with it."""
    if not isinstance(entry, dict):
        return {}, [Fault(place, "must be a table of id, sha256 and limits")]
    values, faults = dict[str, Any](), list[Fault]()
    for name, written in entry.items():
        if name not in _FORMS:
            faults.append(Fault(f"{place}.{name}", "is unknown", suggestion(name, _FORMS)))
            continue
        try:
            values[name] = _FORMS[name](written)
        except ValueError as error:
            faults.append(Fault(f"{place}.{name}", str(error)))
    faults += [Fault(f"{place}.{name}", "is required") for name in _REQUIRED if name not in entry]
    return values, faults


def _twice(entries: Iterator[Mapping[str, Any]]) -> Iterator[Fault]:
    first = dict[tuple[str, Any], int]()
    for index, entry in enumerate(entries):
        for name in _REQUIRED:
            known = first.setdefault((name, entry.get(name)), index)
            if known != index and name in entry:
                yield Fault(f"keys[{index}].{name}", f"is that of keys[{known}] too")


def _id(value: object) -> str:
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise ValueError(
            "must be 1 to 64 letters, digits, dots, dashes and underscores, a letter or digit first"
        )
    return value


def _rate(value: object) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool):
        raise ValueError(f"must be a number, not {forms.quoted(value)}")
    if not 0 < value <= MOST_REQUESTS_PER_SECOND:
        raise ValueError(f"must be above 0 and at most {MOST_REQUESTS_PER_SECOND:.0f}")
    return float(value)


_FORMS: Final[Mapping[str, Callable[[Any], Any]]] = {
    "id": _id,
    "sha256": forms.sha256_digest,
    "max_in_flight": partial(forms.at_least, 1),
    "requests_per_second": _rate,
}
_REQUIRED: Final = ("id", "sha256")
