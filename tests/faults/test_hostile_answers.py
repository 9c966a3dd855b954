"""Every answer that the connector reads, replaced by each of a list of hostile ones in a running world: the process lives and names it.

Usually a few of them are played, others in another turn; ``KMSCONN_HOSTILE=n`` plays n in each kind of world, ``make hostile`` each pair of
an answer and a lie once, in the first kind of world where it is asked, ``HOSTILE=all`` in every one. It prints how many answers were
struck: a lie in the place of an answer that nobody asked for proves nothing.
"""

from __future__ import annotations

from collections import Counter

import pytest

from tests.faults.hostile.playing import SETTINGS, every_lie, play
from tests.faults.hostile.servers import Lie
from tests.sampling import points, sample, this_turn

pytestmark = pytest.mark.sampled

WANTED = sample("KMSCONN_HOSTILE", small=1, ci=2)
EXITS = [
    ("gateway eth_chainId", Lie("result", "0x and 5,000 digits")),
    ("gateway eth_getBlockByNumber latest", Lie("result", "a block at 2^63-1")),
    ("gateway eth_getLogs", Lie("error", "a message nested 987 deep")),
]
ONCE_SILENT = [
    ("websocket", "gateway eth_getLogs", Lie("result", "empty list")),
    ("keys", "core0 GetKeyGenPreprocResult", Lie("grpc", "status 10")),
    ("birth", "aws GetPublicKey", Lie("aws", "a public key of another account")),
    ("websocket", "core0 PublicDecrypt", Lie("grpc", "a text of a million letters")),
]


@pytest.mark.parametrize("setting", ["websocket", "http"])
@pytest.mark.parametrize(("subject", "lie"), EXITS, ids=str)
def test_what_once_ended_the_process(subject: str, lie: Lie, setting: str) -> None:
    """The third over HTTP on Python 3.11, where an error could just be read and not be written again."""
    outcome = play(subject, lie, setting=setting)
    assert outcome.hostility.struck
    assert outcome.complaints() == []


@pytest.mark.parametrize(("setting", "subject", "lie"), ONCE_SILENT, ids=str)
def test_what_was_once_found_silent_is_named_or_made_good(setting: str, subject: str, lie: Lie) -> None:
    """A window without logs is found by the proof of completeness; a preparation that the Core says it aborted is asked for again.

    The key of another account is told as a tx sender that is in no context. The fourth was silent in vain: the emulator was at work on it.
    """
    outcome = play(subject, lie, setting=setting)
    assert outcome.hostility.struck
    assert outcome.complaints() == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_nobody_is_disturbed_without_a_lie(setting: str) -> None:
    outcome = play(setting=setting)
    assert outcome.complaints() == []
    assert not outcome.ground_truth.open
    assert not outcome.closed


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_hostile_answer_ends_the_process_or_stays_unnamed(setting: str) -> None:
    lies = new_lies(setting) if WANTED == "each" else every_lie(setting)
    wanted = int(WANTED) if WANTED.isdigit() else len(lies)
    failures: list[str] = []
    figures, not_struck = Counter[str](), Counter[str]()
    for at in points(len(lies), wanted, this_turn()):
        subject, lie = lies[at - 1]
        outcome = play(subject, lie, setting=setting)
        complaints = outcome.complaints()
        struck = bool(outcome.hostility.struck)
        figures.update(pairs=1, struck=struck, complaints=bool(complaints), exits=bool(outcome.crash))
        not_struck.update([] if struck else [subject])
        failures += [f"{setting}: {subject}: {lie}: {text}" for text in complaints]
    print(f"\n{setting}: {dict(figures)}; not struck: {dict(not_struck)}", end="")  # noqa: T201 - what ``make hostile`` shows
    assert not failures, "\n".join(failures)
    assert figures["struck"] > wanted // 2 or wanted == 1


def new_lies(setting: str) -> list[tuple[str, Lie]]:
    """Return the pairs of an answer and a lie for which this is the first kind of world."""
    first = {pair: name for name in reversed(SETTINGS) for pair in every_lie(name)}
    return [pair for pair, name in first.items() if name == setting]


def test_the_answers_that_matter_most_are_among_them() -> None:
    asked = {
        subject.partition(" ")[2].partition(" ")[0]
        for name in SETTINGS
        for subject in play(setting=name).hostility.asked
    }
    assert asked >= {
        "eth_chainId", "eth_subscribe", "eth_getBlockByNumber", "eth_blockNumber", "eth_getLogs", "eth_call",
        "eth_getStorageAt", "eth_getTransactionCount", "eth_estimateGas", "eth_feeHistory", "eth_sendRawTransaction",
        "eth_getTransactionReceipt", "answer", "batch", "push", "http", "GET", "HEAD", "PublicDecrypt",
        "UserDecrypt", "GetPublicDecryptionResult", "GetUserDecryptionResult", "KeyGenPreproc", "KeyGen", "CrsGen",
        "debug_traceTransaction", "eth_gasPrice", "eth_getTransactionByHash", "eth_getCode", "Sign", "GetPublicKey", "frame",
    }  # fmt: skip
