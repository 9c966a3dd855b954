"""A life of keys: from preparation to ends, over aborts; and one whose contract is upgraded and whose key is migrated on the way."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.emulator.contracts.generation_releases import LATER_0_2
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, committee_of, naming
from kmsconn.emulator.key_ceremonies import (
    ABORTED_REQUEST,
    KEY,
    LAST_EPOCH,
    MIGRATION_PREP,
    MIGRATION_REQUEST,
    NEXT_CONTEXT,
    PREP,
    announcement_of,
)
from kmsconn.model.events import AlertRaised, ReplyFinalized, RequestClosed, StageFinished
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.epochs import CONFIRM as CONFIRM_EPOCH
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE
from tests.faults.ceremony import ENDS, LONG, Ceremony, open_ceremony
from tests.faults.scene import all_mined

pytestmark = pytest.mark.sampled
SETS = pytest.mark.parametrize(("members", "newcomers"), [(1, 0), (4, 1)], ids=["one", "four"])
WITHOUT_REPLY = (Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_EPOCH_DESTROYED, Kind.KMS_CONTEXT_DESTROYED)


def ends(ceremony: Ceremony, node: int, kind: Kind) -> set[State]:
    return {closed.state for closed in ceremony.told(node, RequestClosed, kind)}


@SETS
async def test_a_committee_takes_its_keys_through_a_whole_life(
    members: int, newcomers: int, tmp_path: Path
) -> None:
    """Four of five nodes are in each of two contexts; three of four must agree, and all in a new one.

    Decryptions go over to the new context, and are refused under the one that was destroyed.
    """
    async with open_ceremony(tmp_path, members=members, newcomers=newcomers) as ceremony:
        before = await ceremony.ask()
        with trio.fail_after(LONG):
            for step in list(ceremony.owner.steps.values())[:-1]:  # the Gateway has not heard of the end yet
                await step()
        after = [await ceremony.ask(form) for form in ("public", "direct", "unified")]
        ceremony.traffic.extra_data = naming(CONTEXT, EPOCH)
        late = await ceremony.ask()
        await ceremony.wait(
            lambda: all(ceremony.has_answered(node, one) for node in ceremony.incoming for one in after)
        )
        await ceremony.wait(lambda: all(refused(ceremony, node) for node in ceremony.dependencies.members))
        await trio.sleep(ENDS)
        for node in ceremony.nodes:
            ceremony.check_replies(node)
            assert ceremony.has_answered(node, before) == (node in ceremony.dependencies.members)
            assert not ceremony.has_answered(node, late)
            assert all(ends(ceremony, node, kind) == {State.DONE} for kind in WITHOUT_REPLY)
        for node in ceremony.incoming:
            assert State.ABORTED in ends(ceremony, node, Kind.KEYGEN)
            assert State.ABORTED in ends(ceremony, node, Kind.CRSGEN)
        for node, core in enumerate(ceremony.cores):
            assert core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
            assert core.known.epochs == ({LAST_EPOCH.to_bytes(32)} if node in ceremony.incoming else set())


def refused(ceremony: Ceremony, node: int) -> bool:
    """Tell whether a decryption was rejected for what was destroyed."""
    closed = ceremony.told(node, RequestClosed, Kind.PUBLIC_DECRYPTION)
    return any("destroyed" in one.reason and one.state is State.REJECTED for one in closed)


async def test_a_node_that_has_left_passes_over_what_the_others_do(tmp_path: Path) -> None:
    """It tells its Core of further contexts, sees them confirmed without it, and works on none of their epochs."""
    async with open_ceremony(tmp_path, newcomers=1) as ceremony:
        steps = ceremony.owner.steps
        for name in ("announcement", "key", "CRS", "context", "epoch"):
            await steps[name]()
        config, following = ceremony.dependencies.protocol_config, committee_of(ceremony.incoming)
        ceremony.act(config, lambda frame: config.begin_context(frame, announcement_of(following)))
        await ceremony.wait(lambda: len(ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH)) == 3)
        await ceremony.wait(lambda: len(ceremony.keys(1).replied) == 8)
        assert {one.state for one in ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH)} == {State.DONE}
        await ceremony.wait(lambda: len(ceremony.told(0, ReplyFinalized, Kind.NEW_KMS_CONTEXT)) == 1)
        # the contract says that the further one is not its to confirm, or that it needs it no more
        await ceremony.wait(
            lambda: (
                ends(ceremony, 0, Kind.NEW_KMS_CONTEXT) == {State.DONE}
                or len(ceremony.told(0, ReplyFinalized, Kind.NEW_KMS_CONTEXT)) == 2
            )
        )
        assert ("confirmKmsContextCreation", NEXT_CONTEXT + 1) not in ceremony.keys(0).replied
        assert (NEXT_CONTEXT + 1).to_bytes(32) in ceremony.cores[0].known.contexts
        assert ceremony.keys(0).doubled == 0


async def test_contexts_and_epochs_reach_every_endpoint_of_a_core(tmp_path: Path) -> None:
    """0.14 tells one of them, and the previous context perhaps to another (P4)."""
    async with open_ceremony(tmp_path, members=1, shards=3) as ceremony:
        with trio.fail_after(LONG):
            await ceremony.owner.play()
        for shard in ceremony.dependencies.cores:
            assert shard.core.known.contexts == {NEXT_CONTEXT.to_bytes(32)}
            assert shard.core.known.epochs == {LAST_EPOCH.to_bytes(32)}


async def test_an_abort_overtakes_what_it_aborts(ceremony: Ceremony) -> None:
    for core in ceremony.cores:
        core.computing = 10 * LONG
    generation = ceremony.dependencies.kms_generation
    ceremony.act(generation, generation.request_keygen)
    await ceremony.wait(
        lambda: all(
            any(e.stage == "submit" for e in ceremony.told(node, StageFinished, Kind.PREP_KEYGEN))
            for node in ceremony.nodes
        )
    )
    ceremony.act(generation, lambda frame: generation.abort_keygen(frame, PREP))
    await ceremony.wait(
        lambda: all(ceremony.told(node, RequestClosed, Kind.PREP_KEYGEN) for node in ceremony.nodes)
    )
    for node in ceremony.nodes:
        [asked] = ceremony.told(node, RequestClosed, Kind.PREP_KEYGEN)
        [abort] = ceremony.told(node, RequestClosed, Kind.ABORT_KEYGEN)
        assert (asked.state, abort.state) == (State.ABORTED, State.DONE)


async def test_an_epoch_whose_result_is_lost_is_told_in_red_and_waited_for(ceremony: Ceremony) -> None:
    """The Core keeps the result in memory only: after a restart it has the epoch and not what it signed (L10)."""
    for step in (
        ceremony.owner.ceremonies.announce_first,
        ceremony.owner.ceremonies.make_key,
        ceremony.owner.ceremonies.make_crs,
    ):
        await step()
    lost = ceremony.dependencies.cores[0]
    lost.strike(FailingCore(code="UNAVAILABLE"), "GetEpochResult")
    config = ceremony.dependencies.protocol_config
    ceremony.act(
        config, lambda frame: config.begin_context(frame, announcement_of(ceremony.dependencies.committee))
    )
    await ceremony.wait(
        lambda: any(e.stage == "submit" for e in ceremony.told(0, StageFinished, Kind.NEW_KMS_EPOCH))
    )
    await trio.sleep(ENDS)
    lost.core.restart()
    lost.heal()
    await ceremony.wait(
        lambda: [
            e
            for e in ceremony.events[0]
            if isinstance(e, AlertRaised)
            and e.critical
            and "INVALID_ARGUMENT" in e.text
            and "NOT_FOUND" in e.text
        ]
    )
    assert ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH) == []
    ceremony.act(config, lambda frame: config.destroy_context(frame, NEXT_CONTEXT))
    await ceremony.wait(lambda: ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH))
    [closed] = ceremony.told(0, RequestClosed, Kind.NEW_KMS_EPOCH)
    assert "destroyed" in closed.reason


async def test_a_life_of_compressed_keys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The Core makes them, the contract takes their digests under its numbers, and an epoch reshares them."""
    honest = FhevmDependencies.settings
    monkeypatch.setattr(
        FhevmDependencies,
        "settings",
        lambda self, *given, **changes: honest(self, *given, **changes).but(compressed_key_sets=True),
    )
    async with open_ceremony(tmp_path, members=1) as ceremony:
        generation, config = ceremony.dependencies.kms_generation, ceremony.dependencies.protocol_config
        ceremony.act(generation, lambda frame: generation.upgrade(frame, LATER_0_2))
        ceremony.act(config, config.redeploy)
        with trio.fail_after(LONG):
            await ceremony.owner.play()
        calls = [mined.transaction.data for mined in all_mined(ceremony.dependencies.ethereum)]
    kinds = {
        tuple(kind for kind, _ in KEY_RESPONSE.decode(data)[1])
        for data in calls
        if data.startswith(KEY_RESPONSE.selector)
    }
    reshared = {
        tuple(kind for kind, _ in key[2])
        for data in calls
        if data.startswith(CONFIRM_EPOCH.selector)
        for key in CONFIRM_EPOCH.decode(data)[1]
    }
    assert kinds == reshared == {(1, 3)}


