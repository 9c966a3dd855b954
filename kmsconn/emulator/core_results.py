"""The signed results of what a Core generates: keys and CRS. Digests are derived from ids, so that all nodes of a set agree.

Source: kms-core-grpc.md, 3.3 to 3.5 and 8; fhevm-0.15.md, 1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import shake_256

import attrs

from kmsconn._generated.fhevm.kms.v1 import CrsGenResult, CrsInfo, KeyGenResult, KeyInfo, RequestId
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_release import SignatureFields
from kmsconn.emulator.core_requests import read_id
from kmsconn.emulator.generation_hashes import crsgen_hash, keygen_hash
from kmsconn.ethereum.eip712 import Domain, signing_digest

KEY_TYPES = ("ServerKey", "PublicKey")
COMPRESSED_KEY_TYPES = ("PublicKey", "CompressedXofKeySet")
PUBLIC_KEY_TYPE = "PublicKey"
"""What both sets have, and what stays the same in a migration."""
MOST_BITS = 2048
"""The size of the largest CRS."""
_CODES = {KEY_TYPES[0]: 0, KEY_TYPES[1]: 1, COMPRESSED_KEY_TYPES[1]: 3}


def body_of(name: str, identifier: bytes) -> bytes:
    """Return the public object that is made under an id; it is no real key."""
    return name.encode() + identifier


def digest_of(name: str, identifier: bytes) -> bytes:
    """Return the digest of what is made under an id."""
    domain = b"PDAT_CRS" if name.startswith("CRS") else b"PDAT_KEY"
    return object_digest(body_of(name, identifier), domain)


def object_digest(body: bytes, domain: bytes = b"PDAT_KEY") -> bytes:
    """Return the digest of a public object, as a Core signs it (8)."""
    return shake_256(domain + body).digest(32)


@attrs.define(eq=False)
class KeyResults:
    """What one node says of what it made; ``digest`` gives the digest of a key part or a CRS by name and id."""

    node: Callable[[], SigningNode]
    digest: Callable[[str, bytes], bytes] = digest_of

    def key_result(
        self, domain: Domain, info: KeyInfo, extra_data: bytes, schemes: Sequence[int]
    ) -> KeyGenResult:
        """Return the signed result of a key set."""
        prep_id, key_id = read_id(info.preproc_id), read_id(info.key_id)
        digests = tuple((_CODES[part.key_type], part.digest) for part in info.key_digests)
        hashed = keygen_hash(int.from_bytes(prep_id), int.from_bytes(key_id), digests, extra_data)
        signed = self.sign(domain, hashed, schemes)
        return KeyGenResult(
            request_id=RequestId(request_id=key_id.hex()),
            preprocessing_id=RequestId(request_id=prep_id.hex()),
            key_digests=list(info.key_digests),
            external_signature=signed.external,
            signatures=signed.by_scheme,
        )

    def reshared(
        self, domain: Domain, info: KeyInfo, extra_data: bytes, schemes: Sequence[int]
    ) -> KeyGenResult:
        """Return the signed result of a key in a new epoch: where it has a compressed set, of that and the public key alone."""
        kinds = {part.key_type: part for part in info.key_digests}
        names = COMPRESSED_KEY_TYPES if COMPRESSED_KEY_TYPES[1] in kinds else tuple(kinds)
        digests = [kinds[name] for name in names if name in kinds]
        kept = KeyInfo(key_id=info.key_id, preproc_id=info.preproc_id, key_digests=digests)
        return self.key_result(domain, kept, extra_data, schemes)

    def crs_result(
        self, domain: Domain, info: CrsInfo, bits: int, extra_data: bytes, schemes: Sequence[int]
    ) -> CrsGenResult:
        """Return the signed result of a CRS."""
        crs_id = read_id(info.crs_id)
        hashed = crsgen_hash(int.from_bytes(crs_id), bits, info.crs_digest, extra_data)
        signed = self.sign(domain, hashed, schemes)
        return CrsGenResult(
            request_id=RequestId(request_id=crs_id.hex()),
            crs_digest=info.crs_digest,
            max_num_bits=bits,
            external_signature=signed.external,
            signatures=signed.by_scheme,
        )

    def bits_of(self, info: CrsInfo) -> int:
        """Return the size of a CRS that this Core made, by its digest."""
        crs_id = read_id(info.crs_id)
        sizes = [1 << power for power in range(12)]
        return next(
            (size for size in sizes if self.digest(f"CRS {size}", crs_id) == info.crs_digest), MOST_BITS
        )

    def sign(self, domain: Domain, struct_hash: bytes, schemes: Sequence[int]) -> SignatureFields:
        """Sign a struct with the node's key, for a request that names these signing schemes."""
        return self.node().sign(signing_digest(domain, struct_hash), schemes)
