"""What a protocol generation is to the pipeline: operations, each a row of data and pure functions. The tree knows nothing else of it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from enum import StrEnum
from functools import lru_cache
from types import MappingProxyType
from typing import Any, ClassVar, Generic, Protocol, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.abi import Event, Function
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.keccak import keccak256
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.model.steps import Answer, Ciphertext

T = TypeVar("T")
_WORD_BYTES = 32
T_co = TypeVar("T_co", covariant=True)


class ContractQuery(Protocol[T_co]):
    """One read of a chain: what to ask, and how to understand what comes back."""

    @property
    def chain_id(self) -> int:
        """The chain to ask."""
        ...

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        ...

    def understand(self, result: Any) -> T_co:
        """Read the result, as bytes, or as a sequence of logs.

        Raises Undecodable; a check raises Rejected or NotYet when the answer is no.
        """
        ...

    def refused(self, message: str, data: bytes | None) -> T_co | None:
        """Read a JSON-RPC error that is an answer; None (the default) means that it is none: ask again later."""
        ...


class Instead(Exception):  # noqa: N818 - no error: the contract is of another revision
    """Raised by a question that found the other revision of a contract: another question is to be asked instead."""

    def __init__(self, question: ContractQuery[Any]) -> None:
        super().__init__()
        self.question = question


@attrs.frozen
class ViewCall(Generic[T]):
    """An ``eth_call`` without a sender, at ``latest`` or at the block of a number."""

    chain_id: int
    to: Address
    data: bytes
    read: Callable[[bytes], T]
    gas: int | None = None
    on_error: Callable[[str, bytes | None], T | None] | None = None
    block: int | None = None

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        message = {"to": to_hex(self.to), "data": to_hex(self.data)}
        if self.gas is not None:
            message["gas"] = quantity(self.gas)
        return "eth_call", (message, "latest" if self.block is None else quantity(self.block))

    def understand(self, result: bytes) -> T:
        """Read the return data."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Read a revert where it is an answer."""
        return None if self.on_error is None else self.on_error(message, data)


@attrs.frozen
class StorageRead(Generic[T]):
    """An ``eth_getStorageAt`` at ``latest`` or another block that has a name."""

    chain_id: int
    to: Address
    slot: int
    read: Callable[[bytes], T]
    block: str = "latest"

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        return "eth_getStorageAt", (to_hex(self.to), f"0x{self.slot:064x}", self.block)

    def understand(self, result: bytes) -> T:
        """Read the 32-byte word. Raises Undecodable for what is none: nothing that cannot be taken back may follow from it."""
        if len(result) != _WORD_BYTES:
            raise Undecodable(f"a word of storage has {_WORD_BYTES} bytes, not {len(result)}")
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Nothing that a node says instead of a word is an answer."""
        return None


QueryPlan = Generator[Sequence[ContractQuery[Any]], Sequence[Any], T]
"""Questions to one chain in rounds, where later ones follow from earlier answers: each round is one batch to one node.

