"""What an operation of a generation is to the pipeline: a row of data and pure functions. The tree knows nothing else of it."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, ClassVar, Generic, TypeVar

import attrs
from betterproto2 import Message

from kmsconn.ethereum.abi import ContractEvent, Function, Log
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.keccak import keccak256
from kmsconn.frozen import frozen
from kmsconn.model.life import Answer
from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.protocols.protobuf import Chunks, encode
from kmsconn.protocols.queries import ContractQuery, QueryPlan

_WORD_BYTES = 32


@attrs.frozen
class Numbering:
    """Ids that a contract gives out without gaps: the kind of request they name, their tag, and the question for the newest.

    ``before_first`` is the counter below the first one that has an event.
    """

    kind: Kind
    tag: int
    newest: ContractQuery[int]
    before_first: int = 0


@frozen
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


class Meaning(StrEnum):
    """What a status of the Core means for one call, where it is not what it usually means."""

    SUCCESS = "success"
    UNCERTAIN = "uncertain"  # success, as far as the result says so too
    REFUSED = "refused"  # it can never be done
    WAIT = "wait"  # not done yet: to be tried again, however often that takes


Reading = Meaning | Callable[[str], Meaning | None]
"""What a status means, or how to tell from its text; None: what it usually means."""


@frozen
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


def id_in_topic(place: int) -> Callable[[Log], int | None]:
    """Return how the id is read that is a topic of an event."""
    return lambda log: int.from_bytes(log.topics[place]) if len(log.topics) > place else None


def id_in_data(log: Log) -> int | None:
    """Read the id that is the first word of an event's data."""
    return int.from_bytes(log.data[:_WORD_BYTES]) if len(log.data) >= _WORD_BYTES else None


@attrs.frozen
class RequestEvent:
    """An event that asks for something: how its values become a content, and where its id stands.

    ``make`` returns None for an event that asks for nothing after all, and may raise Undecodable. ``id_of`` finds the id of a numbered
    request even where the rest of the log cannot be read; none of one that the contract does not number.
    """

    event: ContractEvent
    make: Callable[..., Content | None]
    id_of: Callable[[Log], int | None] = lambda _: None


class HandedOver(ABC, Generic[C]):
    """How requests of a kind are handed to the Core.

    ``start``, ``result`` and ``at_once`` are the Core's methods, ``means`` what statuses of the first one mean (see ``CoreCall``); without
    ``start`` nothing is handed over, without ``result`` handing over is all. ``everywhere``: every endpoint is told of it.
    ``harmless_twice``: two connectors may start it at one Core: it is done once, and neither is told of a failure.
    ``stages``: seconds that one pass of a stage is given at least. ``longest_wait``: seconds between two tries at the most.
    """

    start: str = ""
    result: str = ""
    at_once: str = ""
    means: Mapping[str, Reading] = MappingProxyType({})
    everywhere: bool = False
    harmless_twice: bool = False
    stages: ClassVar[Mapping[str, float]] = MappingProxyType({})
    longest_wait: float = 60.0

    @abstractmethod
    def identified(self, identifier: int) -> Message:
        """Return an id as the Core knows it."""

    def shard(self, content: C) -> int:
        """Return the id that chooses the endpoint of a request, and of what asks for its result (5.5)."""
        return content.id

    @abstractmethod
    def request(self, content: C, gathered: Any) -> Message:
        """Return the message that hands a request over; ``gathered``: its ciphertexts, or what its plan came to.

        Raises Rejected when the content cannot be put into one, ValueError when the ciphertexts are not those of its references.
        """

    def start_calls(self, content: C, gathered: Any) -> tuple[CoreCall, ...]:
        """Build the calls that hand a request over, in their order (spec 5.4). Raises as ``request``."""
        if not self.start:
            return ()
        shard = None if self.everywhere else self.shard(content)
        message = encode(self.request(content, gathered))
        return (CoreCall(self.start, message, shard, self.means, self.at_once),)

    def result_call(self, content: C) -> CoreCall | None:
        """Build the long poll for the same request, which goes where that went; None where handing over is all."""
        if not self.result:
            return None
        return CoreCall(self.result, encode(self.identified(content.id)), self.shard(content))