def configured(monkeypatch: pytest.MonkeyPatch, **changes: Any) -> None:
    """Let every connector of the test have other options."""
    honest = FhevmDependencies.settings
    monkeypatch.setattr(
        FhevmDependencies,
        "settings",
        lambda self, *given, **others: honest(self, *given, **others).but(**changes),
    )


def comparing(ceremony: Ceremony) -> None:
    """Let the Cores refuse an epoch that names another preprocessing of a key than they have recorded."""
    for core in ceremony.cores:
        core.management.store.compares = True


def included(ceremony: Ceremony, function: Any) -> Iterator[tuple[Any, ...]]:
    """Yield the arguments of every reply of one function that a block of Ethereum includes."""
    for mined in all_mined(ceremony.dependencies.ethereum):
        if mined.transaction.data.startswith(function.selector):
            yield function.decode(mined.transaction.data)


def kinds(digests: Any) -> tuple[int, ...]:
    return tuple(kind for kind, _ in digests)


async def test_a_key_is_made_across_an_upgrade_migrated_and_reshared(ceremony: Ceremony) -> None:
    """Its form is that of its preparation; the epoch names the preprocessing of the migration, which the Cores compare."""
    comparing(ceremony)
    ceremony.owner.ceremonies.migrates = True
    with trio.fail_after(2 * LONG):
        await ceremony.owner.play()
    replies = {identifier: kinds(digests) for identifier, digests, _ in included(ceremony, KEY_RESPONSE)}
    epochs = [
        (prep, identifier, kinds(digests))
        for _, reshared, _ in included(ceremony, CONFIRM_EPOCH)
        for prep, identifier, digests, _ in reshared
    ]
    aborted = [ceremony.told(node, RequestClosed, Kind.KEYGEN) for node in ceremony.nodes]
    assert replies == {KEY: (0, 1), MIGRATION_REQUEST: (1, 3)}
    assert set(epochs) == {(MIGRATION_PREP, KEY, (1, 3))}
    assert len(epochs) == 2 * len(aborted)
    for closed in aborted:
        assert [(one.id, one.state) for one in closed] == [(ABORTED_REQUEST, State.ABORTED)]


