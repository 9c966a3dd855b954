"""A life of keys among dependencies that are gone, forgetful or slow for hours: nothing is given up, doubled, or in anybody's way."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import TypeGuard

import pytest
import trio

from kmsconn.connector.key_material import AGAIN, FIRST_LOOK, KEY_MISSING
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.emulator.key_ceremonies import KEY, PREP
from kmsconn.ethereum.ids import id_name
from kmsconn.model.events import AlertRaised, Event, ReplyIncluded, RequestClosed, Severity, StageFinished
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.keygen import PREP_RESPONSE
from tests.faults.ceremony import ENDS, Ceremony, open_ceremony
from tests.sampling import every_point

pytestmark = [pytest.mark.once, pytest.mark.long]

HOUR = 3600.0
BLOCK = 12.0


async def play_on(ceremony: Ceremony, hours: float = 2.0) -> None:
    """Play a whole life, and see that each node replied to all of it once."""
    with trio.fail_after(hours * HOUR):
        await ceremony.owner.play()
    await trio.sleep(ENDS)
    for node in ceremony.nodes:
        ceremony.check_replies(node)


async def test_a_core_that_is_unavailable_for_hours_costs_nothing(tmp_path: Path) -> None:
    """From before the first preparation on; meanwhile nothing is given up. All points: ten hours."""
    hours = 10.0 if every_point() else 0.4
    async with open_ceremony(tmp_path, members=1, block_time=BLOCK) as ceremony:
        [core] = ceremony.core_faults
        core.strike(FailingCore(code="UNAVAILABLE"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_on, ceremony, hours + 1)
            await trio.sleep(hours * HOUR)
            assert ceremony.owner.doing == "key"
            assert [e for e in ceremony.events[0] if isinstance(e, RequestClosed)] == []
            core.heal()


@pytest.mark.parametrize("how", ["refuse", "mute"])
async def test_ethereum_node_that_is_gone_for_twenty_minutes_costs_nothing(how: str, tmp_path: Path) -> None:
    """It goes while the answer to the preparation is on its way, and the chain goes on."""
    async with open_ceremony(tmp_path, members=1, block_time=BLOCK) as ceremony:
        line = ceremony.network.line(*ceremony.dependencies.places["ethereum"])
        async with trio.open_nursery() as nursery:
            nursery.start_soon(play_on, ceremony)
            await ceremony.wait(lambda: ceremony.told(0, StageFinished, Kind.PREP_KEYGEN))
            setattr(line, how, True)
            line.cut()
            await trio.sleep(HOUR / 3)
            setattr(line, how, False)
            line.cut()


async def test_a_core_that_forgets_before_the_answer_makes_it_anew(tmp_path: Path) -> None:
    """A preparation and a CRS are started again; what is stored, contexts, epochs and finished keys, is there."""
    forgotten: set[Kind] = set()

    async def forget(ceremony: Ceremony) -> None:
        for kind in (Kind.PREP_KEYGEN, Kind.CRSGEN):
            await ceremony.wait(partial(was_submitted, ceremony, kind))
            ceremony.cores[0].restart()
            forgotten.add(kind)

    async with open_ceremony(tmp_path, members=1, computing=60.0) as ceremony, trio.open_nursery() as nursery:
        nursery.start_soon(forget, ceremony)
        await play_on(ceremony)
    assert len(forgotten) == 2


def was_submitted(ceremony: Ceremony, kind: Kind) -> bool:
    return any(e.stage == "submit" for e in ceremony.told(0, StageFinished, kind))


async def prepared(ceremony: Ceremony) -> None:
    await ceremony.wait(lambda: ceremony.told(0, ReplyIncluded, Kind.PREP_KEYGEN))


async def begun(ceremony: Ceremony) -> None:
    await ceremony.wait(lambda: was_submitted(ceremony, Kind.KEYGEN))


@pytest.mark.parametrize("moment", [prepared, begun])
async def test_a_preparation_that_is_lost_is_left_to_the_others(
    moment: Callable[[Ceremony], Awaitable[None]], tmp_path: Path
) -> None:
    """No key can be made of it here: the three others make theirs, this node's request ends with theirs, and the key is missed here."""
    async with open_ceremony(tmp_path, members=4, block_time=BLOCK, computing=60.0) as ceremony:
        for core in ceremony.cores:
            core.known.keys.clear()  # an emulated one has the first key from its beginning, for traffic
        await ceremony.owner.ceremonies.announce_first()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ceremony.owner.ceremonies.make_key)
            await moment(ceremony)
            ceremony.cores[0].restart()
        await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.KEYGEN))
        [closed] = ceremony.told(0, RequestClosed, Kind.KEYGEN)
        assert closed.state is State.DONE
        assert [one for one in ceremony.keys(0).replied if one[1] == KEY] == []
        assert all(("keygenResponse", KEY) in ceremony.keys(node).replied for node in (1, 2, 3))
        await trio.sleep(FIRST_LOOK + 2 * AGAIN)
        missing = [[one for one in told if is_missing(one)] for told in ceremony.events]
        assert [len(told) for told in missing] == [1, 0, 0, 0]
        assert missing[0][0].severity is Severity.CRITICAL
        assert id_name(KEY) in missing[0][0].text


