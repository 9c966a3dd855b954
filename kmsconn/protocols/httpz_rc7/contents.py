"""What the contracts of the first generation ask for, as values. Never decodes and never judges.

Source: httpz-rc7.md, 1.2, 1.3 and 2.5.
"""

from __future__ import annotations

import attrs

from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import Kind, Material


@attrs.frozen
class PublicDecryption:
    """A request to reveal values to everybody.

    ``numeric``: its contract knows handles as ``uint256``, which is how they are then signed.
    """

    id: int
    materials: tuple[Material, ...]
    numeric: bool

    kind = Kind.PUBLIC_DECRYPTION


@attrs.frozen
class UserDecryption:
    """A request to reveal values to one user, whose right to them the contract has checked."""

    id: int
    materials: tuple[Material, ...]
    numeric: bool
    user: Address
    public_key: bytes

    kind = Kind.USER_DECRYPTION


@attrs.frozen
class PrepKeygen:
    """A request to prepare a key; ``parameters`` is the digest of its FHE parameters."""

    id: int
    parameters: bytes

    kind = Kind.PREP_KEYGEN


@attrs.frozen
class Keygen:
    """A request to make the key that was prepared under ``id``."""

    id: int
    parameters: bytes

    kind = Kind.KEYGEN


@attrs.frozen
class PrepKskgen:
    """A request to prepare a key that switches from one key to another."""

    id: int
    parameters: bytes

    kind = Kind.PREP_KSKGEN


@attrs.frozen
class Kskgen:
    """A request to make the switching key that was prepared under ``id``, between two keys."""

    id: int
    source: int
    destination: int
    parameters: bytes

    kind = Kind.KSKGEN


@attrs.frozen
class Crsgen:
    """A request to make a common reference string."""

    id: int
    parameters: bytes

    kind = Kind.CRSGEN


Decryption = PublicDecryption | UserDecryption
KeyManagement = PrepKeygen | Keygen | PrepKskgen | Kskgen | Crsgen


def produced_id(content: KeyManagement) -> int:
    """Return the id that a reply gives to what was made: the one of its request.

    Nothing of that era says how to choose it. All nodes must choose the same, the Core must know it, and later contracts do so too;
    operations of a kind keep their own stores, in the contract and in the Core, so that equal numbers do not clash (2.5).
    """
    return content.id