It yields the questions of a round, gets their answers, and returns what they amount to.
"""

PlannedQueries = tuple[int, QueryPlan[T]]
"""An plan with the chain that it is put to."""


@attrs.frozen
class LogsAt(Generic[T]):
    """An ``eth_getLogs`` of one contract and one block; ``topics`` as the node takes them."""

    chain_id: int
    contract: Address
    topics: tuple[bytes, ...]
    block: int
    read: Callable[[Sequence[Log]], T]

    def call(self) -> tuple[str, tuple[Any, ...]]:
        """Return the JSON-RPC method and its parameters."""
        where = {"address": to_hex(self.contract), "topics": [to_hex(topic) for topic in self.topics]}
        return "eth_getLogs", ({**where, "fromBlock": quantity(self.block), "toBlock": quantity(self.block)},)

    def understand(self, result: Sequence[Log]) -> T:
        """Read the logs."""
        return self.read(result)

    def refused(self, message: str, data: bytes | None) -> T | None:
        """Nothing that a node says instead of logs is an answer."""
        return None


@attrs.frozen
class Numbering:
    """Ids that a contract gives out without gaps: the kind of request they name, their tag, and the question for the newest.

    ``before_first`` is the counter below the first one that has an event.
    """

    kind: Kind
    tag: int
    newest: ContractQuery[int]
    before_first: int = 0


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
class Facts:
    """What a check knows beside the content: chain time, seconds since it was recorded, who sends our replies.

    ``to`` and ``input`` are those of a legacy request's transaction. ``domain_confirmed``: the contract has confirmed within the hour that
    the configured EIP-712 domain is its own; before that nobody's signature is wrong for good.
    """

    chain_time: float
    age: float
    to: Address | None = None
    input: bytes = b""
    tx_sender: Address | None = None
    domain_confirmed: bool = True


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
class PublicObject:
    """An object that this node's public storage must have: where it may lie, and the SHAKE-256 of ``hashed_before`` and its bytes.

    ``made_here``: the contract has this node's answer to the request that made it.
    """

    key_id: int
    urls: tuple[str, ...]
    hashed_before: bytes
    digest: bytes
    made_here: bool = True


@attrs.frozen
class Subscription:
    """One contract to listen to and the topic0 values that matter there; ``finalized``: no further than the finalized block."""

    chain_id: int
    contract: Address
    topics: tuple[bytes, ...]
    finalized: bool = False


class Chunks:
    """A protobuf message cut into pieces, so that large ciphertexts are never copied into one buffer."""

    def __init__(self, parts: Sequence[bytes]) -> None:
        self.parts = tuple(parts)
        self.size = sum(len(part) for part in self.parts)

    def __bytes__(self) -> bytes:
        return b"".join(self.parts)


class Meaning(StrEnum):
    """What a status of the Core means for one call, where it is not what it usually means."""

    SUCCESS = "success"
    UNCERTAIN = "uncertain"  # success, as far as the result says so too
    REFUSED = "refused"  # it can never be done
    WAIT = "wait"  # not done yet: to be tried again, however often that takes


Reading = Meaning | Callable[[str], Meaning | None]
"""What a status means, or how to tell from its text; None: what it usually means."""


@attrs.frozen
class CoreCall:
    """One gRPC call of the Core: the method's bare name (``PublicDecrypt``), the message, the id that chooses the endpoint.

    ``shard`` None: every endpoint is called. ``means`` has the names of statuses that mean something else than usual. ``at_once`` is the
    method that takes the same message and answers with the result, of Cores that have it (annex C); empty: there is none. ``hint`` says
    what an uncertain status may mean besides. ``metadata`` goes along as headers of gRPC, as the context of a trace does.
    """

    method: str
    message: Chunks
    shard: int | None
    means: Mapping[str, Reading] = attrs.field(factory=dict)
    at_once: str = ""
    hint: str = attrs.field(default="", eq=False)
    metadata: tuple[tuple[bytes, bytes], ...] = attrs.field(default=(), eq=False)


class Verdict(StrEnum):
    """What a revert of a reply means (fhevm-0.14.md, annex A)."""

    DONE = "done"
    RETRY = "retry"
    FINAL = "final"
    SKIP = "skip"


@attrs.frozen
class Revert:
    """A decoded revert: ``KmsNodeAlreadySigned``, its arguments as text, and what to do."""

    name: str
    arguments: tuple[str, ...]
    verdict: Verdict
    plan: Callable[[], QueryPlan[Verdict]] | None = attrs.field(default=None, eq=False, repr=False)
    """Tells the verdict of the contract's state where the name alone does not; of the chain that said no."""
    explanation: str = ""
    """What it means in words, where its name says too little."""
    alert: str = ""
    """The cause of an alert about this reply alone; empty: one is raised only while no reply passes."""

    def __str__(self) -> str:
        return self.explanation or f"{self.name}({', '.join(self.arguments)})"


C = TypeVar("C", bound=Content)


def no_id(log: Log) -> int | None:  # noqa: ARG001 - there is none
    """Find no id: the event is of a request that the contract does not number."""
    return None


def id_in_topic(place: int) -> Callable[[Log], int | None]:
    """Return how the id is read that is a topic of an event."""
    return lambda log: int.from_bytes(log.topics[place]) if len(log.topics) > place else None


