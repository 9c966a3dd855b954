"""Replies are compared byte by byte, and what a Core may give twice is told from a difference."""

from __future__ import annotations

import attrs
import pytest

from kmsconn.ethereum.hexes import to_hex
from kmsconn.model.requests import Kind
from kmsconn.protocols import bincode
from kmsconn.protocols.fhevm import decryptions, keygen, user_decryption
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.replies.shadow import (
    Likeness,
    ReplyComparison,
    compare,
    first_difference,
)
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
    return attrs.evolve(SHARE, shares=(attrs.evolve(SHARE.shares[0], signcrypted=ciphertext),))


def test_equal_bytes_are_equal() -> None:
    """Nothing is decoded where nothing differs."""
    assert compare(PUBLIC, b"no calldata", b"no calldata") == ReplyComparison(Likeness.EQUAL)


def test_another_result_is_a_difference_at_its_byte() -> None:
    """The offset is that of the whole calldata: selector, four heads, the length, the word."""
    found = compare(PUBLIC, public(), public(b"\x06".rjust(32, b"\0")))
    at = 4 + 4 * 32 + 32 + 31
    assert (found.likeness, found.at, found.field) == (Likeness.DIFFERENT, at, "decryptedResult")
    assert (found.ours, found.theirs) == ("0x05" + "00" * 7, "0x06" + "00" * 7)


def test_another_signature_alone_is_recomputed() -> None:
    """The contract verified the other one, and this connector its own: both are the node's."""
    found = compare(PUBLIC, public(), public(signature=b"\1" * 65))
    assert found.likeness is Likeness.RECOMPUTED
    assert found.field == "signature"


def test_other_extra_data_is_a_difference_whatever_the_signature_is() -> None:
    """The argument that must not differ is named, though the signature differs first."""
    found = compare(PUBLIC, public(), public(signature=b"\1" * 65, extra=b"\0"))
    assert found.likeness is Likeness.DIFFERENT
    assert found.field == "extraData"


def test_a_share_that_was_encrypted_anew_is_recomputed() -> None:
    """Ciphertext and signature differ, nothing else."""
    found = compare(USER, user(SHARE), user(with_ciphertext(b"ciphertext two"), b"\1" * 65))
    assert found.likeness is Likeness.RECOMPUTED


@pytest.mark.parametrize(
    "other",
    [
        with_ciphertext(b"a longer ciphertext"),
        attrs.evolve(SHARE, party_id=2),
        attrs.evolve(SHARE, degree=1),
        attrs.evolve(SHARE, digest=b"\1" * 32),
        attrs.evolve(SHARE, shares=SHARE.shares * 2),
    ],
    ids=["length", "party", "degree", "digest", "number"],
)
def test_a_share_that_differs_in_more_than_its_ciphertext_is_a_difference(
    other: bincode.SharePayload,
) -> None:
    """Encryption is random; who gives the share, of what and in which form is not."""
    found = compare(USER, user(SHARE), user(other))
    assert found.likeness is Likeness.DIFFERENT
    assert found.field == "userDecryptedShare"


def test_another_function_is_a_difference_in_the_selector() -> None:
    """A reply of another kind, or of another version of the contract."""
    found = compare(PUBLIC, public(), b"\1\2\3\4" + public()[4:])
    theirs = b"\1\2\3\4" + public()[4:8]
    expected = ReplyComparison(Likeness.DIFFERENT, 0, "selector", to_hex(public()[:8]), to_hex(theirs))
    assert found == expected


def test_equal_arguments_in_another_encoding_are_a_difference_in_the_encoding() -> None:
    """Bytes behind the last argument, which the contract does not read."""
    found = compare(PUBLIC, public(), public() + bytes(32))
    assert (found.at, found.field) == (len(public()), "encoding")


def test_what_cannot_be_decoded_is_a_difference_in_the_encoding() -> None:
    """The contract would not have taken it; it is told all the same."""
    found = compare(PUBLIC, public(), public()[:40])
    assert found.likeness is Likeness.DIFFERENT


def test_digests_of_keys_must_not_differ() -> None:
    """A key is generated once, whoever asks."""
    ours = keygen.KEY_RESPONSE.encode(7, ((0, b"a" * 32),), bytes(65))
    theirs = keygen.KEY_RESPONSE.encode(7, ((0, b"b" * 32),), bytes(65))
    found = compare(PROFILE.operations[Kind.KEYGEN], ours, theirs)
    assert (found.likeness, found.field) == (Likeness.DIFFERENT, "keyDigests")


@pytest.mark.parametrize(
    ("one", "other", "at"), [(b"", b"a", 0), (b"ab", b"ac", 1), (b"ab", b"abc", 2), (b"abc", b"ab", 2)]
)
def test_the_first_difference(one: bytes, other: bytes, at: int) -> None:
    """The end of the shorter text is one too."""
    assert first_difference(one, other) == at
