"""What of contexts and epochs may begin, and what a later end has ended: every pair that matters, in the order of the chain."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import attrs
import pytest

from kmsconn.config.description import CompressedKeySets
from kmsconn.errors import Unreachable
from kmsconn.ethereum.ids import CONTEXT_TAG, EPOCH_TAG, make_id
from kmsconn.journal.recording import Arrival
from kmsconn.journal.rows import Row
from kmsconn.model.requests import Content, Order
from kmsconn.protocols.fhevm.contexts import ContextDestroyed, NewContext
from kmsconn.protocols.fhevm.contracts import LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.epochs import EpochDestroyed, NewEpoch
from kmsconn.protocols.fhevm.key_management import AbortKeygen
from kmsconn.protocols.fhevm.keygen import KeySetForm
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.requests.rows import Entry, ended, free_to_begin
from kmsconn.testing.endings import cancel_everywhere
from tests.unit.requests.bench import SETTINGS, Bench
from tests.vectors import keys

C1, C2, C3 = (make_id(CONTEXT_TAG, n) for n in (1, 2, 3))
E1, E2, E3, E4 = (make_id(EPOCH_TAG, n) for n in (1, 2, 3, 4))


def context(identifier: int, previous: int) -> NewContext:
    return NewContext(identifier, previous, (), 0, "", ())


def epoch(identifier: int, of: int, previous: tuple[int, int]) -> NewEpoch:
    return NewEpoch(of, identifier, *previous, 1)


CONTEXT_2 = context(C2, C1)
EPOCH_2 = epoch(E2, C2, (C1, E1))  # takes the keys over into the new context
EPOCH_3 = epoch(E3, C2, (C2, E2))  # new shares in the same context
END_OF_C1, END_OF_C2 = ContextDestroyed(C1), ContextDestroyed(C2)
END_OF_E1, END_OF_E2, END_OF_E3 = map(EpochDestroyed, (E1, E2, E3))


def line(*contents: Content) -> list[Entry]:
    """Return a line whose rows are the positions of their contents."""
    found = []
    for rid, content in enumerate(contents):
        order = content.order
        found.append(Entry(SimpleNamespace(rid=rid), order))  # type: ignore[arg-type]
    return found


def free(*contents: Content, busy: tuple[int, ...] = ()) -> list[int]:
    return [entry.row.rid for entry in free_to_begin(line(*contents), busy)]


@pytest.mark.parametrize(
    ("contents", "begin"),
    [
        ([CONTEXT_2, EPOCH_2, EPOCH_3], [0]),
        ([EPOCH_2, EPOCH_3], [0]),
        ([EPOCH_3, END_OF_E2], [0]),  # it is made of those shares
        ([EPOCH_2, END_OF_E1], [0, 1]),  # into another context: active means that every node has its shares
        ([EPOCH_2, END_OF_C1], [0, 1]),
        ([CONTEXT_2, END_OF_C1], [0, 1]),
        ([CONTEXT_2, context(C3, C2)], [0, 1]),
        ([END_OF_E1, END_OF_E2, EPOCH_3], [0, 1, 2]),  # what a Core cannot destroy holds up nobody
        ([END_OF_E1, EPOCH_2, END_OF_C1], [0, 1, 2]),
        ([EPOCH_2, epoch(E4, C3, (C2, E2))], [0, 1]),
    ],
)
def test_only_what_is_needed_is_waited_for(contents: list[Content], begin: list[int]) -> None:
    assert free(*contents) == begin
    assert ended(line(*contents)) == []


@pytest.mark.parametrize(
    ("contents", "over", "by"),
    [
        ([EPOCH_2, END_OF_E2], [0], E2),
        ([CONTEXT_2, EPOCH_2, EPOCH_3, END_OF_C2], [2, 1, 0], C2),
        ([CONTEXT_2, END_OF_C1, END_OF_C2], [0], C2),
        ([EPOCH_3, END_OF_E2, END_OF_E3], [0], E3),
    ],
)
def test_an_end_ends_what_makes_the_same_and_is_still_open(
    contents: list[Content], over: list[int], by: int
) -> None:
    assert [(entry.row.rid, identifier) for entry, identifier in ended(line(*contents))] == [
        (rid, by) for rid in over
    ]


@pytest.mark.parametrize(
    ("contents", "busy", "begin"),
    [
        # what was ended is not begun: with a real Core, an epoch that it cannot make, and every later end behind it
        ([EPOCH_3, END_OF_E2, END_OF_E3], (), [1, 2]),
        ([CONTEXT_2, EPOCH_2, END_OF_C1, END_OF_C2], (), [2, 3]),
        # an end waits for the pass that is at work: what it ends would be made anew after it was destroyed
        ([EPOCH_2, END_OF_E2, END_OF_C1], (0,), [2]),
        ([CONTEXT_2, END_OF_C2], (0,), []),
        # what is at work is not handed out, and holds up as before
        ([CONTEXT_2, EPOCH_2, END_OF_C1], (0, 2), []),
    ],
)
def test_what_begins_beside_ends_and_what_is_at_work(
    contents: list[Content], busy: tuple[int, ...], begin: list[int]
) -> None:
    assert free(*contents, busy=busy) == begin


def test_an_end_wins_whatever_the_order_of_the_rows() -> None:
    """A creation that was recorded late, of a gap in the logs, must not give the Core back what was destroyed."""
    assert ended(line(END_OF_C2, CONTEXT_2, EPOCH_2)) == [
        (entry, C2) for entry in reversed(line(END_OF_C2, CONTEXT_2, EPOCH_2)[1:])
    ]
    assert free(END_OF_C2, CONTEXT_2) == [0]
    assert free(END_OF_C2, CONTEXT_2, busy=(1,)) == []


def test_other_requests_have_no_order() -> None:
    assert AbortKeygen(1).order == Order()


PLAIN, COMPRESSED = KeySetForm.PLAIN, KeySetForm.COMPRESSED


def configure(bench: Bench, option: CompressedKeySets | bool) -> None:
    """Go on as a process does that was started with another option."""
    bench.pipeline.profile = Fhevm(SETTINGS.but(compressed_key_sets=option))


async def record_later(bench: Bench, name: str, *values: Any) -> Row:
    """Record a request of KMSGeneration 0.3.0 at the address of the one before."""
    topics, data = LATER_KMS_GENERATION.event(name).encode(*values)
    log = attrs.evolve(keys.log("keygen_default"), topics=topics, data=data, block_number=99)
    content = bench.pipeline.profile.decode(log)
    assert content is not None
    return await bench.record_arrival(
        Arrival(content.id, content.kind, bench.pipeline.profile.digest(log), log, False)
    )


def forms(bench: Bench) -> list[KeySetForm]:
    return [one.form for one in bench.stages.started]


@pytest.mark.parametrize(("first", "form"), [(True, COMPRESSED), (False, PLAIN)])
async def test_a_key_has_the_form_of_its_preparation(first: bool, form: KeySetForm, bench: Bench) -> None:
    """Though the process was started again with the other option."""
    configure(bench, first)
    await bench.run(await bench.record_key_request("prep_keygen_default"))
    configure(bench, not first)
    row = await bench.run(await bench.record_key_request("keygen_default"))
    assert forms(bench) == [form, form]
    assert row.progress.choice == form


@pytest.mark.parametrize("prepared", [True, False])
async def test_an_upgrade_in_mid_ceremony_does_not_change_the_form(bench: Bench, prepared: bool) -> None:
    """The key is asked for by KMSGeneration 0.3.0, its preparation was by 0.2.0; where nothing is known of that, its event counts."""
    if prepared:
        await bench.run(await bench.record_key_request("prep_keygen_default"))
    content = keys.content("keygen_default")
    values = (content.prep_id, content.id, 0, content.extra_data)
    await bench.run(await record_later(bench, "KeygenRequest", *values))
    assert forms(bench) == ([PLAIN, PLAIN] if prepared else [COMPRESSED])


async def test_a_ceremony_of_the_later_contract_is_compressed(bench: Bench) -> None:
    content = keys.content("keygen_default")
    for name, values in (
        ("PrepKeygenRequest", (content.prep_id, 0, 0, content.extra_data)),
        ("KeygenRequest", (content.prep_id, content.id, 0, content.extra_data)),
    ):
        await bench.run(await record_later(bench, name, *values))
    assert forms(bench) == [COMPRESSED, COMPRESSED]


async def test_what_is_guessed_about_a_preparation_is_not_kept(bench: Bench) -> None:
    """The Core refuses a key in another form than its preparation has; an operator sets the option, and it is started in that one."""
    bench.let(submit=Unreachable("nobody"))
    row = await bench.run(await bench.record_key_request("keygen_default"))
    configure(bench, True)
    bench.stages.does.clear()
    await bench.run(row)
    assert forms(bench) == [PLAIN, COMPRESSED]


async def test_a_cancelled_start_is_repeated_in_the_same_form(bench: Bench) -> None:
    """Wherever it is cancelled, and though the next process has another option: what the Core may have heard of holds."""
    content = keys.content("prep_keygen_default")

    async def new_row() -> Row:
        configure(bench, CompressedKeySets.ALWAYS)
        values = (content.id + len(rows), 0, 0, content.extra_data)
        return await record_later(bench, "PrepKeygenRequest", *values)

    async def start_again() -> None:
        configure(bench, CompressedKeySets.NEVER)
        row = await bench.run(await bench.row(rows[-1].rid))
        started = [one.form for one in bench.stages.started if one.id == row.id]
        assert set(started) == {started[0]} == {row.progress.choice}
        rows.append(await new_row())

    rows: list[Row] = []
    rows.append(await new_row())
    await cancel_everywhere(lambda: bench.pipeline.run(rows[-1]), start_again)
    assert {one.form for one in bench.stages.started} == {PLAIN, COMPRESSED}
