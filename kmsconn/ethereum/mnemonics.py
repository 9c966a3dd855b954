"""Mnemonic phrases to private keys: BIP-39 in English without a passphrase, then Ethereum's path of BIP-44 by BIP-32.

Shows no word and no key. Public derivation and the text form of extended keys are left out: nobody here needs them.

Source: BIP-32, BIP-39, BIP-44; httpz-rc7.md 5.1.
"""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING, Final

HARDENED: Final = 2**31
"""Added to an index: the child cannot be computed from the parent's public key."""

_INDEX_BYTES = 4
_KEY_BYTES = 32


def key_of_seed(seed: bytes, *path: int) -> tuple[bytes, bytes]:
    """Return the private key and the chain code at the end of a path, 32 bytes each; an index from HARDENED on is a hardened one.

    Raises ValueError for the one index in 2^127 that has no key.
    """
    from btclib_secp256k1 import keys

    secret, chain_code = _split(b"Bitcoin seed", seed)
    for index in path:
        parent = b"\0" + secret if index >= HARDENED else keys.pubkey_from_prvkey(secret)
        tweak, chain_code = _split(chain_code, parent + index.to_bytes(_INDEX_BYTES))
        secret = keys.prvkey_tweak_add(secret, tweak)
    return secret, chain_code


def _split(key: bytes, message: bytes) -> tuple[bytes, bytes]:
    """Return both halves of an HMAC-SHA512."""
    digest = hmac.digest(key, message, "sha512")
    return digest[:_KEY_BYTES], digest[_KEY_BYTES:]


if TYPE_CHECKING:
    from mnemonic import Mnemonic

TEST_PHRASE: Final = "test test test test test test test test test test test junk"
"""The phrase of every development tool: everybody has its keys."""

_LENGTHS = (12, 15, 18, 21, 24)
_PURPOSE, _ETHER = 44 + HARDENED, 60 + HARDENED


def key_of_phrase(phrase: str, account_index: int) -> bytes:
    """Return the 32 bytes of the key at ``m/44'/60'/0'/0/account_index``.

    Raises ValueError that says what is wrong with the phrase without repeating it.
    """
    seed = seed_of_phrase(phrase)
    if not 0 <= account_index < HARDENED:
        raise ValueError("an account index is below 2^31")
    return key_of_seed(seed, _PURPOSE, _ETHER, HARDENED, 0, account_index)[0]


def seed_of_phrase(phrase: str, passphrase: str = "") -> bytes:
    """Return the 64 bytes that all keys of a phrase come from. Raises ValueError like ``key_of_phrase``."""
    from mnemonic import Mnemonic

    words = phrase.lower().split()
    _check(words, Mnemonic("english"))
    return Mnemonic.to_seed(" ".join(words), passphrase)


def is_test_phrase(phrase: str) -> bool:
    """Say whether a phrase is the one that everybody knows."""
    return phrase.lower().split() == TEST_PHRASE.split()


def _check(words: list[str], english: Mnemonic) -> None:
    if len(words) not in _LENGTHS:
        raise ValueError(f"a mnemonic has 12, 15, 18, 21 or 24 words, not {len(words)}")
    known = set(english.wordlist)
    unknown = [str(place) for place, word in enumerate(words, start=1) if word not in known]
    if unknown:
        raise ValueError(f"not in the English list: word {', '.join(unknown)} of {len(words)}")
    if not english.check(" ".join(words)):
        raise ValueError("its checksum is wrong: a word is another one, or stands elsewhere")
