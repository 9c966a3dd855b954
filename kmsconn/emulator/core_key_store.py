"""What a Core stores of its keys beside their shares: the preprocessing that each is recorded with, and public objects.

Source: fhevm-0.15.md, 1.7 and 1.9.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs

from kmsconn._generated.fhevm.kms.v1 import KeyInfo
from kmsconn.emulator.buckets import EmulatedBucket
from kmsconn.emulator.core_release import CoreRelease
from kmsconn.emulator.core_requests import read_id
from kmsconn.emulator.core_results import COMPRESSED_KEY_TYPES, body_of

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
