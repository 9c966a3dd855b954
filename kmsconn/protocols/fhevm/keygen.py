"""Key generation: the preparation (E1) and the key (E2), of a fresh key or of the migration of an existing one, and its key set.

A migration makes a compressed key set of the key that is in use. Its events name that key; its own key id names the request and its reply
and never becomes a key. A preparation is of use only for the key set that it was made for, and all nodes of a context must ask for the
same one: their digests differ otherwise, and no reply reaches its quorum.
Source: fhevm-0.14.md, 1.5, 2.4, 5.4; annexes A and E.2; fhevm-0.15.md, 1.1-1.7.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.config.description import CompressedKeySets
from kmsconn.errors import Broken
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import PREP_KEYGEN_TAG
from kmsconn.model.life import Answer
from kmsconn.model.requests import Kind
from kmsconn.protocols.core_messages import DEPENDENCY, expect_id, read_message, signature_of, signer_of
from kmsconn.protocols.deployments import NO_DATA
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION, LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.key_management import (
    LONG_POLL,
    GenerationOperation,
    expect_parameters,
    generation_verdicts,
)
from kmsconn.protocols.fhevm.operations import (
    UnderContext,
    request_id,
    under_context,
)
from kmsconn.protocols.port import (
    Choosing,
    RequestEvent,
    Revert,
    Verdict,
    id_in_data,
)


class KeySetForm(StrEnum):
    """The form of a key set, as the journal keeps it with the requests of one ceremony."""

    PLAIN = "plain"
    COMPRESSED = "compressed"


def form_of(existing_id: int, contract_compresses: bool, option: CompressedKeySets) -> KeySetForm:
    """Return the form of a new ceremony: the option decides, or the contract's version; a migration is compressed in any case."""
    by_version = option is CompressedKeySets.AUTO
    compressed = contract_compresses if by_version else option is CompressedKeySets.ALWAYS
    return KeySetForm.COMPRESSED if compressed or existing_id else KeySetForm.PLAIN


def added_info_of(existing_id: int) -> kms.KeySetAddedInfo | None:
    """Return what a migration says of the key that it migrates: its compressed key set is copied to that key; None for a fresh key."""
    if not existing_id:
        return None
    return kms.KeySetAddedInfo(
        existing_keyset_id=request_id(existing_id),
        use_existing_key_tag=True,
        copy_compressed_key_to_original=True,
    )


PREP_RESPONSE = KMS_GENERATION.function("prepKeygenResponse")
KEY_RESPONSE = KMS_GENERATION.function("keygenResponse")
PREP_TYPE = "PrepKeygenVerification(uint256 prepKeygenId,bytes extraData)"
KEY_TYPE = (
    "KeygenVerification(uint256 prepKeygenId,uint256 keyId,KeyDigest[] keyDigests,bytes extraData)"
    "KeyDigest(uint8 keyType,bytes digest)"
)
KEY_TYPE_UNKNOWN = "key-type-unknown"
OLD_GENERATION = "have KMSGeneration upgraded; or set compressed_key_sets = false on all nodes, and have the key aborted and begun again"
COMPRESSED_KEY_SET = 3
KEY_TYPES = {0: "ServerKey", 1: "PublicKey", COMPRESSED_KEY_SET: "CompressedXofKeySet"}
"""The contract's numbers of key types with their names."""

_NUMBERS = {name: number for number, name in KEY_TYPES.items()}
Digests = tuple[tuple[int, bytes], ...]


@attrs.frozen(kw_only=True)
class CeremonyRequest(UnderContext):
    """A request of a key ceremony. ``existing_id``: the key that is migrated, 0 for a fresh key.

    ``compresses``: the contract is one of 0.3.0, with which networks make compressed key sets. ``form``: that which was chosen,
    None before that.
    """

    existing_id: int = 0
    compresses: bool = False
    form: KeySetForm | None = None


def _read(*rest: Any) -> dict[str, Any]:
    """Return what both events end with: extraData, from 0.3.0 on after the key that is migrated."""
    *existing, extra_data = rest
    return {
        "extra_data": extra_data,
        "existing_id": existing[0] if existing else 0,
        "compresses": bool(existing),
    }


