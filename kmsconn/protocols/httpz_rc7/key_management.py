"""Key management of the first generation: keys, from preparation to key, switching keys, and common reference strings.

KeyManager takes ids alone and verifies nothing. What the Core did sign is looked at all the same: its handle is the digest of the object,
so that a signature of somebody else shows. A switching key is what that Core makes with ``DecompressionOnly``; for it the domain stays
out, since the Core has no struct to sign for such a key and would fail the finished job.
Source: httpz-rc7.md, 1.3, 2.1, 2.2, 2.5, 3.3, 8.2 and 8.3; annex C; outcomes: row "answer".
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import attrs

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.errors import Broken, Misconfigured, NotYet
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import id_hex
from kmsconn.model.life import Answer
from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.protocols.core_messages import DEPENDENCY, domain_message, expect_id, read_message, signer_of
from kmsconn.protocols.httpz_rc7.contracts import (
    KEY_MANAGER,
    MEANS,
    SENDER_VERDICTS,
    HttpzDeployment,
    HttpzOperation,
    RequestViews,
)
from kmsconn.protocols.httpz_rc7.messages import (
    OBJECT_TYPES,
    object_digest,
    request_id,
)
from kmsconn.protocols.port import (
    Facts,
    Meaning,
    Reading,
    RequestEvent,
    Verdict,
    id_in_data,
)
from kmsconn.protocols.queries import ContractQuery

COMPLETING_GAS = 500_000
"""What the reply that completes a request may need beyond its estimate; what is not used is not paid."""

CONSUMED: Mapping[str, Reading] = {**MEANS, "NOT_FOUND": Meaning.UNCERTAIN}
"""A Core removes a preprocessing once a key generation names it: the same call again finds none, and its result tells why."""

DECOMPRESSION_ONLY = kms.KeySetConfig(kms.KeySetType.DecompressionOnly)
"""What that Core takes a key for that switches between two others."""

_DEFAULT = 0
_HANDLE_DIGITS = 64


@attrs.frozen
class KeyRequest(Content):
    """A request to the KeyManager. ``parameters`` is the digest of its FHE parameters.

    A reply gives what was made the id of its request. Nothing of that era says how to choose it. All nodes must choose the same, the Core
    must know it, and later contracts do so too; operations of a kind keep their own stores, in the contract and in the Core, so that
    equal numbers do not clash (2.5).
    """

    id: int
    parameters: bytes


K = TypeVar("K", bound=KeyRequest)


def _verdicts(operation: str) -> Mapping[str, Verdict]:
    return {f"{operation}KmsNodeAlreadyResponded": Verdict.DONE, **SENDER_VERDICTS}


class KeyOperation(HttpzOperation[K]):
    """A request of the KeyManager; the subclass has its event and its message."""

    pool = PoolName.KEY_GENERATION
    spare_gas = COMPLETING_GAS

    def __init__(self, deployment: HttpzDeployment) -> None:
        super().__init__(deployment)
        self.finalized = deployment.keys_at_finality

    @property
    def views(self) -> RequestViews:
        """Those to the KeyManager."""
        return self.deployment.keys

    def has_answered(self, content: K, signer: Address | None, tx_sender: Address) -> ContractQuery[bool]:
        """Ask whether this node has told what it made."""
        return self.views.has_answered(self.answers, content.id, tx_sender)

    def read_answer(self, content: K, reply: bytes | None, expected: Address | None) -> Answer:
        """Read an answer and tell what was made; the signer is ``expected``, or whoever else has signed an object. Raises Broken."""
        signed = self._signatures(self.objects(content, reply or b""))
        signers = {signer_of(digest, signature) for digest, signature in signed}
        strangers = signers - {expected} if self.signed else set()
        calldata = self.reply.encode(content.id, content.id)
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
    """A row that prepares a key, with ``keyset`` one of another kind. Its answer says nothing.

    There is no Core call where the Core does not know preparations.
    """

    signed = False
    keyset: kms.KeySetConfig | None = None

    def __init__(self, deployment: HttpzDeployment) -> None:
        super().__init__(deployment)
        if deployment.preprocessing:
            self.start, self.result = "KeyGenPreproc", "GetKeyGenPreprocResult"

    def request(self, content: K, gathered: Any) -> kms.KeyGenPreprocRequest:
        """Return the message for the Core."""
        identifier = request_id(content.id)
        return kms.KeyGenPreprocRequest(identifier, self.fhe_parameters(content), self.keyset)

    def objects(self, content: K, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Read the answer, which is about no object. Raises Broken."""
        read_message(kms.KeyGenPreprocResult, reply)
        return ()


class PreparedKey(KeyOperation[K]):
    """A row that makes what was prepared under the same id; ``prepared`` is the slot of the answers to the preparation."""

    start, result = "KeyGen", "GetKeyGenResult"
    means = CONSUMED
    prepared: int

    def checks(self, content: K, facts: Facts) -> tuple[ContractQuery[None], ...]:
        """Ask whether this node has told that the key is prepared: only then is it made."""
        if facts.tx_sender is None:
            return ()
        told = self.views.has_answered(self.prepared, content.id, facts.tx_sender)

        def read(word: bytes) -> None:
            if not told.understand(word):
                raise NotYet(f"this node has not yet sent the reply that {id_hex(content.id)} is prepared")

        return (ContractQuery(told.chain_id, told.to, told.method, told.parameters, read),)


