"""Identifiers of 32 bytes: of requests, contexts and the like, and the handles of ciphertexts. Never asks anybody.

An id has a type tag in the first byte, a counter in the other 31 (fhevm-0.14.md, 0.2). A handle says chain, type and version of its
ciphertext (4.1 and 4.2).
"""

from __future__ import annotations

PUBLIC_DECRYPTION_TAG = 0x01
USER_DECRYPTION_TAG = 0x02
PREP_KEYGEN_TAG = 0x03
KEY_TAG = 0x04
CRS_TAG = 0x05
CONTEXT_TAG = 0x07
EPOCH_TAG = 0x08

_COUNTER_BITS = 248


def make_id(tag: int, counter: int) -> int:
    """Return the id number ``counter`` of the kind ``tag``."""
    return (tag << _COUNTER_BITS) | counter


def tag_of(identifier: int) -> int:
    """Return the type tag of an id."""
    return identifier >> _COUNTER_BITS


def counter_of(identifier: int) -> int:
    """Return the counter of an id."""
    return identifier & ((1 << _COUNTER_BITS) - 1)


def id_hex(identifier: int) -> str:
    """Write an id as the Core takes it: 64 lower-case hex digits, big-endian, no prefix (5.3)."""
    return f"{identifier:064x}"


def id_name(identifier: int) -> str:
    """Write an id for a reader: what it is of, as far as its tag says, and all its digits (``context 0x07…01``)."""
    return f"{_NAMES.get(tag_of(identifier), 'id')} 0x{identifier:064x}"


_NAMES = {
    PUBLIC_DECRYPTION_TAG: "public decryption",
    USER_DECRYPTION_TAG: "user decryption",
    PREP_KEYGEN_TAG: "key preparation",
    KEY_TAG: "key",
    CRS_TAG: "CRS",
    CONTEXT_TAG: "context",
    EPOCH_TAG: "epoch",
}


HANDLE_BYTES = 32
_CHAIN, _TYPE = slice(22, 30), 30

FHE_TYPES = range(84)
"""The values of ``FheTypes``."""

PLAINTEXT_BITS: dict[int, int] = {0: 2, 2: 8, 3: 16, 4: 32, 5: 64, 6: 128, 7: 160, 8: 256}
"""The types that can be decrypted today, with the bits that the Gateway counts for each."""


def fhe_type_of(raw: bytes) -> int:
    """Return the FHE type that the 32 bytes of a handle name, known or not."""
    return raw[_TYPE]


def chain_id_of(raw: bytes) -> int:
    """Return the host chain that the 32 bytes of a handle name, configured or not."""
    return int.from_bytes(raw[_CHAIN])


_SOLANA = 0x01
_KIND_BITS = 56
"""Bits of a chain id below its top byte, which is the kind of the chain: 0 for EVM chains (docs/solana.md)."""


def is_of_solana(chain_id: int) -> bool:
    """Say whether a chain id is one of Solana: by its top byte."""
    return chain_id >> _KIND_BITS == _SOLANA
