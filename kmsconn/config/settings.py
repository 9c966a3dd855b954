"""The settings of a connector as typed values. Reading them from files and the environment is for ``sources``.

Units: seconds, bytes, blocks. Defaults stand here; names and meanings in ``options``, from where ``docs/options.md`` is printed.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import attrs

from kmsconn.errors import Fault
from kmsconn.ethereum.addresses import Address
from kmsconn.model.profiles import FHEVM
from kmsconn.transport.proxies import NO_PROXIES, Proxies
from kmsconn.transport.urls import show, show_origin


class Secret:
    """A text that never shows: neither ``str`` nor ``repr`` nor an exception holds it; ``reveal`` gives it to the one who signs."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(…)"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and self._text == other._text

    def __hash__(self) -> int:
        return hash((Secret, self._text))


@attrs.frozen
class AwsKmsKey:
    """A key that stays in AWS KMS: its id, ARN or alias; region and endpoint where AWS's own resolution should not find them."""

    key_id: str
    region: str | None = None
    endpoint: str | None = attrs.field(default=None, repr=lambda url: str(url and show_origin(url)))


@attrs.frozen
class PostgresAddress:
    """Where a journal in PostgreSQL is, and how it is reached; as text the servers and the database, and nothing secret.

    ``hosts`` are names, addresses or folders of a socket, in order of preference; none: what libpq takes by itself, as for an absent user,
    password or port. ``ports`` are none, one for all hosts, or as many as hosts. ``parameters`` are others of libpq, by their names.
    ``password_file`` has the password, as whoever rotates it has it at present: it is read for each connection.
    """

    database: str
    hosts: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    user: str = attrs.field(default="", repr=False)
    password: Secret | None = None
    parameters: Mapping[str, str] = attrs.field(factory=dict, repr=False)
    password_file: Path | None = None

    def __str__(self) -> str:
        """Return it as a URL without user, password and parameters."""
        ports = self.ports if len(self.ports) == len(self.hosts) else self.ports[:1] * len(self.hosts)
        shown = [f"[{host}]" if ":" in host else host for host in self.hosts]
        if ports:
            shown = [f"{host}:{port}" for host, port in zip(shown, ports, strict=True)]
        servers = ",".join(shown)
        if any(host.startswith("/") for host in self.hosts):
            return f"postgresql:///{self.database}?host={servers}"
        return f"postgresql://{servers}/{self.database}"

    @property
    def is_local(self) -> bool:
        """Whether every server is reached by a socket of this machine's file system. False where libpq chooses by itself."""
        return bool(self.hosts) and all(host.startswith(("/", "@")) for host in self.hosts)

    def keywords(self) -> dict[str, Any]:
        """Return the parameters of a connection as libpq names them, a password that is known among them: not to be shown."""
        named = {
            "host": ",".join(self.hosts),
            "port": ",".join(map(str, self.ports)),
            "dbname": self.database,
            "user": self.user,
            "password": "" if self.password is None else self.password.reveal(),
        }
        return {**self.parameters, **{name: value for name, value in named.items() if value}}


class Role(StrEnum):
    """What a process does, of what several processes over one journal share."""

    HEAR = "hear"
    """It reads the contracts and records requests."""
    WORK = "work"
    """It checks requests, fetches ciphertexts and asks the Core."""
    SEND = "send"
    """It sends replies until they are final."""


ROLES: Final = frozenset(Role)


class AttestationMode(StrEnum):
    """What becomes of a ciphertext attestation that does not hold."""

    OFF = "off"
    SHADOW = "shadow"
    ENFORCE = "enforce"


class Mode(StrEnum):
    """Whether a connector sends its replies, or only compares them with those that another connector sends for the same node."""

    ACTIVE = "active"
    SHADOW = "shadow"