def _digest(handle: str) -> bytes:
    if len(handle) != _HANDLE_DIGITS:
        raise Broken(DEPENDENCY, f"a key handle has {len(handle)} digits, not {_HANDLE_DIGITS}")
    try:
        return bytes.fromhex(handle)
    except ValueError as error:
        raise Broken(DEPENDENCY, "a key handle is not hexadecimal") from error


@attrs.frozen
class HttpzPrepKeygen(KeyRequest):
    """A request to prepare a key."""

    kind = Kind.PREP_KEYGEN


class HttpzPrepKeygens(Preparation[HttpzPrepKeygen]):
    """The row of preparations."""

    kind = Kind.PREP_KEYGEN
    events = (RequestEvent(KEY_MANAGER.event("PreprocessKeygenRequest"), HttpzPrepKeygen, id_in_data),)
    reply = KEY_MANAGER.function("preprocessKeygenResponse")
    verdicts = _verdicts("PreprocessKeygen")
    counter, answers = 1, 4


@attrs.frozen
class HttpzKeygen(KeyRequest):
    """A request to make the key that was prepared under ``id``."""

    kind = Kind.KEYGEN


class HttpzKeygens(PreparedKey[HttpzKeygen]):
    """The row of keys."""

    kind = Kind.KEYGEN
    events = (RequestEvent(KEY_MANAGER.event("KeygenRequest"), HttpzKeygen, id_in_data),)
    reply = KEY_MANAGER.function("keygenResponse")
    verdicts = _verdicts("Keygen")
    prepared, answers = HttpzPrepKeygens.answers, 6

    def request(self, content: HttpzKeygen, gathered: Any) -> kms.KeyGenRequest:
        """Return the message for the Core."""
        return kms.KeyGenRequest(
            request_id=request_id(content.id),
            params=self.fhe_parameters(content),
            preproc_id=request_id(content.id),
            domain=domain_message(kms, self.deployment.httpz),
        )

    def objects(self, content: HttpzKeygen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Yield the keys of an answer. Raises Broken."""
        message = read_message(kms.KeyGenResult, reply)
        expect_id(message.request_id, content.id)
        return sorted(message.key_results.items())


@attrs.frozen
class HttpzCrsgen(KeyRequest):
    """A request to make a common reference string."""

    kind = Kind.CRSGEN


class HttpzCrsgens(KeyOperation[HttpzCrsgen]):
    """The row of common reference strings."""

    kind = Kind.CRSGEN
    events = (RequestEvent(KEY_MANAGER.event("CrsgenRequest"), HttpzCrsgen, id_in_data),)
    reply = KEY_MANAGER.function("crsgenResponse")
    verdicts = _verdicts("Crsgen")
    start, result = "CrsGen", "GetCrsGenResult"
    counter, answers = 20, 22

    def request(self, content: HttpzCrsgen, gathered: Any) -> kms.CrsGenRequest:
        """Return the message for the Core."""
        return kms.CrsGenRequest(
            request_id=request_id(content.id),
            params=self.fhe_parameters(content),
            domain=domain_message(kms, self.deployment.httpz),
        )

    def objects(self, content: HttpzCrsgen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Yield the string of an answer. Raises Broken."""
        message = read_message(kms.CrsGenResult, reply)
        expect_id(message.request_id, content.id)
        return [] if message.crs_results is None else [("CRS", message.crs_results)]


@attrs.frozen
class PrepKskgen(KeyRequest):
    """A request to prepare a key that switches from one key to another."""

    kind = Kind.PREP_KSKGEN


class PrepKskgens(Preparation[PrepKskgen]):
    """The row of preparations."""

    kind = Kind.PREP_KSKGEN
    events = (RequestEvent(KEY_MANAGER.event("PreprocessKskgenRequest"), PrepKskgen, id_in_data),)
    reply = KEY_MANAGER.function("preprocessKskgenResponse")
    verdicts = _verdicts("PreprocessKskgen")
    counter, answers = 9, 12
    keyset = DECOMPRESSION_ONLY


@attrs.frozen
class Kskgen(KeyRequest):
    """A request to make the switching key that was prepared under ``id``, between two keys."""

    id: int
    source: int
    destination: int
    parameters: bytes

    kind = Kind.KSKGEN


class Kskgens(PreparedKey[Kskgen]):
    """The row of switching keys, which nobody signs."""

    kind = Kind.KSKGEN
    events = (RequestEvent(KEY_MANAGER.event("KskgenRequest"), Kskgen, id_in_data),)
    signed = False
    reply = KEY_MANAGER.function("kskgenResponse")
    verdicts = _verdicts("Kskgen")
    prepared, answers = PrepKskgens.answers, 16

    def request(self, content: Kskgen, gathered: Any) -> kms.KeyGenRequest:
        """Return the message for the Core."""
        return kms.KeyGenRequest(
            request_id=request_id(content.id),
            params=self.fhe_parameters(content),
            preproc_id=request_id(content.id),
            keyset_config=DECOMPRESSION_ONLY,
            keyset_added_info=kms.KeySetAddedInfo(
                from_keyset_id_decompression_only=request_id(content.source),
                to_keyset_id_decompression_only=request_id(content.destination),
            ),
        )

    def objects(self, content: Kskgen, reply: bytes) -> Iterable[tuple[str, Any]]:
        """Read the answer, whose objects nobody signs. Raises Broken."""
        expect_id(read_message(kms.KeyGenResult, reply).request_id, content.id)
        return ()