async def test_an_epoch_that_a_core_refuses_for_its_preprocessing_id_is_a_loud_alert(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator has named another one; the alert says which was named, and which option did so."""
    configured(monkeypatch, preprocessing_ids={KEY: PREP})
    async with open_ceremony(tmp_path) as ceremony:
        comparing(ceremony)
        ceremony.owner.ceremonies.migrates = True
        with trio.fail_after(2 * LONG):
            for name, step in ceremony.owner.steps.items():
                if name == "context":
                    break
                await step()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ceremony.owner.steps["context"])
            await ceremony.wait(lambda: refused_starts(ceremony))
            nursery.cancel_scope.cancel()
        [alert, *_] = refused_starts(ceremony)
    assert f"0x{PREP:064x} for key 0x{KEY:064x}" in alert.text
    assert "preprocessing_ids" in alert.text


def refused_starts(ceremony: Ceremony) -> list[AlertRaised]:
    alerts = (one for one in ceremony.events[0] if isinstance(one, AlertRaised))
    return [one for one in alerts if one.critical and "INVALID_ARGUMENT" in one.text]


async def test_a_contract_that_does_not_know_compressed_keys_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """KMSGeneration 0.2.0 of the tag reverts without data; the reply waits, and is sent once the contract was upgraded."""
    configured(monkeypatch, compressed_key_sets=True)
    async with open_ceremony(tmp_path, members=1) as ceremony:
        generation = ceremony.dependencies.kms_generation
        await ceremony.owner.steps["announcement"]()
        ceremony.act(generation, generation.request_keygen)
        await ceremony.wait(lambda: unknown(ceremony))
        assert not ceremony.told(0, ReplyFinalized, Kind.KEYGEN)
        ceremony.act(generation, generation.upgrade)
        await ceremony.wait(lambda: ceremony.told(0, ReplyFinalized, Kind.KEYGEN))
        [alert] = unknown(ceremony)
        [(_, digests, _)] = included(ceremony, KEY_RESPONSE)
    assert "does not know key type 3" in alert.text
    assert kinds(digests) == (1, 3)


def unknown(ceremony: Ceremony) -> list[AlertRaised]:
    alerts = (one for one in ceremony.events[0] if isinstance(one, AlertRaised))
    return [one for one in alerts if one.critical and one.cause == "key-type-unknown"]
