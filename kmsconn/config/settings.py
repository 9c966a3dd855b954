"""The settings of a connector, each described where it stands: its form, other names, an example; its meaning in the class's docstring.

Units: seconds, bytes, blocks. Where values come from is for ``sources``, which options a generation has for ``options`` and ``httpz``;
``docs/options.md`` is printed from these. Annotations are read at run time (``description``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import attrs

from kmsconn.config import forms, places
from kmsconn.config.description import FORMER, LATER, OLDER, WRONG, Alias, Made, Option, Section, fields_of
from kmsconn.config.structuring import HostChainTables
from kmsconn.config.values import (
    ROLES,
    AttestationMode,
    AwsKmsKey,
    CompressedKeySets,
    LogFormat,
    Mode,
    PostgresAddress,
    Role,
    Secret,
    StatusPage,
    compressed_key_sets,
)
from kmsconn.errors import Fault
from kmsconn.ethereum.addresses import Address
from kmsconn.model.profiles import FHEVM
from kmsconn.transport.proxies import NO_PROXIES, Proxies
from kmsconn.transport.urls import show, show_origin

JOURNAL: Final = Path("kmsconn.db")


# --- the chains


@attrs.frozen
class Chain:
    """One chain and how to reach it: URLs in order of preference, ``http(s)`` or ``ws(s)``."""

    chain_id: int
    urls: tuple[str, ...] = attrs.field(repr=lambda urls: f"<{len(urls)} urls>")


@attrs.frozen
class HostChain:
    """A chain whose ACL says who may see what."""

    chain: Chain
    acl: Address


_HOST_CHAIN: Final = (
    '[\n  { url = "https://ethereum.example:8545", chain_id = 11155111, '
    'acl_address = "0xf0Ffdc93b7E186bC2f8CB3dAA75D86d1930A433D" },\n]'
)


@attrs.frozen
class ChainOptions:
    """The options that name the chains.

    network: Known deployment whose chain ids and contract addresses are used ([networks](#networks)): `testnet`, `mainnet` or `devnet`;
      other options override them. `--network` of a command does the same.
    gateway_url: JSON-RPC of the Gateway, `http(s)` or `ws(s)`: one, a comma list, or a list in order of preference. A websocket carries
      calls, broadcasts and wake-ups on one connection; over HTTP the reader polls.
    gateway_ws_url: Websocket of the Gateway beside an HTTP `gateway_url`. The connector prefers it and falls back to HTTP.
    gateway_chain_id: Chain id of the Gateway. The connector compares it with the node's before it uses the node.
    ethereum_url: JSON-RPC of Ethereum, in the forms of `gateway_url`.
    ethereum_ws_url: Websocket of Ethereum beside an HTTP `ethereum_url`.
    ethereum_chain_id: Chain id of Ethereum. The connector compares it with the node's before it uses the node.
    host_chains: The host chains, whose ACL contracts control access to ciphertexts: a list of `url`, `chain_id` and `acl_address`. A JSON
      array in the environment replaces the file's list.
    """

    gateway_url: Annotated[places.RpcUrls, Option('"https://gateway.example:8547"')]
    gateway_chain_id: Annotated[forms.ChainId, Option("10901", Alias("chain_id", OLDER))]
    ethereum_url: Annotated[places.RpcUrls, Option('"https://ethereum.example:8545"')]
    ethereum_chain_id: Annotated[forms.ChainId, Option("11155111")]
    host_chains: Annotated[HostChainTables, Option(_HOST_CHAIN)]
    gateway_ws_url: Annotated[places.WebsocketUrls | None, Option('"wss://gateway.example:8548"')] = None
    ethereum_ws_url: Annotated[places.WebsocketUrls | None, Option('"wss://ethereum.example:8546"')] = None
    network: Annotated[forms.Name | None, Option('"testnet"')] = None


@attrs.frozen
class Chains:
    """The chains of one deployment. In the generation ``httpz-rc7`` both are the same one, and there are no host chains."""

    gateway: Chain
    ethereum: Chain
    host_chains: tuple[HostChain, ...]


# --- the protocol


@attrs.frozen
class Contract:
    """A contract and its EIP-712 domain.

    address: Address of the {about}.
    domain_name: Name of its EIP-712 domain.
    domain_version: Version of its EIP-712 domain.
    """

    address: places.ContractAddress
    domain_name: forms.Text
    domain_version: forms.Text = "1"


def _contract(prefix: str, name: str, chain: str, example: str) -> Section:
    about, examples = f"{name} contract on {chain}", {"address": f'"{example}"'}
    return Section(prefix, about, {"domain_name": name}, examples)


@attrs.frozen
class S3Fallback:
    """Where ciphertexts are looked for when the chain names no usable bucket.

    region: Region of a fallback bucket, for ciphertexts without a usable bucket on chain. Required in its table.
    bucket: Name of the fallback bucket. Required in its table.
    endpoint: URL of the fallback bucket's S3 service, if it is not AWS's own.
    """

    region: Annotated[forms.Name, Option('"us-east-1"')]
    bucket: Annotated[forms.Name, Option('"ct128"')]
    endpoint: Annotated[places.HttpUrl | None, Option('"http://127.0.0.1:9000"')] = attrs.field(
        default=None, repr=lambda url: str(url and show_origin(url))
    )


@attrs.frozen
class Httpz:
    """What only the generation ``httpz-rc7`` asks for.

    plaintext_encoding: Encoding of public results by the Core: `p3`, `p1`, `p2`, `raw`, or `auto`, which detects it by the signature.
    fhe_parameters: Parameter numbers of the Core by the digest on chain, `{ 0x… = 1 }`. Default: the Core's own default for all.
    preprocessing: Whether keys need a preprocessing; a centralised Core has none.
    key_management_at_finality: Whether key operations wait until their block is final.
    tolerant_digests: Accept ciphertexts whose digest differs from the one on chain, as that generation did. For test networks only.
    """

    plaintext_encoding: forms.PlaintextEncoding = "auto"
    fhe_parameters: Annotated[forms.FheParameters, Option('{ "0x…" = 1 }')] = attrs.field(factory=dict)
    preprocessing: forms.Flag = True
    key_management_at_finality: forms.Flag = True
    tolerant_digests: forms.Flag = False
    s3: Annotated[
        S3Fallback | None,
        Made(S3Fallback, Section("s3_config", defaults=dict.fromkeys(("region", "bucket")))),
    ] = None


@attrs.frozen
class ProtocolSettings:
    """The generation of the protocol, its contracts, and what is asked of the Core.

    In the generation ``httpz-rc7`` ``decryption_contract`` is the DecryptionManager, ``gateway_config_contract`` and
    ``protocol_config_contract`` are HTTPZ, and ``kms_generation_contract`` is the KeyManager.

    profile: Generation of the protocol.
    compressed_key_sets: Whether the Core is asked for compressed key sets. All nodes of a network must ask for the same, or no key is
      agreed on. `auto`: yes where KMSGeneration is one of 0.3.0, no before. A key keeps what its preparation was started with, and the
      migration of a key is always compressed.
    preprocessing_ids: Preprocessing ids that a new epoch names for keys, `{ 0x04… = "0x03…" }`, where a Core has recorded others than the
      connector names. By default it names that of a key's migration, and otherwise that of the contract. All nodes must name the same,
      because they sign it.
    erc1271_gas_limit: Gas limit of a signature check by a contract (ERC-1271).
    """

    decryption_contract: Annotated[
        Contract,
        _contract(
            "decryption_contract", "Decryption", "the Gateway", "0x5D8BD78e2ea6bbE41f26dFe9fdaEAa349e077478"
        ),
    ]
    gateway_config_contract: Annotated[
        Contract,
        _contract(
            "gateway_config_contract",
            "GatewayConfig",
            "the Gateway",
            "0x94153006067B89399e059284f5a7Fe016940E332",
        ),
    ]
    protocol_config_contract: Annotated[
        Contract,
        _contract(
            "protocol_config_contract",
            "ProtocolConfig",
            "Ethereum",
            "0x51f9AFBc89Ea792e1a21a12AB802ab58D4dbee83",
        ),
    ]
    kms_generation_contract: Annotated[
        Contract,
        _contract(
            "kms_generation_contract",
            "KMSGeneration",
            "Ethereum",
            "0x77389113d7000EcBCfc2bDed57202f5f46109934",
        ),
    ]
    profile: forms.ProfileName = FHEVM
    compressed_key_sets: forms.CompressedSets = attrs.field(
        default=CompressedKeySets.AUTO, converter=compressed_key_sets
    )
    preprocessing_ids: Annotated[forms.PreprocessingIds, Option('{ "0x04…" = "0x03…" }')] = attrs.field(
        factory=dict
    )
    erc1271_gas_limit: forms.Count = 250_000
    httpz: Annotated[Httpz, Section()] = attrs.field(factory=Httpz)


# --- the Core and the wallet


@attrs.frozen
class CoreTls:
    """TLS towards the Core; absent files mean plaintext as all shipped Cores have it.

    ca_file: Certificate authority of the Core, PEM.
    certificate_file: Certificate shown to the Core, PEM.
    key_file: Private key of that certificate, PEM.
    """

    ca_file: Annotated[places.ExistingFile | None, Option('"/etc/kmsconn/core-ca.pem"')] = None
    certificate_file: Annotated[places.ExistingFile | None, Option('"/etc/kmsconn/client.pem"')] = None
    key_file: Annotated[places.ExistingFile | None, Option('"/etc/kmsconn/client.key"')] = None


@attrs.frozen
class CoreSettings:
    """How the Core is reached, and the bytes of its answers in memory at once.

    core_endpoints: The gRPC endpoints of this node's Core, `http://host:port`: one, a comma list, or a list. The id of a request selects
      the endpoint.
    core_reply_budget: Limit on the bytes of large Core replies (over 1 MiB) received at the same time; further ones wait.
    healthcheck_timeout: Time limit for a health probe of a Core; a later answer raises an alert.
    """

    core_endpoints: Annotated[
        places.CoreEndpoints,
        Option('["http://127.0.0.1:50051"]', Alias("kms_core_endpoint", OLDER), name="kms_core_endpoints"),
    ]
    core_tls: Annotated[CoreTls | None, Section("core_tls")] = None
    core_reply_budget: forms.ByteSize = 512 * 1024 * 1024
    healthcheck_timeout: Annotated[
        forms.Seconds, Option("", Alias("healthcheck_timeout_secs", OLDER, forms.seconds))
    ] = 3.0


@attrs.frozen
class WalletOptions:
    """The options that name the wallet.

    private_key: Key of the tx sender, 32 bytes as hex, `0x` optional. Prefer `private_key_file`.
    private_key_file: File with the key of the tx sender as hex (mode 0600). A systemd credential `private_key` is found without this
      option.
    signing_key_path: File with a signing key written by the KMS Core (its safe serialisation, 91 bytes), used as the key of the tx
      sender.
    mnemonic: BIP-39 phrase in English without a passphrase; the key is at `m/44'/60'/0'/0/account_index`.
    account_index: Account of the mnemonic. Default: the number after the last dash of `service_name`, else 0.
    key_id: Key of the tx sender in AWS KMS: id, ARN or `alias/…` of an ECC_SECG_P256K1 key for SIGN_VERIFY. Credentials come from the
      usual places of the AWS SDKs. Needs the extra `aws`.
    region: Region of that key. Default: the resolution of the AWS SDKs, or `us-east-1` if an endpoint is set.
    endpoint: URL of the AWS KMS service, if it is not AWS's own.
    allow_raw_key_on_mainnet: Allow a wallet that is not in AWS KMS to send to a main network (chain ids 1 and 261131).
    tx_sender_address: Address of the node's tx sender. With `mode = "shadow"`, or without the role `send`, it takes the place of a
      wallet; beside a wallet it must be the wallet's address.
    """

    private_key: Annotated[forms.SecretText | None, Option('"0x…"')] = None
    private_key_file: Annotated[places.FilePath | None, Option('"/etc/kmsconn/private_key"')] = None
    signing_key_path: Annotated[places.FilePath | None, Option('"/etc/kmsconn/signing_key"')] = None
    mnemonic: Annotated[forms.SecretText | None, Option('"…"')] = None
    account_index: Annotated[forms.Number | None, Option("0")] = None
    key_id: Annotated[forms.Name | None, Option('"alias/tx-sender"', name="aws_kms_config.key_id")] = None
    region: Annotated[forms.Name | None, Option('"eu-west-1"', name="aws_kms_config.region")] = None
    endpoint: Annotated[
        places.HttpUrl | None, Option('"http://127.0.0.1:4566"', name="aws_kms_config.endpoint")
    ] = None
    allow_raw_key_on_mainnet: forms.Flag = False
    tx_sender_address: Annotated[
        places.ContractAddress | None, Option('"0x742d35cc6634c0532925a3b844bc454e4438f44e"')
    ] = None


@attrs.frozen
class WalletSettings:
    """The wallet that pays for replies: ``private_key`` or ``aws_kms``, one of the two (ValueError otherwise).

    A shadow needs neither, nor does a process that leaves sending to others: ``tx_sender_address`` says for which account it works.
    """

    private_key: Secret | None
    aws_kms: AwsKmsKey | None = None
    tx_sender_address: Address | None = None

    def __attrs_post_init__(self) -> None:
        if self.private_key is not None and self.aws_kms is not None:
            raise ValueError("the wallet is private_key or aws_kms, one of the two")
        if not self.can_sign and self.tx_sender_address is None:
            raise ValueError(
                "the wallet is private_key or aws_kms, one of the two; who sends nothing names tx_sender_address"
            )

    @property
    def can_sign(self) -> bool:
        """Whether there is a key."""
        return self.private_key is not None or self.aws_kms is not None


# --- where requests come from, and the work on them


@attrs.frozen
class ApiKey:
    """A key of a client of the HTTP API: its id, and the SHA-256 digest of the key, which itself is nowhere.

    ``max_in_flight``: its requests at once; ``requests_per_second``: on average, with a second's worth at once. None: no limit of its own.
    """

    id: str
    digest: bytes = attrs.field(repr=False)
    max_in_flight: int | None = None
    requests_per_second: float | None = None


@attrs.frozen
class ServerTls:
    """Certificate chain and private key of a server.

    cert_path: Certificate chain of that address, PEM. A changed file is used within seconds, without a restart. Default: no TLS.
    key_path: Private key of that certificate, PEM.
    """

    cert_path: Annotated[places.ExistingFile, Option('"/etc/kmsconn/http.pem"')]
    key_path: Annotated[places.ExistingFile, Option('"/etc/kmsconn/http.key"')]


@attrs.frozen
class HttpApi:
    """Decryption over HTTP: where it is served, to whom, and its limits.

    ``keys`` are those of ``keys_file`` as it was read at the start, and the one of ``key_digest``; none: everybody may ask.

    endpoint: Address where decryptions are asked for over HTTP ([http-decryption.md](http-decryption.md)). Default: none, and nothing is
      served.
    supported_chain_ids: Host chains whose handles are accepted over HTTP. Default: all of `host_chains`.
    keys_file: File with the keys of the clients, as digests, and the limits of each. A changed file is used within seconds, without a
      restart.
    key_digest: SHA-256 digest of one key without limits of its own, as hex, beside those of `api_keys_file`; its id is `default`.
    max_in_flight_decryptions: Number of clients that wait for an answer at once; further ones are told to come back (503).
    decryption_timeout: Time after which a waiting client is told to ask again (504); the work goes on.
    max_body_bytes: Maximum size of the body of a request.
    max_decryption_request_bits: Maximum number of encrypted bits that one request may ask for.
    max_allowed_contracts: Maximum number of contracts in the permit of one request.
    http_without_keys: Serve without keys on an address that is not a loopback one, because something before it checks them.
    """

    endpoint: Annotated[places.SocketAddress, Option('"0.0.0.0:8443"', name="http_endpoint")]
    supported_chain_ids: Annotated[forms.ChainIds, Option("[11155111]")]
    tls: Annotated[
        ServerTls | None, Section("tls_config", defaults=dict.fromkeys(("cert_path", "key_path")))
    ] = None
    keys: tuple[ApiKey, ...] = ()
    keys_file: Annotated[
        places.ExistingFile | None, Option('"/etc/kmsconn/api_keys.toml"', name="api_keys_file")
    ] = None
    key_digest: Annotated[forms.Digest | None, Option('"…"', name="api_key_digest")] = attrs.field(
        default=None, repr=False
    )
    max_in_flight_decryptions: forms.Count = 1000
    decryption_timeout: forms.Seconds = 30.0
    max_body_bytes: forms.ByteSize = 1 << 20
    max_decryption_request_bits: forms.Count = 2048
    max_allowed_contracts: forms.Count = 10
    http_without_keys: forms.Flag = False


@attrs.frozen
class ReadingSettings:
    """Where requests come from: how the chains are read, and what is served over HTTP; None: nothing.

    decryption_polling: Interval of polling the Gateway, also beside a websocket.
    key_management_polling: Interval of reading Ethereum's finalized blocks for key management.
    get_logs_batch_size: Initial number of blocks of one `eth_getLogs`; the reader adapts it to the node.
    decryption_from_block_number: First Gateway block to read. If the journal has a cursor already, the cursor stays, and the blocks from
      here on are read once more beside the head.
    kms_operation_from_block_number: First Ethereum block to read. If the journal has a cursor already, the cursor stays, and the blocks
      from here on are read once more beside the head.
    reorg_window: Span of recent blocks that the reader reads again. It must exceed the worst lag among the nodes behind one URL.
    """

    decryption_polling: Annotated[
        forms.Seconds, Option("", Alias("decryption_polling_ms", OLDER, forms.milliseconds))
    ] = 0.5
    key_management_polling: Annotated[
        forms.Seconds,
        Option(
            "",
            Alias("key_management_polling_ms", OLDER, forms.milliseconds),
            Alias("kms_generation_polling", WRONG),
        ),
    ] = 30.0
    get_logs_batch_size: forms.Count = 100
    decryption_from_block_number: Annotated[
        forms.Number | None, Option("1000000", Alias("from_block_number", OLDER))
    ] = None
    kms_operation_from_block_number: Annotated[
        forms.Number | None, Option("7000000", Alias("kms_from_block_number", WRONG))
    ] = None
    reorg_window: Annotated[forms.Seconds, Option("", Alias("overlap", FORMER))] = 30.0
    http_api: Annotated[
        HttpApi | None,
        Made(HttpApi, Section(defaults=dict.fromkeys(("endpoint", "supported_chain_ids")))),
    ] = None


@attrs.frozen
class Pools:
    """How many requests may be on their way at once, by pool.

    public_decryption: Number of concurrent public decryptions.
    user_decryption: Number of concurrent user decryptions.
    http_public_decryption: Number of concurrent public decryptions that were asked for over HTTP.
    http_user_decryption: Number of concurrent user decryptions that were asked for over HTTP.
    key_generation: Number of concurrent preprocessings, key and CRS generations.
    aborts: Number of concurrent aborts of generations.
    protocol_config: Number of concurrent requests about contexts, epochs and their ends; one waits only for an earlier one of the same
      context.
    """

    public_decryption: forms.Count = 128
    user_decryption: forms.Count = 128
    http_public_decryption: forms.Count = 128
    http_user_decryption: forms.Count = 128
    key_generation: forms.Count = 4
    aborts: forms.Count = 1
    protocol_config: forms.Count = 4


@attrs.frozen
class Deadlines:
    """How long one pass of a stage may take before the request is deferred.

    check: Time limit for one pass of the checks; then the request is deferred.
    gather: Time limit for one pass of fetching the ciphertexts of a request.
    submit: Time limit for one pass of submitting a request to the Core.
    answer: Time limit for one long poll of the Core's answer.
    """

    check: forms.Seconds = 15.0
    gather: forms.Seconds = 60.0
    submit: forms.Seconds = 60.0
    answer: forms.Seconds = 75.0


@attrs.frozen
class WorkSettings:
    """How much is worked on at once, and for how long.

    mode: `active` sends the replies. `shadow` sends nothing: it compares each reply with the one that another connector sends for the
      same node, and reports differences and the time gained ([migrating](migrating.md)).
    decryption_expiry: Age in chain time at which a decryption without an answer expires. By default `1h` where the Decryption contract is
      one of 0.7.0 or later, which belongs to fhevm 0.15, and `24h` before.
    drain_grace: Time for including answered requests after SIGTERM.
    roles: What this process does, of what several ones share over a journal in PostgreSQL: `hear` reads the contracts, `work` checks
      requests and asks the Core, `send` sends replies.
    """

    mode: forms.Modes = Mode.ACTIVE
    pools: Annotated[Pools, Section("pools")] = attrs.field(factory=Pools)
    deadlines: Annotated[Deadlines, Section("deadlines")] = attrs.field(factory=Deadlines)
    decryption_expiry: Annotated[forms.Seconds | None, Option('"1h"')] = None
    drain_grace: forms.Grace = 20.0
    roles: forms.Roles = ROLES


@attrs.frozen
class CiphertextSettings:
    """How ciphertexts are fetched and compared.

    s3_connect_timeout: Time limit for connecting to a bucket.
    attestation: Ciphertext attestations: `shadow` compares at most 20 per second beside the requests and reports mismatches; `off` skips
      the comparison; `enforce` defers a request until a quorum attests its ciphertexts as the chain names them. Requests with handles only
      (0.15) always need a quorum.
    attestation_head_timeout: Time limit for one HEAD request of an attestation.
    registry_refresh: Interval of reading the registry of coprocessors.
    max_ciphertext_size: Maximum size of a ciphertext.
    ciphertext_budget: Limit on the bytes of ciphertexts in memory.
    allow_http_buckets: Allow bucket addresses without TLS.
    allow_private_buckets: Allow loopback, link-local and private bucket addresses. Bucket addresses come from a chain.
    """

    s3_connect_timeout: forms.Seconds = 3.0
    attestation: Annotated[
        forms.Attestations, Option("", Alias("ct_attestation.enabled", translate=forms.shadow_or_off))
    ] = AttestationMode.SHADOW
    attestation_head_timeout: Annotated[
        forms.Seconds, Option("", Alias("s3_head_timeout", LATER), name="ct_attestation.head_timeout")
    ] = 5.0
    registry_refresh: Annotated[
        forms.Seconds,
        Option("", Alias("copro_registry_refresh", LATER), name="ct_attestation.registry_refresh"),
    ] = 60.0
    max_ciphertext_size: Annotated[forms.ByteSize, Option("", Alias("s3_max_ciphertext_size", LATER))] = (
        66 * 1024 * 1024
    )
    ciphertext_budget: forms.ByteSize = 512 * 1024 * 1024
    allow_http_buckets: forms.Flag = False
    allow_private_buckets: forms.Flag = False


@attrs.frozen
class TransactionSettings:
    """What replies may cost, and when they are final.

    trace_reverted_tx: Request a trace of a reply mined with status 0, to learn the reason.
    gas_multiplier_percent: Gas limit of a reply in percent of the estimate.
    ethereum_tx_required_confirmations: Confirmations that make a reply on Ethereum final if the node knows no finalized block.
    ethereum_tx_get_receipt_timeout: Time without a receipt after which a reply on Ethereum is replaced with a higher fee.
    gateway_tx_required_confirmations: Confirmations that make a reply on the Gateway final if the node knows no finalized block.
    max_fee_per_gas: Maximum price of a unit of gas. At a higher price replies wait and an alert is raised.
    max_priority_fee_per_gas: Maximum priority fee of a unit of gas. At a higher fee replies wait and an alert is raised.
    max_reply_cost: Maximum cost of one reply, gas limit times fee. A dearer reply waits and an alert is raised.
    """

    trace_reverted_tx: forms.Flag = True
    gas_multiplier_percent: forms.Percent = 115
    ethereum_tx_required_confirmations: forms.Count = 64
    ethereum_tx_get_receipt_timeout: forms.Seconds = 20 * 60.0
    gateway_tx_required_confirmations: forms.Count = 1200
    max_fee_per_gas: forms.Wei = 1000 * 10**9
    max_priority_fee_per_gas: forms.Wei = 50 * 10**9
    max_reply_cost: forms.Wei = 5 * 10**17


# --- the process


@attrs.frozen
class Retention:
    """How long what has ended stays in the journal; 0: for ever.

    contents: How long the journal keeps event, answer and signed bytes of a request after its end: at least `1h`; `0s` keeps them for
      ever.
    rows: How long the journal keeps the row of a request after its end: at least `1h`; `0s` keeps it for ever.
    """

    contents: forms.Age = 7 * 86_400.0
    rows: forms.Age = 90 * 86_400.0


@attrs.frozen
class JournalOptions:
    """The options that name the journal.

    journal: Database of requests and answers, `sqlite:///PATH` (a fourth slash begins an absolute path), or
      `postgresql://USER@HOST:PORT/DATABASE`, which several processes may share ([PostgreSQL](postgresql.md)). After its deletion the
      connector reads the chain again from `decryption_from_block_number` and loses no request; without that option it begins at the head.
    journal_password_file: File with the password of a journal in PostgreSQL (mode 0600), read for each connection. Default: the one in
      the URL, or what libpq finds by `PGPASSFILE`.
    """

    journal: Annotated[
        places.JournalUrl,
        Option("", Alias("database_url", translate=places.in_own_schema, remark=places.of_three_services)),
    ] = JOURNAL
    journal_password_file: Annotated[places.FilePath | None, Option('"/etc/kmsconn/journal_password"')] = None


@attrs.frozen
class StorageSettings:
    """The journal, how long it keeps what has ended, the socket for commands on it, and the audit log; None: there is none.

    database_pool_size: Maximum number of connections of this process that only read a journal in PostgreSQL; some others write.
    lease: Time after which the others take over from a process that has ended or cannot reach PostgreSQL: at least `1s`.
    control_socket: Unix socket of `kmsconn run` for `kmsconn requests` (mode 0600). Default: the journal's path with `.sock` appended;
      with a journal in PostgreSQL `service_name` with `.sock` appended, in `/run/kmsconn` where that folder exists, else beside the
      configuration file. An embedded connector opens none.
    audit_log: File to which each transition of a request is appended, as a chain of hashed JSON lines (mode 0600). Default: none.
    """

    journal: Annotated[Path | PostgresAddress, Made(JournalOptions)] = JOURNAL
    database_pool_size: forms.Count = 4
    lease: forms.Lease = 5.0
    retention: Annotated[Retention, Section("retention")] = attrs.field(factory=Retention)
    control_socket: Annotated[places.FilePath | None, Option('"/run/kmsconn/control.sock"')] = None
    audit_log: Annotated[places.FilePath | None, Option('"/var/lib/kmsconn/audit.jsonl"')] = None


@attrs.frozen
class StatusPageOptions:
    """The option that names the token of the status page.

    status_page_token_file: File with the token that a viewer of the status page must show, at least 16 characters (mode 0600).
    """

    status_page_token_file: Annotated[places.FilePath | None, Option('"/etc/kmsconn/status_page_token"')] = (
        None
    )


SAMPLED_BITS: Final = 64  # of a trace id, the low ones: OpenTelemetry's samplers decide by them


@attrs.frozen
class TracingSettings:
    """Where spans are posted to, of which service, and how many of them. For the command only, but for ``samples``.

    ``ratio``: the part of the traces that is exported. ``delay``: seconds between two exports; ``queue``: the spans that wait at most;
    ``batch``: those of one export.
    """

    endpoint: str = attrs.field(repr=show)
    headers: Mapping[str, Secret] = attrs.field(factory=dict)
    resource: Mapping[str, str] = attrs.field(factory=dict)
    ratio: float = 1.0
    timeout: float = 10.0
    gzip: bool = False
    delay: float = 5.0
    queue: int = 2048
    batch: int = 512

    def samples(self, trace_id: int) -> bool:
        """Say whether a trace is exported: the same in every process that has this ratio."""
        return trace_id % (1 << SAMPLED_BITS) < round(self.ratio * (1 << SAMPLED_BITS))


@attrs.frozen
class MonitoringSettings:
    """The name of the process, its port, its log and its traces. For the command only, but that the Core is told of a trace.

    No option but the variables of OpenTelemetry names ``tracing``; it is off where they name no endpoint.

    service_name: Name in logs and at `/version`.
    monitoring_endpoint: Address where `kmsconn run` serves `/metrics`, `/healthz`, `/liveness` and `/version`. An embedded connector
      opens no port.
    status_page: Where that address serves the status page at `/status`: `loopback` (only where the address is one), `on` (needs
      `status_page_token_file` on any other address), or `off`.
    log_level: Minimum level of log lines: `debug`, `info`, `warning` or `error`.
    log_format: `console`, `json`, or `auto`: console on a terminal, else JSON.
    """

    service_name: forms.Name = "kmsconn"
    monitoring_endpoint: places.SocketAddress = "0.0.0.0:9100"
    status_page: forms.StatusPages = StatusPage.LOOPBACK
    status_page_token: Annotated[Secret | None, Made(StatusPageOptions)] = None
    log_level: forms.Level = "info"
    log_format: forms.LogFormats = LogFormat.AUTO
    tracing: TracingSettings | None = None


@attrs.frozen
class Settings:
    """Everything that one connector needs to know, in groups. A setting has one name in all groups: see ``of`` and ``but``.

    ``proxies`` are for RPC, buckets, AWS and traces; no option but the usual variables of the environment names them.
    ``warnings`` is what the sources accepted without effect, or found unsafe; it says nothing about how the connector runs.
    """

    chains: Annotated[Chains, Made(ChainOptions)]
    protocol: Annotated[ProtocolSettings, Section()]
    core: Annotated[CoreSettings, Section()]
    wallet: Annotated[WalletSettings, Made(WalletOptions)]
    reading: Annotated[ReadingSettings, Section()] = attrs.field(factory=ReadingSettings)
    work: Annotated[WorkSettings, Section()] = attrs.field(factory=WorkSettings)
    ciphertexts: Annotated[CiphertextSettings, Section()] = attrs.field(factory=CiphertextSettings)
    transactions: Annotated[TransactionSettings, Section()] = attrs.field(factory=TransactionSettings)
    storage: Annotated[StorageSettings, Section()] = attrs.field(factory=StorageSettings)
    monitoring: Annotated[MonitoringSettings, Section()] = attrs.field(factory=MonitoringSettings)
    proxies: Proxies = NO_PROXIES
    warnings: tuple[Fault, ...] = attrs.field(default=(), eq=False)

    def __attrs_post_init__(self) -> None:
        if not self.wallet.can_sign and self.sends:
            raise ValueError("a connector that sends needs private_key or aws_kms")

    @property
    def is_shadow(self) -> bool:
        """Whether the connector sends nothing and compares."""
        return self.work.mode is Mode.SHADOW

    @property
    def sends(self) -> bool:
        """Whether the connector sends transactions: it is no shadow, and leaves them to no other process."""
        return not self.is_shadow and Role.SEND in self.work.roles

    @property
    def http_api(self) -> HttpApi | None:
        """Decryption over HTTP, None where it is not served."""
        return self.reading.http_api

    @classmethod
    def of(cls, **values: Any) -> Self:
        """Return settings from single ones by their names, whatever their groups. Raises TypeError for a name that is none."""
        groups = _grouped(values)
        made: dict[str, Any] = {name: group(**groups.pop(name, {})) for name, group in GROUPS.items()}
        return cls(**made, **groups)

    def but(self, **values: Any) -> Self:
        """Return these settings with other values of single ones, by their names. Raises TypeError for a name that is none."""
        groups = _grouped(values)
        for name in GROUPS.keys() & groups.keys():
            groups[name] = attrs.evolve(getattr(self, name), **groups[name])
        return attrs.evolve(self, **groups)


GROUPS: Final[Mapping[str, type[attrs.AttrsInstance]]] = {one.name: one.type for one in fields_of(Settings)}
GROUP_OF: Final = {field.name: name for name, group in GROUPS.items() for field in attrs.fields(group)}
"""The group of each single setting."""


def _grouped(values: Mapping[str, Any]) -> dict[str, Any]:
    groups: dict[str, Any] = {}
    for name, value in values.items():
        if name in GROUP_OF:
            groups.setdefault(GROUP_OF[name], {})[name] = value
        else:
            groups[name] = value
    return groups
