"""Shadow mode: a connector beside an active one of the same node compares every reply, tells differences, and sends nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio

from kmsconn.config.description import Mode
from kmsconn.connector import wiring
from kmsconn.emulator.core_faults import FailingCore, SpoiledCore
from kmsconn.errors import JournalFailed
from kmsconn.journal import inspecting
from kmsconn.journal.journal import Journal
from kmsconn.model.events import (
    AlertRaised,
    ReplyCompared,
    ReplyMissing,
    ReplySigned,
    ReplyUnmatched,
    RequestRecorded,
)
from kmsconn.model.life import State
from kmsconn.protocols.comparing import Likeness
from kmsconn.replies import shadow as shadow_module
from kmsconn.replies.wallet import open_wallet
from tests.faults.scene import ALL_EQUAL, EVERY_FORM, ShadowScene, open_shadow_scene, states_of

pytestmark = pytest.mark.rotating

RESULT = "GetPublicDecryptionResult"


@pytest.fixture
async def scene(tmp_path: Path) -> AsyncIterator[ShadowScene]:
    async with open_shadow_scene(tmp_path) as scene:
        yield scene


async def test_a_shadow_finds_every_reply_equal_and_sends_none(scene: ShadowScene) -> None:
    """Both ask the same Core, which gives the same bytes to both; the shadow has no key at all."""
    async with scene.active(), scene.shadow() as shadow:
        scene.ask(*EVERY_FORM)
        await scene.wait_finalized(len(EVERY_FORM))
        assert scene.likenesses() == ALL_EQUAL
        scene.check_sends_nothing(len(EVERY_FORM))
        await scene.wait(lambda: states_of(shadow) == {State.FINALIZED: len(EVERY_FORM)})
        assert not [alert for alert in scene.told(AlertRaised) if alert.dependency.startswith("shadow")]


async def test_time_gained_is_that_from_the_answer_here_to_the_inclusion_there(scene: ShadowScene) -> None:
    """The active connector starts ten seconds later, so it is so much slower."""
    async with scene.shadow():
        scene.ask("public")
        await trio.sleep(10)
        async with scene.active():
            await scene.wait_finalized(1)
            [compared] = scene.told(ReplyCompared)
            assert 8 < compared.seconds < 14


async def plant(scene: ShadowScene) -> None:
    """Let the shadow's shard of the Core give other values for one public decryption than the active connector's."""
    scene.dependencies.cores[-1].strike(SpoiledCore(how="other values"), RESULT)
    scene.ask("public")
    await scene.wait_finalized(1)


async def test_a_planted_difference_is_told_with_request_byte_and_argument(tmp_path: Path) -> None:
    """Both answers are signed by the node's signer, so the contract took the one and the shadow believed the other."""
    async with open_shadow_scene(tmp_path, shards=2) as scene, scene.active(), scene.shadow():
        await plant(scene)
        [compared] = scene.told(ReplyCompared)
        theirs = scene.replies()[0]
        assert (compared.likeness, compared.field) == (Likeness.DIFFERENT, "decryptedResult")
        assert compared.at is not None
        assert compared.theirs == f"0x{theirs[compared.at : compared.at + 8].hex()}"
        assert compared.ours != compared.theirs
        await scene.wait(lambda: [one for one in scene.told(AlertRaised) if one.cause == "replies-differ"])
        alert = next(one for one in scene.told(AlertRaised) if one.cause == "replies-differ")
        assert f"0x{compared.id:064x} at byte {compared.at} in decryptedResult" in alert.text


async def test_shares_that_a_core_computed_twice_are_no_difference(tmp_path: Path) -> None:
    """Each shard of the Core encrypts the share anew; everything but the ciphertext and the signature is equal."""
    async with open_shadow_scene(tmp_path, shards=2) as scene, scene.active(), scene.shadow():
        scene.dependencies.cores[-1].core.restart()  # its randomness is another one from now on
        scene.ask("direct", "public")
        await scene.wait_finalized(2)
        assert sorted(scene.likenesses()) == [Likeness.EQUAL, Likeness.RECOMPUTED]
        assert not [alert for alert in scene.told(AlertRaised) if alert.cause == "replies-differ"]


