"""What a Core is asked to generate, what it stores of that, and the signed results. Digests are derived from ids, so that all nodes agree.

Source: kms-core-grpc.md, 3.3 to 3.5, 6.6 and 8; fhevm-0.15.md, 1.5, 1.7 and 1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from hashlib import shake_256

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    CrsGenResult,
    CrsInfo,
    KeyDigest,
    KeyGenResult,
    KeyGenSecretKeyConfig,
    KeyInfo,
    KeySetAddedInfo,
    KeySetConfig,
    KeySetType,
    RequestId,
)
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.contracts.generation_releases import crsgen_hash, keygen_hash
from kmsconn.emulator.core_answers import SigningNode
from kmsconn.emulator.core_requests import CoreRelease, Invalid, SignatureFields, read_id
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


_SECRETS = {KeyGenSecretKeyConfig.GenerateAll, KeyGenSecretKeyConfig.UseExisting}


@attrs.frozen
class KeySetKind:
    """The configuration of a key set, which a preprocessing is made for; without one a set is new and compressed."""

    compressed: bool = True
    migrates: bool = False
    """Whether it is made of the secret key of an existing set."""

    @classmethod
    def read(cls, config: KeySetConfig | None) -> KeySetKind:
        """Read a configuration. Raises Invalid."""
        if config is None:
            return cls()
        standard = config.standard_keyset_config
        if config.keyset_type != KeySetType.Standard or standard is None:
            raise Invalid("a standard key set has a configuration")
        if standard.secret_key_config not in _SECRETS:
            raise Invalid("the secret key is new, or an existing one")
        compressed = standard.compressed_key_config != CompressedKeyConfig.CompressedNone
        return cls(compressed, standard.secret_key_config == KeyGenSecretKeyConfig.UseExisting)

    @property
    def types(self) -> tuple[str, ...]:
        """The names of what makes up the set."""
        return COMPRESSED_KEY_TYPES if self.compressed else KEY_TYPES


@attrs.frozen
class ExistingKeySet:
    """The key set that a migration takes its secret key from; whether its tag is used, and the result copied to it."""

    key_id: bytes
    takes_tag: bool
    copies: bool

    @classmethod
    def read(cls, info: KeySetAddedInfo | None) -> ExistingKeySet:
        """Read what a migration names. Raises Invalid."""
        if info is None:
            raise Invalid("a migration names the existing key set")
        key_id = read_id(info.existing_keyset_id)
        return cls(key_id, info.use_existing_key_tag, info.copy_compressed_key_to_original)


@attrs.frozen
class KeySetJob:
    """One key set that is generated: its id, and the preprocessing that it is made from."""

    key_id: bytes
    prep_id: bytes
    kind: KeySetKind

    def info(self, digests: Mapping[str, bytes]) -> KeyInfo:
        """Return what is said of it, with the digests of its parts by name and in their order."""
        return KeyInfo(
            key_id=RequestId(request_id=self.key_id.hex()),
            preproc_id=RequestId(request_id=self.prep_id.hex()),
            key_digests=[KeyDigest(key_type=name, digest=digest) for name, digest in digests.items()],
        )


PUBLIC_PREFIX = "/public"
"""The path of a node's public storage."""
COMPRESSED_OBJECT = COMPRESSED_KEY_TYPES[1]
"""The folder of compressed key sets."""


@attrs.define(eq=False)
class KeyStore:
    """The storage of one Core, which survives a restart. The fields are its knobs and may be changed at any time."""

    copies: bool = True
    """Whether a compressed set reaches the key it was made of. If not, only the Core's log tells, and the result is good."""
    compares: bool | None = None
    """Whether a new epoch is refused for a key that comes with another preprocessing than recorded; None: as the release does."""
    preprocessings: dict[bytes, bytes] = attrs.field(factory=dict)
    """Key → the preprocessing that it is recorded with."""
    public: EmulatedBucket = attrs.field(factory=lambda: EmulatedBucket(PUBLIC_PREFIX), repr=False)
    """The node's public storage, which all shards of its Core share."""
    damaged: set[bytes] = attrs.field(factory=set)
    """Keys whose old public key is missing, or is not what its digest says."""

    @property
    def objects(self) -> dict[str, bytes]:
        """The public objects: ``{type}/{key}`` → body, whose digest is in the signed result."""
        return {path: stored.body for path, stored in self.public.objects.items()}

    def keep(self, key_id: bytes, prep_id: bytes, origins: Mapping[str, bytes]) -> None:
        """Store what was made under an id; ``origins`` says of each public object under which id it was made first."""
        self.preprocessings[key_id] = prep_id
        for name, origin in origins.items():
            self.public.put(_path(name, key_id), body_of(name, origin))

    def copy(self, request: bytes, key_id: bytes, prep_id: bytes) -> None:
        """Copy a compressed set to the key it was made of, whose other objects stay and whose preprocessing is this one from here on."""
        if self.copies:
            self.public.put(_path(COMPRESSED_OBJECT, key_id), body_of(COMPRESSED_OBJECT, request))
            self.preprocessings[key_id] = prep_id

    def take_over(self, keys: Iterable[KeyInfo]) -> None:
        """Record the preprocessings that keys of a new epoch came with."""
        for info in keys:
            self.preprocessings[read_id(info.key_id)] = read_id(info.preproc_id)

    def differs(self, info: KeyInfo, release: CoreRelease) -> bool:
        """Tell whether a key comes with another preprocessing than the recorded one; what is not recorded differs from nothing."""
        recorded = self.preprocessings.get(read_id(info.key_id))
        compares = release.compares_preprocessings if self.compares is None else self.compares
        return compares and recorded is not None and recorded != read_id(info.preproc_id)


def _path(name: str, key_id: bytes) -> str:
    return f"{name}/{key_id.hex()}"
