"""The settings of a connector in groups, here those of the process; each option is described where it stands.

A description has the option's form, other names, an example; the meaning stands in the docstring of its class.
Units: seconds, bytes, blocks. Where values come from is for ``sources``, which options a generation has for ``options`` and ``httpz``;
``docs/options.md`` is printed from these. Annotations are read at run time (``description``).
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Self

import attrs

from kmsconn.config import forms, places
from kmsconn.config.description import (
    Alias,
    LogFormat,
    Made,
    Mode,
    PostgresAddress,
    Role,
    Secret,
    Section,
    StatusPage,
    fields_of,
)
from kmsconn.config.parties import (
    ChainOptions,
    Chains,
    CoreSettings,
    ProtocolSettings,
    WalletOptions,
    WalletSettings,
)
from kmsconn.config.working import (
    CiphertextSettings,
    HttpApi,
    ReadingSettings,
    TransactionSettings,
    WorkSettings,
)
from kmsconn.errors import Fault
from kmsconn.transport.proxies import NO_PROXIES, Proxies
from kmsconn.transport.urls import show

JOURNAL: Final = Path("kmsconn.db")


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
        Alias("database_url", translate=places.in_own_schema, remark=places.of_three_services),
    ] = JOURNAL
    journal_password_file: places.FilePath | None = None


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
    control_socket: places.FilePath | None = None
    audit_log: places.FilePath | None = None


@attrs.frozen
class StatusPageOptions:
    """The option that names the token of the status page.

    status_page_token_file: File with the token that a viewer of the status page must show, at least 16 characters (mode 0600).
    """

    status_page_token_file: places.FilePath | None = None


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
