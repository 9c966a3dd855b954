"""Says of each option which value holds and where it comes from. Pure; shows no secret and of a URL only its origin."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from kmsconn.config import structuring as types
from kmsconn.config.amounts import DURATIONS, duration_text, wei_text
from kmsconn.config.findings import Given
from kmsconn.config.options import REQUIRED, Option, OptionTable
from kmsconn.config.settings import AwsKmsKey, Role, Secret
from kmsconn.config.structuring import HostChainEntry
from kmsconn.ethereum.addresses import Address, checksum
from kmsconn.transport.urls import show_origin


@attrs.frozen
class ExplainedOption:
    """One option: its value as text, its source (``default``, a file, a variable, a network) and its environment variable."""

    name: str
    value: str
    source: str
    variable: str


def explain(
    table: OptionTable, given: Mapping[str, Given], values: Mapping[str, Any], file: str
) -> Iterator[ExplainedOption]:
    """Yield every option of a generation in the order of the reference. ``values`` are typed, None where an option is not set."""
    for option in table.options.values():
        yield ExplainedOption(
            option.name,
            _shown(option, values.get(option.name)),
            _source(option, given, file),
            option.environment,
        )


def _source(option: Option, given: Mapping[str, Given], file: str) -> str:
    one = given.get(option.name)
    if one is None:
        return "not set" if option.default is REQUIRED else "default"
    if one.place.upper() == one.place:
        return one.place
    return file if one.place == one.name else one.place


def _shown(option: Option, value: Any) -> str:
    if option.type in DURATIONS and value is not None:
        return duration_text(value)
    if option.type is types.Digest and value is not None:
        return "set, not shown"
    return wei_text(value) if option.type is types.Wei and value is not None else shown(value)


def shown(value: Any) -> str:
    """Return a value as an operator reads it. A secret is only said to be set; a URL loses its credentials, path and query."""
    match value:
        case None:
            return "–"
        case Secret() | AwsKmsKey():
            return "set, not shown"
        case bytes():
            return checksum(Address(value))
        case HostChainEntry():
            return f"{value.chain_id} at {shown(value.url)}, ACL {checksum(value.acl_address)}"
        case frozenset():
            return ", ".join(role for role in Role if role in value)
        case tuple() | list():
            return ", ".join(shown(one) for one in value)
        case str() if "://" in value:
            return show_origin(value)
        case _:
            return str(value).lower() if isinstance(value, bool) else str(value)
