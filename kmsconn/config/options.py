"""The options of a generation, and what reading the sources has found: values by option with their places, faults, warnings, and in words.

A page of those from the descriptions of the settings, aliases, and what is accepted: the reference and the sample file are printed from
such a table, and ``sources`` reads files and environments by it. Names are those of the 0.14 services; what has no meaning here is
*accepted* with a word on what takes its place, so that their files start unchanged. Reads nothing itself.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final

import attrs

from kmsconn.config.description import (
    REQUIRED,
    WRONG,
    Alias,
    Described,
    Form,
    Role,
    described,
    fields_of,
    options_of,
)
from kmsconn.config.forms import suggestion
from kmsconn.config.parties import Httpz
from kmsconn.config.settings import Settings
from kmsconn.config.structuring import structure
from kmsconn.errors import Fault
from kmsconn.transport.urls import show_origin


@attrs.frozen
class Accepted:
    """An option of an earlier connector without effect here, with its replacement and the form of its value."""

    name: str
    instead: str
    form: Form | None = None


Page = Mapping[str, tuple[Described, ...]]
"""Options that belong together in the reference and in the sample, by titles."""


@attrs.frozen(eq=False, slots=False)
class OptionTable:
    """All that the sources of one generation may say. ``names``: where an option has another name than the setting's description gives."""

    sections: Page
    aliases: Mapping[str, Alias]
    accepted: Mapping[str, Accepted]
    names: Mapping[str, str] = attrs.field(factory=dict)

    @cached_property
    def options(self) -> dict[str, Described]:
        """Every option by its name."""
        return {option.name: option for options in self.sections.values() for option in options}

    @cached_property
    def known_names(self) -> tuple[str, ...]:
        """Every name that is understood."""
        return (*self.options, *self.aliases, *self.accepted)

    def named(self, name: str) -> str:
        """Return the name of an option in this generation."""
        return self.names.get(name, name)

    def in_own_words(self, message: str) -> str:
        """Return a message that names options as the settings' descriptions do with their names in this generation."""
        if not self.names:
            return message
        return self._named_otherwise.sub(lambda found: self.names[found[0]], message)

    @cached_property
    def _named_otherwise(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, self.names))})(?!\w)")


DESCRIBED: Final = {one.name: one for one in described(Settings)}
"""Every option as the settings describe it."""


_TITLES: Final = {
    "chains": "The chains", "protocol": "The contracts", "core": "The KMS Core", "wallet": "The wallet",
    "reading": "Where requests come from", "work": "Working on requests", "ciphertexts": "Ciphertexts",
    "transactions": "Replies", "storage": "The journal", "monitoring": "The process",
}  # fmt: skip
"""What the groups of settings are called in the reference and in the sample."""


def page(has: Callable[[str], bool], own: Mapping[str, Described] = MappingProxyType({})) -> Page:
    """Return the options that a generation ``has``, by the titles of their groups; ``own`` are those that it describes otherwise."""
    return {
        _TITLES[group.name]: tuple(own.get(one.name, one) for one in options_of(group) if has(one.name))
        for group in fields_of(Settings)
    }


_OF_HTTPZ: Final = {one.name for one in described(Httpz)}
_PAGE: Final = page(lambda name: name not in _OF_HTTPZ)

_VERSION: Final = Alias("decryption_domain_version", WRONG, option="decryption_contract.domain_version")

ALIASES: Final = {
    **{
        alias.name: attrs.evolve(alias, option=option.name)
        for options in _PAGE.values()
        for option in options
        for alias in option.aliases
    },
    _VERSION.name: _VERSION,
}

_BY_DEADLINE = "deadlines end work, not a count (deadlines.*, decryption_expiry)"
_NO_TABLE = "this connector polls no table"

ACCEPTED: Final = {
    name: Accepted(name, instead)
    for instead, names in {
        "pools.public_decryption and pools.user_decryption limit concurrent requests": (
            "task_limit", "events_batch_size", "responses_batch_size",
        ),
        _BY_DEADLINE: (
            "max_consecutive_polling_errors", "max_decryption_attempts", "grpc_request_retries",
            "s3_ciphertext_retrieval_retries", "s3_ciphertext_retrieval_attempts", "tx_retries", "tx_retry_interval",
        ),
        _NO_TABLE: (
            "db_fast_event_polling", "db_long_event_polling", "database_polling_timeout", "operation_recovery_run_interval",
            "operation_under_process_timeout", "gauge_update_interval", "grpc_poll_interval",
        ),
        "deadlines.gather": ("s3_get_timeout",),
        "ciphertext_budget limits concurrent downloads": ("s3_max_concurrent_heads_per_bucket", "s3_max_concurrent_gets"),
        "deadlines.check": ("host_rpc_call_timeout",),
        "the checks of one request are one batch; pools.* limit concurrent batches": ("host_rpc_max_concurrent_calls",),
        "http_endpoint is served by this process, without a proxy": (
            "endpoint_addresses", "endpoint_connect_timeout", "endpoint_response_timeout", "endpoint_idle_timeout",
            "endpoint_healthcheck_frequency",
        ),
        "a request over HTTP has 30 s to arrive": ("request_read_timeout",),
        "this connector reads ProtocolConfig in its place (protocol_config_contract.address)": ("kms_verifier_address",),
        "host_chains names the host chains, with the ACL of each": (
            "ethereum_acl_address", "polygon_url", "polygon_chain_id", "polygon_acl_address",
            "bnb_testnet_url", "bnb_testnet_chain_id", "bnb_testnet_acl_address",
        ),
    }.items()
    for name in names
}  # fmt: skip

