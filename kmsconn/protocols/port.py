"""What a protocol generation is to the pipeline: data and pure functions. The tree knows nothing else of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Mapping, Sequence
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

import attrs

from kmsconn.errors import Undecodable
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.hexes import quantity, to_hex
from kmsconn.ethereum.logs import Log
from kmsconn.model.requests import Content, Kind, Material, PoolName
from kmsconn.model.steps import Answer, Ciphertext

T = TypeVar("T")
_WORD_BYTES = 32
T_co = TypeVar("T_co", covariant=True)


class Question(Protocol[T_co]):
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

    def __init__(self, question: Question[Any]) -> None:
        super().__init__()
        self.question = question


@attrs.frozen
class View(Generic[T]):
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
class Slot(Generic[T]):
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

    def refused(self, message: str, data: bytes | None) -> T | None:  # noqa: ARG002 - storage has no reverts
        """Nothing that a node says instead of a word is an answer."""
        return None


Inquiry = Generator[Sequence[Question[Any]], Sequence[Any], T]
"""Questions to one chain in rounds, where later ones follow from earlier answers: each round is one batch to one node.

It yields the questions of a round, gets their answers, and returns what they amount to.
"""

Rounds = tuple[int, Inquiry[T]]
"""An inquiry with the chain that it is put to."""


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

    def refused(self, message: str, data: bytes | None) -> T | None:  # noqa: ARG002 - a filter has no reverts
        """Nothing that a node says instead of logs is an answer."""
        return None


@attrs.frozen
class Operation:
    """One row of the table that describes a generation: what a kind of request needs, beside the profile's functions of its content.

    ``expires``: it is given up at ``decryption_expiry``; others wait until the chain says that they are over.
    ``signed``: the Core's answer bears the signature of this node, which is compared.
    ``outsiders``: nodes that are not to reply work on it too.
    ``stages``: seconds that one pass of a stage is given at least. ``longest_wait``: seconds between two tries.
    ``spare_gas``: what a reply may need beyond its estimate, where it turns out to be the one that completes the request;
    ``spare_percent``: likewise, in percent of the estimate, where that grows with the replies.
    """

    kind: Kind
    pool: PoolName
    expires: bool = False
    signed: bool = True
    outsiders: bool = False
    stages: Mapping[str, float] = attrs.field(factory=dict)
    longest_wait: float = 60.0
    spare_gas: int = 0
    spare_percent: int = 0

    def spare(self, estimate: int) -> int:
        """Return the gas to add to an estimate."""
        return self.spare_gas + estimate * self.spare_percent // 100


@attrs.frozen
class Order:
    """How a request stands to what else is asked, by the ids of contexts and epochs. Most stand to nothing.

    ``under``: it is over once one of these was destroyed. ``ends``: these it destroys.
    ``holds``: while it is open, later requests that are ``behind`` one of these wait for it.
    """

    under: frozenset[int] = frozenset()
    ends: frozenset[int] = frozenset()
    holds: frozenset[int] = frozenset()
    behind: frozenset[int] = frozenset()


@attrs.frozen
class Numbering:
    """Ids that a contract gives out without gaps: the kind of request they name, their tag, and the question for the newest.

    ``before_first`` is the counter below the first one that has an event.
    """

    kind: Kind
    tag: int
    newest: Question[int]
    before_first: int = 0


@attrs.frozen
class Facts:
    """What a check knows beside the content: chain time, seconds since it was recorded, who sends our replies.

    ``to`` and ``input`` are those of a legacy request's transaction.
    """

    chain_time: float
    age: float
    to: Address | None = None
    input: bytes = b""
    tx_sender: Address | None = None


@attrs.frozen
class Coprocessor:
    """Where a coprocessor keeps its ciphertexts and with which key it attests them."""

    tx_sender: Address
    signer: Address
    bucket: str


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
    DOUBT = "doubt"  # success, as far as the result says so too
    REFUSED = "refused"  # it can never be done
    WAIT = "wait"  # not done yet: to be tried again, however often that takes


Reading = Meaning | Callable[[str], Meaning | None]
"""What a status means, or how to tell from its text; None: what it usually means."""


@attrs.frozen
class CoreCall:
    """One gRPC call of the Core: the method's bare name (``PublicDecrypt``), the message, the id that chooses the endpoint.

    ``shard`` None: every endpoint is called. ``means`` has the names of statuses that mean something else than usual. ``at_once`` is the
    method that takes the same message and answers with the result, of Cores that have it (annex C); empty: there is none.
    """

    method: str
    message: Chunks
    shard: int | None
    means: Mapping[str, Reading] = attrs.field(factory=dict)
    at_once: str = ""


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
    inquiry: Callable[[], Inquiry[Verdict]] | None = attrs.field(default=None, eq=False, repr=False)
    """Tells the verdict of the contract's state where the name alone does not; of the chain that said no."""

    def __str__(self) -> str:
        return f"{self.name}({', '.join(self.arguments)})"


