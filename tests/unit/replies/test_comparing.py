"""Replies are compared byte by byte, and what a Core may give twice is told from a difference."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols import bincode
from kmsconn.protocols.comparing import Likeness, ReplyComparison, compare
from kmsconn.protocols.fhevm import decryptions, keygen, user_decryption
from kmsconn.protocols.fhevm.profile import Fhevm
from tests import vectors

PROFILE = Fhevm(vectors.vector_settings())
PUBLIC, USER = PROFILE.operations[Kind.PUBLIC_DECRYPTION], PROFILE.operations[Kind.USER_DECRYPTION]
SHARE = bincode.SharePayload(
    b"key" * 3, bytes(32), (bincode.Share(5, b"ciphertext one", bytes(32), 1),), 1, 4
)


def public(
    result: bytes = b"\x05".rjust(32, b"\0"), signature: bytes = bytes(65), extra: bytes = b""
) -> bytes:
    return decryptions.RESPONSE.encode(7, result, signature, extra)


def user(payload: bincode.SharePayload, signature: bytes = bytes(65)) -> bytes:
    return user_decryption.RESPONSE.encode(7, bincode.encode(payload), signature, b"")


def with_ciphertext(ciphertext: bytes) -> bincode.SharePayload:
    return attrs.evolve(
        SHARE,
        signcrypted_ciphertexts=(
            attrs.evolve(SHARE.signcrypted_ciphertexts[0], signcrypted_ciphertext=ciphertext),
        ),
    )


def test_equal_bytes_are_equal() -> None:
    """Nothing is decoded where nothing differs."""
    assert compare(PUBLIC, b"no calldata", b"no calldata") == ReplyComparison(Likeness.EQUAL)


def test_another_result_is_a_difference_at_its_byte() -> None:
    """The offset is that of the whole calldata: selector, four heads, the length, the word."""
    found = compare(PUBLIC, public(), public(b"\x06".rjust(32, b"\0")))
    at = 4 + 4 * 32 + 32 + 31
    assert (found.likeness, found.at, found.field) == (Likeness.DIFFERENT, at, "decryptedResult")
    assert (found.ours, found.theirs) == ("0x05" + "00" * 7, "0x06" + "00" * 7)


SIGNED_ANEW = b"\1" * 65
OTHER_SHARES = {
    "length": with_ciphertext(b"a longer ciphertext"),
    "party": attrs.evolve(SHARE, party_id=2),
    "degree": attrs.evolve(SHARE, degree=1),
    "digest": attrs.evolve(SHARE, digest=b"\1" * 32),
    "number": attrs.evolve(SHARE, signcrypted_ciphertexts=SHARE.signcrypted_ciphertexts * 2),
}
PUBLICS = {
    "a signature alone: the contract verified the other, this connector its own": (
        public(signature=SIGNED_ANEW), Likeness.RECOMPUTED, "signature",
    ),
    "extra data must not differ and is named, though the signature differs first": (
        public(signature=SIGNED_ANEW, extra=b"\0"), Likeness.DIFFERENT, "extraData",
    ),
    "bytes behind the last argument": (public() + bytes(32), Likeness.DIFFERENT, "encoding"),
    "what the contract would not have taken": (public()[:40], Likeness.DIFFERENT, "encoding"),
}  # fmt: skip
USERS = {
    "a share that was encrypted anew, and signed": (
        user(with_ciphertext(b"ciphertext two"), SIGNED_ANEW), Likeness.RECOMPUTED, "userDecryptedShare",
    ),
    **{name: (user(one), Likeness.DIFFERENT, "userDecryptedShare") for name, one in OTHER_SHARES.items()},
}  # fmt: skip
KEYS = [keygen.KEY_RESPONSE.encode(7, ((0, digest * 32),), bytes(65)) for digest in (b"a", b"b")]
CASES = {
    **{name: (PUBLIC, public(), *row) for name, row in PUBLICS.items()},
    **{name: (USER, user(SHARE), *row) for name, row in USERS.items()},
    "digests of keys: one is generated once, whoever asks": (
        PROFILE.operations[Kind.KEYGEN], *KEYS, Likeness.DIFFERENT, "keyDigests",
    ),
}  # fmt: skip


@pytest.mark.parametrize(("operation", "ours", "theirs", "likeness", "field"), CASES.values(), ids=CASES)
def test_what_is_random_or_signed_anew_may_differ_and_nothing_else(
    operation: Any, ours: bytes, theirs: bytes, likeness: Likeness, field: str
) -> None:
    """Encryption is random; who gives the share, of what and in which form is not."""
    found = compare(operation, ours, theirs)
    assert (found.likeness, found.field) == (likeness, field)


def test_another_function_is_a_difference_in_the_selector() -> None:
    """A reply of another kind, or of another version of the contract."""
    found = compare(PUBLIC, public(), b"\1\2\3\4" + public()[4:])
    theirs = b"\1\2\3\4" + public()[4:8]
    expected = ReplyComparison(Likeness.DIFFERENT, 0, "selector", to_hex(public()[:8]), to_hex(theirs))
    assert found == expected