FHEVM: Final = OptionTable(_PAGE, ALIASES, ACCEPTED)
OPTIONS: Final = FHEVM.options


@attrs.frozen
class Given:
    """A value as a source gave it, where it stands, and under which name; ``folder`` is that of a file, where its relative paths begin."""

    value: Any = attrs.field(repr=False)
    place: str
    name: str
    folder: Path = Path()


@attrs.define
class Findings:
    """The collector that every source adds to; later sources win."""

    table: OptionTable = FHEVM
    given: dict[str, Given] = attrs.field(factory=dict)
    faults: list[Fault] = attrs.field(factory=list)
    warnings: list[Fault] = attrs.field(factory=list)

    def fault(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is wrong."""
        self.faults.append(Fault(place, message, remedy))

    def fault_of(self, name: str, message: str, remedy: str = "") -> None:
        """Note what is wrong with an option that is given, where it stands."""
        self.fault(self.given[name].place, message, remedy)

    def warn(self, place: str, message: str, remedy: str = "") -> None:
        """Note one thing that is accepted, but should be known."""
        self.warnings.append(Fault(place, message, remedy))

    def require(self, *names: str, beside: Iterable[str]) -> None:
        """Note which options are missing although one is given that needs them: the first of ``beside`` that is."""
        given = next((name for name in beside if name in self.given), None)
        for name in names:
            if given is not None and name not in self.given:
                self.fault(name, f"is required beside {given}")

    def take(self, source: dict[str, Given], *, strict: bool = True) -> None:
        """Take all that one source gives; its right names win over its aliases, but for those that are said to win.

        An unknown name is a fault in a file. With ``strict`` off it is a warning: an environment is shared with other programs, and
        the variables of the three services of 0.14 must not keep a connector from starting.
        """
        for name, one in source.items():
            if name in self.table.aliases:
                self._take_alias(name, one, source)
            elif name in self.table.options:
                self._take_option(name, one, source)
            elif name in self.table.accepted:
                self._take_accepted(self.table.accepted[name], one)
            else:
                self._judge_unknown(name, one, self.fault if strict else self.warn)

    def _take_option(self, name: str, one: Given, source: dict[str, Given]) -> None:
        aliases = (alias for alias in self.table.aliases.values() if alias.option == name and alias.wins)
        winning = next((alias.name for alias in aliases if alias.name in source), None)
        if winning is None:
            self.given[name] = one
        else:
            self.warn(one.place, f"is not used: {winning} is given too")

    def _take_alias(self, name: str, one: Given, source: dict[str, Given]) -> None:
        alias = self.table.aliases[name]
        remark = alias.remark(one.value) if alias.remark else ""
        is_named = alias.option in source and not alias.wins
        if is_named or (remark and self._is_named(alias.option)):
            self.warn(one.place, f"is not used: {alias.option} is given too")
            return
        if remark:
            self.warn(one.place, f"is taken as {alias.option}", remark)
        if alias.warning:
            self.warn(one.place, alias.warning, f"taken as {alias.option}")
        value = alias.translate(one.value) if alias.translate else one.value
        self.given[alias.option] = attrs.evolve(one, value=value)

    def _is_named(self, option: str) -> bool:
        """Say whether an earlier source gives an option by its right name: what an alias means for another program does not replace it."""
        return option in self.given and self.given[option].name == option

    def _take_accepted(self, accepted: Accepted, one: Given) -> None:
        self.warn(one.place, "has no effect", accepted.instead)
        if accepted.form is not None:
            structure(one.value, accepted.form, one.place, self.faults)

    def _judge_unknown(self, name: str, one: Given, note: Callable[[str, str, str], None]) -> None:
        if inside := [known for known in self.table.options if known.startswith(f"{name}.")]:
            self.fault(one.place, "is a table", f"its options are {', '.join(inside)}")
        else:
            note(one.place, "is unknown", suggestion(name, self.table.known_names))


# --- explained


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
    for name, option in table.options.items():
        shown, source = _shown(option, values.get(name)), _source(option, given, file)
        yield ExplainedOption(name, shown, source, option.environment)


def _source(option: Described, given: Mapping[str, Given], file: str) -> str:
    one = given.get(option.name)
    if one is None:
        return "not set" if option.default is REQUIRED else "default"
    if one.place.upper() == one.place:
        return one.place
    return file if one.place == one.name else one.place


def _shown(option: Described, value: Any) -> str:
    """Return a value as a file would say it. A secret is only said to be set; a URL loses its credentials, path and query."""
    if value is None:
        return "–"
    if option.form.write is not None:
        return option.form.write(value)
    if isinstance(value, frozenset):
        return ", ".join(role for role in Role if role in value)
    if isinstance(value, tuple):
        return ", ".join(map(str, value))
    if isinstance(value, str) and "://" in value:
        return show_origin(value)
    return str(value).lower() if isinstance(value, bool) else str(value)