K = TypeVar("K", bound=CeremonyRequest)


class KeyCeremony(GenerationOperation[K], Choosing[K]):
    """A row of a key ceremony. Its form is chosen with the preparation and holds for the key, whatever options and contract say then."""

    def choose(self, content: K, before: str) -> str:
        """Take over the form of the preparation; without one the option decides, or the version of the contract that asks."""
        option = self.deployment.compressed_key_sets
        return before or form_of(content.existing_id, content.compresses, option)

    def config(self, content: K) -> kms.KeySetConfig:
        """Return the configuration that preparation and key have alike; the inner message is present even where it is empty."""
        compressed = (content.form or self.choose(content, "")) == KeySetForm.COMPRESSED
        kinds = kms.CompressedKeyConfig
        standard = kms.StandardKeySetConfig(
            secret_key_config=kms.KeyGenSecretKeyConfig(int(content.existing_id != 0)),
            compressed_key_config=kinds.CompressedAll if compressed else kinds.CompressedNone,
        )
        return kms.KeySetConfig(standard_keyset_config=standard)

    def chosen(self, content: K, choice: str) -> K:
        """Return the request in the form that was chosen."""
        return attrs.evolve(content, form=KeySetForm(choice))


@attrs.frozen
class PrepKeygen(CeremonyRequest):
    """A request to prepare the generation of a key. ``params``: 0 default, 1 test."""

    id: int
    params: int
    extra_data: bytes

    kind = Kind.PREP_KEYGEN

    @classmethod
    def read(cls, identifier: int, params: int, *rest: Any) -> PrepKeygen:
        """Return what the event asks for, in either form. Raises Undecodable for parameters that have no name."""
        return cls(identifier, expect_parameters(params), **_read(*rest))


