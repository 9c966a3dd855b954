"""Keys along paths, against the test vectors of BIP-32."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from kmsconn.ethereum.mnemonics import HARDENED, ExtendedKey
from tests.unit.ethereum.test_mnemonics import RECORDED

SEED = bytes(range(16))
_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def read(text: str) -> ExtendedKey:
    """Read the text form of an extended private key: base58, its last four bytes a checksum."""
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    raw = number.to_bytes(82)
    assert hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]
    return ExtendedKey(secret=raw[46:78], chain_code=raw[13:45])


def indices(path: str) -> list[int]:
    """Return the indices of ``m/0'/1``."""
    return [int(step.rstrip("'")) + HARDENED * step.endswith("'") for step in path.split("/")[1:]]


@pytest.mark.parametrize("entry", RECORDED["bip32"])
def test_keys_and_chain_codes_are_those_of_bip_32(entry: dict[str, Any]) -> None:
    """Vectors 3 and 4 have leading zeros that must stay."""
    master = ExtendedKey.of_seed(bytes.fromhex(entry["seed"]))
    ours = {path: master.descendant(*indices(path)) for path in entry["keys"]}
    assert ours == {path: read(text) for path, text in entry["keys"].items()}


def test_a_step_that_has_no_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seed is known that leads there: the curve's order is put in the hash's place."""
    order = bytes.fromhex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
    key = ExtendedKey.of_seed(SEED)
    monkeypatch.setattr("hmac.digest", lambda *_: order + bytes(32))
    with pytest.raises(ValueError, match="invalid private key or tweak"):
        key.child(0)


def test_a_key_is_not_in_its_text() -> None:
    assert repr(ExtendedKey.of_seed(SEED)) == "ExtendedKey()"
