"""Four connectors with a Core each serve one contract, of whom one may fail: who answers, and what comes of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
import trio

from kmsconn.emulator.core_faults import FailingCore, HangingCore
from kmsconn.emulator.dependencies import key_for, sender_of
from kmsconn.emulator.fhevm_dependencies import GENERATIONS
from kmsconn.emulator.httpz.dependencies import PARAMETERS, SECRET
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.model.requests import FHEVM, HTTPZ_RC7
from kmsconn.protocols import bincode
from kmsconn.protocols.httpz_rc7.contracts import DECRYPTION_MANAGER, KEY_MANAGER
from kmsconn.testing.ground_truth import name_of, requests_of
from tests.faults.scene import Stand, all_mined, wall
from tests.opening import open_httpz_share, value_of_share

pytestmark = pytest.mark.sampled

MEMBERS, NEEDED, SHARES = (
    4,
    2,
    3,
)  # of the first generation: signatures for a public result, shares for a user
FORMS = {FHEVM: ("public", "direct", "unified"), HTTPZ_RC7: ("public", "user", "delegated")}
ALL = sorted(sender_of(member).address for member in range(MEMBERS))


class Committee(Stand[Any, Any]):
    """Four nodes at one contract."""

    def calls(self) -> Iterator[tuple[bytes, Address]]:
        """Yield what was sent and not refused, oldest first, with who has sent it."""
        for mined in all_mined(self.dependencies.gateway):
            if mined.outcome.status:
                yield mined.transaction.data, mined.transaction.sender

    def senders(self) -> dict[int, list[Address]]:
        """Return who has answered each request, once each time."""
        found: dict[int, list[Address]] = {name: [] for name in self.names()}
        for calldata, sender in self.calls():
            name = self.dependencies.generation_events.replied(calldata)
            if name is not None:
                found[name].append(sender)
        return found

    def names(self) -> list[int]:
        return [name_of(self.dependencies.generation_events, log) for log in requests_of(self.dependencies)]

    def logs(self) -> list[Log]:
        return [log for mined in all_mined(self.dependencies.gateway) for log in mined.logs]

    def agreed(self) -> Counter[int]:
        """Return for which requests the contract has announced consensus, or enough shares, and how often."""
        names = [self.dependencies.generation_events.agreed(log.topics) for log in self.logs()]
        return Counter(name for name in names if name is not None)

    async def ask(self, *forms: str) -> None:
        """Ask for decryptions and wait for their blocks."""
        count = len(self.names()) + len(forms)
        for form in forms:
            self.traffic.forms[form]()
        await self.wait(lambda: len(self.names()) == count)

    async def answers(self, count: int) -> Mapping[int, list[Address]]:
        """Return who has answered once so many have answered each request, and a while after that."""
        await self.wait(lambda: all(len(who) >= count for who in self.senders().values()))
        await trio.sleep(10)
        return self.senders()

    def announced(self, name: str) -> list[tuple[Any, ...]]:
        """Return what a contract of the first generation has announced under a name, oldest first."""
        event = (KEY_MANAGER if "gen" in name else DECRYPTION_MANAGER).event(name)
        return [event.decode(log.topics, log.data) for log in self.logs() if log.topics[0] == event.topic0]


@asynccontextmanager
async def open_committee(folder: Path, profile: str) -> AsyncIterator[Committee]:
    users = GENERATIONS[profile].settle(wall, Random(0), block_time=1.0, computing=0.1, members=MEMBERS)
    if profile == HTTPZ_RC7:
        users.dependencies.gateway.finality.depth = 4
    async with users.dependencies.run_in_memory() as network:
        yield Committee(users.dependencies, network, users, folder)


@pytest.fixture
async def committee(tmp_path: Path, profile: str) -> AsyncIterator[Committee]:
    async with open_committee(tmp_path, profile) as committee:
        yield committee


both = pytest.mark.parametrize("profile", FORMS)
first = pytest.mark.parametrize("profile", [HTTPZ_RC7])


@both
async def test_each_of_four_nodes_answers_each_request_once(committee: Committee, profile: str) -> None:
    async with committee.all_connected(MEMBERS):
        await committee.ask(*FORMS[profile])
        answers = await committee.answers(MEMBERS)
        assert [sorted(who) for who in answers.values()] == [ALL] * len(FORMS[profile])
        assert set(committee.agreed()) == set(answers)


@both
async def test_with_one_core_down_three_answer_and_that_is_enough(committee: Committee, profile: str) -> None:
    committee.dependencies.others[-1].strike(HangingCore())
    async with committee.all_connected(MEMBERS):
        await committee.ask(*FORMS[profile])
        answers = await committee.answers(MEMBERS - 1)
        assert {len(set(who)) for who in answers.values()} == {MEMBERS - 1}
        assert set(committee.agreed()) == set(answers)


@both
async def test_the_fourth_node_answers_late_once_its_core_is_back(committee: Committee) -> None:
    """What has consensus already is answered all the same: the contract takes it, and each node's record stays complete."""
    late = committee.dependencies.others[-1]
    late.strike(FailingCore(code="UNAVAILABLE"))
    async with committee.all_connected(MEMBERS):
        await committee.ask("public")
        await committee.answers(MEMBERS - 1)
        await trio.sleep(30)
        late.heal()
        (who,) = (await committee.answers(MEMBERS)).values()
        assert sorted(who) == ALL
        assert len(committee.agreed()) == 1


