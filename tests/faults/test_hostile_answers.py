"""Every answer that the connector reads, replaced by each of a list of hostile ones in a running world: the process lives and names it.

Usually a few of them are played, others every day; ``KMSCONN_HOSTILE=n`` plays n in each kind of world, ``make hostile`` each pair of
an answer and a lie once, in the first kind of world where it is asked, ``HOSTILE=all`` in every one. It prints how many answers were
struck: a lie in the place of an answer that nobody asked for proves nothing.
"""

from __future__ import annotations

import gc
import subprocess
import sys
from collections import Counter
from itertools import takewhile

import attrs
import pytest

from kmsconn.testing.hostile import SETTINGS, HostileOutcome, Lie, every_lie, play, playing
from tests.sampling import points, sample, today

pytestmark = pytest.mark.sampled

WANTED = sample("KMSCONN_HOSTILE", small=1, ci=2)


@attrs.define
class Figures:
    """How many pairs of an answer and a lie were played, in how many the lie was told, and how many processes ended."""

    played: int = 0
    struck: int = 0
    complaints: int = 0
    exits: int = 0
    not_struck: Counter[str] = attrs.field(factory=Counter)

    def count(self, outcome: HostileOutcome) -> None:
        """Count one more world."""
        self.played += 1
        self.struck += bool(outcome.struck)
        self.complaints += bool(outcome.complaints())
        self.exits += bool(outcome.crash)
        if not outcome.struck:
            self.not_struck[outcome.subject] += 1

    def __str__(self) -> str:
        spared = ", ".join(f"{subject} × {count}" for subject, count in self.not_struck.most_common())
        return (
            f"{self.played} pairs, {self.struck} struck, {self.complaints} complaints, {self.exits} exits"
            + (f"; not struck: {spared}" if spared else "")
        )


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
    assert outcome.struck
    assert outcome.complaints() == []


@pytest.mark.parametrize(("setting", "subject", "lie"), ONCE_SILENT, ids=str)
def test_what_was_once_found_silent_is_named_or_made_good(setting: str, subject: str, lie: Lie) -> None:
    """A window without logs is found by the proof of completeness; a preparation that the Core says it aborted is asked for again.

    The key of another account is told as a tx sender that is in no context. The fourth was silent in vain: the emulator was at work on it.
    """
    outcome = play(subject, lie, setting=setting)
    assert outcome.struck
    assert outcome.complaints() == []


@pytest.mark.parametrize("setting", SETTINGS)
def test_nobody_is_disturbed_without_a_lie(setting: str) -> None:
    outcome = play(setting=setting)
    assert outcome.complaints() == []
    assert not outcome.ground_truth.open
    assert not outcome.closed


FRESH = """
from kmsconn.testing.hostile.aws import in_memory

with in_memory(None):
    import aiobotocore.utils
    import aiobotocore.httpxsession
    assert aiobotocore.httpxsession.HttpxSession.__module__ == "kmsconn.testing.hostile.aws"
print(*(base.__module__ for base in aiobotocore.utils._RefCountedHttpxSession.__mro__))
"""


def test_a_world_leaves_the_aws_sdk_as_it_was() -> None:
    """What the SDK imported while its client was replaced kept the replacement, and real tests later in that process failed."""
    done = subprocess.run([sys.executable, "-c", FRESH], capture_output=True, text=True, check=True)  # noqa: S603 - our own text
    assert "aiobotocore.httpxsession" in done.stdout.split()
    assert "kmsconn.testing.hostile.aws" not in done.stdout.split()


def test_no_step_pays_for_the_garbage_of_the_process_around_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pass over all that a worker of the test suite holds takes a second, and once stood as a step of CPU that was too long."""
    kept: list[int] = []

    async def count(*_: object) -> None:
        kept.append(gc.get_freeze_count())

    monkeypatch.setattr(playing, "_play", count)
    play()
    assert kept[0] > 0
    assert gc.get_freeze_count() == 0


@pytest.mark.parametrize("setting", SETTINGS)
def test_no_hostile_answer_ends_the_process_or_stays_unnamed(setting: str) -> None:
    lies = new_lies(setting) if WANTED == "each" else every_lie(setting)
    wanted = int(WANTED) if WANTED.isdigit() else len(lies)
    failures, figures = [], Figures()
    for at in points(len(lies), wanted, today()):
        subject, lie = lies[at - 1]
        outcome = play(subject, lie, setting=setting)
        figures.count(outcome)
        failures += [f"{setting}: {subject}: {lie}: {text}" for text in outcome.complaints()]
    print(f"\n{setting}: {figures}", end="")  # noqa: T201 - what ``make hostile`` shows
    assert not failures, "\n".join(failures)
    assert figures.struck > wanted // 2 or wanted == 1


def new_lies(setting: str) -> list[tuple[str, Lie]]:
    """Return the pairs of an answer and a lie of one kind of world that no kind before it has."""
    earlier = {pair for name in takewhile(lambda name: name != setting, SETTINGS) for pair in every_lie(name)}
    return [pair for pair in every_lie(setting) if pair not in earlier]


def test_each_pair_has_its_place_in_one_kind_of_world() -> None:
    new = [pair for setting in SETTINGS for pair in new_lies(setting)]
    assert len(new) == len(set(new))
    assert set(new) == {pair for setting in SETTINGS for pair in every_lie(setting)}


def test_the_answers_that_matter_most_are_among_them() -> None:
    asked = {
        subject.partition(" ")[2].partition(" ")[0]
        for name in SETTINGS
        for subject in play(setting=name).asked
    }
    assert asked >= {
        "eth_chainId", "eth_subscribe", "eth_getBlockByNumber", "eth_blockNumber", "eth_getLogs", "eth_call",
        "eth_getStorageAt", "eth_getTransactionCount", "eth_estimateGas", "eth_feeHistory", "eth_sendRawTransaction",
        "eth_getTransactionReceipt", "answer", "batch", "push", "http", "GET", "HEAD", "PublicDecrypt",
        "UserDecrypt", "GetPublicDecryptionResult", "GetUserDecryptionResult", "KeyGenPreproc", "KeyGen", "CrsGen",
        "debug_traceTransaction", "eth_gasPrice", "eth_getTransactionByHash", "eth_getCode", "Sign", "GetPublicKey", "frame",
    }  # fmt: skip
