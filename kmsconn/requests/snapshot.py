"""The snapshot of a running connector: frozen values, one for each part that an operator asks about. Data only."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.journal.inspecting import PausedKind
from kmsconn.journal.members import MemberRow
from kmsconn.journal.queries import Counts
from kmsconn.replies.state import TxStatistics
from kmsconn.transport.waiting import StalledTask


@attrs.frozen
class HttpApiStatistics:
    """How much of its bounds the HTTP server uses.

    ``waiting``: clients that wait for an answer, of ``places``; ``dropped``: connections so far that had to go for another one.
    """

    waiting: int = 0
    places: int = 0
    connections: int = 0
    connections_limit: int = 0
    dropped: int = 0
    body_bytes: int = 0
    certificate_end: float | None = None
    """Unix time; None without TLS."""


@attrs.frozen
class QueueStatistics:
    """The requests: rows of the journal (``counts``, None before the first look), and the worker slots of each pool."""

    counts: Counts | None
    busy: Mapping[str, int]
    places: Mapping[str, int]
    gaps: int = 0
    """Requests that the contract has numbered and the journal does not know."""
    running: Mapping[str, int] = attrs.field(factory=dict)
    """How many requests workers have in each stage at this moment."""


@attrs.frozen
class ChainStatistics:
    """One chain, as far as it is known: its newest block, the seconds since head and finalized block, and lost connections.

    A chain that is only asked, such as a host chain, has no head here.
    """

    head: int | None = None
    head_time: float | None = None
    head_age: float | None = None
    finalized_age: float | None = None
    reconnects: int = 0
    chain_id: int | None = None
    finalized: int | None = None
    endpoint: str = ""
    """Scheme, host and port of the URL in use; empty where none is."""


@attrs.frozen
class CoreStatistics:
    """One endpoint of the Core: whether it serves, None before it has answered, and what is wrong with it otherwise."""

    serving: bool | None = None
    text: str = ""


@attrs.frozen
class CiphertextStatistics:
    """The ciphertexts: bytes in memory, how many were fetched, and how often each bucket was asked and failed."""

    bytes_held: int = 0
    fetched: int = 0
    bucket_attempts: Mapping[str, int] = attrs.field(factory=dict)
    bucket_failures: Mapping[str, int] = attrs.field(factory=dict)
    attestations_skipped: int = 0


@attrs.frozen
class JournalStatistics:
    """Where the journal is kept: free bytes on its file system, as far as known, and the processes that share it in PostgreSQL.

    ``token``: that of this process among the members.
    """

    free: int | None = None
    members: tuple[MemberRow, ...] = ()
    token: int = 0


@attrs.frozen
class Statistics:
    """A snapshot of the connector; cheap to take, at most a second old where it comes from the journal."""

    ready: bool
    draining: bool
    queue: QueueStatistics
    chains: Mapping[str, ChainStatistics] = attrs.field(factory=dict)
    """By name: ``gateway``, ``ethereum``, ``host chain 1``."""
    cores: Mapping[str, CoreStatistics] = attrs.field(factory=dict)
    """By name: ``core[0]``."""
    cursors: Mapping[str, int] = attrs.field(factory=dict)
    """The first block not read, by the address of the contract."""
    ciphertexts: CiphertextStatistics = attrs.field(factory=CiphertextStatistics)
    transactions: Mapping[str, TxStatistics] = attrs.field(factory=dict)
    """Of the transaction manager of each chain, by the chain's name."""
    stalled: tuple[StalledTask, ...] = ()
    """Tasks of this process that make no progress, for ``/liveness``."""
    paused: tuple[PausedKind, ...] = ()
    """Kinds that an operator has paused."""
    http: HttpApiStatistics | None = None
    """Of decryption over HTTP, None where it is not served."""
    journal: JournalStatistics = JournalStatistics()
