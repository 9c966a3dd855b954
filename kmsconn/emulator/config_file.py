"""Writes the configuration file of the connector that belongs to an emulated set of dependencies. Reads settings, decides none.

The file holds a key, a worthless one, and is made with mode 0600 all the same; it appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from kmsconn.config.parties import Chain, Contract
from kmsconn.config.settings import Settings
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import checksum
from kmsconn.model.requests import HTTPZ_RC7

MARK = "# Written by kmsconn emulate"
_INTRODUCTION = f"""\
{MARK} for dependencies that exist as long as that command runs. Every key in it is known to everybody.
# Start the connector with: kmsconn run -c FILE
"""
_JOURNAL_SUFFIXES = ("", "-wal", "-shm")


def journal_beside(config: Path) -> Path:
    """Return where the journal of such a configuration lies; no other connector has one of this name."""
    return config.absolute().with_name(f"{config.stem}.emulated.db")


def member_config(config: Path, member: int, members: int) -> Path:
    """Return the file of one member of a committee: the name with a number at its end, or the name itself where there is one only."""
    return config if members == 1 else config.with_name(f"{config.stem}-{member + 1}{config.suffix}")


def write_config(path: Path, settings: Settings) -> None:
    """Write the file, in place of an earlier one of ours, and remove the earlier journal: its chain is gone.

    Raises ConfigError where a file that we did not write stands in the way, or the place cannot be written. Repeating: the same file.
    """
    try:
        _check_ours(path)
        draft = path.with_name(f".{path.name}.{os.getpid()}")
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            os.fchmod(descriptor, 0o600)
            file.write(config_text(settings))
        draft.replace(path)
        for suffix in _JOURNAL_SUFFIXES:
            Path(f"{settings.storage.journal}{suffix}").unlink(missing_ok=True)
    except OSError as error:
        raise _fault(path, f"cannot be written: {error.strerror}") from error


def _check_ours(path: Path) -> None:
    """Raise ConfigError for a file that somebody else wrote; an empty one is nobody's."""
    if path.exists():
        with path.open("rb") as file:
            start = file.read(len(MARK))
        if start and start != MARK.encode():
            raise _fault(path, "exists and was not written by kmsconn emulate", "name another file")


def _fault(path: Path, message: str, remedy: str = "") -> ConfigError:
    return ConfigError((Fault(str(path), message, remedy),))


def config_text(settings: Settings) -> str:
    """Return the settings as TOML, by the names of its generation: where the dependencies are, and what differs for them."""
    own = _httpz_options if settings.protocol.profile == HTTPZ_RC7 else _options
    options = own(settings) | _common(settings)
    return _INTRODUCTION + "".join(f"{name} = {_value(value)}\n" for name, value in options.items())


def _value(value: Any) -> str:
    """Write a value: texts, numbers, booleans and lists of them are the same in JSON and TOML; tables are written in one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_value, value))}]"
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{name} = {_value(one)}' for name, one in value.items())} }}"
    return json.dumps(value, ensure_ascii=False)


def _options(settings: Settings) -> dict[str, Any]:
    chains, protocol, reading = settings.chains, settings.protocol, settings.reading
    found: dict[str, Any] = {}
    for name in ("gateway", "ethereum"):
        chain: Chain = getattr(chains, name)
        found |= {f"{name}_url": list(chain.urls), f"{name}_chain_id": chain.chain_id}
    found["host_chains"] = [
        {"url": list(host.chain.urls), "chain_id": host.chain.chain_id, "acl_address": checksum(host.acl)}
        for host in chains.host_chains
    ]
    for name in ("decryption", "gateway_config", "protocol_config", "kms_generation"):
        contract: Contract = getattr(protocol, f"{name}_contract")
        found[f"{name}_contract.address"] = checksum(contract.address)
        found[f"{name}_contract.domain_name"] = contract.domain_name
        found[f"{name}_contract.domain_version"] = contract.domain_version
    found["kms_core_endpoints"] = list(settings.core.core_endpoints)
    if reading.kms_operation_from_block_number is not None:
        found["kms_operation_from_block_number"] = reading.kms_operation_from_block_number
        found["key_management_polling"] = f"{round(reading.key_management_polling * 1000)}ms"
    return found


def _httpz_options(settings: Settings) -> dict[str, Any]:
    """Return what the first generation has names of its own for."""
    protocol, s3 = settings.protocol, settings.protocol.httpz.s3
    found = {
        "profile": protocol.profile,
        "gwl2_url": list(settings.chains.gateway.urls),
        "chain_id": settings.chains.gateway.chain_id,
        "decryption_manager_address": checksum(protocol.decryption_contract.address),
        "httpz_address": checksum(protocol.gateway_config_contract.address),
        "key_manager_address": checksum(protocol.kms_generation_contract.address),
        "kms_core_endpoint": list(settings.core.core_endpoints),
    }
    if s3 is not None:
        found |= {f"s3_config.{name}": getattr(s3, name) or "" for name in ("region", "bucket", "endpoint")}
    return found


def _common(settings: Settings) -> dict[str, Any]:
    key, http_api = settings.wallet.private_key, settings.http_api
    return {
        **({} if key is None else {"private_key": key.reveal()}),
        "journal": f"sqlite:///{settings.storage.journal}",
        "monitoring_endpoint": settings.monitoring.monitoring_endpoint,
        "decryption_from_block_number": settings.reading.decryption_from_block_number or 0,
        **({} if http_api is None else {"http_endpoint": http_api.endpoint}),
        "allow_http_buckets": settings.ciphertexts.allow_http_buckets,
        "allow_private_buckets": settings.ciphertexts.allow_private_buckets,
    }