def is_missing(event: Event) -> TypeGuard[AlertRaised]:
    return isinstance(event, AlertRaised) and event.cause == KEY_MISSING


async def test_a_reorganisation_above_the_finalized_block_changes_nothing_that_was_begun(
    tmp_path: Path,
) -> None:
    """Requests are not read yet when their blocks are replaced; replies that fell are sent again, and land once."""
    async with open_ceremony(tmp_path, members=1) as ceremony, trio.open_nursery() as nursery:
        ethereum = ceremony.dependencies.ethereum
        ethereum.finality.depth = 6
        playing = trio.CancelScope()

        async def reorganise() -> None:
            with playing:
                while True:
                    await trio.sleep(50)
                    ethereum.reorg(3)

        nursery.start_soon(reorganise)
        await play_on(ceremony)
        playing.cancel()


async def test_a_reply_that_fell_with_its_block_is_given_again(tmp_path: Path) -> None:
    async with open_ceremony(tmp_path, members=1) as ceremony:
        ethereum = ceremony.dependencies.ethereum
        ethereum.finality.depth = 6
        await ceremony.owner.ceremonies.announce_first()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ceremony.owner.ceremonies.make_key)
            await prepared(ceremony)
            ethereum.reorg(2, drop=lambda one: one.data[:4] == PREP_RESPONSE.selector)
            assert ceremony.keys(0).replied == ()
        assert ("prepKeygenResponse", PREP) in ceremony.keys(0).replied
        assert ceremony.keys(0).doubled == 0


async def test_what_takes_an_hour_holds_no_decryption_up_and_no_abort(tmp_path: Path) -> None:
    """All decryptions beside the preparation land within two blocks, and a CRS of as long is aborted. Not all points: 20 minutes."""
    long = HOUR if every_point() else HOUR / 3
    async with open_ceremony(tmp_path, members=1, block_time=BLOCK, computing=0.1) as ceremony:
        [core] = ceremony.cores
        core.memory.generating = long
        decryptions = trio.CancelScope()

        async def ask() -> None:
            with decryptions:
                while True:
                    ceremony.traffic.forms["public"]()
                    await trio.sleep(36)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await ceremony.owner.ceremonies.announce_first()
            async with trio.open_nursery() as making:
                making.start_soon(ceremony.owner.ceremonies.make_key)
                await ceremony.wait(lambda: was_submitted(ceremony, Kind.PREP_KEYGEN))
                core.memory.generating = None
            began = trio.current_time()
            assert began > long
            await ceremony.owner.ceremonies.make_crs()
            await ceremony.owner.ceremonies.abort_crs()
            assert trio.current_time() - began < 30 * BLOCK
            decryptions.cancel()
        await trio.sleep(ENDS)
        ground_truth = ceremony.gateway(0)
        taken = [trace.answer.block - trace.block for trace in ground_truth.traces.values() if trace.answer]
        assert len(taken) > long / 36
        assert max(taken) <= 2
        assert ground_truth.verdict().well
        assert ceremony.keys(0).well
