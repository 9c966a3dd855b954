"""The form of a key set is durable before the Core hears of it, and holds for the key whatever options and contract say by then."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.config.values import CompressedKeySets
from kmsconn.errors import Unreachable
from kmsconn.journal.values import Arrival, Row
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.abi import LATER_KMS_GENERATION
from kmsconn.protocols.fhevm.keygen import KeySetForm
from kmsconn.protocols.fhevm.profile import Fhevm
from kmsconn.testing.endings import cancel_everywhere
from tests.unit.requests.bench import SETTINGS, Bench
from tests.vectors import keys

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


async def test_the_form_is_kept_before_the_core_hears_of_it(bench: Bench) -> None:
    found: list[str] = []

    async def look() -> None:
        found.append((await bench.row(row.rid)).progress.choice)

    bench.let(submit=look)
    row = await bench.record_key_request("prep_keygen_default")
    await bench.run(row)
    assert found == [PLAIN]


async def test_a_preparation_is_started_again_as_it_was_started_first(bench: Bench) -> None:
    """The option was changed between the two starts."""
    bench.let(submit=Unreachable("nobody"))
    row = await bench.run(await bench.record_key_request("prep_keygen_default"))
    configure(bench, True)
    bench.stages.does.clear()
    await bench.run(row)
    assert forms(bench) == [PLAIN, PLAIN]


@pytest.mark.parametrize(("first", "form"), [(True, COMPRESSED), (False, PLAIN)])
async def test_a_key_has_the_form_of_its_preparation(first: bool, form: KeySetForm, bench: Bench) -> None:
    """Though the process was started again with the other option."""
    configure(bench, first)
    await bench.run(await bench.record_key_request("prep_keygen_default"))
    configure(bench, not first)
    row = await bench.run(await bench.record_key_request("keygen_default"))
    assert forms(bench) == [form, form]
    assert row.progress.choice == form


async def test_an_upgrade_in_mid_ceremony_does_not_change_the_form(bench: Bench) -> None:
    """The key is asked for by KMSGeneration 0.3.0, its preparation was by 0.2.0."""
    await bench.run(await bench.record_key_request("prep_keygen_default"))
    content = keys.content("keygen_default")
    await bench.run(
        await record_later(bench, "KeygenRequest", content.prep_id, content.id, 0, content.extra_data)
    )
    assert forms(bench) == [PLAIN, PLAIN]


async def test_a_ceremony_of_the_later_contract_is_compressed(bench: Bench) -> None:
    content = keys.content("keygen_default")
    for name, values in (
        ("PrepKeygenRequest", (content.prep_id, 0, 0, content.extra_data)),
        ("KeygenRequest", (content.prep_id, content.id, 0, content.extra_data)),
    ):
        await bench.run(await record_later(bench, name, *values))
    assert forms(bench) == [COMPRESSED, COMPRESSED]


async def test_a_key_goes_by_its_own_event_where_nothing_is_known_of_its_preparation(bench: Bench) -> None:
    """The journal was lost in between, or an earlier version prepared the key."""
    content = keys.content("keygen_default")
    await bench.run(
        await record_later(bench, "KeygenRequest", content.prep_id, content.id, 0, content.extra_data)
    )
    assert forms(bench) == [COMPRESSED]


async def test_what_is_guessed_about_a_preparation_is_not_kept(bench: Bench) -> None:
    """The Core refuses a key in another form than its preparation has; an operator sets the option, and it is started in that one."""
    bench.let(submit=Unreachable("nobody"))
    row = await bench.run(await bench.record_key_request("keygen_default"))
    configure(bench, True)
    bench.stages.does.clear()
    await bench.run(row)
    assert forms(bench) == [PLAIN, COMPRESSED]


async def test_what_has_no_choice_keeps_none(bench: Bench) -> None:
    row = await bench.run(await bench.record())
    assert (row.kind, row.progress.choice) == (Kind.PUBLIC_DECRYPTION, "")


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
