"""Writes the configuration file of the connector that belongs to an emulated set of dependencies. Reads settings, decides none.

The file holds a key, a worthless one, and is made with mode 0600 all the same; it appears whole or not at all.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

from kmsconn.config.parties import Chain, Contract
from kmsconn.config.settings import Settings
from kmsconn.errors import ConfigError, Fault
from kmsconn.ethereum.addresses import Address, checksum
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
        _replace(path, config_text(settings))
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


def _replace(path: Path, text: str) -> None:
    draft = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        os.fchmod(descriptor, 0o600)
        file.write(text)
    draft.replace(path)


def config_text(settings: Settings) -> str:
    """Return the settings as TOML, by the names of its generation: where the dependencies are, and what differs for them."""
    lines = _httpz_lines if settings.protocol.profile == HTTPZ_RC7 else _lines
    return _INTRODUCTION + "\n".join((*lines(settings), *_common(settings))) + "\n"


def _lines(settings: Settings) -> Iterator[str]:
    yield from _chain("gateway", settings.chains.gateway)
    yield from _chain("ethereum", settings.chains.ethereum)
    hosts = (_host(host.chain, host.acl) for host in settings.chains.host_chains)
    yield f"host_chains = [{', '.join(hosts)}]"
    for name in ("decryption", "gateway_config", "protocol_config", "kms_generation"):
        yield from _contract(f"{name}_contract", getattr(settings.protocol, f"{name}_contract"))
    yield f"kms_core_endpoints = {_strings(settings.core.core_endpoints)}"
    if settings.reading.kms_operation_from_block_number is not None:
        yield f"kms_operation_from_block_number = {settings.reading.kms_operation_from_block_number}"
        yield f'key_management_polling = "{round(settings.reading.key_management_polling * 1000)}ms"'


def _httpz_lines(settings: Settings) -> Iterator[str]:
    """Yield what the first generation has names of its own for."""
    yield f"profile = {_string(settings.protocol.profile)}"
    yield f"gwl2_url = {_strings(settings.chains.gateway.urls)}"
    yield f"chain_id = {settings.chains.gateway.chain_id}"
    yield f"decryption_manager_address = {_string(checksum(settings.protocol.decryption_contract.address))}"
    yield f"httpz_address = {_string(checksum(settings.protocol.gateway_config_contract.address))}"
    yield f"key_manager_address = {_string(checksum(settings.protocol.kms_generation_contract.address))}"
    yield f"kms_core_endpoint = {_strings(settings.core.core_endpoints)}"
    if (s3 := settings.protocol.httpz.s3) is not None:
        yield f"s3_config.region = {_string(s3.region)}"
        yield f"s3_config.bucket = {_string(s3.bucket)}"
        yield f"s3_config.endpoint = {_string(s3.endpoint or '')}"


def _common(settings: Settings) -> Iterator[str]:
    if settings.wallet.private_key is not None:
        yield f"private_key = {_string(settings.wallet.private_key.reveal())}"
    yield f"journal = {_string(f'sqlite:///{settings.storage.journal}')}"
    yield f"monitoring_endpoint = {_string(settings.monitoring.monitoring_endpoint)}"
    yield f"decryption_from_block_number = {settings.reading.decryption_from_block_number or 0}"
    if settings.http_api is not None:
        yield f"http_endpoint = {_string(settings.http_api.endpoint)}"
    yield f"allow_http_buckets = {_flag(settings.ciphertexts.allow_http_buckets)}"
    yield f"allow_private_buckets = {_flag(settings.ciphertexts.allow_private_buckets)}"


def _chain(name: str, chain: Chain) -> Iterator[str]:
    yield f"{name}_url = {_strings(chain.urls)}"
    yield f"{name}_chain_id = {chain.chain_id}"


def _host(chain: Chain, acl: Address) -> str:
    return f"{{ url = {_strings(chain.urls)}, chain_id = {chain.chain_id}, acl_address = {_string(checksum(acl))} }}"


def _contract(name: str, contract: Contract) -> Iterator[str]:
    yield f"{name}.address = {_string(checksum(contract.address))}"
    yield f"{name}.domain_name = {_string(contract.domain_name)}"
    yield f"{name}.domain_version = {_string(contract.domain_version)}"


def _strings(texts: tuple[str, ...]) -> str:
    return f"[{', '.join(_string(text) for text in texts)}]"


def _string(text: str) -> str:
    """Write a basic string; what JSON escapes, TOML escapes the same way."""
    return json.dumps(text, ensure_ascii=False)


def _flag(value: bool) -> str:
    return str(value).lower()
