"""Recovery as contracts do it: what signers elsewhere may write, a contract refuses."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from kmsconn.emulator.contracts.recovery import recover_strictly
from kmsconn.emulator.execution import Reverted
from kmsconn.ethereum.signing import PrivateKey, recover
from kmsconn.protocols.fhevm.abi import DECRYPTION

KEY = PrivateKey(b"\x11" * 32)
DIGEST = b"\x22" * 32
SIGNATURE = KEY.sign(DIGEST)
ORDER = 0xFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFFEBAAEDCE6AF48A03BBFD25E8CD0364141
HIGH_S = (ORDER - int.from_bytes(SIGNATURE[32:64])).to_bytes(32)


def test_a_signature_with_low_s_and_27_or_28_recovers() -> None:
    assert recover_strictly(DIGEST, SIGNATURE) == KEY.address


@pytest.mark.parametrize(
    ("spoil", "error", "values"),
    [
        (lambda s: s[:64], "ECDSAInvalidSignatureLength", (64,)),
        (lambda s: s + b"\0", "ECDSAInvalidSignatureLength", (66,)),
        (lambda s: s[:32] + HIGH_S + bytes([55 - s[64]]), "ECDSAInvalidSignatureS", (HIGH_S,)),
        (lambda s: s[:64] + bytes([s[64] - 27]), "ECDSAInvalidSignature", ()),
        (lambda s: s[:64] + bytes([s[64] + 8]), "ECDSAInvalidSignature", ()),
        (lambda _: bytes(64) + b"\x1b", "ECDSAInvalidSignature", ()),
    ],
)
def test_every_other_form_reverts(
    spoil: Callable[[bytes], bytes], error: str, values: tuple[object, ...]
) -> None:
    with pytest.raises(Reverted) as caught:
        recover_strictly(DIGEST, spoil(SIGNATURE))
    assert caught.value.data == DECRYPTION.error(error).encode(*values)


def test_a_high_s_and_other_parities_would_recover_elsewhere() -> None:
    high = SIGNATURE[:32] + HIGH_S + bytes([55 - SIGNATURE[64]])
    assert (
        recover(DIGEST, high) == recover(DIGEST, SIGNATURE[:64] + bytes([SIGNATURE[64] - 27])) == KEY.address
    )
