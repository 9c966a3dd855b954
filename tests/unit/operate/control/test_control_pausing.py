"""An operator pauses a kind, and ends single requests: what is said, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest

from kmsconn.journal import moves
from kmsconn.journal.values import Signing
from kmsconn.model.life import State
from kmsconn.model.steps import Answer
from kmsconn.operate.control.commands import WORD_CHARACTERS, CommandError, perform
from kmsconn.operate.control.server import COMMANDS
from tests.unit.operate.control.scene import Scene
from tests.unit.requests.bench import wall


async def ask(scene: Scene, command: str, **arguments: Any) -> Any:
    return await perform(COMMANDS, scene.context, command, arguments)


async def test_a_pause_says_what_is_paused_and_since_when(scene: Scene) -> None:
    answer = await ask(scene, "pause", kind="user_decryption", reason="the  Core\nis upgraded")
    [one] = answer["paused"]
    assert (answer["changed"], one["kind"], one["reason"]) == (True, "user_decryption", "the Core is upgraded")  # fmt: skip
    assert one["since"] == pytest.approx(wall(), abs=1)
    assert not (await ask(scene, "pause", kind="user_decryption"))["changed"]


async def test_resuming_says_whether_it_was_paused(scene: Scene) -> None:
    await ask(scene, "pause", kind="user_decryption")
    assert await ask(scene, "resume", kind="user_decryption") == {
        "kind": "user_decryption", "changed": True, "paused": [],
    }  # fmt: skip
    assert not (await ask(scene, "resume", kind="user_decryption"))["changed"]


@pytest.mark.parametrize("kind", ["nothing", 7, None, "prep_kskgen"])
async def test_what_is_no_kind_of_this_generation_is_an_error(scene: Scene, kind: object) -> None:
    with pytest.raises(CommandError, match="there is no kind"):
        await ask(scene, "pause", kind=kind)


async def test_a_skipped_request_is_rejected_with_the_reason(scene: Scene) -> None:
    row = scene.rows["pending"]
    answer = await ask(scene, "skip", request=f"0x{row.id:x}", reason="lost")
    assert [one["row"] for one in answer["skipped"]] == [row.rid]
    after = await scene.bench.row(row.rid)
    assert (after.state, after.progress.reason) == (State.REJECTED, "skipped by an operator: lost")


async def test_a_signed_request_is_not_skipped(scene: Scene) -> None:
    rid, journal = scene.rows["pending"].rid, scene.bench.journal
    await journal.run(moves.answer, rid, Answer(b"calldata", None), wall())
    await journal.run(moves.sign, Signing(rid, 7, b"raw", b"\x11" * 32))
    answer = await ask(scene, "skip", request=str(rid), reason="lost")
    assert answer["skipped"] == []
    assert "cannot be taken back" in answer["refused"][0]["why"]


@pytest.mark.parametrize(
    ("reason", "why"), [("", "a reason is needed"), (7, "must be a text"), ("x" * (WORD_CHARACTERS + 1), "at most")]
)  # fmt: skip
async def test_a_skip_needs_a_short_reason(scene: Scene, reason: object, why: str) -> None:
    with pytest.raises(CommandError, match=why):
        await ask(scene, "skip", request=str(scene.rows["pending"].rid), reason=reason)


async def test_an_id_of_several_requests_is_no_name(scene: Scene) -> None:
    """Two forks may ask for other things under one id."""
    other = await scene.bench.record("public_one_v0", 11, scene.rows["rejected"].event.log.data)
    with pytest.raises(CommandError, match=f"by its row number: {scene.rows['pending'].rid} .*{other.rid} "):
        await ask(scene, "skip", request=f"0x{scene.rows['pending'].id:x}", reason="lost")
