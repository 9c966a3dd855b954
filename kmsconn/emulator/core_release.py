"""The releases of the Core that are emulated, and what each puts into the signature fields of an answer. Knows no request.

Source: fhevm-0.15.md, 1.9, 2.3, 4.2 and 4.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum

import attrs

from kmsconn._generated.fhevm.kms.v1 import SigningSchemeType, TypedSignature
from kmsconn.emulator.core_requests import Invalid

ECDSA256K1 = SigningSchemeType.ECDSA256K1


class CoreRelease(IntEnum):
    """A release of the Core; later ones are greater."""

    V0_14 = 14
    V0_15 = 15
    V0_16 = 16

    @property
    def text(self) -> str:
        """The release as people write it."""
        return f"0.{self.value}"

    @property
    def knows_schemes(self) -> bool:
        """Whether requests may name signing schemes."""
        return self >= CoreRelease.V0_15

    @property
    def compares_preprocessings(self) -> bool:
        """Whether it refuses an epoch of a key that comes with another preprocessing than it has recorded (kms#737)."""
        return self >= CoreRelease.V0_15

    @property
    def waits_at_once(self) -> bool:
        """Whether it has calls that start and wait, and does again what failed."""
        return self >= CoreRelease.V0_15


RELEASES = {release.text: release for release in CoreRelease}
"""By their texts."""


@attrs.frozen
class SignatureFields:
    """What stands in the fields of an answer: ``external`` in the old one, ``by_scheme`` in the list."""

    external: bytes
    by_scheme: list[TypedSignature]


def check_schemes(release: CoreRelease, schemes: Sequence[int]) -> None:
    """Refuse what this Core cannot sign with; it has a key for ECDSA alone. Raises Invalid."""
    if release.knows_schemes and any(scheme != ECDSA256K1 for scheme in schemes):
        raise Invalid("a signing scheme is unknown, or this node has no key for it")


def signature_fields(release: CoreRelease, schemes: Sequence[int], signature: bytes) -> SignatureFields:
    """Return an ECDSA signature as a release answers to a request for ``schemes``: 0.15 lists nothing that was not asked for."""
    asked = bool(schemes) or release is CoreRelease.V0_16
    by_scheme = [TypedSignature(ECDSA256K1, signature)] if release.knows_schemes and asked else []
    return SignatureFields(b"" if release is CoreRelease.V0_16 else signature, by_scheme)
