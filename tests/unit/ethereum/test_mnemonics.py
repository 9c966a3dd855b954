"""Mnemonic phrases to keys: addresses of httpz-rc7.md A.6, seeds of BIP-39, keys and checksums of eth-account."""

from __future__ import annotations

import hashlib
import json
import traceback
from pathlib import Path
from typing import Any

import pytest
from mnemonic import Mnemonic

from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.mnemonics import (
    HARDENED,
    TEST_PHRASE,
    is_test_phrase,
    key_of_phrase,
    key_of_seed,
    seed_of_phrase,
)
from kmsconn.ethereum.signing import PrivateKey
from tests import vectors

PHRASE = "coyote sketch defense hover finger envelope celery urge panther venue verb cheese"


@pytest.mark.parametrize(
    ("phrase", "index", "address"),
    [
        (TEST_PHRASE, 0, "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266"),
        (TEST_PHRASE, 1, "0x70997970C51812dc3A010C7d01b50e0d17dc79C8"),
        (TEST_PHRASE, 2, "0x3C44CdDdB6a900fa2b585dd299e03d12FA4293BC"),
        (TEST_PHRASE, 3, "0x90F79bf6EB2c4f870365E785982E1f101E93b906"),
        (TEST_PHRASE, 4, "0x15d34AAf54267DB7D7c367839AAf71A00a2C6A65"),
        (PHRASE, 0, "0x31De9c8ac5ECD5EacEddDdEE531e9BaD8AC9c2A5"),
        (PHRASE, 1, "0xCf28E90D4A6dB23c34E1881aEF5fd9fF2e478634"),
    ],
)
def test_the_accounts_of_the_specification(phrase: str, index: int, address: str) -> None:
    assert checksum(PrivateKey(key_of_phrase(phrase, index)).address) == address
    assert key_of_phrase(f"  {phrase.replace(' ', chr(10))} ", index) == key_of_phrase(phrase, index)


@pytest.mark.parametrize(
    ("phrase", "told"),
    [
        ("", "not 0"),
        (PHRASE.rpartition(" ")[0], "not 11"),
        (PHRASE.replace("coyote", "kojote").replace("verb", "werb"), "word 1, 11 of 12"),
        (PHRASE.replace("cheese", "abandon"), "checksum"),
        ("abaisser abandon " * 6, "not in the English list: word 1, 3, 5"),
        ("coyo sket defe hove fing enve cele urge pant venu verb chee", "not in the English list"),
    ],
)
def test_a_wrong_phrase_is_refused_without_a_word_of_it(phrase: str, told: str) -> None:
    with pytest.raises(ValueError, match=told) as refused:
        key_of_phrase(phrase, 0)
    text = str(refused.value) + "".join(traceback.format_exception_only(refused.value))
    assert not [word for word in phrase.split() if word in text]


def test_an_index_beyond_the_path_is_refused() -> None:
    with pytest.raises(ValueError, match=r"below 2\^31"):
        key_of_phrase(PHRASE, 2**31)


def test_the_phrase_that_everybody_knows_is_recognised() -> None:
    assert is_test_phrase(f" {TEST_PHRASE.upper()} ")
    assert not is_test_phrase(PHRASE)


# --- what other implementations answer


def load() -> dict[str, Any]:
    """Return the recorded answers; ``PROVENANCE.md`` says whose they are."""
    path = Path(vectors.__file__).with_name("mnemonics.json")
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


RECORDED = load()
UNPROTECTED = [entry for entry in RECORDED["eth_account"] if not entry["passphrase"]]


@pytest.mark.parametrize("entry", RECORDED["bip39"])
def test_the_seeds_are_those_of_bip_39(entry: dict[str, str]) -> None:
    assert seed_of_phrase(entry["phrase"], "TREZOR").hex() == entry["seed"]


@pytest.mark.parametrize("entry", RECORDED["eth_account"])
def test_the_seeds_are_those_of_eth_account(entry: dict[str, Any]) -> None:
    """With passphrases beyond ASCII too, which BIP-39 decomposes first."""
    assert seed_of_phrase(entry["phrase"], entry["passphrase"]).hex() == entry["seed"]


@pytest.mark.parametrize("entry", UNPROTECTED)
def test_the_keys_are_those_of_eth_account(entry: dict[str, Any]) -> None:
    ours = {index: key_of_phrase(entry["phrase"], int(index)).hex() for index in entry["keys"]}
    assert ours == entry["keys"]


def test_phrases_of_every_length_are_among_them() -> None:
    assert {len(entry["phrase"].split()) for entry in UNPROTECTED} == {12, 15, 18, 21, 24}


@pytest.mark.parametrize("entry", RECORDED["last_words"])
def test_the_checksums_that_are_right_are_those_of_eth_account(
    entry: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The seed takes a millisecond for each phrase and is not what is asked here."""
    monkeypatch.setattr(Mnemonic, "to_seed", lambda *_: bytes(64))
    words = {*Mnemonic("english").wordlist[::20], *entry["last"]}
    told = {word: refusal(f"{entry['first']} {word}") for word in words}
    assert {word for word in told if not told[word]} == set(entry["last"])
    assert all("checksum" in words for words in told.values() if words)


def refusal(phrase: str) -> str:
    """Return why a phrase is no mnemonic; nothing where it is one."""
    try:
        seed_of_phrase(phrase)
    except ValueError as error:
        return str(error)
    return ""


_ALPHABET = "123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz"


def read(text: str) -> tuple[bytes, bytes]:
    """Read the text form of an extended private key: base58, its last four bytes a checksum."""
    number = 0
    for letter in text:
        number = number * 58 + _ALPHABET.index(letter)
    raw = number.to_bytes(82)
    assert hashlib.sha256(hashlib.sha256(raw[:-4]).digest()).digest()[:4] == raw[-4:]
    return raw[46:78], raw[13:45]


def indices(path: str) -> list[int]:
    """Return the indices of ``m/0'/1``."""
    return [int(step.rstrip("'")) + HARDENED * step.endswith("'") for step in path.split("/")[1:]]


@pytest.mark.parametrize("entry", RECORDED["bip32"])
def test_keys_and_chain_codes_are_those_of_bip_32(entry: dict[str, Any]) -> None:
    """Vectors 3 and 4 have leading zeros that must stay."""
    ours = {path: key_of_seed(bytes.fromhex(entry["seed"]), *indices(path)) for path in entry["keys"]}
    assert ours == {path: read(text) for path, text in entry["keys"].items()}


def test_a_step_that_has_no_key_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """No seed is known that leads there: the curve's order is put in the hash's place."""
    order = bytes.fromhex("fffffffffffffffffffffffffffffffebaaedce6af48a03bbfd25e8cd0364141")
    digests = iter([(1).to_bytes(32) + bytes(32), order + bytes(32)])
    monkeypatch.setattr("hmac.digest", lambda *_: next(digests))
    with pytest.raises(ValueError, match="invalid private key or tweak"):
        key_of_seed(b"", 0)
