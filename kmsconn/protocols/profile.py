"""What a generation is to the pipeline: its operations, and what is about none of them: contracts, contexts, coprocessors, keys.

Pure: it returns questions, and reads what comes back.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterable, Mapping
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Protocol

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Content, Kind
from kmsconn.protocols.port import Numbering, Operation, Posted, id_in_topic
from kmsconn.protocols.queries import ContractQuery, PlannedQueries

_FIRST_TOPIC = id_in_topic(1)

Version = tuple[int, int, int]
"""The version of a contract: major, minor, patch."""


@attrs.frozen
class ConfiguredContract:
    """A contract whose address the option ``option`` names, and what it is asked for to see that it is the one that is meant.

    ``identity`` is what its kind alone answers, with its version where it has a readable one. ``domain``, of contracts for which something
    is signed, compares its EIP-712 domain with the configured one, and says whether it tells one. Both raise WrongContract, NotYet.
    """

    kind: str
    option: str
    chain_id: int
    address: Address
    identity: ContractQuery[Version | None]
    domain: ContractQuery[bool] | None = None


@attrs.frozen
class Spoken:
    """The newest version of a contract that is known here, major and minor, and what a newer one concerns."""

    newest: tuple[int, int]
    concerns: str


@attrs.frozen
class Coprocessor:
    """Where a coprocessor keeps its ciphertexts and with which key it attests them."""

    tx_sender: Address
    signer: Address
    bucket: str


@attrs.frozen
class Registration:
    """What a registry of nodes says of a tx sender in its current context: who signs for it; zero: it is no node of the context.

    ``context_id`` is None in a generation without contexts.
    """

    registry: str
    context_id: int | None
    signer: Address


@attrs.frozen
class MaterialInUse:
    """The context, epoch, key and CRS in use, as the chain has them; 0: there is none yet, or the generation has no such thing."""

    context_id: int = 0
    epoch_id: int = 0
    key_id: int = 0
    crs_id: int = 0


@attrs.frozen
class KeysAndCrs:
    """Keys and CRS, by their ids."""

    keys: frozenset[int] = frozenset()
    crs: frozenset[int] = frozenset()

    def lacking(self, wanted: KeysAndCrs) -> tuple[int, ...]:
        """Return what is wanted and not here."""
        return *sorted(wanted.keys - self.keys), *sorted(wanted.crs - self.crs)


@attrs.frozen
class MaterialCall:
    """The Core's call without an argument that tells its keys and CRS. ``read`` raises Undecodable."""

    method: str
    read: Callable[[bytes], KeysAndCrs]


@attrs.frozen
class KeyMigration:
    """The migration of a key by a request. The Cores that took part have recorded the key with its preparation ``prep_id`` since."""

    key_id: int
    request_id: int
    prep_id: int


@attrs.frozen
class RecordCall:
    """The Core's call that returns the preparation with which it has recorded a key; 0: it names none. ``read`` raises Undecodable."""

    method: str
    message: Callable[[int], bytes]
    read: Callable[[bytes], int]


@attrs.frozen
class PublicObject:
    """An object that this node's public storage must have: where it may lie, and the SHAKE-256 of ``hashed_before`` and its bytes."""

    key_id: int
    urls: tuple[str, ...]
    hashed_before: bytes
    digest: bytes


@attrs.frozen
class Subscription:
    """One contract to listen to and the topic0 values that matter there; ``finalized``: no further than the finalized block."""

    chain_id: int
    contract: Address
    topics: tuple[bytes, ...]
    finalized: bool = False


REMEMBERED_CONTENTS = 256
"""Contents. Who hears of a request and who works on it read the same event, mostly within moments."""


class EventTable:
    """The request events of operations, by topic: reads logs. Rows do as well as operations that are made of them."""

    def __init__(self, operations: Iterable[Operation[Any] | type[Operation[Any]]]) -> None:
        self._by_topic = {
            event.event.topic0: (operation, event) for operation in operations for event in operation.events
        }
        self._read = lru_cache(REMEMBERED_CONTENTS)(self._read_anew)

    @property
    def kinds(self) -> Mapping[bytes, Kind]:
        """The kind of request that each topic announces."""
        return {topic0: operation.kind for topic0, (operation, _) in self._by_topic.items()}

    def decode(self, log: Log) -> Content | None:
        """Read a request event; None for one that asks for nothing. Raises Undecodable."""
        return self._read(log.topics, log.data)

    def _read_anew(self, topics: tuple[bytes, ...], data: bytes) -> Content | None:
        found = self._by_topic.get(topics[0]) if topics else None
        if found is None:
            raise Undecodable("no request event of this generation")
        _, event = found
        return event.make(*event.event.decode(topics, data))

    def digest(self, log: Log) -> bytes:
        """Return what tells this content from other content under the same id. Raises Undecodable."""
        content = self.decode(log)
        return self._by_topic[log.topics[0]][0].digest(log, content)

    def id_of(self, log: Log) -> int | None:
        """Return the id that a request event names, even where the rest of it cannot be read; None where it names none.

        An event that is not known any more is taken for one that has its id as a topic.
        """
        found = self._by_topic.get(log.topics[0]) if log.topics else None
        return _FIRST_TOPIC(log) if found is None else found[1].id_of(log)