class PrepKeygens(KeyCeremony[PrepKeygen]):
    """The row of preparations; a key has an event only if its preparation succeeds (annex E.2)."""

    kind = Kind.PREP_KEYGEN
    events = (
        RequestEvent(KMS_GENERATION.event("PrepKeygenRequest"), PrepKeygen.read, id_in_data),
        RequestEvent(LATER_KMS_GENERATION.event("PrepKeygenRequest"), PrepKeygen.read, id_in_data),
    )
    stages: ClassVar[Mapping[str, float]] = LONG_POLL
    counter = PREP_KEYGEN_TAG, lambda at: at.keys.generation.newest_prep_id()
    start, result = "KeyGenPreproc", "GetKeyGenPreprocResult"
    reply = PREP_RESPONSE
    verdicts = generation_verdicts("PrepKeygen")

    def request(self, content: PrepKeygen, gathered: Any) -> kms.KeyGenPreprocRequest:
        """Return the start of a preparation."""
        return kms.KeyGenPreprocRequest(
            **under_context(content, self.deployment.generation),
            params=kms.FheParameter(content.params),
            keyset_config=self.config(content),
            extra_data=content.extra_data,
        )

    def read_answer(self, content: PrepKeygen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the signature over the preparation. Raises Broken."""
        message = read_message(kms.KeyGenPreprocResult, reply or b"")
        expect_id(message.preprocessing_id, content.id)
        signature = signature_of(message)
        signer = signer_of(prep_digest(self.deployment.generation, content.id, content.extra_data), signature)
        return Answer(PREP_RESPONSE.encode(content.id, signature), signer)


@attrs.frozen
class Keygen(CeremonyRequest):
    """A request to generate the key that was prepared as ``prep_id``. The ``id`` of a migration never becomes a key."""

    prep_id: int
    id: int
    extra_data: bytes

    kind = Kind.KEYGEN

    @classmethod
    def read(cls, prep_id: int, identifier: int, *rest: Any) -> Keygen:
        """Return what the event asks for, in either form."""
        return cls(prep_id, identifier, **_read(*rest))


class Keygens(KeyCeremony[Keygen]):
    """The row of keys."""

    kind = Kind.KEYGEN
    events = (
        RequestEvent(KMS_GENERATION.event("KeygenRequest"), Keygen.read),
        RequestEvent(LATER_KMS_GENERATION.event("KeygenRequest"), Keygen.read),
    )
    stages: ClassVar[Mapping[str, float]] = {
        **LONG_POLL,
        "submit": 120.0,
    }  # its start waits for a preparation that is still under way
    start, result = "KeyGen", "GetKeyGenResult"
    reply = KEY_RESPONSE
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KeyManagementRequestPending": Verdict.RETRY,
        "EmptyKeyDigests": Verdict.FINAL,
        "InvalidCompressedKeySetDigest": Verdict.FINAL,
        **generation_verdicts("Keygen"),
    }

    def explain_silence(self, calldata: bytes) -> Revert | None:
        """Say that the contract does not know key type 3, where the reply has a digest of it."""
        _, digests, _ = KEY_RESPONSE.decode(calldata)
        return unknown_key_type([digests], OLD_GENERATION)

    def continues(self, content: Keygen) -> tuple[Kind, int]:
        """Return the preparation of the key."""
        return Kind.PREP_KEYGEN, content.prep_id

    def shard(self, content: Keygen) -> int:
        """Return the preparation, which one endpoint has."""
        return content.prep_id

    def request(self, content: Keygen, gathered: Any) -> kms.KeyGenRequest:
        """Return the start of a key generation."""
        return kms.KeyGenRequest(
            **under_context(content, self.deployment.generation),
            preproc_id=request_id(content.prep_id),
            keyset_config=self.config(content),
            keyset_added_info=added_info_of(content.existing_id),
            extra_data=content.extra_data,
        )

    def read_answer(self, content: Keygen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the digests of the key and the signature over them. Raises Broken."""
        message = read_message(kms.KeyGenResult, reply or b"")
        expect_id(message.request_id, content.id)
        expect_id(message.preprocessing_id, content.prep_id)
        digests, signature = digests_of(message), signature_of(message)
        if content.existing_id:
            expect_compressed(digests)
        signed = key_digest(
            self.deployment.generation, content.prep_id, content.id, digests, content.extra_data
        )
        return Answer(KEY_RESPONSE.encode(content.id, digests, signature), signer_of(signed, signature))


def unknown_key_type(digests: Iterable[Digests], remedy: str) -> Revert | None:
    """Explain a revert without data by a digest of a key type that the contract may not know; None where no digest is of that type.

    A contract of before the type cannot read it, and Solidity reverts without data then (fhevm-0.15.md, 1.5, 8: inferred).
    """
    if not any(kind == COMPRESSED_KEY_SET for several in digests for kind, _ in several):
        return None
    said = f"the contract does not know key type {COMPRESSED_KEY_SET} (it reverts without data): {remedy}"
    return Revert(NO_DATA, (), Verdict.RETRY, explanation=said, alert=KEY_TYPE_UNKNOWN)


def expect_compressed(digests: Digests) -> None:
    """See that a migration has made exactly one compressed key set: the contract takes no other reply. Raises Broken."""
    found = [digest for kind, digest in digests if kind == COMPRESSED_KEY_SET]
    if len(found) != 1 or not found[0]:
        raise Broken(
            DEPENDENCY,
            f"the migration of a key has {len(found)} digests of a {KEY_TYPES[COMPRESSED_KEY_SET]}, not one",
        )


def prep_digest(domain: Domain, identifier: int, carried: bytes) -> bytes:
    """Return what a node signs for a preparation; ``carried`` is the event's extraData (2.4)."""
    return signing_digest(domain, hash_struct(PREP_TYPE, identifier, carried))


def key_digest(domain: Domain, prep_id: int, identifier: int, digests: Digests, carried: bytes) -> bytes:
    """Return what a node signs for a key; the digests in the order of the answer (2.4)."""
    return signing_digest(domain, hash_struct(KEY_TYPE, prep_id, identifier, digests, carried))


def digests_of(message: Any) -> Digests:
    """Return the digests with the contract's numbers of their types. Raises Broken for a type that it does not have."""
    for one in message.key_digests:
        if one.key_type not in _NUMBERS:
            raise Broken(DEPENDENCY, f"the contract has no key type {one.key_type[:64]!r}")
    return tuple((_NUMBERS[one.key_type], one.digest) for one in message.key_digests)
