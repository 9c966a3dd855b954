"""From a raw value to a typed one: the cattrs converter of the option types, and its errors as places and texts.

Types are names for a form (``Seconds``, ``RpcUrls``), so that the table of options says in one word what a value looks like. Never
reads a file; never shows a value that ``forms`` would not show.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Callable, Iterable
from enum import StrEnum
from functools import partial
from pathlib import Path
from typing import Any, NewType, TypeVar

import attrs
from cattrs import Converter, IterableValidationError
from cattrs.errors import (
    AttributeValidationNote,
    BaseValidationError,
    ForbiddenExtraKeysError,
    IterableValidationNote,
)
from cattrs.gen import make_dict_structure_fn

from kmsconn.config import forms
from kmsconn.config.settings import (
    AttestationMode,
    CompressedKeySets,
    LogFormat,
    Mode,
    Role,
    Secret,
    StatusPage,
    compressed_key_sets,
)
from kmsconn.errors import Fault
from kmsconn.ethereum.addresses import Address
from kmsconn.model.profiles import profile_named

T = TypeVar("T")

Text = NewType("Text", str)
Name = NewType("Name", str)
Flag = NewType("Flag", bool)
ChainId = NewType("ChainId", int)
Number = NewType("Number", int)
Count = NewType("Count", int)
Percent = NewType("Percent", int)
Seconds = NewType("Seconds", float)
Grace = NewType("Grace", float)
Age = NewType("Age", float)
ByteSize = NewType("ByteSize", int)
Wei = NewType("Wei", int)
RpcUrls = NewType("RpcUrls", tuple[str, ...])
WebsocketUrls = NewType("WebsocketUrls", tuple[str, ...])
CoreEndpoints = NewType("CoreEndpoints", tuple[str, ...])
HttpUrl = NewType("HttpUrl", str)
SocketAddress = NewType("SocketAddress", str)
JournalUrl = NewType("JournalUrl", object)
Roles = NewType("Roles", frozenset[Role])
Lease = NewType("Lease", float)
FilePath = NewType("FilePath", Path)
ExistingFile = NewType("ExistingFile", Path)
Profile = NewType("Profile", str)
LogLevel = NewType("LogLevel", str)
ChainIds = NewType("ChainIds", tuple[int, ...])
Digest = NewType("Digest", bytes)

DecryptionManagerAddress = NewType("DecryptionManagerAddress", Address)
HttpzAddress = NewType("HttpzAddress", Address)
KeyManagerAddress = NewType("KeyManagerAddress", Address)
PlaintextEncoding = NewType("PlaintextEncoding", str)
FheParameters = NewType("FheParameters", dict[bytes, int])
PreprocessingIds = NewType("PreprocessingIds", dict[int, int])

PLAINTEXT_ENCODINGS = ("auto", "p3", "p1", "p2", "raw")
LOG_LEVELS = ("debug", "info", "warning", "error")


@attrs.frozen
class HostChainEntry:
    """One element of ``host_chains`` as it is written; ``chainId`` and ``aclAddress`` are accepted spellings."""

    url: RpcUrls
    chain_id: ChainId
    acl_address: Address


_HOST_CHAIN_SPELLINGS = {"chainId": "chain_id", "aclAddress": "acl_address"}
HostChains = NewType("HostChains", tuple[HostChainEntry, ...])


def _choice(choices: tuple[str, ...], value: object) -> str:
    written = forms.text(value).strip().lower()
    if written not in choices:
        raise ValueError(f"must be {' or '.join(choices)}, not {forms.quoted(value)}")
    return written


def _profile(value: object) -> str:
    return profile_named(forms.text(value))


def _log_level(value: object) -> str:
    return _choice(LOG_LEVELS, "warning" if value == "warn" else value)


def _compressed_key_sets(value: object) -> CompressedKeySets:
    if isinstance(value, str) and value.strip().lower() == CompressedKeySets.AUTO:
        return CompressedKeySets.AUTO
    try:
        return compressed_key_sets(forms.flag(value))
    except ValueError:
        raise ValueError(f"must be auto, true or false, not {forms.quoted(value)}") from None


def _enum(kind: type[StrEnum], value: object) -> StrEnum:
    return kind(_choice(tuple(str(member) for member in kind), value))


FORMS: dict[Any, Callable[[Any], Any]] = {
    Text: forms.text,
    Name: forms.name,
    Secret: forms.secret,
    Flag: forms.flag,
    CompressedKeySets: _compressed_key_sets,
    ChainId: partial(forms.at_least, 1),
    Number: forms.whole,
    Count: partial(forms.at_least, 1),
    Percent: partial(forms.at_least, 100),
    Seconds: forms.positive_duration,
    Grace: forms.duration,
    Age: forms.age,
    ByteSize: forms.size,
    Wei: forms.wei,
    Address: forms.contract_address,
    RpcUrls: forms.rpc_urls,
    WebsocketUrls: forms.websocket_urls,
    CoreEndpoints: forms.core_endpoints,
    HttpUrl: forms.http_url,
    SocketAddress: forms.socket_address,
    JournalUrl: forms.journal_address,
    Roles: forms.roles,
    Lease: forms.lease,
    FilePath: forms.file_path,
    ExistingFile: forms.existing_file,
    Profile: _profile,
    LogLevel: _log_level,
    ChainIds: forms.chain_ids,
    Digest: forms.sha256_digest,
    AttestationMode: partial(_enum, AttestationMode),
    Mode: partial(_enum, Mode),
    LogFormat: partial(_enum, LogFormat),
    StatusPage: partial(_enum, StatusPage),
    DecryptionManagerAddress: partial(forms.loose_address, "DecryptionManager"),
    HttpzAddress: partial(forms.loose_address, "HTTPZ"),
    KeyManagerAddress: partial(forms.loose_address, "KeyManager"),
    PlaintextEncoding: partial(_choice, PLAINTEXT_ENCODINGS),
    FheParameters: forms.fhe_parameters,
    PreprocessingIds: forms.preprocessing_ids,
}


def beside(folder: Path, value: Any, kind: Any) -> Any:
    """Return a written value whose relative path begins in a folder; every other one as it is."""
    if not isinstance(value, str) or kind not in _PREFIXES:
        return value
    prefix, path = _PREFIXES[kind], value.strip().removeprefix(_PREFIXES[kind])
    return f"{prefix}{folder / path}" if path and value.strip().startswith(prefix) else value


_PREFIXES: dict[Any, str] = {FilePath: "", ExistingFile: "", JournalUrl: forms.SQLITE}
"""What stands before a path."""


def _hook(form: Callable[[Any], Any]) -> Callable[[Any, Any], Any]:
    return lambda value, _: form(value)


def _structure_host_chain(
    structure: Callable[[Any, Any], HostChainEntry], value: Any, kind: Any
) -> HostChainEntry:
    if not isinstance(value, dict):
        raise ValueError("must be a table of url, chain_id and acl_address")
    return structure({_HOST_CHAIN_SPELLINGS.get(key, key): one for key, one in value.items()}, kind)


def _structure_host_chains(converter: Converter, value: Any, _: Any) -> tuple[HostChainEntry, ...]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError("must be a JSON array of objects with url, chain_id and acl_address") from None
    if not isinstance(value, list) or not value:
        raise ValueError("must be a list that is not empty")
    return converter.structure(value, tuple[HostChainEntry, ...])


def _make_converter() -> Converter:
    converter = Converter(detailed_validation=True)
    for kind, form in FORMS.items():
        converter.register_structure_hook(kind, _hook(form))
    generated = make_dict_structure_fn(HostChainEntry, converter, _cattrs_forbid_extra_keys=True)
    converter.register_structure_hook(HostChainEntry, partial(_structure_host_chain, generated))
    converter.register_structure_hook(HostChains, partial(_structure_host_chains, converter))
    return converter


_CONVERTER = _make_converter()


def structure(value: Any, kind: Any, place: str, faults: list[Fault]) -> Any:
    """Return ``value`` as a ``kind``, or None after noting every fault of it with its place."""
    try:
        return _CONVERTER.structure(value, kind)
    except (ValueError, BaseValidationError) as error:
        faults.extend(_faults(error, place))
        return None


def suggestion(written: str, known: Iterable[str]) -> str:
    """Return ``did you mean …?`` for the nearest known name, or nothing."""
    nearest = difflib.get_close_matches(written, list(known), n=1, cutoff=0.6)
    return f"did you mean {nearest[0]}?" if nearest else ""


def _faults(error: Exception, place: str) -> list[Fault]:
    if isinstance(error, BaseValidationError):
        return [fault for one in error.exceptions for fault in _faults(one, place + _step(one, error))]
    if isinstance(error, ForbiddenExtraKeysError):
        known = [field.name for field in attrs.fields(error.cl)]
        return [
            Fault(f"{place}.{key}", "is unknown", suggestion(key, known))
            for key in sorted(error.extra_fields)
        ]
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
