"""From a raw value to a typed one: its form applied, its errors as places and texts; lists of tables by cattrs.

Never reads a file; never shows a value that its form would not show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Annotated, Any

import attrs
from cattrs import Converter, IterableValidationError
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn, override

from kmsconn.config import forms, places
from kmsconn.config.description import Form, fields_of
from kmsconn.errors import Fault
from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.ids import is_of_solana
from kmsconn.transport.urls import show_origin


def tables_of(
    cls: type[attrs.AttrsInstance],
    what: str,
    spellings: Mapping[str, str] = MappingProxyType({}),
    another: Callable[[Mapping[str, Any]], Any | None] = lambda _: None,
) -> Callable[[Any], tuple[Any, ...]]:
    """Return what reads a list of tables as values of a class, each field by its form; ``spellings`` are others of its names.

    ``another`` reads a table that is of another class, and returns None for every other one. What is returned raises ValueError and
    BaseValidationError.
    """
    converter = Converter(detailed_validation=True)
    hooks: Any = {
        one.name: override(struct_hook=partial(lambda form, value, _: form.read(value), one.kind))
        for one in fields_of(cls)
    }
    generated: Any = make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **hooks)

    def structure_one(value: Any, kind: Any) -> Any:
        if not isinstance(value, dict):
            raise ValueError(f"must be a table of {what}")
        table = {spellings.get(key, key): one for key, one in value.items()}
        found = another(table)
        return generated(table, kind) if found is None else found

    converter.register_structure_hook(cls, structure_one)
    return lambda value: converter.structure(value, tuple[cls, ...])  # type: ignore[valid-type]


@attrs.frozen
class HostChainEntry:
    """One element of ``host_chains`` as it is written; ``chainId``, ``aclAddress`` and ``chainKind`` are accepted spellings."""

    url: places.RpcUrls
    chain_id: forms.ChainId
    acl_address: places.ContractAddress
    chain_kind: forms.ChainKind = forms.EVM


@attrs.frozen
class NotServedEntry:
    """An element of ``host_chains`` of a kind that this version does not serve. Its other values are not read, a key among them."""

    chain_id: int


_SPELLINGS = {"chainId": "chain_id", "aclAddress": "acl_address", "chainKind": "chain_kind"}


def _not_served(table: Mapping[str, Any]) -> NotServedEntry | None:
    """Return the entry that a table of another kind is. Raises ValueError where it has no chain id."""
    written, kind = table.get("chain_id"), str(table.get("chain_kind", "")).strip().lower()
    try:
        chain_id = forms.at_least(1, written)
    except ValueError as error:
        if kind != forms.SOLANA:
            return None
        raise ValueError(f"its chain_id {'is required' if written is None else error}") from None
    return NotServedEntry(chain_id) if kind == forms.SOLANA or is_of_solana(chain_id) else None


_read_host_chains = tables_of(HostChainEntry, "url, chain_id and acl_address", _SPELLINGS, _not_served)


def _host_chains(value: Any) -> tuple[HostChainEntry | NotServedEntry, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON array of objects with url, chain_id and acl_address") from None
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list that is not empty")
    return _read_host_chains(value)


def _host_chain_text(entry: HostChainEntry | NotServedEntry) -> str:
    if isinstance(entry, NotServedEntry):
        return f"{entry.chain_id}, which is not served"
    urls = ", ".join(map(show_origin, entry.url))
    return f"{entry.chain_id} at {urls}, ACL {checksum(entry.acl_address)}"


_FORM = Form(
    _host_chains, "list of tables", lambda entries: ", ".join(_host_chain_text(one) for one in entries)
)
HostChainTables = Annotated[tuple[HostChainEntry | NotServedEntry, ...], _FORM]


def beside(folder: Path, value: Any, form: Form) -> Any:
    """Return a written value whose relative path begins in a folder; every other one as it is."""
    if not isinstance(value, str) or form.path is None:
        return value
    path = value.strip().removeprefix(form.path)
    return f"{form.path}{folder / path}" if path and value.strip().startswith(form.path) else value


def structure(value: Any, form: Form, place: str, faults: list[Fault]) -> Any:
    """Return a value as its form reads it, or None after noting every fault of it with its place."""
    try:
        return form.read(value)
    except (ValueError, BaseValidationError) as error:
        faults.extend(_faults(error, place))
        return None


def _faults(error: Exception, place: str) -> list[Fault]:
    if isinstance(error, BaseValidationError):
        return [fault for one in error.exceptions for fault in _faults(one, place + _step(one, error))]
    if isinstance(error, ForbiddenExtraKeysError):
        known, unknown = [field.name for field in attrs.fields(error.cl)], sorted(error.extra_fields)
        return [Fault(f"{place}.{key}", "is unknown", forms.suggestion(key, known)) for key in unknown]
    if isinstance(error, KeyError):
        return [Fault(place, "is required")]
    return [Fault(place, str(error))]


def _step(error: Exception, parent: BaseValidationError) -> str:
    for note in getattr(error, "__notes__", ()):
        if isinstance(note, IterableValidationNote) and isinstance(parent, IterableValidationError):
            return f"[{note.index}]"
        if isinstance(note, AttributeValidationNote):
            return f".{note.name}"
    return ""
