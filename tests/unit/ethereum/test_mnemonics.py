"""Mnemonic phrases to keys; addresses of httpz-rc7.md A.6."""

from __future__ import annotations

import subprocess
import sys
import traceback

import pytest

from kmsconn.ethereum.addresses import checksum
from kmsconn.ethereum.mnemonics import TEST_PHRASE, is_test_phrase, key_of_phrase
from kmsconn.ethereum.signing import PrivateKey

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


def test_blanks_between_the_words_do_not_matter() -> None:
    assert key_of_phrase(f"  {PHRASE.replace(' ', chr(10))} ", 0) == key_of_phrase(PHRASE, 0)


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


def test_the_recursion_limit_stays_although_a_library_raises_it() -> None:
    """Before Python 3.12 it guards the C stack: a JSON answer nested 100,000 deep ended a process with a mnemonic."""
    code = (
        "import sys\nfrom kmsconn.chain.jsonrpc import decode\nfrom kmsconn.errors import Unreachable\n"
        "from kmsconn.ethereum.mnemonics import *\n"
        "limit = sys.getrecursionlimit(); key_of_phrase(TEST_PHRASE, 0); assert sys.getrecursionlimit() == limit\n"
        "try: decode(b'{\"id\":1,\"result\":' + b'[' * 100_000 + b']' * 100_000 + b'}')\n"
        "except Unreachable: print('refused')"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)  # noqa: S603 - our own code
    assert "refused" in run.stdout or sys.version_info >= (3, 12)
