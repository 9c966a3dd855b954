"""What key management of the first generation has in common. KeyManager takes ids alone and verifies nothing.

What the Core did sign is looked at all the same: its handle is the digest of the object, so that a signature of somebody else shows.
Source: httpz-rc7.md, 1.3, 2.1, 2.5, 3.3, 8.2 and 8.3; annex C; outcomes: row "answer".
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from betterproto2 import Message

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.errors import Broken, Misconfigured, NotYet
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.requests import Content, PoolName
from kmsconn.model.steps import Answer, Ciphertext
from kmsconn.protocols.answers import DEPENDENCY, read_message, signer_of
from kmsconn.protocols.httpz_rc7 import views
from kmsconn.protocols.httpz_rc7.deployment import HttpzDeployment
from kmsconn.protocols.httpz_rc7.messages import OBJECT_TYPES, long_poll, object_digest
from kmsconn.protocols.httpz_rc7.operations import MEANS, NO_TAG, HttpzOperation
from kmsconn.protocols.port import CoreCall, Facts, Meaning, Numbering, Reading
from kmsconn.protocols.proto_writer import encode
from kmsconn.protocols.queries import StorageRead

COMPLETING_GAS = 500_000
"""What the reply that completes a request may need beyond its estimate; what is not used is not paid."""

CONSUMED: Mapping[str, Reading] = {**MEANS, "NOT_FOUND": Meaning.UNCERTAIN}
"""A Core removes a preprocessing once a key generation names it: the same call again finds none, and its result tells why."""

DECOMPRESSION_ONLY = kms.KeySetConfig(kms.KeySetType.DecompressionOnly)
"""What that Core takes a key for that switches between two others."""

_DEFAULT = 0
_HANDLE_DIGITS = 64


class KeyRequest(Content):
    """A request to the KeyManager. ``parameters`` is the digest of its FHE parameters."""

    __slots__ = ()

    parameters: bytes

    @property
    def produced_id(self) -> int:
        """The id that a reply gives to what was made: the one of its request.

        Nothing of that era says how to choose it. All nodes must choose the same, the Core must know it, and later contracts do so too;
        operations of a kind keep their own stores, in the contract and in the Core, so that equal numbers do not clash (2.5).
        """
        return self.id


K = TypeVar("K", bound=KeyRequest)


class KeyOperation(HttpzOperation[K]):
    """A request of the KeyManager; the subclass has its event and its message.

    ``start`` and ``result`` are the methods of the Core, ``means`` what statuses of the first one mean. ``counter`` and ``answers`` are
    storage slots of the contract: the newest request, None where it is named by its preparation, and who has told of which id.
    """

    pool = PoolName.KEY_GENERATION
    spare_gas = COMPLETING_GAS
    start: str
    result: str
    means: Mapping[str, Reading] = MEANS
    counter: int | None = None
    answers: int

    def __init__(self, deployment: HttpzDeployment) -> None:
        super().__init__(deployment)
        self.finalized = deployment.keys_at_finality

    @property
    def contract(self) -> tuple[int, Address]:
        """The KeyManager."""
        return self.deployment.at_key_manager

    def numbering(self) -> Numbering | None:
        """Return the counter of these requests."""
        if self.counter is None:
            return None
        return Numbering(self.kind, NO_TAG, views.key_counter(*self.contract, self.counter))

    def has_answered(self, content: K, signer: Address | None, tx_sender: Address) -> StorageRead[bool]:
        """Ask whether this node has told what it made."""
        return views.has_told_key(*self.contract, self.answers, content.produced_id, tx_sender)

    @abstractmethod
    def request(self, content: K) -> Message:
        """Return the message that hands a request over. Raises Misconfigured for parameters that nobody has named."""

    def start_calls(
        self,
        content: K,
        ciphertexts: Sequence[Ciphertext],
        found: Any,
    ) -> tuple[CoreCall, ...]:
        """Return the call that hands a request over."""
        return (CoreCall(self.start, encode(self.request(content)), content.produced_id, self.means),)

    def result_call(self, content: K) -> CoreCall | None:
        """Return the long poll for a request's result."""
        return long_poll(self.result, content.produced_id)

    def read_answer(self, content: K, reply: bytes | None, expected: Address | None) -> Answer:
        """Read an answer and tell what was made; the signer is ``expected``, or whoever else has signed an object. Raises Broken."""
        signed = self._signatures(self.objects(content, reply or b""))
        signers = {signer_of(digest, signature) for digest, signature in signed}
        strangers = signers - {expected} if self.signed else set()
        calldata = self.reply.encode(content.id, content.produced_id)
        return Answer(calldata, min(strangers) if strangers else expected)

    def objects(self, content: K, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Yield name and handle of each object that an answer is about. Raises Broken."""
        raise NotImplementedError

    def _signatures(self, objects: Iterable[tuple[str, Any]]) -> Iterator[tuple[bytes, bytes]]:
        """Yield digest and signature of each object that was signed; a Core without a usable domain leaves signatures empty."""
        for name, found in objects:
            if name in OBJECT_TYPES and found.external_signature:
                digest = object_digest(self.deployment.httpz, name, _digest(found.key_handle))
                yield digest, found.external_signature

    def fhe_parameters(self, content: K) -> kms.FheParameter:
        """Return the FHE parameters of a request. Raises Misconfigured where nobody has named their digest."""
        known, digest = self.deployment.parameters, content.parameters
        if not known:
            return kms.FheParameter(_DEFAULT)
        if digest not in known:
            raise Misconfigured(f"FHE parameters {digest.hex()} are not configured (fhe_parameters)")
        return kms.FheParameter(known[digest])


class Preparation(KeyOperation[K]):
    """A row that prepares a key. There is no Core call where the Core does not know preparations; its answer says nothing."""

    signed = False
    start, result = "KeyGenPreproc", "GetKeyGenPreprocResult"

    def start_calls(self, content: K, ciphertexts: Sequence[Ciphertext], found: Any) -> tuple[CoreCall, ...]:
        """Return the call that hands a request over; none where the Core does not know preparations."""
        return super().start_calls(content, ciphertexts, found) if self.deployment.preprocessing else ()

    def result_call(self, content: K) -> CoreCall | None:
        """Return the long poll for a request's result; None where the Core does not know preparations."""
        return super().result_call(content) if self.deployment.preprocessing else None

    def objects(self, content: K, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Read the answer, which is about no object. Raises Broken."""
        read_message(kms.KeyGenPreprocResult, reply)
        return ()


class PreparedKey(KeyOperation[K]):
    """A row that makes what was prepared under the same id; ``prepared`` is the slot of the answers to the preparation."""

    start, result = "KeyGen", "GetKeyGenResult"
    means = CONSUMED
    prepared: int

    def checks(self, content: K, facts: Facts) -> tuple[StorageRead[None], ...]:
        """Ask whether this node has told that the key is prepared: only then is it made."""
        if facts.tx_sender is None:
            return ()
        told = views.has_told_key(*self.contract, self.prepared, content.id, facts.tx_sender)
        return (_prepared(told, content.id),)


def expect_request_id(message: Any, content: KeyRequest) -> None:
    """See that an answer names its request. Raises Broken."""
    if message.request_id is None or message.request_id.request_id != id_hex(content.produced_id):
        raise Broken(DEPENDENCY, f"the answer to {id_hex(content.id)} names another request")


def _prepared(told: StorageRead[bool], identifier: int) -> StorageRead[None]:
    def read(word: bytes) -> None:
        if not told.read(word):
            raise NotYet(f"this node has not yet sent the reply that {id_hex(identifier)} is prepared")

    return StorageRead(told.chain_id, told.to, told.slot, read)


def _digest(handle: str) -> bytes:
    if len(handle) != _HANDLE_DIGITS:
        raise Broken(DEPENDENCY, f"a key handle has {len(handle)} digits, not {_HANDLE_DIGITS}")
    try:
        return bytes.fromhex(handle)
    except ValueError as error:
        raise Broken(DEPENDENCY, "a key handle is not hexadecimal") from error
