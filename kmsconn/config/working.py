"""The settings of the work on requests: where they come from, how much at once, their ciphertexts and what replies may cost."""

from typing import Annotated

import attrs

from kmsconn.config import forms, places
from kmsconn.config.description import (
    FORMER,
    LATER,
    OF_PROXY,
    OLDER,
    ROLES,
    WRONG,
    Alias,
    AttestationMode,
    Made,
    Mode,
    OptionName,
    Section,
)


@attrs.frozen
class ApiKey:
    """A key of a client of the HTTP API: its id, and the SHA-256 digest of the key, which itself is nowhere.

    ``max_in_flight``: its requests at once; ``requests_per_second``: on average, with a second's worth at once. None: no limit of its own.
    """

    id: forms.KeyId
    sha256: forms.Digest = attrs.field(repr=False)
    max_in_flight: forms.Count | None = None
    requests_per_second: forms.Rate | None = None


@attrs.frozen
class ServerTls:
    """Certificate chain and private key of a server.

    cert_path: Certificate chain of that address, PEM. A changed file is used within seconds, without a restart. Default: no TLS.
    key_path: Private key of that certificate, PEM.
    """

    cert_path: places.ExistingFile
    key_path: places.ExistingFile


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

    endpoint: Annotated[
        places.SocketAddress,
        Alias("proxy_bind_address", OF_PROXY, wins=True),
        OptionName("http_endpoint"),
    ]
    supported_chain_ids: forms.ChainIds
    tls: Annotated[ServerTls | None, Section("tls_config", optional=True)] = None
    keys: tuple[ApiKey, ...] = ()
    keys_file: Annotated[places.ExistingFile | None, OptionName("api_keys_file")] = None
    key_digest: Annotated[forms.Digest | None, OptionName("api_key_digest")] = attrs.field(
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
        forms.Seconds, Alias("decryption_polling_ms", OLDER, forms.milliseconds)
    ] = 0.5
    key_management_polling: Annotated[
        forms.Seconds,
        Alias("key_management_polling_ms", OLDER, forms.milliseconds),
        Alias("kms_generation_polling", WRONG),
    ] = 30.0
    get_logs_batch_size: forms.Count = 100
    decryption_from_block_number: Annotated[forms.Number | None, Alias("from_block_number", OLDER)] = None
    kms_operation_from_block_number: Annotated[forms.Number | None, Alias("kms_from_block_number", WRONG)] = (
        None
    )
    reorg_window: Annotated[forms.Seconds, Alias("overlap", FORMER)] = 30.0
    http_api: Annotated[HttpApi | None, Made(HttpApi, Section(optional=True))] = None


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
    decryption_expiry: forms.Seconds | None = None
    drain_grace: Annotated[forms.Grace, Alias("shutdown_grace_period", LATER)] = 20.0
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
        forms.Attestations, Alias("ct_attestation.enabled", translate=forms.shadow_or_off)
    ] = AttestationMode.SHADOW
    attestation_head_timeout: Annotated[
        forms.Seconds, Alias("s3_head_timeout", LATER), OptionName("ct_attestation.head_timeout")
    ] = 5.0
    registry_refresh: Annotated[
        forms.Seconds,
        Alias("copro_registry_refresh", LATER),
        OptionName("ct_attestation.registry_refresh"),
    ] = 60.0
    max_ciphertext_size: Annotated[forms.ByteSize, Alias("s3_max_ciphertext_size", LATER)] = 66 * 1024 * 1024
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
