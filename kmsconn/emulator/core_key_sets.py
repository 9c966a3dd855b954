"""What a Core is asked to generate: a new key or material for an existing one, compressed or not. Generates nothing.

Source: kms-core-grpc.md, 3.3 and 6.6; fhevm-0.15.md, 1.5 and 1.7.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn._generated.fhevm.kms.v1 import (
    CompressedKeyConfig,
    KeyDigest,
    KeyGenSecretKeyConfig,
    KeyInfo,
    KeySetAddedInfo,
    KeySetConfig,
    KeySetType,
    RequestId,
)
from kmsconn.emulator.core_requests import Invalid, read_id
from kmsconn.emulator.core_results import COMPRESSED_KEY_TYPES, KEY_TYPES

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
