"""The options of a generation: a page of names from the descriptions of the settings, aliases, and what it accepts. Data; reads nothing.

The reference and the sample file are printed from such a table, and ``sources`` reads files and environments by it. Names are those of
the 0.14 services; what has no meaning here is *accepted* with a word on what takes its place, so that their files start unchanged.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from typing import Final

import attrs

from kmsconn.config.description import WRONG, Alias, Described, Form, described
from kmsconn.config.settings import Settings


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
        return (
            self._named_otherwise.sub(lambda found: self.names[found[0]], message) if self.names else message
        )

    @cached_property
    def _named_otherwise(self) -> re.Pattern[str]:
        return re.compile(rf"(?<![\w.])(?:{'|'.join(map(re.escape, self.names))})(?!\w)")


DESCRIBED: Final = {one.name: one for one in described(Settings)}
"""Every option as the settings describe it."""


def page(sections: Mapping[str, str], own: Mapping[str, Described]) -> Page:
    """Return titled sections of names, separated by blanks; one that ends with a dot stands for all that begin so."""
    known = {**DESCRIBED, **own}
    return {
        title: tuple(known[name] for name in _expanded(names.split(), known))
        for title, names in sections.items()
    }


def _expanded(names: Iterable[str], known: Iterable[str]) -> Iterator[str]:
    for name in names:
        yield from [one for one in known if one.startswith(name)] if name.endswith(".") else [name]


PROCESS: Final = (
    "profile mode journal journal_password_file database_pool_size roles lease retention. control_socket audit_log service_name "
    "monitoring_endpoint status_page status_page_token_file healthcheck_timeout log_level log_format drain_grace"
)
"""The options of the process, which all generations have."""

_PAGE: Final = page(
    {
        "The chains": (
            "network gateway_url gateway_ws_url gateway_chain_id ethereum_url ethereum_ws_url ethereum_chain_id host_chains"
        ),
        "The contracts": (
            "decryption_contract. gateway_config_contract. protocol_config_contract. kms_generation_contract."
        ),
        "The KMS Core": "kms_core_endpoints core_tls. core_reply_budget",
        "The wallet": (
            "private_key private_key_file signing_key_path mnemonic account_index aws_kms_config. allow_raw_key_on_mainnet "
            "tx_sender_address"
        ),
        "The process": PROCESS,
        "Reading the chain": (
            "decryption_polling key_management_polling get_logs_batch_size reorg_window decryption_from_block_number "
            "kms_operation_from_block_number compressed_key_sets preprocessing_ids"
        ),
        "Working on requests": "pools. deadlines. decryption_expiry erc1271_gas_limit",
        "Decryption over HTTP": (
            "http_endpoint tls_config. api_keys_file api_key_digest http_without_keys max_in_flight_decryptions "
            "decryption_timeout max_body_bytes max_decryption_request_bits max_allowed_contracts supported_chain_ids"
        ),
        "Ciphertexts": (
            "s3_connect_timeout max_ciphertext_size ciphertext_budget attestation ct_attestation. allow_http_buckets "
            "allow_private_buckets"
        ),
        "Replies": (
            "gas_multiplier_percent trace_reverted_tx ethereum_tx_required_confirmations gateway_tx_required_confirmations "
            "ethereum_tx_get_receipt_timeout max_fee_per_gas max_priority_fee_per_gas max_reply_cost"
        ),
    },
    {},
)

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
        "http_endpoint is served by this process, without a proxy": ("endpoint_addresses", "proxy_bind_address"),
    }.items()
    for name in names
}  # fmt: skip

FHEVM: Final = OptionTable(_PAGE, ALIASES, ACCEPTED)
OPTIONS: Final = FHEVM.options