class Profile(Protocol):
    """One generation."""

    name: str

    @property
    def operations(self) -> Mapping[Kind, Operation]:
        """Return the table of what this generation does."""
        ...

    def subscriptions(self) -> tuple[Subscription, ...]:
        """Return the contracts to listen to."""
        ...

    def decode(self, log: Log) -> Content | None:
        """Read a request event; None for one that asks for nothing. Raises Undecodable."""
        ...

    def digest(self, log: Log) -> bytes:
        """Return what tells this content from other content under the same id."""
        ...

    def numberings(self, subscription: Subscription) -> tuple[Numbering, ...]:
        """Return how a contract numbers its requests (annex E); a newest id of 0 or the bare tag: none yet."""
        ...

    def id_of(self, log: Log) -> int | None:
        """Return the id that a request event names, even where the rest of it cannot be read; None where it names none."""
        ...

    def deployment_checks(self) -> tuple[Question[None], ...]:
        """Return what tells that the configured addresses are those of the right contracts. An answer may raise StartRefused."""
        ...

    def order_of(self, content: Content) -> Order:
        """Return what a request waits for, what it holds up, what ends it and what it ends."""
        ...

    # --- may it be answered?

    def context_of(self, content: Content) -> tuple[int | None, int | None]:
        """Return context and epoch that must be valid, as extraData names them; None where none must.

        Raises Rejected for extraData of no known form (section 6).
        """
        ...

    def materials(self, content: Content) -> tuple[Material, ...]:
        """Return the ciphertexts that must be gathered."""
        ...

    def standing(self, content: Content, tx_sender: Address) -> Rounds[bool] | None:
        """Return what must be asked whether a request still stands for a node: True while there is something to do; None: nothing.

        Raises Aborted or Rejected for one that is over.
        """
        ...

    def inquiry(self, content: Content) -> Rounds[Any] | None:
        """Return what else must be gathered from which chain, in rounds; ``start_calls`` gets what comes of it."""
        ...

    def valid_until(self, content: Content) -> int | None:
        """Return the chain time that is the last at which a request is valid; None where it names none."""
        ...

    def needs_transaction(self, content: Content) -> bool:
        """Say whether the checks need the transaction that carried the request (3.3)."""
        ...

    def checks(self, content: Content, facts: Facts) -> tuple[Question[None], ...]:
        """Return what the host chains must be asked (3.2-3.4). Raises Rejected or NotYet where no question is needed."""
        ...

    def context_checks(self, context_id: int | None, epoch_id: int | None) -> Rounds[None] | None:
        """Return what must be asked about context and epoch (3.5); raises NotYet, or Destroyed."""
        ...

    def replying_context(self, content: Content) -> int | Sequence[Question[int]]:
        """Return the context whose node answers a request, or the questions for it: the first answer that is not 0 counts.

        Of several only the first one's answer is for ever.
        """
        ...

    def node_signer(self, kind: Kind, context_id: int, tx_sender: Address) -> Question[Address]:
        """Return the question for the signer of the node that sends as ``tx_sender`` in a context; zero: not a member (3.9)."""
        ...

    def memberships(self, tx_sender: Address, known: Collection[int]) -> Rounds[bool]:
        """Return what must be asked whether a tx sender is a node of any context that is valid; it has been one of the ``known``."""
        ...

    def has_answered(
        self, content: Content, signer: Address | None, tx_sender: Address
    ) -> Question[bool] | None:
        """Return the question whether this node's answer is in the contract (annex E); None where there is none to give."""
        ...

    # --- the registry of coprocessors

    has_attestations: bool
    """Whether coprocessors attest their ciphertexts, so that the whole registry must be known.

    Without, objects lie under their digests at places of the first generation, which may want credentials.
    """

    def coprocessor_senders(self) -> Question[tuple[Address, ...]]:
        """Return the question for the coprocessors' tx senders (3.1)."""
        ...

    def coprocessor(self, tx_sender: Address) -> Question[Coprocessor]:
        """Return the question for one coprocessor (3.1)."""
        ...

    def coprocessor_threshold(self) -> Question[int]:
        """Return the question for the majority threshold (3.1)."""
        ...

    # --- the Core and the reply

    def start_calls(
        self,
        content: Content,
        context_id: int | None,
        epoch_id: int | None,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Build the calls that hand a request over, in their order (spec 5.4); ``found`` is what its inquiry came to.

        Raises Rejected when the content cannot be put into one.
        """
        ...

    def result_call(self, content: Content) -> CoreCall | None:
        """Build the long poll for the same request; None where handing over is all."""
        ...

    def read_answer(self, content: Content, reply: bytes | None, expected: Address | None) -> Answer | None:
        """Read a Core's answer strictly, recover its signer and build the reply's calldata (2.2, 2.3, 2.4).

        ``reply`` is None where there was no result to wait for. ``expected`` is this node's signer: of several ways to read an answer
        the one counts that it has signed. Returns None where nothing is replied.
        Raises Broken for an answer that no honest Core gives: other id, other number of values, empty payload, signature that is
        not 65 bytes or recovers nothing. That the signer is this node's is for the caller to compare.
        """
        ...

    def revert(self, kind: Kind, data: bytes | None) -> Revert:
        """Name a revert of this kind's reply and say what it means; unknown ones are RETRY."""
        ...
