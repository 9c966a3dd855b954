"""The table of options."""

from __future__ import annotations

import re

import attrs
import pytest

from kmsconn.config.description import environment_name, fields_of
from kmsconn.config.httpz import HTTPZ_RC7
from kmsconn.config.options import ACCEPTED, ALIASES, DESCRIBED, FHEVM, OPTIONS
from kmsconn.config.parties import Chains, WalletSettings
from kmsconn.config.settings import GROUP_OF, GROUPS

# Every field of fhevm-0.14.md, sections 9.1 to 9.4, and those that annex C renames or adds.
NAMES_OF_0_14 = (
    "database_url database_pool_size gateway_url gateway_chain_id ethereum_url ethereum_chain_id "
    "decryption_contract.address decryption_contract.domain_name decryption_contract.domain_version "
    "kms_generation_contract.address kms_generation_contract.domain_name "
    "kms_generation_contract.domain_version protocol_config_contract.address "
    "protocol_config_contract.domain_name protocol_config_contract.domain_version service_name task_limit "
    "monitoring_endpoint healthcheck_timeout decryption_polling key_management_polling "
    "get_logs_batch_size max_consecutive_polling_errors decryption_from_block_number "
    "kms_operation_from_block_number gateway_config_contract.address gateway_config_contract.domain_name "
    "gateway_config_contract.domain_version kms_core_endpoints host_chains db_fast_event_polling "
    "db_long_event_polling events_batch_size grpc_request_retries max_decryption_attempts "
    "s3_ciphertext_retrieval_retries s3_connect_timeout erc1271_gas_limit ct_attestation.enabled "
    "ct_attestation.head_timeout ct_attestation.registry_refresh grpc_poll_interval private_key "
    "aws_kms_config.key_id aws_kms_config.region aws_kms_config.endpoint database_polling_timeout "
    "responses_batch_size tx_retries tx_retry_interval trace_reverted_tx gas_multiplier_percent "
    "ethereum_tx_required_confirmations ethereum_tx_get_receipt_timeout operation_recovery_run_interval "
    "decryption_expiry operation_under_process_timeout gauge_update_interval "
).split()
NAMES_OF_0_15 = (
    "s3_ciphertext_retrieval_attempts s3_head_timeout s3_get_timeout s3_max_concurrent_heads_per_bucket "
    "s3_max_concurrent_gets s3_max_ciphertext_size copro_registry_refresh host_rpc_max_concurrent_calls "
    "host_rpc_call_timeout "
).split()


@pytest.mark.parametrize("name", NAMES_OF_0_14 + NAMES_OF_0_15)
def test_every_name_of_the_three_services_is_known_once(name: str) -> None:
    assert sum(name in table for table in (OPTIONS, ALIASES, ACCEPTED)) == 1


def test_every_described_option_is_on_the_page_of_a_generation() -> None:
    assert DESCRIBED.keys() - OPTIONS.keys() - HTTPZ_RC7.options.keys() == set()


def test_every_field_of_the_settings_says_how_it_is_read() -> None:
    """The chains and the wallet are made as a whole."""
    silent = GROUP_OF.keys() - {field.name for group in GROUPS.values() for field in fields_of(group)}
    whole = {field.name for group in (Chains, WalletSettings) for field in attrs.fields(group)}
    assert silent - whole == {"tracing"}


def test_every_option_says_what_it_means_in_a_sentence() -> None:
    assert [name for name, option in OPTIONS.items() if not re.fullmatch(r"[A-Z`].*\.", option.doc)] == []


def test_an_alias_leads_to_an_option() -> None:
    assert {alias.option for alias in ALIASES.values()} <= OPTIONS.keys()


def test_nesting_is_two_underscores_in_the_environment() -> None:
    assert environment_name("ct_attestation.head_timeout") == "KMS_CONNECTOR_CT_ATTESTATION__HEAD_TIMEOUT"


def test_an_option_without_an_example_has_a_default() -> None:
    assert [name for name, option in OPTIONS.items() if not option.example and option.default is None] == []


def test_a_message_names_options_as_their_generation_does() -> None:
    said = "check kms_core_endpoints, decryption_contract.address and host_chains[0].url (gateway_url)"
    assert FHEVM.in_own_words(said) == said
    assert HTTPZ_RC7.in_own_words(said) == (
        "check kms_core_endpoint, decryption_manager_address and host_chains[0].url (gwl2_url)"
    )
