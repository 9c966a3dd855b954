"""The options of the generation httpz-rc7: its own names and defaults, and those that it shares with fhevm. Data; reads nothing.

Source: httpz-rc7.md 6.1. The default mnemonic of that generation is left out: everybody has its keys (5.5).
"""

from __future__ import annotations

from typing import Final

from kmsconn.config import structuring as types
from kmsconn.config.options import ALIASES, Accepted, Option, OptionTable, Section, options_of
from kmsconn.ethereum.addresses import Address

_GATEWAY = Section(
    "The gateway",
    (
        Option(
            "gwl2_url",
            types.RpcUrls,
            "JSON-RPC of the gateway, `ws(s)` or `http(s)`: one, a comma list, or a list in order of preference.",
            "gateway.urls",
            ("ws://localhost:8545",),
            in_file=True,
        ),
        Option(
            "chain_id",
            types.ChainId,
            "Chain id of the gateway. The connector compares it with the node's before it uses the node.",
            "gateway.chain_id",
            31337,
            in_file=True,
        ),
        Option(
            "decryption_manager_address",
            types.DecryptionManagerAddress,
            "Address of the DecryptionManager.",
            "decryption_contract.address",
            Address(bytes.fromhex("5fbdb2315678afecb367f032d93f642f64180aa3")),
            in_file=True,
        ),
        Option(
            "decryption_manager_domain_name",
            types.Text,
            "Name of its EIP-712 domain.",
            "decryption_contract.domain_name",
            "DecryptionManager",
        ),
        Option(
            "decryption_manager_domain_version",
            types.Text,
            "Version of its EIP-712 domain.",
            "decryption_contract.domain_version",
            "1",
        ),
        Option(
            "httpz_address",
            types.HttpzAddress,
            "Address of HTTPZ.",
            "gateway_config_contract.address",
            Address(bytes(19) + b"\x01"),
            in_file=True,
        ),
        Option(
            "httpz_domain_name",
            types.Text,
            "Name of its EIP-712 domain.",
            "gateway_config_contract.domain_name",
            "HTTPZ",
        ),
        Option(
            "httpz_domain_version",
            types.Text,
            "Version of its EIP-712 domain.",
            "gateway_config_contract.domain_version",
            "1",
        ),
        Option(
            "key_manager_address",
            types.KeyManagerAddress,
            "Address of the KeyManager. Default: `httpz_address`, as in that generation's connector.",
            "kms_generation_contract.address",
            None,
            '"0x…"',
        ),
        Option(
            "key_management_at_finality",
            types.Flag,
            "Whether key operations wait until their block is final.",
            "httpz.key_management_at_finality",
        ),
    ),
)

_CORE = Section(
    "The KMS Core",
    (
        Option(
            "kms_core_endpoint",
            types.CoreEndpoints,
            "The gRPC endpoint of this node's Core, `http://host:port`: one, a comma list, or a list. The id of a request selects the "
            "endpoint.",
            "core_endpoints",
            ("http://[::1]:50052",),
            in_file=True,
        ),
        *options_of(
            ("core_tls.ca_file", "core_tls.certificate_file", "core_tls.key_file", "core_reply_budget")
        ),
        Option(
            "plaintext_encoding",
            types.PlaintextEncoding,
            "Encoding of public results by the Core: `p3`, `p1`, `p2`, `raw`, or `auto`, which detects it by the signature.",
            "httpz.plaintext_encoding",
        ),
        Option(
            "tolerant_digests",
            types.Flag,
            "Accept ciphertexts whose digest differs from the one on chain, as that generation did. For test networks only.",
            "httpz.tolerant_digests",
        ),
        Option(
            "preprocessing",
            types.Flag,
            "Whether keys need a preprocessing; a centralised Core has none.",
            "httpz.preprocessing",
        ),
        Option(
            "fhe_parameters",
            types.FheParameters,
            "Parameter numbers of the Core by the digest on chain, `{ 0x… = 1 }`. Default: the Core's own default for all.",
            "httpz.fhe_parameters",
            None,
            '{ "0x…" = 1 }',
        ),
    ),
)

