"""What requests to the Core of the first generation have in common, what is signed, and decrypted values in the forms of that era.

Never a whole request, never a signature, and never the choice of a form. Handles enter typed data as the same words in both revisions of
the contracts; only the name of their type differs, hence the hash of the struct. A Core signs over a decrypted result, so its bytes must
be the very ones that it made. Values come little-endian. *Small* ones (up to 256 bits) become a word, *large* ones (512, 1024, 2048 bits)
become ``bytes``, both big-endian. Source: httpz-rc7.md, 2.3, 3.2, 3.3, 8.2 and 8.3.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any

from kmsconn._generated.httpz_rc7.kms import v1 as kms
from kmsconn.ethereum.abi import Domain, hash_struct, signing_digest
from kmsconn.ethereum.abi_types import WORD, AbiType, TupleType, parse_type
from kmsconn.ethereum.addresses import Address
from kmsconn.ethereum.ids import HANDLE_BYTES, id_hex


def request_id(identifier: int) -> kms.RequestId:
    """Return an id as the Core knows it."""
    return kms.RequestId(id_hex(identifier))


PUBLIC_TYPE = "PublicDecryptVerification({kind}[] ctHandles,bytes decryptedResult)"
USER_TYPE = "UserDecryptResponseVerification(bytes publicKey,{kind}[] ctHandles,bytes reencryptedShare)"
LINKER_TYPE = "UserDecryptionLinker(bytes publicKey,{kind}[] handles,address userAddress)"
OBJECT_TYPES = {
    "PublicKey": "FhePubKey(bytes pubkey)",
    "ServerKey": "FheServerKey(bytes server_key)",
    "SnsKey": "SnsKey(bytes sns_key)",
    "CRS": "CRS(bytes crs)",
}
"""Name of a generated object in the Core's answers → the struct that is signed for it; a decompression key has none."""


def public_digest(domain: Domain, handles: Sequence[bytes], result: bytes, *, numeric: bool) -> bytes:
    """Return what a node signs for a public decryption."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(PUBLIC_TYPE.format(kind=kind), words, result))


def user_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], share: bytes, *, numeric: bool
) -> bytes:
    """Return what a node signs for a user decryption; ``share`` is the bincode image (2.4)."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(USER_TYPE.format(kind=kind), public_key, words, share))


def link_digest(
    domain: Domain, public_key: bytes, handles: Sequence[bytes], user: Address, *, numeric: bool
) -> bytes:
    """Return what ties a Core's answer to the request of its user (3.4)."""
    kind, words = _handles(handles, numeric=numeric)
    return signing_digest(domain, hash_struct(LINKER_TYPE.format(kind=kind), public_key, words, user))


def object_digest(domain: Domain, name: str, key_handle: bytes) -> bytes:
    """Return what a node signs for a key or a CRS, whose SHA3-256 is its handle. Raises KeyError for a name without a struct."""
    return signing_digest(domain, hash_struct(OBJECT_TYPES[name], key_handle))


def _handles(handles: Sequence[bytes], *, numeric: bool) -> tuple[str, list[Any]]:
    """Return the name of the handles' type, and the handles as its values; short ones are filled up on the left."""
    if numeric:
        return "uint256", [int.from_bytes(handle) for handle in handles]
    return "bytes32", [handle.rjust(HANDLE_BYTES, b"\0") for handle in handles]


SIZES = {0: 1, 1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 16, 7: 20, 8: 32, 9: 64, 10: 128, 11: 256}
"""FHE type → bytes of its value."""

EBOOL, EUINT4, EUINT8 = 0, 1, 2
_ARRAY_STANDS_FOR_SIGNATURES = parse_type("bytes[]")
_NUMBER, _BYTES = parse_type("uint256"), parse_type("bytes")
_REQUEST_ID_OF_P3 = 42

Plaintext = tuple[int, bytes]
"""An FHE type and the little-endian bytes of a value."""


class PlaintextForm(StrEnum):
    """The forms by their names as options."""

    P3 = "p3"
    P1 = "p1"
    P2 = "p2"
    RAW = "raw"


def encode_plaintexts(form: PlaintextForm, plaintexts: Sequence[Plaintext]) -> bytes:
    """Return the values in a form. Raises ValueError for values that the form does not have."""
    for fhe_type, _ in plaintexts:
        if fhe_type not in SIZES:
            raise ValueError(f"a plaintext has FHE type {fhe_type}, which that generation does not know")
    return _FORMS[form](plaintexts)


def _p3(plaintexts: Sequence[Plaintext]) -> bytes:
    """Encode an argument list without its first word, the request id, and its last, the length of no signatures."""
    values = [_whole(*plaintext) for plaintext in plaintexts]
    kinds = [_NUMBER, *map(_kind, values), _ARRAY_STANDS_FOR_SIGNATURES]
    return TupleType(kinds).encode((_REQUEST_ID_OF_P3, *values, ()))[WORD:-WORD]


def _p1(plaintexts: Sequence[Plaintext]) -> bytes:
    """Encode a tuple that begins with a dummy word, without that word: offsets count from where it was."""
    values = [_narrow(*plaintext) for plaintext in plaintexts]
    return TupleType([_NUMBER, *map(_kind, values)]).encode((0, *values))[WORD:]


def _p2(plaintexts: Sequence[Plaintext]) -> bytes:
    encoded = _p1(plaintexts)
    return encoded + bytes(WORD) if encoded else b""


def _raw(plaintexts: Sequence[Plaintext]) -> bytes:
    if len(plaintexts) != 1:
        raise ValueError(f"the raw form has one value, not {len(plaintexts)}")
    return plaintexts[0][1]


def _whole(fhe_type: int, raw: bytes) -> int | bytes:
    """Return a value as it came. Where a Core would have signed zeros in its place, it is refused: nobody asked for zeros."""
    size = SIZES[fhe_type]
    if size > WORD:
        if len(raw) != size:
            raise ValueError(f"a value of FHE type {fhe_type} has {len(raw)} bytes, not {size}")
        return raw[::-1]
    if len(raw) > WORD:
        raise ValueError(f"a value of FHE type {fhe_type} has {len(raw)} bytes, more than a word")
    return int.from_bytes(raw, "little")


def _narrow(fhe_type: int, raw: bytes) -> int | bytes:
    """Return a value cut to its type, filled up with zeros."""
    if fhe_type in {EBOOL, EUINT4, EUINT8} and not raw:
        raise ValueError(f"a value of FHE type {fhe_type} has no bytes")
    size = SIZES[fhe_type]
    cut = raw[:size].ljust(size, b"\0")
    if size > WORD:
        return cut[::-1]
    return int.from_bytes(cut, "little") & _MASKS.get(fhe_type, -1)


def _kind(value: int | bytes) -> AbiType:
    return _NUMBER if isinstance(value, int) else _BYTES


_MASKS = {EBOOL: 1, EUINT4: 15}
_FORMS: Mapping[PlaintextForm, Callable[[Sequence[Plaintext]], bytes]] = {
    PlaintextForm.P3: _p3,
    PlaintextForm.P1: _p1,
    PlaintextForm.P2: _p2,
    PlaintextForm.RAW: _raw,
}