@first
async def test_answers_become_one_event_of_two_signatures_or_of_three_shares_that_open_to_one_value(
    committee: Committee,
) -> None:
    """With shares counted, which the real contract does not do (13.16)."""
    async with committee.all_connected(MEMBERS):
        await committee.ask("public")
        for form in ("user", "delegated"):
            known = set(committee.dependencies.plaintexts)
            await committee.ask(form)
            await committee.answers(MEMBERS)
            _, shares, signatures = committee.announced("UserDecryptionResponse")[-1]
            assert (len(set(shares)), len(set(signatures))) == (SHARES, SHARES)
            opened = [values_in(share) for share in shares]
            assert [set(values) for values in zip(*opened, strict=True)] == [
                {value} for body, value in committee.dependencies.plaintexts.items() if body not in known
            ]
        ((identifier, _, signatures),) = committee.announced("PublicDecryptionResponse")
        assert (identifier, len(set(signatures))) == (1, NEEDED)
        assert set(committee.agreed().values()) == {1}


def values_in(image: bytes) -> list[int]:
    """Open a node's answer with the user's key."""
    payload = bincode.decode(image, packed=False)
    user = key_for("user").address
    return [
        value_of_share(
            open_httpz_share(
                SECRET, one.signcrypted_ciphertext, client=user, vk=payload.verification_key
            ).plaintext
        )
        for one in payload.signcrypted_ciphertexts
    ]


def lose_journal(folder: Path, member: int) -> None:
    for path in folder.glob(f"journal-{member}.db*"):
        path.unlink()


@first
async def test_node_that_lost_its_journal_answers_nothing_twice(committee: Committee, tmp_path: Path) -> None:
    async with committee.all_connected(MEMBERS):
        await committee.ask("public")
        await committee.answers(MEMBERS)
    lose_journal(tmp_path, 2)
    async with committee.all_connected(MEMBERS):
        await committee.ask("public")
        assert [sorted(who) for who in (await committee.answers(MEMBERS)).values()] == [ALL, ALL]
        assert len(committee.agreed()) == 2


@first
async def test_four_nodes_make_a_key_and_its_reference_string_each_announced_once(
    committee: Committee,
) -> None:
    """They echo the request's id, so that their answers name the same (2.5)."""
    async with committee.all_connected(MEMBERS):
        for request, answer, values in (
            ("preprocessKeygenRequest", "preprocessKeygenResponse", (PARAMETERS,)),
            ("keygenRequest", "keygenResponse", (1,)),
            ("crsgenRequest", "crsgenResponse", (PARAMETERS,)),
        ):
            calldata = KEY_MANAGER.function(request).encode(*values)
            manager = committee.dependencies.keys.address
            committee.dependencies.gateway.actors.transact(key_for("owner").address, manager, calldata)
            await committee.wait(partial(has_been_told, committee, answer))
        assert [one[:2] for one in committee.announced("KeygenResponse")] == [(1, 1)]
        assert [one[:2] for one in committee.announced("CrsgenResponse")] == [(1, 1)]


def has_been_told(committee: Committee, answer: str) -> bool:
    """Say whether each node has sent an answer to the first request of its kind."""
    start = KEY_MANAGER.function(answer).selector + (1).to_bytes(32)
    return sorted(sender for calldata, sender in committee.calls() if calldata.startswith(start)) == ALL