class LogFormat(StrEnum):
    """How log lines look."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class StatusPage(StrEnum):
    """Where the status page is served."""

    LOOPBACK = "loopback"
    ON = "on"
    OFF = "off"


@attrs.frozen
class Contract:
    """A contract and its EIP-712 domain."""

    address: Address
    domain_name: str
    domain_version: str = "1"


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


@attrs.frozen
class Pools:
    """How many requests may be on their way at once, by pool."""

    public_decryption: int = 128
    user_decryption: int = 128
    http_public_decryption: int = 128
    http_user_decryption: int = 128
    key_generation: int = 4
    aborts: int = 1
    protocol_config: int = 4


@attrs.frozen
class Deadlines:
    """How long one pass of a stage may take, in seconds, before the request is deferred."""

    check: float = 15.0
    gather: float = 60.0
    submit: float = 60.0
    answer: float = 75.0


@attrs.frozen
class Retention:
    """How long what has ended stays in the journal, in seconds since its end; 0: for ever.

    ``contents``: the event, the answer and the signed bytes of a request; ``rows``: all that is known of it.
    """

    contents: float = 7 * 86_400.0
    rows: float = 90 * 86_400.0


@attrs.frozen
class CoreTls:
    """TLS towards the Core; absent files mean plaintext as all shipped Cores have it."""

    ca_file: Path | None = None
    certificate_file: Path | None = None
    key_file: Path | None = None


class CompressedKeySets(StrEnum):
    """Whether fresh keys are asked for as compressed key sets; ``auto`` goes by the version of the contract that asks for a key."""

    AUTO = "auto"
    ALWAYS = "true"
    NEVER = "false"


def compressed_key_sets(value: CompressedKeySets | bool) -> CompressedKeySets:
    """Return a truth value as one of these."""
    return CompressedKeySets(str(value).lower())


def _given(ids: Mapping[int, int] | None) -> Mapping[int, int]:
    return {} if ids is None else ids


@attrs.frozen
class S3Fallback:
    """Where ciphertexts are looked for when the chain names no usable bucket."""

    region: str
    bucket: str
    endpoint: str | None = attrs.field(default=None, repr=lambda url: str(url and show_origin(url)))


@attrs.frozen
class Httpz:
    """What only the generation ``httpz-rc7`` asks for.

    ``plaintext_encoding``: ``auto``, or the one form of public results (``p3``, ``p1``, ``p2``, ``raw``). ``fhe_parameters``: digest on
    chain → number of the Core's parameters; empty: the Core's default. ``preprocessing``: False for a centralised Core, which has none.
    ``key_management_at_finality``: key requests wait until their block is final. ``tolerant_digests``: bytes of a ciphertext are used
    though their digest is not the one on chain.
    """

    plaintext_encoding: str = "auto"
    fhe_parameters: Mapping[bytes, int] = attrs.field(factory=dict)
    preprocessing: bool = True
    key_management_at_finality: bool = True
    tolerant_digests: bool = False
    s3: S3Fallback | None = None


@attrs.frozen
class Chains:
    """The chains of one deployment. In the generation ``httpz-rc7`` both are the same one, and there are no host chains."""

    gateway: Chain
    ethereum: Chain
    host_chains: tuple[HostChain, ...]


@attrs.frozen
class ProtocolSettings:
    """The generation of the protocol, its contracts, and what is asked of the Core.

    In the generation ``httpz-rc7`` ``decryption_contract`` is the DecryptionManager, ``gateway_config_contract`` and
    ``protocol_config_contract`` are HTTPZ, and ``kms_generation_contract`` is the KeyManager.
    """

    decryption_contract: Contract
    gateway_config_contract: Contract
    protocol_config_contract: Contract
    kms_generation_contract: Contract
    profile: str = FHEVM
    compressed_key_sets: CompressedKeySets = attrs.field(
        default=CompressedKeySets.AUTO, converter=compressed_key_sets
    )
    preprocessing_ids: Mapping[int, int] = attrs.field(factory=dict, converter=_given)
    erc1271_gas_limit: int = 250_000
    httpz: Httpz = attrs.field(factory=Httpz)


@attrs.frozen
class CoreSettings:
    """How the Core is reached, and the bytes of its answers in memory at once."""

    core_endpoints: tuple[str, ...]
    core_tls: CoreTls | None = None
    core_reply_budget: int = 512 * 1024 * 1024
    healthcheck_timeout: float = 3.0


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
    """Certificate chain and private key of a server, PEM."""

    cert_path: Path
    key_path: Path


@attrs.frozen
class HttpApi:
    """Decryption over HTTP: where it is served, to whom, and its limits.

    ``keys`` are those of ``keys_file`` as it was read at the start, and the one of ``key_digest``; none: everybody may ask.
    ``decryption_timeout``: seconds until a client is told to ask again; ``supported_chain_ids``: host chains of handles.
    """

    endpoint: str
    supported_chain_ids: frozenset[int]
    tls: ServerTls | None = None
    keys: tuple[ApiKey, ...] = ()
    keys_file: Path | None = None
    key_digest: bytes | None = attrs.field(default=None, repr=False)
    max_in_flight_decryptions: int = 1000
    decryption_timeout: float = 30.0
    max_body_bytes: int = 1 << 20
    max_decryption_request_bits: int = 2048
    max_allowed_contracts: int = 10


@attrs.frozen
class ReadingSettings:
    """Where requests come from: how the chains are read, and what is served over HTTP; None: nothing."""

    decryption_polling: float = 0.5
    key_management_polling: float = 30.0
    get_logs_batch_size: int = 100
    decryption_from_block_number: int | None = None
    kms_operation_from_block_number: int | None = None
    reorg_window: float = 30.0
    http_api: HttpApi | None = None


@attrs.frozen
class WorkSettings:
    """How much is worked on at once, and for how long; ``mode``: whether the replies are sent; ``roles``: what this process does."""

    mode: Mode = Mode.ACTIVE
    pools: Pools = attrs.field(factory=Pools)
    deadlines: Deadlines = attrs.field(factory=Deadlines)
    decryption_expiry: float | None = None
    """None: as the network's release does, a day or an hour."""
    drain_grace: float = 20.0
    roles: frozenset[Role] = ROLES