async def test_a_reply_that_is_seen_before_the_answer_waits_for_it(tmp_path: Path) -> None:
    """The shadow's shard of the Core is away until the active connector's replies are included."""
    async with open_shadow_scene(tmp_path, shards=2) as scene, scene.active(), scene.shadow():
        scene.dependencies.cores[-1].strike(FailingCore(code="UNAVAILABLE"))
        scene.ask("public", "public")
        await scene.wait(lambda: len(scene.replies()) == 2)
        scene.dependencies.cores[-1].heal()
        await scene.wait_finalized(2)
        assert scene.likenesses() == [Likeness.EQUAL] * 2
        assert all(compared.seconds < 0 for compared in scene.told(ReplyCompared))


async def test_a_shadow_goes_on_after_its_process_died(scene: ShadowScene) -> None:
    """Replies that were sent meanwhile are compared by the next process, which reads their blocks."""
    with trio.CancelScope() as life:
        async with scene.shadow() as shadow:
            scene.ask("public", "direct")
            await scene.wait(lambda: states_of(shadow) == {State.ANSWERED: 2})
            life.cancel()
    async with scene.active():
        await scene.wait(lambda: len(scene.replies()) == 2)
        async with scene.shadow():
            await scene.wait_finalized(2)
            assert scene.likenesses() == [Likeness.EQUAL] * 2


async def test_a_reply_whose_block_is_gone_is_compared_where_it_is_included_again(scene: ShadowScene) -> None:
    """The replies fell out of the chain, the active connector sends them again, and they end as final."""
    async with scene.active(), scene.shadow() as shadow:
        scene.ask("public", "direct")
        await scene.wait(lambda: scene.likenesses() == [Likeness.EQUAL] * 2)
        chain = scene.dependencies.gateway
        chain.reorg(2, drop=lambda transaction: transaction.sender == scene.sender)
        assert scene.replies() == []
        await scene.wait_finalized(2)
        await scene.wait(lambda: states_of(shadow) == {State.FINALIZED: 2})
        scene.check_sends_nothing(2)


async def test_a_reply_above_a_deep_fork_is_compared_again_once_the_fork_is_believed(
    scene: ShadowScene,
) -> None:
    """Its block on the other branch was read before that, and is read again."""
    async with scene.shadow() as shadow:
        scene.ask("public")
        await trio.sleep(12)
        async with scene.active():
            await scene.wait(lambda: scene.likenesses() == [Likeness.EQUAL])
            await trio.sleep(4)
            scene.dependencies.gateway.reorg(7)
            await scene.wait(lambda: scene.likenesses() == [Likeness.EQUAL] * 2)
            await scene.wait(lambda: states_of(shadow) == {State.FINALIZED: 1})


