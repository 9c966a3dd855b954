"""A life of keys whose contract is upgraded to 0.3.0 in mid-ceremony, and whose key is migrated: aborted once, repeated, reshared."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.emulator.key_ceremonies import ABORTED_REQUEST, KEY, MIGRATION_PREP, MIGRATION_REQUEST, PREP
from kmsconn.model.events import AlertRaised, ReplyFinalized, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.fhevm.epochs import CONFIRM as CONFIRM_EPOCH
from kmsconn.protocols.fhevm.keygen import KEY_RESPONSE
from tests.faults.ceremony import LONG, Ceremony, open_ceremony

pytestmark = pytest.mark.sampled


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
    chain = ceremony.dependencies.ethereum
    for block in filter(None, map(chain.block, range(chain.head.number + 1))):
        for mined in block.mined:
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
            await ceremony.wait(lambda: refused(ceremony))
            nursery.cancel_scope.cancel()
        [alert, *_] = refused(ceremony)
    assert f"0x{PREP:064x} for key 0x{KEY:064x}" in alert.text
    assert "preprocessing_ids" in alert.text


def refused(ceremony: Ceremony) -> list[AlertRaised]:
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