_WALLET = Section(
    "The wallet: the first of these in this order",
    options_of(
        (
            "aws_kms_config.key_id",
            "aws_kms_config.region",
            "aws_kms_config.endpoint",
            "signing_key_path",
            "private_key",
            "private_key_file",
            "mnemonic",
            "account_index",
            "allow_raw_key_on_mainnet",
            "tx_sender_address",
        )
    ),
)

_PROCESS = Section(
    "The process",
    (
        *options_of(
            (
                "profile",
                "mode",
                "journal",
                "journal_password_file",
                "database_pool_size",
                "roles",
                "lease",
                "retention.contents",
                "retention.rows",
                "control_socket",
                "audit_log",
            )
        ),
        Option(
            "service_name",
            types.Name,
            "Name in logs and at `/version`; `--name` overrides it. A number after its last dash is the mnemonic's account.",
            "service_name",
            "kms-connector",
        ),
        *options_of(
            (
                "monitoring_endpoint",
                "status_page",
                "status_page_token_file",
                "healthcheck_timeout",
                "log_level",
                "log_format",
                "drain_grace",
            )
        ),
    ),
)

_READING = Section(
    "Reading the chain",
    options_of(("decryption_polling", "get_logs_batch_size", "reorg_window", "decryption_from_block_number")),
)

_WORKING = Section(
    "Working on requests",
    options_of(
        (
            "pools.public_decryption",
            "pools.user_decryption",
            "deadlines.check",
            "deadlines.gather",
            "deadlines.submit",
            "deadlines.answer",
            "decryption_expiry",
        )
    ),
)

_CIPHERTEXTS = Section(
    "Ciphertexts",
    (
        Option(
            "s3_config.region",
            types.Name,
            "Region of a fallback bucket, for ciphertexts without a usable bucket on chain. Required in its table.",
            "",
            None,
            '"us-east-1"',
        ),
        Option(
            "s3_config.bucket",
            types.Name,
            "Name of the fallback bucket. Required in its table.",
            "",
            None,
            '"ct128"',
        ),
        Option(
            "s3_config.endpoint",
            types.HttpUrl,
            "URL of the fallback bucket's S3 service, if it is not AWS's own.",
            "",
            None,
            '"http://127.0.0.1:9000"',
        ),
        *options_of(
            (
                "s3_connect_timeout",
                "max_ciphertext_size",
                "ciphertext_budget",
                "ct_attestation.registry_refresh",
                "allow_http_buckets",
                "allow_private_buckets",
            )
        ),
    ),
)

_REPLIES = Section(
    "Replies",
    options_of(
        (
            "gas_multiplier_percent",
            "trace_reverted_tx",
            "gateway_tx_required_confirmations",
            "max_fee_per_gas",
            "max_priority_fee_per_gas",
            "max_reply_cost",
        )
    ),
)

_ACCEPTED = (
    Accepted("channel_size", "pools.* limit concurrent requests", types.Count),
    Accepted(
        "decryption_timeout_secs", "work ends by its deadline (deadlines.*, decryption_expiry)", types.Number
    ),
    Accepted(
        "reencryption_timeout_secs",
        "work ends by its deadline (deadlines.*, decryption_expiry)",
        types.Number,
    ),
    Accepted("retry_interval_secs", "delays grow exponentially", types.Number),
    Accepted("verify_coprocessors", "the connector reads every coprocessor from HTTPZ", types.Flag),
)

HTTPZ_RC7: Final = OptionTable(
    (_GATEWAY, _CORE, _WALLET, _PROCESS, _READING, _WORKING, _CIPHERTEXTS, _REPLIES),
    {"overlap": ALIASES["overlap"]},
    {one.name: one for one in _ACCEPTED},
)