@attrs.frozen
class CiphertextSettings:
    """How ciphertexts are fetched and compared."""

    s3_connect_timeout: float = 3.0
    attestation: AttestationMode = AttestationMode.SHADOW
    attestation_head_timeout: float = 5.0
    registry_refresh: float = 60.0
    max_ciphertext_size: int = 66 * 1024 * 1024
    ciphertext_budget: int = 512 * 1024 * 1024
    allow_http_buckets: bool = False
    allow_private_buckets: bool = False


@attrs.frozen
class TransactionSettings:
    """What replies may cost, and when they are final."""

    trace_reverted_tx: bool = True
    gas_multiplier_percent: int = 115
    ethereum_tx_required_confirmations: int = 64
    ethereum_tx_get_receipt_timeout: float = 20 * 60.0
    gateway_tx_required_confirmations: int = 1200
    max_fee_per_gas: int = 1000 * 10**9
    max_priority_fee_per_gas: int = 50 * 10**9
    max_reply_cost: int = 5 * 10**17


@attrs.frozen
class StorageSettings:
    """The journal, how long it keeps what has ended, the socket for commands on it, and the audit log; None: there is none.

    ``journal``: a file of SQLite, or a database of PostgreSQL, which several processes may share; ``lease``: the seconds after which a
    process that says nothing counts as gone; ``database_pool_size``: its connections that only read, at most.
    """

    journal: Path | PostgresAddress = Path("kmsconn.db")
    database_pool_size: int = 4
    lease: float = 5.0
    retention: Retention = attrs.field(factory=Retention)
    control_socket: Path | None = None
    audit_log: Path | None = None


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
    """

    service_name: str = "kmsconn"
    monitoring_endpoint: str = "0.0.0.0:9100"
    status_page: StatusPage = StatusPage.LOOPBACK
    status_page_token: Secret | None = None
    log_level: str = "info"
    log_format: LogFormat = LogFormat.AUTO
    tracing: TracingSettings | None = None


@attrs.frozen
class Settings:
    """Everything that one connector needs to know, in groups. A setting has one name in all groups: see ``of`` and ``but``.

    ``proxies`` are for RPC, buckets, AWS and traces; no option but the usual variables of the environment names them.
    ``warnings`` is what the sources accepted without effect, or found unsafe; it says nothing about how the connector runs.
    """

    chains: Chains
    protocol: ProtocolSettings
    core: CoreSettings
    wallet: WalletSettings
    reading: ReadingSettings = attrs.field(factory=ReadingSettings)
    work: WorkSettings = attrs.field(factory=WorkSettings)
    ciphertexts: CiphertextSettings = attrs.field(factory=CiphertextSettings)
    transactions: TransactionSettings = attrs.field(factory=TransactionSettings)
    storage: StorageSettings = attrs.field(factory=StorageSettings)
    monitoring: MonitoringSettings = attrs.field(factory=MonitoringSettings)
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
    def of(cls, **values: Any) -> Settings:
        """Return settings from single ones by their names, whatever their groups. Raises TypeError for a name that is none."""
        groups = _grouped(values)
        made: dict[str, Any] = {name: group(**groups.pop(name, {})) for name, group in GROUPS.items()}
        return cls(**made, **groups)

    def but(self, **values: Any) -> Settings:
        """Return these settings with other values of single ones, by their names. Raises TypeError for a name that is none."""
        groups = _grouped(values)
        for name in GROUPS.keys() & groups.keys():
            groups[name] = attrs.evolve(getattr(self, name), **groups[name])
        return attrs.evolve(self, **groups)


GROUPS: Final[Mapping[str, type[attrs.AttrsInstance]]] = {
    "chains": Chains,
    "protocol": ProtocolSettings,
    "core": CoreSettings,
    "wallet": WalletSettings,
    "reading": ReadingSettings,
    "work": WorkSettings,
    "ciphertexts": CiphertextSettings,
    "transactions": TransactionSettings,
    "storage": StorageSettings,
    "monitoring": MonitoringSettings,
}
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