async def test_a_reply_that_was_read_while_the_disk_was_full_is_compared(
    scene: ShadowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, full = Journal.run, [True]

    async def refuse(journal: Journal, operation: Any, *asked: Any, **values: Any) -> Any:
        if full and asked[:1] == ("found_included",):
            await trio.lowlevel.checkpoint()
            raise JournalFailed("full")
        return await run(journal, operation, *asked, **values)

    monkeypatch.setattr(Journal, "run", refuse)
    async with scene.shadow() as shadow:
        scene.ask("public", "direct", "unified")
        await scene.wait(lambda: states_of(shadow) == {State.ANSWERED: 3})
        async with scene.active():
            await scene.wait(lambda: len(scene.replies()) == 3)
            await trio.sleep(10)
            full.clear()
            await trio.sleep(60)
    assert scene.likenesses() == [Likeness.EQUAL] * 3


async def test_a_chain_that_does_not_answer_is_an_alert_and_is_waited_out(scene: ShadowScene) -> None:
    """The replies that were sent meanwhile are compared afterwards."""
    async with scene.active(), scene.shadow():
        node = scene.dependencies.clusters["gateway"].nodes[0]
        scene.ask("public")
        await scene.wait_finalized(1)
        node.limits.unsupported.add("eth_getTransactionReceipt")
        scene.ask("public")
        raised = await scene.wait(
            lambda: [one for one in scene.told(AlertRaised) if one.dependency == "shadow gateway"]
        )
        assert raised[0].cause == "rounds"
        node.limits.unsupported.clear()
        await scene.wait_finalized(2)
        assert scene.likenesses() == [Likeness.EQUAL] * 2


async def test_a_request_that_nobody_answers_is_told_after_its_deadline(scene: ShadowScene) -> None:
    """No active connector runs: the shadow has the answer, waits for its reply, and blocks nothing."""
    async with scene.shadow(decryption_expiry=60.0) as shadow:
        scene.ask("public")
        [missing] = await scene.wait(lambda: scene.told(ReplyMissing), 200)
        assert 60 <= missing.seconds < 90
        await scene.wait(lambda: states_of(shadow) == {State.DONE: 1})
        await scene.wait(lambda: [one for one in scene.told(AlertRaised) if one.cause == "replies-missing"])
        scene.check_sent_once(0)


async def test_a_reply_in_a_block_that_was_not_read_is_told_at_the_deadline(
    scene: ShadowScene, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The contract has it: the request is no missing one, and ends as final."""
    monkeypatch.setattr(shadow_module, "MOST_BLOCKS_BACK", 5)
    async with scene.active():
        scene.ask("public")
        await scene.wait(scene.replies)
    await trio.sleep(20)
    async with scene.shadow(decryption_expiry=60.0):
        [unmatched] = await scene.wait(lambda: scene.told(ReplyUnmatched), 200)
        assert unmatched.reason == shadow_module.NOT_SEEN
        await scene.wait_finalized(1)
        assert not scene.told(ReplyMissing)


async def test_a_reply_to_what_was_rejected_here_is_told(tmp_path: Path) -> None:
    """The shadow's shard of the Core is away, and an operator ends the request that waits for it; the other connector answers it."""
    async with open_shadow_scene(tmp_path, shards=2) as scene, scene.active(), scene.shadow() as shadow:
        scene.dependencies.cores[-1].strike(FailingCore(code="UNAVAILABLE"))
        scene.ask("public")
        [recorded] = await scene.wait(lambda: scene.told(RequestRecorded))
        await shadow.components.journal.run(inspecting.skip, recorded.rid, "not wanted")
        [unmatched] = await scene.wait(lambda: scene.told(ReplyUnmatched))
        assert (unmatched.rid, unmatched.state) == (recorded.rid, State.REJECTED)
        assert "not wanted" in unmatched.reason
        await scene.wait(lambda: [one for one in scene.told(AlertRaised) if one.cause == "replies-unmatched"])


async def test_what_an_active_connector_left_signed_is_not_broadcast(scene: ShadowScene) -> None:
    """A journal with a signed reply becomes a shadow's: the bytes stay where they are, and the other's reply is compared."""
    node = scene.dependencies.clusters["gateway"].nodes[0]
    node.limits.unsupported.add("eth_sendRawTransaction")
    with trio.CancelScope() as life:
        async with scene.shadow(
            mode=Mode.ACTIVE, private_key=scene.settings_of("active", 0).wallet.private_key
        ):
            scene.ask("public")
            await scene.wait(lambda: scene.told(ReplySigned))
            life.cancel()
    node.limits.unsupported.clear()
    async with scene.shadow() as shadow:
        await trio.sleep(30)
        assert scene.replies() == []
        assert states_of(shadow) == {State.ANSWERED: 1}
        async with scene.active():
            await scene.wait_finalized(1)
    scene.check_sent_once(1)


async def test_a_shadow_that_sends_is_caught(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The mutation: a shadow with a wallet. Two connectors then answer with one key, as the check must see."""
    monkeypatch.setattr(wiring, "open_tx_sender", open_wallet)
    async with open_shadow_scene(tmp_path) as scene:
        key = scene.settings_of("active", 0).wallet.private_key
        async with scene.active(), scene.shadow(private_key=key, tx_sender_address=None):
            scene.ask(*EVERY_FORM)
            await trio.sleep(30)
            with pytest.raises(AssertionError):
                scene.check_sends_nothing(len(EVERY_FORM))
