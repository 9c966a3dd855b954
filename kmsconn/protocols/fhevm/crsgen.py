"""Generation of a common reference string (E3), and the aborts of a key's generation (E4) and of a string's (E5), to which nobody replies.

Source: fhevm-0.14.md, 1.5, 2.4, 5.4; annexes A and E.2.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, TypeVar

import attrs

from kmsconn._generated.fhevm.kms import v1 as kms
from kmsconn.errors import Broken
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.eip712 import Domain, hash_struct, signing_digest
from kmsconn.ethereum.ids import CRS_TAG
from kmsconn.model.requests import Content, Kind, PoolName
from kmsconn.model.steps import Answer
from kmsconn.protocols.core_messages import DEPENDENCY, read_message, signature_of, signer_of
from kmsconn.protocols.fhevm.contracts import KMS_GENERATION
from kmsconn.protocols.fhevm.key_management import (
    GENERATION_VERDICTS,
    NOTHING_RUNS,
    GenerationOperation,
    KmsGenerationOperation,
    expect_id,
    expect_parameters,
)
from kmsconn.protocols.fhevm.operations import (
    UnderContext,
    request_id,
    under_context,
)
from kmsconn.protocols.port import RequestEvent, Verdict, id_in_data

RESPONSE = KMS_GENERATION.function("crsgenResponse")
SIGNED_TYPE = "CrsgenVerification(uint256 crsId,uint256 maxBitLength,bytes crsDigest,bytes extraData)"
_LOW_32_BITS = (1 << 32) - 1


@attrs.frozen
class Crsgen(UnderContext):
    """A request to generate a common reference string for up to ``max_bits`` bits."""

    id: int
    max_bits: int
    params: int
    extra_data: bytes

    kind = Kind.CRSGEN

    @classmethod
    def read(cls, identifier: int, max_bits: int, params: int, extra_data: bytes) -> Crsgen:
        """Return what the event asks for. Raises Undecodable for parameters that have no name."""
        return cls(identifier, max_bits, expect_parameters(params), extra_data)


class Crsgens(GenerationOperation[Crsgen]):
    """The row of common reference strings."""

    kind = Kind.CRSGEN
    events = (RequestEvent(KMS_GENERATION.event("CrsgenRequest"), Crsgen.read, id_in_data),)
    counter = CRS_TAG, lambda at: at.keys.generation.newest_crs_id()
    start, result = "CrsGen", "GetCrsGenResult"
    reply = RESPONSE
    verdicts: ClassVar[Mapping[str, Verdict]] = {
        "KmsAlreadySignedForCrsgen": Verdict.DONE,
        "CrsgenNotRequested": Verdict.RETRY,
        **GENERATION_VERDICTS,
    }

    def request(self, content: Crsgen, gathered: Any) -> kms.CrsGenRequest:
        """Return the start of the generation."""
        return kms.CrsGenRequest(
            **under_context(content, self.deployment.generation),
            params=kms.FheParameter(content.params),
            max_num_bits=content.max_bits & _LOW_32_BITS,
            extra_data=content.extra_data,
        )

    def read_answer(self, content: Crsgen, reply: bytes | None, expected: Address | None) -> Answer:
        """Read the digest and the signature; its size must be the requested one, which the contract hashes. Raises Broken."""
        message = read_message(kms.CrsGenResult, reply or b"")
        expect_id(message.request_id, content.id)
        if message.max_num_bits != content.max_bits:
            raise Broken(DEPENDENCY, f"the CRS is for {message.max_num_bits} bits, not {content.max_bits}")
        digest, signature = message.crs_digest, signature_of(message)
        signed = crs_digest(
            self.deployment.generation, content.id, content.max_bits, digest, content.extra_data
        )
        return Answer(RESPONSE.encode(content.id, digest, signature), signer_of(signed, signature))


def crs_digest(domain: Domain, identifier: int, max_bits: int, digest: bytes, carried: bytes) -> bytes:
    """Return what a node signs for a common reference string; ``carried`` is the event's extraData (2.4)."""
    return signing_digest(domain, hash_struct(SIGNED_TYPE, identifier, max_bits, digest, carried))


A = TypeVar("A", bound=Content)


@attrs.frozen
class AbortKeygen(Content):
    """Stop a key generation, prepared or running; the id is that of the preparation."""

    id: int

    kind = Kind.ABORT_KEYGEN


@attrs.frozen
class AbortCrsgen(Content):
    """Stop the generation of a common reference string."""

    id: int

    kind = Kind.ABORT_CRSGEN


class Aborts(KmsGenerationOperation[A]):
    """A row of aborts. That nothing runs is as good."""

    pool = PoolName.ABORTS
    signed = False
    means = NOTHING_RUNS

    def request(self, content: A, gathered: Any) -> kms.RequestId:
        """Return the id of what is aborted."""
        return request_id(content.id)


class KeygenAborts(Aborts[AbortKeygen]):
    """The row of aborted keys."""

    kind = Kind.ABORT_KEYGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortKeygen"), AbortKeygen),)
    start = "AbortKeyGen"


class CrsgenAborts(Aborts[AbortCrsgen]):
    """The row of aborted common reference strings."""

    kind = Kind.ABORT_CRSGEN
    events = (RequestEvent(KMS_GENERATION.event("AbortCrsgen"), AbortCrsgen),)
    start = "AbortCrsGen"