class CoprocessorViews(Protocol):
    """Questions to a registry of coprocessors (3.1)."""

    def coprocessor_senders(self) -> ContractQuery[tuple[Address, ...]]:
        """Ask for the coprocessors' tx senders."""
        ...

    def coprocessor(self, tx_sender: Address, /) -> ContractQuery[Coprocessor]:
        """Ask for one coprocessor."""
        ...

    def coprocessor_threshold(self) -> ContractQuery[int]:
        """Ask for the majority threshold."""
        ...


class Profile(EventTable, ABC):
    """One generation: its operations, and what is about none of them: its deployment, contexts and coprocessors."""

    name: ClassVar[str]
    has_attestations: ClassVar[bool]
    """Whether coprocessors attest their ciphertexts, so that the whole registry must be known.

    Without, objects lie under their digests at places of the first generation, which may want credentials.
    """
    material_call: ClassVar[MaterialCall | None] = None
    """How a Core is asked for its keys and CRS, where it can be."""
    record_call: ClassVar[RecordCall | None] = None
    """How a Core is asked with which preparation it has recorded a key, where keys are migrated."""
    spoken: ClassVar[Mapping[str, Spoken]] = MappingProxyType({})
    """What is known of the contracts' versions, by kind."""
    later_network: ClassVar[tuple[str, Version] | None] = None
    """The contract that tells a release whose nodes give decryptions up after an hour, and its first version; None: there is none."""

    def __init__(self, operations: Iterable[Operation[Any]], registry: CoprocessorViews) -> None:
        self.registry = registry
        self.operations: Mapping[Kind, Operation[Any]] = {one.kind: one for one in operations}
        super().__init__(self.operations.values())

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the contracts to listen to, each with the events of its operations; what comes over HTTP is heard of by none."""
        topics: dict[tuple[int, Address, bool], list[bytes]] = {}
        for one in (one for one in self.operations.values() if not isinstance(one, Posted)):
            found = topics.setdefault((*one.contract, one.finalized), [])
            found += [event.event.topic0 for event in one.events]
        return tuple(
            Subscription(chain_id, contract, tuple(found), finalized)
            for (chain_id, contract, finalized), found in topics.items()
        )

    def numberings(self, subscription: Subscription) -> tuple[Numbering, ...]:
        """Return how a contract numbers its requests (annex E); a newest id of 0 or the bare tag: none yet."""
        where = (subscription.chain_id, subscription.contract)
        found = (one.numbering() for one in self.operations.values() if one.contract == where)
        return tuple(one for one in found if one is not None)

    def all_topics(self, contract: Address) -> frozenset[bytes]:
        """Return all topics that a contract is known to emit, whoever listens to them; empty: nobody looks for others."""
        return frozenset()

    def has_many_events(self, contract: Address) -> bool:
        """Say whether a contract emits so much that only samples of it are looked at for unknown topics."""
        return False

    def made_material(self, tx_sender: Address) -> PlannedQueries[KeysAndCrs] | None:
        """Return what must be asked for the keys and CRS that a node must have; None: nobody looks for them."""
        return None

    def missed_migrations(self, tx_sender: Address) -> PlannedQueries[tuple[KeyMigration, ...]] | None:
        """Return what must be asked for the migrations that were made without a node; None: no key is ever migrated."""
        return None

    def migrated_key_set(self, tx_sender: Address) -> PlannedQueries[PublicObject | None] | None:
        """Return what must be asked for the object of a migrated key in the storage of a node; None: no key is ever migrated."""
        return None

    @abstractmethod
    def contracts(self) -> tuple[ConfiguredContract, ...]:
        """Return the configured contracts."""

    @abstractmethod
    def context_checks(self, context_id: int | None, epoch_id: int | None) -> PlannedQueries[None] | None:
        """Return what must be asked about context and epoch (3.5); raises NotYet, or Destroyed."""

    @abstractmethod
    def memberships(self, tx_sender: Address, known: Collection[int]) -> PlannedQueries[bool]:
        """Return what must be asked whether a tx sender is a node of any context that is valid; it has been one of the ``known``."""

    @abstractmethod
    def registrations(self, tx_sender: Address) -> tuple[PlannedQueries[Registration], ...]:
        """Return what must be asked who signs for a tx sender in the current context of each registry."""

    @abstractmethod
    def material(self) -> PlannedQueries[MaterialInUse]:
        """Return what must be asked for the context, epoch, key and CRS in use."""
