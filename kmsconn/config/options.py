"""The one table of all options: name, type, default, meaning, and the setting each becomes. Data; reads nothing.

The reference and the sample file are printed from this table, and ``sources`` reads files and environments by it. Names are those of
the 0.14 services; what has no meaning here is *accepted* with a word on what takes its place, so that their files start unchanged.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cached_property
from typing import Any, Final

import attrs

from kmsconn.config import settings as values
from kmsconn.config import structuring as types
from kmsconn.config.postgres_url import is_postgres_url
from kmsconn.ethereum.addresses import Address

PREFIX: Final = "KMS_CONNECTOR_"


class _Required:
    def __repr__(self) -> str:
        return "required"


REQUIRED: Final = _Required()
_FROM_SETTINGS: Final = object()

_SECTIONS: dict[str, type] = {
    "pools": values.Pools,
    "deadlines": values.Deadlines,
    "retention": values.Retention,
    "core_tls": values.CoreTls,
    "httpz": values.Httpz,
    "http_api": values.HttpApi,
}


@attrs.frozen
class Option:
    """One option. ``setting`` is the field it becomes, dotted for a nested one; ``example`` is TOML for the sample file.

    ``in_file``: where a file is judged alone, it must stand there in spite of its default.
    """

    name: str
    type: Any
    doc: str
    setting: str = ""
    given_default: Any = _FROM_SETTINGS
    example: str = ""
    in_file: bool = False

    @property
    def default(self) -> Any:
        """The default: the given one, else that of the field which the option becomes."""
        if self.given_default is not _FROM_SETTINGS:
            return self.given_default
        section, _, field = self.setting.rpartition(".")
        holder = _SECTIONS[section] if section else values.GROUPS[values.GROUP_OF[field]]
        return getattr(attrs.fields(holder), field).default

    @property
    def environment(self) -> str:
        """The name of the environment variable."""
        return environment_name(self.name)


@attrs.frozen
class Alias:
    """Another name of an option. ``warning`` is said when it is used; ``translate`` turns its value into the option's.

    ``remark`` says what is to be known about a value, and returns an empty text for every other one.
    """

    name: str
    option: str
    warning: str = ""
    translate: Callable[[Any], Any] | None = None
    remark: Callable[[Any], str] | None = None


@attrs.frozen
class Accepted:
    """An option of an earlier connector without effect here, with its replacement and the type of its value."""

    name: str
    instead: str
    type: Any = None


@attrs.frozen
class Section:
    """Options that belong together in the reference and in the sample."""

    title: str
    options: tuple[Option, ...]


@attrs.frozen(eq=False, slots=False)
class OptionTable:
    """All that the sources of one generation may say."""

    sections: tuple[Section, ...]
    aliases: dict[str, Alias]
    accepted: dict[str, Accepted]

    @cached_property
    def options(self) -> dict[str, Option]:
        """Every option by its name."""
        return {option.name: option for section in self.sections for option in section.options}

    @cached_property
    def known_names(self) -> tuple[str, ...]:
        """Every name that is understood."""
        return (*self.options, *self.aliases, *self.accepted)


def environment_name(name: str) -> str:
    """Return the environment variable of a dotted name."""
    return PREFIX + name.upper().replace(".", "__")


def _contract(name: str, domain: str, who: str, example: str) -> tuple[Option, ...]:
    return (
        Option(
            f"{name}.address", Address, f"Address of the {who}.", f"{name}.address", REQUIRED, f'"{example}"'
        ),
        Option(
            f"{name}.domain_name", types.Text, "Name of its EIP-712 domain.", f"{name}.domain_name", domain
        ),
        Option(
            f"{name}.domain_version",
            types.Text,
            "Version of its EIP-712 domain.",
            f"{name}.domain_version",
            "1",
        ),
    )


SECTIONS: Final = (
    Section(
        "The chains",
        (
            Option(
                "network",
                types.Name,
                "Known deployment whose chain ids and contract addresses are used ([networks](#networks)): `testnet`, `mainnet` or "
                "`devnet`; other options override them. `--network` of a command does the same.",
                "",
                None,
                '"testnet"',
            ),
            Option(
                "gateway_url",
                types.RpcUrls,
                "JSON-RPC of the Gateway, `http(s)` or `ws(s)`: one, a comma list, or a list in order of preference. A websocket "
                "carries calls, broadcasts and wake-ups on one connection; over HTTP the reader polls.",
                "gateway.urls",
                REQUIRED,
                '"https://gateway.example:8547"',
            ),
            Option(
                "gateway_ws_url",
                types.WebsocketUrls,
                "Websocket of the Gateway beside an HTTP `gateway_url`. The connector prefers it and falls back to HTTP.",
                "gateway.urls",
                None,
                '"wss://gateway.example:8548"',
            ),
            Option(
                "gateway_chain_id",
                types.ChainId,
                "Chain id of the Gateway. The connector compares it with the node's before it uses the node.",
                "gateway.chain_id",
                REQUIRED,
                "10901",
            ),
            Option(
                "ethereum_url",
                types.RpcUrls,
                "JSON-RPC of Ethereum, in the forms of `gateway_url`.",
                "ethereum.urls",
                REQUIRED,
                '"https://ethereum.example:8545"',
            ),
            Option(
                "ethereum_ws_url",
                types.WebsocketUrls,
                "Websocket of Ethereum beside an HTTP `ethereum_url`.",
                "ethereum.urls",
                None,
                '"wss://ethereum.example:8546"',
            ),
            Option(
                "ethereum_chain_id",
                types.ChainId,
                "Chain id of Ethereum. The connector compares it with the node's before it uses the node.",
                "ethereum.chain_id",
                REQUIRED,
                "11155111",
            ),
            Option(
                "host_chains",
                types.HostChains,
                "The host chains, whose ACL contracts control access to ciphertexts: a list of `url`, `chain_id` and `acl_address`. A "
                "JSON array in the environment replaces the file's list.",
                "host_chains",
                REQUIRED,
                '[\n  { url = "https://ethereum.example:8545", chain_id = 11155111, '
                'acl_address = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D" },\n]',
            ),
        ),
    ),
    Section(
        "The contracts",
        (
            *_contract(
                "decryption_contract",
                "Decryption",
                "Decryption contract on the Gateway",
                "0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478",
            ),
            *_contract(
                "gateway_config_contract",
                "GatewayConfig",
                "GatewayConfig contract on the Gateway",
                "0x94153006067B89399e059284f5a7Fe016940E332",
            ),
            *_contract(
                "protocol_config_contract",
                "ProtocolConfig",
                "ProtocolConfig contract on Ethereum",
                "0x51f9AFBc89Ea792e1a21a12AB802ab58D4dbee83",
            ),
            *_contract(
                "kms_generation_contract",
                "KMSGeneration",
                "KMSGeneration contract on Ethereum",
                "0x77389113d7000EcBCfc2bDed57202f5f46109934",
            ),
        ),
    ),
    Section(
        "The KMS Core",
        (
            Option(
                "kms_core_endpoints",
                types.CoreEndpoints,
                "The gRPC endpoints of this node's Core, `http://host:port`: one, a comma list, or a list. The id of a request "
                "selects the endpoint.",
                "core_endpoints",
                REQUIRED,
                '["http://127.0.0.1:50051"]',
            ),
            Option(
                "core_tls.ca_file",
                types.ExistingFile,
                "Certificate authority of the Core, PEM.",
                "core_tls.ca_file",
                None,
                '"/etc/kmsconn/core-ca.pem"',
            ),
            Option(
                "core_tls.certificate_file",
                types.ExistingFile,
                "Certificate shown to the Core, PEM.",
                "core_tls.certificate_file",
                None,
                '"/etc/kmsconn/client.pem"',
            ),
            Option(
                "core_tls.key_file",
                types.ExistingFile,
                "Private key of that certificate, PEM.",
                "core_tls.key_file",
                None,
                '"/etc/kmsconn/client.key"',
            ),
            Option(
                "core_reply_budget",
                types.ByteSize,
                "Limit on the bytes of large Core replies (over 1 MiB) received at the same time; further ones wait.",
                "core_reply_budget",
            ),
        ),
    ),
    Section(
        "The wallet",
        (
            Option(
                "private_key",
                values.Secret,
                "Key of the tx sender, 32 bytes as hex, `0x` optional. Prefer `private_key_file`.",
                "",
                None,
                '"0x…"',
            ),
            Option(
                "private_key_file",
                types.FilePath,
                "File with the key of the tx sender as hex (mode 0600). A systemd credential `private_key` is found without this option.",
                "",
                None,
                '"/etc/kmsconn/private_key"',
            ),
            Option(
                "signing_key_path",
                types.FilePath,
                "File with a signing key written by the KMS Core (its safe serialisation, 91 bytes), used as the key of the tx sender.",
                "",
                None,
                '"/etc/kmsconn/signing_key"',
            ),
            Option(
                "mnemonic",
                values.Secret,
                "BIP-39 phrase in English without a passphrase; the key is at `m/44'/60'/0'/0/account_index`.",
                "",
                None,
                '"…"',
            ),
            Option(
                "account_index",
                types.Number,
                "Account of the mnemonic. Default: the number after the last dash of `service_name`, else 0.",
                "",
                None,
                "0",
            ),
            Option(
                "aws_kms_config.key_id",
                types.Name,
                "Key of the tx sender in AWS KMS: id, ARN or `alias/…` of an ECC_SECG_P256K1 key for SIGN_VERIFY. Credentials come "
                "from the usual places of the AWS SDKs. Needs the extra `aws`.",
                "",
                None,
                '"alias/tx-sender"',
            ),
            Option(
                "aws_kms_config.region",
                types.Name,
                "Region of that key. Default: the resolution of the AWS SDKs, or `us-east-1` if an endpoint is set.",
                "",
                None,
                '"eu-west-1"',
            ),
            Option(
                "aws_kms_config.endpoint",
                types.HttpUrl,
                "URL of the AWS KMS service, if it is not AWS's own.",
                "",
                None,
                '"http://127.0.0.1:4566"',
            ),
            Option(
                "allow_raw_key_on_mainnet",
                types.Flag,
                "Allow a wallet that is not in AWS KMS to send to a main network (chain ids 1 and 261131).",
                "",
                False,
            ),
            Option(
                "tx_sender_address",
                Address,
                'Address of the node\'s tx sender. With `mode = "shadow"`, or without the role `send`, it takes the place of a wallet; '
                "beside a wallet it must be the wallet's address.",
                "tx_sender_address",
                example='"0x742d35cc6634c0532925a3b844bc454e4438f44e"',
            ),
        ),
    ),
    Section(
        "The process",
        (
            Option("profile", types.Profile, "Generation of the protocol.", "profile"),
            Option(
                "mode",
                values.Mode,
                "`active` sends the replies. `shadow` sends nothing: it compares each reply with the one that another connector sends "
                "for the same node, and reports differences and the time gained ([migrating](migrating.md)).",
                "mode",
            ),
            Option(
                "journal",
                types.JournalUrl,
                "Database of requests and answers, `sqlite:///PATH` (a fourth slash begins an absolute path), or "
                "`postgresql://USER@HOST:PORT/DATABASE`, which several processes may share ([PostgreSQL](postgresql.md)). After its "
                "deletion the connector reads the chain again from `decryption_from_block_number` and loses no request; without that "
                "option it begins at the head.",
                "journal",
            ),
            Option(
                "journal_password_file",
                types.FilePath,
                "File with the password of a journal in PostgreSQL (mode 0600), read for each connection. Default: the one in the URL, or "
                "what libpq finds by `PGPASSFILE`.",
                "",
                None,
                '"/etc/kmsconn/journal_password"',
            ),
            Option(
                "database_pool_size",
                types.Count,
                "Maximum number of connections of this process that only read a journal in PostgreSQL; some others write.",
                "database_pool_size",
            ),
            Option(
                "roles",
                types.Roles,
                "What this process does, of what several ones share over a journal in PostgreSQL: `hear` reads the contracts, `work` "
                "checks requests and asks the Core, `send` sends replies.",
                "roles",
            ),
            Option(
                "lease",
                types.Lease,
                "Time after which the others take over from a process that has ended or cannot reach PostgreSQL: at least `1s`.",
                "lease",
            ),
            Option(
                "retention.contents",
                types.Age,
                "How long the journal keeps event, answer and signed bytes of a request after its end: at least `1h`; `0s` keeps them "
                "for ever.",
                "retention.contents",
            ),
            Option(
                "retention.rows",
                types.Age,
                "How long the journal keeps the row of a request after its end: at least `1h`; `0s` keeps it for ever.",
                "retention.rows",
            ),
            Option(
                "control_socket",
                types.FilePath,
                "Unix socket of `kmsconn run` for `kmsconn requests` (mode 0600). Default: the journal's path with `.sock` appended; with "
                "a journal in PostgreSQL `service_name` with `.sock` appended, in `/run/kmsconn` where that folder exists, else beside the "
                "configuration file. An embedded connector opens none.",
                "control_socket",
                example='"/run/kmsconn/control.sock"',
            ),
            Option(
                "audit_log",
                types.FilePath,
                "File to which each transition of a request is appended, as a chain of hashed JSON lines (mode 0600). Default: none.",
                "audit_log",
                example='"/var/lib/kmsconn/audit.jsonl"',
            ),
            Option("service_name", types.Name, "Name in logs and at `/version`.", "service_name"),
            Option(
                "monitoring_endpoint",
                types.SocketAddress,
                "Address where `kmsconn run` serves `/metrics`, `/healthz`, `/liveness` and `/version`. An embedded connector opens "
                "no port.",
                "monitoring_endpoint",
            ),
            Option(
                "status_page",
                values.StatusPage,
                "Where that address serves the status page at `/status`: `loopback` (only where the address is one), `on` (needs "
                "`status_page_token_file` on any other address), or `off`.",
                "status_page",
            ),
            Option(
                "status_page_token_file",
                types.FilePath,
                "File with the token that a viewer of the status page must show, at least 16 characters (mode 0600).",
                "",
                None,
                '"/etc/kmsconn/status_page_token"',
            ),
            Option(
                "healthcheck_timeout",
                types.Seconds,
                "Time limit for a health probe of a Core; a later answer raises an alert.",
                "healthcheck_timeout",
            ),
            Option(
                "log_level",
                types.LogLevel,
                "Minimum level of log lines: `debug`, `info`, `warning` or `error`.",
                "log_level",
            ),
            Option(
                "log_format",
                values.LogFormat,
                "`console`, `json`, or `auto`: console on a terminal, else JSON.",
                "log_format",
            ),
            Option(
                "drain_grace",
                types.Grace,
                "Time for including answered requests after SIGTERM.",
                "drain_grace",
            ),
        ),
    ),
    Section(
        "Reading the chain",
        (
            Option(
                "decryption_polling",
                types.Seconds,
                "Interval of polling the Gateway, also beside a websocket.",
                "decryption_polling",
            ),
            Option(
                "key_management_polling",
                types.Seconds,
                "Interval of reading Ethereum's finalized blocks for key management.",
                "key_management_polling",
            ),
            Option(
                "get_logs_batch_size",
                types.Count,
                "Initial number of blocks of one `eth_getLogs`; the reader adapts it to the node.",
                "get_logs_batch_size",
            ),
            Option(
                "reorg_window",
                types.Seconds,
                "Span of recent blocks that the reader reads again. It must exceed the worst lag among the nodes behind one URL.",
                "reorg_window",
            ),
            Option(
                "decryption_from_block_number",
                types.Number,
                "First Gateway block to read. If the journal has a cursor already, the cursor stays, and the blocks from here on are "
                "read once more beside the head.",
                "decryption_from_block_number",
                None,
                "1000000",
            ),
            Option(
                "kms_operation_from_block_number",
                types.Number,
                "First Ethereum block to read. If the journal has a cursor already, the cursor stays, and the blocks from here on are "
                "read once more beside the head.",
                "kms_operation_from_block_number",
                None,
                "7000000",
            ),
            Option(
                "compressed_key_sets",
                values.CompressedKeySets,
                "Whether the Core is asked for compressed key sets. All nodes of a network must ask for the same, or no key is agreed on. "
                "`auto`: yes where KMSGeneration is one of 0.3.0, no before. A key keeps what its preparation was started with, and the "
                "migration of a key is always compressed.",
                "compressed_key_sets",
            ),
            Option(
                "preprocessing_ids",
                types.PreprocessingIds,
                'Preprocessing ids that a new epoch names for keys, `{ 0x04… = "0x03…" }`, where a Core has recorded others than the '
                "connector names. By default it names that of a key's migration, and otherwise that of the contract. All nodes must name "
                "the same, because they sign it.",
                "preprocessing_ids",
                None,
                '{ "0x04…" = "0x03…" }',
            ),
        ),
    ),
    Section(
        "Working on requests",
        (
            Option(
                "pools.public_decryption",
                types.Count,
                "Number of concurrent public decryptions.",
                "pools.public_decryption",
            ),
            Option(
                "pools.user_decryption",
                types.Count,
                "Number of concurrent user decryptions.",
                "pools.user_decryption",
            ),
            Option(
                "pools.http_public_decryption",
                types.Count,
                "Number of concurrent public decryptions that were asked for over HTTP.",
                "pools.http_public_decryption",
            ),
            Option(
                "pools.http_user_decryption",
                types.Count,
                "Number of concurrent user decryptions that were asked for over HTTP.",
                "pools.http_user_decryption",
            ),
            Option(
                "pools.key_generation",
                types.Count,
                "Number of concurrent preprocessings, key and CRS generations.",
                "pools.key_generation",
            ),
            Option(
                "pools.aborts", types.Count, "Number of concurrent aborts of generations.", "pools.aborts"
            ),
            Option(
                "pools.protocol_config",
                types.Count,
                "Number of concurrent requests about contexts, epochs and their ends; one waits only for an earlier one of the same "
                "context.",
                "pools.protocol_config",
            ),
            Option(
                "deadlines.check",
                types.Seconds,
                "Time limit for one pass of the checks; then the request is deferred.",
                "deadlines.check",
            ),
            Option(
                "deadlines.gather",
                types.Seconds,
                "Time limit for one pass of fetching the ciphertexts of a request.",
                "deadlines.gather",
            ),
            Option(
                "deadlines.submit",
                types.Seconds,
                "Time limit for one pass of submitting a request to the Core.",
                "deadlines.submit",
            ),
            Option(
                "deadlines.answer",
                types.Seconds,
                "Time limit for one long poll of the Core's answer.",
                "deadlines.answer",
            ),
            Option(
                "decryption_expiry",
                types.Seconds,
                "Age in chain time at which a decryption without an answer expires. By default `1h` where the Decryption contract is one "
                "of 0.7.0 or later, which belongs to fhevm 0.15, and `24h` before.",
                "decryption_expiry",
                None,
                '"1h"',
            ),
            Option(
                "erc1271_gas_limit",
                types.Count,
                "Gas limit of a signature check by a contract (ERC-1271).",
                "erc1271_gas_limit",
            ),
        ),
    ),
    Section(
        "Decryption over HTTP",
        (
            Option(
                "http_endpoint",
                types.SocketAddress,
                "Address where decryptions are asked for over HTTP ([http-decryption.md](http-decryption.md)). Default: none, and nothing "
                "is served.",
                "http_api.endpoint",
                None,
                '"0.0.0.0:8443"',
            ),
            Option(
                "tls_config.cert_path",
                types.ExistingFile,
                "Certificate chain of that address, PEM. A changed file is used within seconds, without a restart. Default: no TLS.",
                "",
                None,
                '"/etc/kmsconn/http.pem"',
            ),
            Option(
                "tls_config.key_path",
                types.ExistingFile,
                "Private key of that certificate, PEM.",
                "",
                None,
                '"/etc/kmsconn/http.key"',
            ),
            Option(
                "api_keys_file",
                types.ExistingFile,
                "File with the keys of the clients, as digests, and the limits of each. A changed file is used within seconds, without a "
                "restart.",
                "http_api.keys_file",
                example='"/etc/kmsconn/api_keys.toml"',
            ),
            Option(
                "api_key_digest",
                types.Digest,
                "SHA-256 digest of one key without limits of its own, as hex, beside those of `api_keys_file`; its id is `default`.",
                "http_api.key_digest",
                None,
                '"…"',
            ),
            Option(
                "http_without_keys",
                types.Flag,
                "Serve without keys on an address that is not a loopback one, because something before it checks them.",
                "",
                False,
            ),
            Option(
                "max_in_flight_decryptions",
                types.Count,
                "Number of clients that wait for an answer at once; further ones are told to come back (503).",
                "http_api.max_in_flight_decryptions",
            ),
            Option(
                "decryption_timeout",
                types.Seconds,
                "Time after which a waiting client is told to ask again (504); the work goes on.",
                "http_api.decryption_timeout",
            ),
            Option(
                "max_body_bytes",
                types.ByteSize,
                "Maximum size of the body of a request.",
                "http_api.max_body_bytes",
            ),
            Option(
                "max_decryption_request_bits",
                types.Count,
                "Maximum number of encrypted bits that one request may ask for.",
                "http_api.max_decryption_request_bits",
            ),
            Option(
                "max_allowed_contracts",
                types.Count,
                "Maximum number of contracts in the permit of one request.",
                "http_api.max_allowed_contracts",
            ),
            Option(
                "supported_chain_ids",
                types.ChainIds,
                "Host chains whose handles are accepted over HTTP. Default: all of `host_chains`.",
                "",
                None,
                "[11155111]",
            ),
        ),
    ),
    Section(
        "Ciphertexts",
        (
            Option(
                "s3_connect_timeout",
                types.Seconds,
                "Time limit for connecting to a bucket.",
                "s3_connect_timeout",
            ),
            Option(
                "max_ciphertext_size",
                types.ByteSize,
                "Maximum size of a ciphertext.",
                "max_ciphertext_size",
            ),
            Option(
                "ciphertext_budget",
                types.ByteSize,
                "Limit on the bytes of ciphertexts in memory.",
                "ciphertext_budget",
            ),
            Option(
                "attestation",
                values.AttestationMode,
                "Ciphertext attestations: `shadow` compares at most 20 per second beside the requests and reports mismatches; `off` "
                "skips the comparison; `enforce` defers a request until a quorum attests its ciphertexts as the chain names them. "
                "Requests with handles only (0.15) always need a quorum.",
                "attestation",
            ),
            Option(
                "ct_attestation.head_timeout",
                types.Seconds,
                "Time limit for one HEAD request of an attestation.",
                "attestation_head_timeout",
            ),
            Option(
                "ct_attestation.registry_refresh",
                types.Seconds,
                "Interval of reading the registry of coprocessors.",
                "registry_refresh",
            ),
            Option(
                "allow_http_buckets", types.Flag, "Allow bucket addresses without TLS.", "allow_http_buckets"
            ),
            Option(
                "allow_private_buckets",
                types.Flag,
                "Allow loopback, link-local and private bucket addresses. Bucket addresses come from a chain.",
                "allow_private_buckets",
            ),
        ),
    ),
    Section(
        "Replies",
        (
            Option(
                "gas_multiplier_percent",
                types.Percent,
                "Gas limit of a reply in percent of the estimate.",
                "gas_multiplier_percent",
            ),
            Option(
                "trace_reverted_tx",
                types.Flag,
                "Request a trace of a reply mined with status 0, to learn the reason.",
                "trace_reverted_tx",
            ),
            Option(
                "ethereum_tx_required_confirmations",
                types.Count,
                "Confirmations that make a reply on Ethereum final if the node knows no finalized block.",
                "ethereum_tx_required_confirmations",
            ),
            Option(
                "gateway_tx_required_confirmations",
                types.Count,
                "Confirmations that make a reply on the Gateway final if the node knows no finalized block.",
                "gateway_tx_required_confirmations",
            ),
            Option(
                "ethereum_tx_get_receipt_timeout",
                types.Seconds,
                "Time without a receipt after which a reply on Ethereum is replaced with a higher fee.",
                "ethereum_tx_get_receipt_timeout",
            ),
            Option(
                "max_fee_per_gas",
                types.Wei,
                "Maximum price of a unit of gas. At a higher price replies wait and an alert is raised.",
                "max_fee_per_gas",
            ),
            Option(
                "max_priority_fee_per_gas",
                types.Wei,
                "Maximum priority fee of a unit of gas. At a higher fee replies wait and an alert is raised.",
                "max_priority_fee_per_gas",
            ),
            Option(
                "max_reply_cost",
                types.Wei,
                "Maximum cost of one reply, gas limit times fee. A dearer reply waits and an alert is raised.",
                "max_reply_cost",
            ),
        ),
    ),
)


def _attestation(enabled: Any) -> Any:
    faults: list[Any] = []
    wanted = types.structure(enabled, types.Flag, "", faults)
    return enabled if faults else ("shadow" if wanted else "off")


def _seconds(number: Any) -> Any:
    return f"{number}s" if str(number).isdecimal() else number


def _milliseconds(number: Any) -> Any:
    return f"{number}ms" if str(number).isdecimal() else number


def _of_three_services(url: Any) -> str:
    """Say what becomes of the database of the three services: its tables are theirs, and nothing of it needs to be taken over."""
    if not is_postgres_url(str(url).strip()):
        return ""
    return (
        "kmsconn makes tables of its own in the schema kmsconn of that database and does not read those of the three services: what they "
        "have not answered is read from the chain (decryption_from_block_number)"
    )


def _in_own_schema(url: Any) -> Any:
    """Let the tables stand in a schema of their own, beside those of the three services, unless the URL names one."""
    if not is_postgres_url(str(url).strip()) or "options=" in str(url):
        return url
    return f"{str(url).strip()}{'&' if '?' in str(url) else '?'}options=-csearch_path%3Dkmsconn"


_WRONG = "is a wrong name from the sample files of 0.14"
_LATER = "is the name that 0.15 gives it"
_FORMER = "is the former name"
_BEFORE = "is the name before 0.14"

ALIASES: Final = {
    alias.name: alias
    for alias in (
        Alias("database_url", "journal", translate=_in_own_schema, remark=_of_three_services),
        Alias("chain_id", "gateway_chain_id", _BEFORE),
        Alias("kms_core_endpoint", "kms_core_endpoints", _BEFORE),
        Alias("from_block_number", "decryption_from_block_number", _BEFORE),
        Alias("healthcheck_timeout_secs", "healthcheck_timeout", _BEFORE, _seconds),
        Alias("decryption_polling_ms", "decryption_polling", _BEFORE, _milliseconds),
        Alias("key_management_polling_ms", "key_management_polling", _BEFORE, _milliseconds),
        Alias("ct_attestation.enabled", "attestation", translate=_attestation),
        Alias("decryption_domain_version", "decryption_contract.domain_version", _WRONG),
        Alias("kms_generation_polling", "key_management_polling", _WRONG),
        Alias("kms_from_block_number", "kms_operation_from_block_number", _WRONG),
        Alias("s3_head_timeout", "ct_attestation.head_timeout", _LATER),
        Alias("copro_registry_refresh", "ct_attestation.registry_refresh", _LATER),
        Alias("s3_max_ciphertext_size", "max_ciphertext_size", _LATER),
        Alias("overlap", "reorg_window", _FORMER),
    )
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

FHEVM: Final = OptionTable(SECTIONS, ALIASES, ACCEPTED)
OPTIONS: Final = FHEVM.options


def options_of(names: Iterable[str]) -> tuple[Option, ...]:
    """Return options that another generation has too, by their names."""
    return tuple(OPTIONS[name] for name in names)
