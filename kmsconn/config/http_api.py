"""Decryption over HTTP from its options and the file of its clients' keys. Never sees a key, and shows no digest."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from kmsconn.config.assembly import Written, values_of, warn_if_open
from kmsconn.config.description import Form, Mode, described
from kmsconn.config.options import Findings
from kmsconn.config.places import is_loopback
from kmsconn.config.structuring import HostChainEntry, structure, tables_of
from kmsconn.config.working import ApiKey, HttpApi, ServerTls
from kmsconn.errors import Fault
from kmsconn.transport.certificates import TlsFault, server_context

LARGEST_FILE: Final = 1 << 20
"""Bytes of a file of keys: some thousand clients."""


class ApiKeysFault(ValueError):  # noqa: N818 - as kmsconn.errors.Fault
    """A file of keys cannot be used; ``faults`` are all that is wrong with it, each with its place inside the file."""

    def __init__(self, *faults: Fault) -> None:
        super().__init__("; ".join(map(str, faults)))
        self.faults = faults


def read_api_keys(data: bytes) -> tuple[ApiKey, ...]:
    """Return the keys that a file holds. Raises ApiKeysFault with everything that is wrong."""
    entries, faults = _entries(data), list[Fault]()
    keys: tuple[ApiKey, ...] = structure(entries, _KEYS, "keys", faults) or ()
    faults += _twice(entries)
    if faults:
        raise ApiKeysFault(*faults)
    return keys


def _entries(data: bytes) -> list[Any]:
    try:
        document = tomllib.loads(data.decode("utf-8"))
    except (UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise ApiKeysFault(Fault("keys", "the file is not TOML")) from None
    entries = document.get("keys")
    if document.keys() != {"keys"} or not isinstance(entries, list) or not entries:
        raise ApiKeysFault(Fault("keys", "the file must hold tables [[keys]], and nothing else"))
    return entries


_KEYS: Final = Form(tables_of(ApiKey, "id, sha256 and limits"), "list of tables")


def _twice(entries: Iterable[Any]) -> Iterator[Fault]:
    first = dict[tuple[str, str], int]()
    for index, entry in enumerate(one if isinstance(one, dict) else {} for one in entries):
        digest = str(entry.get("sha256", "")).strip().lower().removeprefix("0x")
        for name, value in (("id", str(entry.get("id", ""))), ("sha256", digest)):
            known = first.setdefault((name, value), index)
            if known != index and value:
                yield Fault(f"keys[{index}].{name}", f"is that of keys[{known}] too")


DEFAULT_KEY: Final = "default"
"""The id of the key of ``api_key_digest``, the one key of the original's proxy."""

_CERTIFICATE, _KEY = "tls_config.cert_path", "tls_config.key_path"


def http_api_of(written: Written) -> HttpApi | None:
    """Return the settings; None where the address is not configured, or after noting what is wrong."""
    values, findings = written.values, written.findings
    if values["http_endpoint"] is None:
        given = (findings.given.get(option.name) for option in described(HttpApi))
        for one in filter(None, given):
            findings.warn(one.place, "has no effect", "http_endpoint is not set")
        return None
    if values["mode"] is Mode.SHADOW:
        found = "a shadow answers nobody: clients would get its answers in the place of the other connector's"
        findings.fault_of("http_endpoint", found, 'leave http_endpoint out until mode = "active"')
    tls, keys = _tls(values, findings), _keys(values, findings)
    chain_ids = _chain_ids(values, findings)
    _check_openness(values, keys, tls, findings)
    if findings.faults:
        return None
    made = {"tls": tls, "supported_chain_ids": frozenset(chain_ids)}
    return HttpApi(**values_of(HttpApi, written, made), keys=keys)


def _tls(values: Mapping[str, Any], findings: Findings) -> ServerTls | None:
    findings.require(_CERTIFICATE, _KEY, beside=(_CERTIFICATE, _KEY))
    certificate, key = values[_CERTIFICATE], values[_KEY]
    if certificate is None or key is None:
        return None
    try:
        server_context(certificate, key)
    except TlsFault as error:
        findings.fault_of(_CERTIFICATE, str(error))
    warn_if_open(key, findings)
    return ServerTls(certificate, key)


def _keys(values: Mapping[str, Any], findings: Findings) -> tuple[ApiKey, ...]:
    path, digest = values["api_keys_file"], values["api_key_digest"]
    try:
        return keys_of(path, digest)
    except OSError as error:
        findings.fault_of("api_keys_file", f"{path} cannot be read: {error.strerror}")
    except ApiKeysFault as error:
        for fault in error.faults:
            inside = fault.place != "api_key_digest"
            place = findings.given["api_keys_file" if inside else "api_key_digest"].place
            place += f" ({path}), {fault.place}" if inside else ""
            findings.fault(place, fault.message, fault.remedy)
    return ()


def keys_of(path: Path | None, digest: bytes | None) -> tuple[ApiKey, ...]:
    """Return the keys of a file, and the one without a file.

    Raises OSError where it cannot be read, and ApiKeysFault with all that is wrong in it, or where it has that one too.
    """
    keys: tuple[ApiKey, ...] = ()
    if path is not None:
        with path.open("rb") as file:
            keys = read_api_keys(file.read(LARGEST_FILE))
    if digest is None:
        return keys
    if any(key.id == DEFAULT_KEY or key.sha256 == digest for key in keys):
        twice = f"api_keys_file has this key, or one called {DEFAULT_KEY}"
        raise ApiKeysFault(Fault("api_key_digest", twice))
    return (*keys, ApiKey(DEFAULT_KEY, digest))


def _chain_ids(values: Mapping[str, Any], findings: Findings) -> tuple[int, ...]:
    entries = values["host_chains"] or ()
    served = tuple(entry.chain_id for entry in entries if isinstance(entry, HostChainEntry))
    configured = {entry.chain_id for entry in entries}
    asked: tuple[int, ...] | None = values["supported_chain_ids"]
    if asked is None:
        return served
    if unknown := [str(one) for one in asked if one not in configured]:
        found = f"{', '.join(unknown)}: no such chain in host_chains"
        findings.fault_of("supported_chain_ids", found, "add it there, with the address of its ACL")
    return tuple(one for one in asked if one in served)


def _check_openness(
    values: Mapping[str, Any], keys: tuple[ApiKey, ...], tls: ServerTls | None, findings: Findings
) -> None:
    """Note an address that everybody reaches and may ask at; keys that go over the network as plain text are a warning."""
    asked = {"api_keys_file", "api_key_digest"} & findings.given.keys()
    place = findings.given["http_endpoint"].place
    if is_loopback(str(values["http_endpoint"]).rpartition(":")[0]):
        return
    if not asked and not values["http_without_keys"]:
        found = "is not a loopback address, and no key is configured: everybody could ask for decryptions"
        remedy = "set api_keys_file, or http_without_keys = true behind a proxy that checks keys"
        findings.fault(place, found, remedy)
    if keys and tls is None:
        found = "takes API keys without TLS: who reads the network between can use them"
        remedy = "set tls_config.cert_path and tls_config.key_path, or put a proxy with TLS before it"
        findings.warn(place, found, remedy)