def id_in_data(log: Log) -> int | None:
    """Read the id that is the first word of an event's data."""
    return int.from_bytes(log.data[:_WORD_BYTES]) if len(log.data) >= _WORD_BYTES else None


_FIRST_TOPIC = id_in_topic(1)


@attrs.frozen
class RequestEvent:
    """An event that asks for something: how its values become a content, and where its id stands.

    ``make`` returns None for an event that asks for nothing after all, and may raise Undecodable. ``id_of`` finds the id of a numbered
    request even where the rest of the log cannot be read.
    """

    event: Event
    make: Callable[..., Content | None]
    id_of: Callable[[Log], int | None] = no_id

    def read(self, topics: tuple[bytes, ...], data: bytes) -> Content | None:
        """Read a log strictly. Raises Undecodable."""
        return self.make(*self.event.decode(topics, data))


class Operation(ABC, Generic[C]):
    """One kind of request: all that a generation knows of it, as a row of values and as pure functions of a content.

    A subclass is the row; a profile makes one over the contracts of its settings.

    ``finalized``: the reader takes the event only from finalized blocks; events of other operations count at once.
    ``expires``: it is given up at ``decryption_expiry``; others wait until the chain says that they are over.
    ``signed``: the Core's answer bears the signature of this node, which is compared.
    ``reply``: the function whose calldata is the reply; None where nothing is replied.
    ``outsiders``: nodes that are not to reply work on it too.
    ``harmless_twice``: two connectors may start it at one Core: it is done once, and neither is told of a failure.
    ``stages``: seconds that one pass of a stage is given at least. ``longest_wait``: seconds between two tries
    at the most.
    ``spare_gas``: what a reply may need beyond its estimate, where it turns out to be the one that completes the request;
    ``spare_percent``: likewise, in percent of the estimate, where that grows with the replies.
    ``verdicts``: what the reverts of a reply mean, by the names of their errors; what is not there means RETRY.
    """

    kind: Kind
    pool: PoolName
    events: tuple[RequestEvent, ...] = ()
    finalized: bool = False
    expires: bool = False
    signed: bool = True
    outsiders: bool = False
    harmless_twice: bool = False
    reply: Function | None = None
    stages: ClassVar[Mapping[str, float]] = MappingProxyType({})
    longest_wait: float = 60.0
    spare_gas: int = 0
    spare_percent: int = 0
    verdicts: ClassVar[Mapping[str, Verdict]] = MappingProxyType({})

    @property
    @abstractmethod
    def contract(self) -> tuple[int, Address]:
        """The chain and the contract that emits the events."""

    def spare(self, estimate: int) -> int:
        """Return the gas to add to an estimate."""
        return self.spare_gas + estimate * self.spare_percent // 100

    # --- its event

    @staticmethod
    def digest(log: Log, content: Any) -> bytes:  # noqa: ARG004 - all is in the log
        """Return what tells a content from other content under the same id: the Keccak-256 of topics and data."""
        return keccak256(b"".join(log.topics) + log.data)

    def numbering(self) -> Numbering | None:
        """Return how the contract numbers these requests (annex E); None where it does not."""
        return None

    # --- may it be answered?

    def standing(self, content: C, tx_sender: Address) -> PlannedQueries[bool] | None:
        """Return what must be asked whether a request still stands for a node: True while there is something to do; None: nothing.

        Raises Aborted or Rejected for one that is over.
        """
        return None

    def plan(self, content: C) -> PlannedQueries[Any] | None:
        """Return what else must be gathered from which chain, in rounds; ``start_calls`` gets what comes of it."""
        return None

    def checks(self, content: C, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """Return what the host chains must be asked (3.2-3.4). Raises Rejected or NotYet where no question is needed."""
        return ()

    def replying_context(self, content: C) -> int | Sequence[ContractQuery[int]]:
        """Return the context whose node answers a request, or the questions for it: the first answer that is not 0 counts.

        Of several only the first one's answer is for ever. Asked of what is ``signed`` only.
        """
        raise NotImplementedError

    def node_signer(self, context_id: int, tx_sender: Address) -> ContractQuery[Address]:
        """Return the question for the signer of the node that sends as ``tx_sender`` in a context; zero: not a member (3.9)."""
        raise NotImplementedError

    def has_answered(
        self,
        content: C,
        signer: Address | None,
        tx_sender: Address,
    ) -> ContractQuery[bool] | None:
        """Return the question whether this node's answer is in the contract (annex E); None where there is none to give."""
        return None

    # --- the Core and the reply

    @abstractmethod
    def start_calls(self, content: C, ciphertexts: Sequence[Ciphertext], found: Any) -> tuple[CoreCall, ...]:
        """Build the calls that hand a request over, in their order (spec 5.4); ``found`` is what its plan came to.

        Raises Rejected when the content cannot be put into one.
        """

    def result_call(self, content: C) -> CoreCall | None:
        """Build the long poll for the same request; None where handing over is all."""
        return None

    def read_answer(self, content: C, reply: bytes | None, expected: Address | None) -> Answer | None:
        """Read a Core's answer strictly, recover its signer and build the reply's calldata (2.2, 2.3, 2.4).

        ``reply`` is None where there was no result to wait for. ``expected`` is this node's signer: of several ways to read an answer
        the one counts that it has signed. Returns None where nothing is replied.
        Raises Broken for an answer that no honest Core gives: other id, other number of values, empty payload, signature that is
        not 65 bytes or recovers nothing. That the signer is this node's is for the caller to compare.
        """
        return None

    def may_vary(self, parameter: str, one: Any, other: Any) -> bool:
        """Say whether a Core that computes the same request twice may give two such values for an argument of the reply."""
        return parameter == "signature"

    @abstractmethod
    def revert(self, data: bytes | None) -> Revert:
        """Name a revert of a reply and say what it means; unknown ones are RETRY."""


class Posted(ABC):
    """An operation whose requests come over HTTP: no contract tells of them, and their answers go to who asks.

    ``lifetime``: seconds after which they are given up, where that is less than ``decryption_expiry``.
    ``patience``: seconds for which whoever asks waits for what may be a dependency's fault, before it is told.
    """

    lifetime: float
    patience: float

    @abstractmethod
    def log_of(self, content: Any) -> Log:
        """Return the log that stands for a content in the journal, as an event does."""

    @abstractmethod
    def fields_of(self, answer: Answer) -> Mapping[str, bytes]:
        """Return the values of a kept answer by the names that a response has for them, in their order. Raises Undecodable."""


def expiry_of(operation: Operation[Any], configured: float) -> float:
    """Return the seconds after which a request that expires is given up, where ``decryption_expiry`` is ``configured``."""
    return min(configured, operation.lifetime) if isinstance(operation, Posted) else configured


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
        return found[1].read(topics, data)

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


class Profile(EventTable, ABC):
    """One generation: its operations, and what is about none of them: its deployment, contexts and coprocessors."""

    name: ClassVar[str]
    has_attestations: ClassVar[bool]
    """Whether coprocessors attest their ciphertexts, so that the whole registry must be known.

    Without, objects lie under their digests at places of the first generation, which may want credentials.
    """
    material_call: ClassVar[MaterialCall | None] = None
    """How a Core is asked for its keys and CRS, where it can be."""
    spoken: ClassVar[Mapping[str, Spoken]] = MappingProxyType({})
    """What is known of the contracts' versions, by kind."""
    later_network: ClassVar[tuple[str, Version] | None] = None
    """The contract that tells a release whose nodes give decryptions up after an hour, and its first version; None: there is none."""

    def __init__(self, operations: Iterable[Operation[Any]]) -> None:
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

    @abstractmethod
    def coprocessor_senders(self) -> ContractQuery[tuple[Address, ...]]:
        """Return the question for the coprocessors' tx senders (3.1)."""

    @abstractmethod
    def coprocessor(self, tx_sender: Address) -> ContractQuery[Coprocessor]:
        """Return the question for one coprocessor (3.1)."""

    @abstractmethod
    def coprocessor_threshold(self) -> ContractQuery[int]:
        """Return the question for the majority threshold (3.1)."""
