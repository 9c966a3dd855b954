"""What a Core is asked to generate, what it stores of that, and the signed results; and the answers of one node.

Digests are derived from ids, so that all nodes agree. Answers, decrypted values and shares, are genuinely signed, a pure function of job
and key; all nodes of a threshold set hold the same share here. Source: kms-core-grpc.md, 3.3 to 3.5, 6.6 and 7-11; fhevm-0.15.md, 1.5,
1.7 and 1.9.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
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
    PublicDecryptionResponse,
    PublicDecryptionResponsePayload,
    RequestId,
    TypedPlaintext,
    TypedSigncryptedCiphertext,
    UserDecryptionResponse,
    UserDecryptionResponsePayload,
)
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.contracts.generation_releases import crsgen_hash, keygen_hash
from kmsconn.emulator.core_requests import (
    CoreRelease,
    Invalid,
    Item,
    Job,
    SignatureFields,
    User,
    read_id,
    signature_fields,
)
from kmsconn.emulator.signcryption import (
    Randomness,
    abi_word,
    constant_share,
    little_endian,
    public_payload,
    sign_sha256,
    signcrypt,
    verification_key,
)
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.signing import PrivateKey
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm.decryptions import public_digest
from kmsconn.protocols.fhevm.user_decryption import user_digest
from kmsconn.protocols.protobuf import encode

LINKER_TYPE = "UserDecryptionLinker(bytes publicKey,bytes32[] handles,address userAddress)"
_PUBLIC_DECRYPTION, _USER_DECRYPTION = b"PUBL_DEC", b"USER_DEC"
_HANDLE_BYTES = 32


class JobFailed(Exception):  # noqa: N818 - it did
    """The job ends with this error text, which only the Core's log shows."""


@attrs.frozen
class SigningNode:
    """Who answers: its signer key, its number in the committee, the sharing degree (0: a centralised Core), its Core's release."""

    key: PrivateKey
    party_id: int = 1
    degree: int = 0
    release: CoreRelease = CoreRelease.V0_14

    @property
    def verification_key(self) -> bytes:
        """The 41 bytes that name the key in answers."""
        return verification_key(self.key.public_key)

    def sign(self, digest: bytes, schemes: Sequence[int]) -> SignatureFields:
        """Sign a digest, for a request that names these signing schemes."""
        return signature_fields(self.release, schemes, self.key.sign(digest))

    def sign_inner(self, signed: bytes) -> bytes:
        """Return what nobody on chain reads, and no Core from 0.16 on gives."""
        return b"" if self.release is CoreRelease.V0_16 else sign_sha256(self.key, signed)


def answer(node: SigningNode, job: Job, randomness: Callable[[int], Randomness]) -> bytes:
    """Return the protobuf bytes of a job's answer; ``randomness`` serves each share by its place. Raises JobFailed."""
    try:
        if job.user is None:
            return bytes(encode(public_answer(node, job)))
        return bytes(encode(user_answer(node, job, job.user, randomness)))
    except ValueError as error:
        raise JobFailed(str(error)) from error


def public_answer(node: SigningNode, job: Job) -> PublicDecryptionResponse:
    """Decrypt for everybody. Raises ValueError for what cannot be decrypted or written for the contract."""
    values = [(item.fhe_type, _value(item)) for item in job.items]
    payload = PublicDecryptionResponsePayload(
        verification_key=node.verification_key,
        plaintexts=[TypedPlaintext(bytes=little_endian(one, kind), fhe_type=kind) for kind, one in values],
        request_id=RequestId(request_id=job.request_id.hex()),
    )
    result = b"".join(abi_word(value, kind) for kind, value in values)
    signed = node.sign(public_digest(job.domain, job.handles, result, job.extra_data), job.schemes)
    return PublicDecryptionResponse(
        signature=node.sign_inner(_PUBLIC_DECRYPTION + public_payload(payload)),
        external_signature=signed.external,
        payload=payload,
        extra_data=job.extra_data,
        signatures=signed.by_scheme,
    )


def user_answer(
    node: SigningNode, job: Job, user: User, randomness: Callable[[int], Randomness]
) -> UserDecryptionResponse:
    """Seal for one user. Raises ValueError for what cannot be decrypted."""
    link = link_digest(job, user)
    seal = partial(_share, node, user, link)
    payload = UserDecryptionResponsePayload(
        verification_key=node.verification_key,
        digest=link,
        signcrypted_ciphertexts=[seal(item, randomness(place)) for place, item in enumerate(job.items)],
        party_id=node.party_id,
        degree=node.degree,
    )
    image = bincode.encode(payload)
    digest = user_digest(job.domain, user.enc_key, job.handles, image, job.extra_data)
    signed = node.sign(digest, job.schemes)
    return UserDecryptionResponse(
        signature=node.sign_inner(_USER_DECRYPTION + image),
        external_signature=signed.external,
        payload=payload,
        extra_data=job.extra_data,
        signatures=signed.by_scheme,
    )


def link_digest(job: Job, user: User) -> bytes:
    """Return what ties an answer to its request (section 6.4)."""
    return signing_digest(job.domain, hash_struct(LINKER_TYPE, user.enc_key, job.handles, user.client))


def _share(
    node: SigningNode, user: User, link: bytes, item: Item, randomness: Randomness
) -> TypedSigncryptedCiphertext:
    value = _value(item)
    plaintext = little_endian(value, item.fhe_type)
    sealed = signcrypt(
        constant_share(value, item.fhe_type) if node.degree else plaintext,
        item.fhe_type,
        link=link,
        client=user.client,
        enc_key=user.enc_key,
        key=node.key,
        randomness=randomness,
    )
    return TypedSigncryptedCiphertext(
        fhe_type=item.fhe_type, signcrypted_ciphertext=sealed, external_handle=item.handle, packing_factor=1
    )


def _value(item: Item) -> int:
    if len(item.handle) > _HANDLE_BYTES:
        raise ValueError("a handle is longer than 32 bytes")
    if item.value is None:
        raise ValueError("the ciphertext cannot be deserialised")
    return item.value


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
        fitting = (size for size in sizes if self.digest(f"CRS {size}", crs_id) == info.crs_digest)
        return next(fitting, MOST_BITS)

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
        self.public.put(_path(COMPRESSED_OBJECT, key_id), body_of(COMPRESSED_OBJECT, request))
        self.preprocessings[key_id] = prep_id

    def differs(self, info: KeyInfo, release: CoreRelease) -> bool:
        """Tell whether a key comes with another preprocessing than the recorded one; what is not recorded differs from nothing."""
        recorded = self.preprocessings.get(read_id(info.key_id))
        compares = release.is_later if self.compares is None else self.compares
        return compares and recorded is not None and recorded != read_id(info.preproc_id)


def _path(name: str, key_id: bytes) -> str:
    return f"{name}/{key_id.hex()}"
