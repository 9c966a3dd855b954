"""Fetches ciphertexts that a quorum of the coprocessors attests: always where that is enforced, else where the chain names a handle only.

The quorum says key, digest and format; the bytes come from the buckets of those who said so, and from no other (RFC-023;
fhevm-0.14.md, annex C).
"""

from __future__ import annotations

import attrs

from kmsconn.ciphertexts.budget import Lease
from kmsconn.ciphertexts.port import Gatherer
from kmsconn.ciphertexts.quorum import AttestationQuorum
from kmsconn.errors import Unreachable
from kmsconn.model.requests import CiphertextReference
from kmsconn.model.steps import Ciphertext


@attrs.frozen
class Attested:
    """Stands before a ``gatherer``, which takes the chain's word."""

    gatherer: Gatherer
    quorum: AttestationQuorum
    enforced: bool

    async def fetch(self, reference: CiphertextReference, lease: Lease) -> Ciphertext:
        """Return the ciphertext of a reference; its bytes are held under ``lease``.

        Raises Unreachable when no quorum stands behind it, and as the gatherer does. Repeating: reads only.
        """
        if not (self.enforced or reference.is_bare):
            return await self.gatherer.fetch(reference, lease)
        told = await self.quorum.told(reference.handle)
        if reason := self.quorum.mismatch(reference, told):
            raise Unreachable(f"ciphertext {reference.handle.hex()} is not attested: {reason}")
        group = self.quorum.agreed(reference.handle, told)
        said, senders = group[0], self.quorum.registry.senders_of({one.signer for one in group})
        named = CiphertextReference(reference.handle, said.key_id, said.sns_ciphertext_digest, senders)
        found = await self.gatherer.fetch(named, lease)
        return attrs.evolve(found, format=said.format.as_core, key_id=said.key_id)
