"""Mnemonic phrases to private keys: BIP-39 in English without a passphrase, then Ethereum's path of BIP-44. Never shows a word.

Source: BIP-32, BIP-39, BIP-44; httpz-rc7.md 5.1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from eth_account.hdaccount.mnemonic import Mnemonic

TEST_PHRASE: Final = "test test test test test test test test test test test junk"
"""The phrase of every development tool: everybody has its keys."""

_LENGTHS = (12, 15, 18, 21, 24)
_HARDENED = 2**31


def key_of_phrase(phrase: str, account_index: int) -> bytes:
    """Return the 32 bytes of the key at ``m/44'/60'/0'/0/account_index``.

    Raises ValueError that says what is wrong with the phrase without repeating it.
    """
    with _recursion_limit_kept():
        from eth_account.hdaccount import key_from_seed
        from eth_account.hdaccount.mnemonic import Mnemonic
        from eth_account.types import Language

    words = phrase.lower().split()
    _check(words, Mnemonic(Language.ENGLISH))
    if not 0 <= account_index < _HARDENED:
        raise ValueError("an account index is below 2^31")
    return bytes(key_from_seed(Mnemonic.to_seed(" ".join(words)), f"m/44'/60'/0'/0/{account_index}"))


@contextmanager
def _recursion_limit_kept() -> Iterator[None]:
    """Keep the interpreter's recursion limit over an import.

    A library of pairings below eth-account raises it to 100,000; before Python 3.12 the same limit guards the C stack, and one JSON answer
    nested deeply enough would end the process.
    """
    limit = sys.getrecursionlimit()
    try:
        yield
    finally:
        sys.setrecursionlimit(limit)


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
    if not english.is_mnemonic_valid(" ".join(words)):
        raise ValueError("its checksum is wrong: a word is another one, or stands elsewhere")