class Operation(HandedOver[C]):
    """One kind of request: all that a generation knows of it, as a row of values and as pure functions of a content.

    A subclass is the row; a profile makes one over the contracts of its settings.

    ``finalized``: the reader takes the event only from finalized blocks; events of other operations count at once.
    ``expires``: it is given up at ``decryption_expiry``; others wait until the chain says that they are over.
    ``lifetime``: seconds after which it is given up, where that is less. ``patience``: seconds for which whoever asks waits for what may be
    a dependency's fault, before it is told; None: nobody waits.
    ``signed``: the Core's answer bears the signature of this node, which is compared.
    ``reply``: the function whose calldata is the reply; None where nothing is replied.
    ``outsiders``: nodes that are not to reply work on it too.
    ``spare_gas``: what a reply may need beyond its estimate, where it turns out to be the one that completes the request;
    ``spare_percent``: likewise, in percent of the estimate, where that grows with the replies.
    ``verdicts``: what the reverts of a reply mean, by the names of their errors; what is not there means RETRY.
    ``agreed``: the contract counts equal replies of the nodes, and acts once there are enough; ``standing`` says whether it still waits.
    """

    kind: Kind
    pool: PoolName
    events: tuple[RequestEvent, ...] = ()
    finalized: bool = False
    expires: bool = False
    lifetime: float = math.inf
    patience: float | None = None
    signed: bool = True
    outsiders: bool = False
    reply: Function | None = None
    spare_gas: int = 0
    spare_percent: int = 0
    verdicts: ClassVar[Mapping[str, Verdict]] = MappingProxyType({})
    agreed: ClassVar[bool] = False
    for_good: ClassVar[bool] = False
    """The Core does it for good: several nodes must say that it is to be done."""

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

    def standing(self, content: C, tx_sender: Address) -> QueryPlan[bool] | None:
        """Return what to ask its chain whether a request still stands for a node: True while there is something to do; None: nothing.

        Raises Aborted or Rejected for one that is over.
        """
        return None

    def plan(self, content: C) -> QueryPlan[Any] | None:
        """Return what else must be gathered from its chain, in rounds; ``request`` gets what comes of it."""
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

    def over(self, content: C, gathered: Any, replies: Sequence[bytes]) -> frozenset[int]:
        """Return the contexts and epochs that are over besides those of ``Order.ends``, once the Core has taken the calls.

        ``replies`` are what its endpoints answered to them; ``gathered`` as in ``request``.
        """
        return frozenset()

    # --- the reply

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

    def explain_silence(self, calldata: bytes) -> Revert | None:
        """Return what a revert without data means for a reply with this calldata; None: that is not known."""
        return None


# --- what an operation may be beside


class Choosing(ABC, Generic[C]):
    """An operation that chooses something when a request is first started, and must start it the same way ever after.

    An option may change between two starts of a request, and between a request and the one that continues it. The Core then holds
    something that was made for the earlier choice. So the journal keeps the choice as a text with the request, before the Core hears of it.
    """

    @abstractmethod
    def choose(self, content: C, before: str) -> str:
        """Choose for a request that has no choice yet; ``before`` is the choice of the request that it continues, where one is kept."""

    @abstractmethod
    def chosen(self, content: C, choice: str) -> C:
        """Return a content that is started as was chosen for it."""

    def continues(self, content: C) -> tuple[Kind, int] | None:
        """Return kind and id of the request of the same contract that a request continues; None: it continues none."""
        return None


class Posted(ABC):
    """An operation whose requests come over HTTP: no contract tells of them, and their answers go to who asks."""

    @abstractmethod
    def log_of(self, content: Any) -> Log:
        """Return the log that stands for a content in the journal, as an event does."""

    @abstractmethod
    def fields_of(self, answer: Answer) -> Mapping[str, bytes]:
        """Return the values of a kept answer by the names that a response has for them, in their order. Raises Undecodable."""
