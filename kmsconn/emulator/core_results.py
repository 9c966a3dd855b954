"""The signed results of what a Core generates: keys and CRS. Digests are derived from ids, so that all nodes of a set agree.

Source: kms-core-grpc.md, 3.3 to 3.5.
"""

from __future__ import annotations

from collections.abc import Callable

import attrs

from kmsconn._generated.fhevm.kms.v1 import CrsGenResult, CrsInfo, KeyGenResult, KeyInfo, RequestId
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_requests import read_id
from kmsconn.emulator.generation_hashes import crsgen_hash, keygen_hash
from kmsconn.ethereum.eip712 import Domain, signing_digest
from kmsconn.ethereum.keccak import keccak256

KEY_TYPES = ("ServerKey", "PublicKey")
COMPRESSED_KEY_TYPES = ("PublicKey", "CompressedXofKeySet")
MOST_BITS = 2048
"""The size of the largest CRS."""
_CODES = {KEY_TYPES[0]: 0, KEY_TYPES[1]: 1, COMPRESSED_KEY_TYPES[1]: 3}


def digest_of(name: str, identifier: bytes) -> bytes:
    """Return the digest of what is made under an id."""
    return keccak256(name.encode() + identifier)


@attrs.define(eq=False)
class KeyResults:
    """What one node says of what it made; ``digest`` gives the digest of a key part or a CRS by name and id."""

    node: Callable[[], SigningNode]
    digest: Callable[[str, bytes], bytes] = digest_of

    def key_result(self, domain: Domain, info: KeyInfo, extra_data: bytes) -> KeyGenResult:
        """Return the signed result of a key set."""
        prep_id, key_id = read_id(info.preproc_id), read_id(info.key_id)
        digests = tuple((_CODES[part.key_type], part.digest) for part in info.key_digests)
        hashed = keygen_hash(int.from_bytes(prep_id), int.from_bytes(key_id), digests, extra_data)
        return KeyGenResult(
            request_id=RequestId(request_id=key_id.hex()),
            preprocessing_id=RequestId(request_id=prep_id.hex()),
            key_digests=list(info.key_digests),
            external_signature=self.sign(domain, hashed),
        )

    def crs_result(self, domain: Domain, info: CrsInfo, bits: int, extra_data: bytes) -> CrsGenResult:
        """Return the signed result of a CRS."""
        crs_id = read_id(info.crs_id)
        hashed = crsgen_hash(int.from_bytes(crs_id), bits, info.crs_digest, extra_data)
        return CrsGenResult(
            request_id=RequestId(request_id=crs_id.hex()),
            crs_digest=info.crs_digest,
            max_num_bits=bits,
            external_signature=self.sign(domain, hashed),
        )

    def bits_of(self, info: CrsInfo) -> int:
        """Return the size of a CRS that this Core made, by its digest."""
        crs_id = read_id(info.crs_id)
        sizes = [1 << power for power in range(12)]
        return next(
            (size for size in sizes if self.digest(f"CRS {size}", crs_id) == info.crs_digest), MOST_BITS
        )

    def sign(self, domain: Domain, struct_hash: bytes) -> bytes:
        """Sign a struct with the node's key."""
        return self.node().key.sign(signing_digest(domain, struct_hash))
