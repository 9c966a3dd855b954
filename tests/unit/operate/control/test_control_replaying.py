"""A reply is compared with what its recorded inputs give: what is the same, what differs, what cannot be told."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Eip1559Transaction, sign_transaction
from kmsconn.journal import moves
from kmsconn.journal.values import Row, Signing
from kmsconn.model.life import State
from kmsconn.model.steps import Answer
from kmsconn.operate.control.commands import WORD_CHARACTERS, CommandError, perform
from kmsconn.operate.control.requests import kept_checks
from kmsconn.operate.control.server import COMMANDS
from kmsconn.protocols.fhevm.decryptions import RESPONSE
from tests.unit.operate.control.scene import Scene
from tests.unit.requests.bench import PROFILE, wall

KEY = PrivateKey(b"\x07" * 32)


async def signed_row(scene: Scene) -> Row:
    """Return a row with an answer and a signed transaction as this connector makes them."""
    row, journal = scene.rows["pending"], scene.bench.journal
    calldata = RESPONSE.encode(row.id, b"\x01" * 32, b"\x02" * 65, b"\x00")
    await journal.run(moves.answer, row.rid, Answer(calldata, None), wall())
    transaction = Eip1559Transaction(row.event.chain_id, 7, 1, 10, 100_000, row.event.contract, 0, calldata)
    await journal.run(moves.sign, Signing(row.rid, 7, *sign_transaction(transaction, KEY)))
    found = await scene.bench.row(row.rid)
    digest = PROFILE.digest(found.event.log)  # the bench records another one
    return attrs.evolve(found, event=attrs.evolve(found.event, digest=digest))


def outcomes(row: Row) -> dict[str, bool | None]:
    return {one.check: one.same for one in kept_checks(PROFILE, row)}


def flipped(data: bytes, at: int) -> bytes:
    """Return data with one bit changed."""
    changed = bytearray(data)
    changed[at] ^= 1
    return bytes(changed)


async def test_what_was_changed_in_a_reply_or_its_event_is_told(scene: Scene) -> None:
    row = await signed_row(scene)
    assert row.answer is not None
    same = {"event": True, "calldata": True, "transaction": True}
    assert outcomes(row) == same
    other = Answer(flipped(row.answer.calldata, 40), None)
    assert outcomes(attrs.evolve(row, answer=other)) == same | {"calldata": False, "transaction": False}
    event = attrs.evolve(row.event, digest=flipped(row.event.digest, -1))
    assert outcomes(attrs.evolve(row, event=event))["event"] is False


@pytest.mark.parametrize(
    ("reply", "same"),
    [
        ({"hash": b"\x01" * 32}, False),
        ({"nonce": 8}, False),
        ({"raw": b"\x02\x01"}, False),
        ({"raw": None}, None),
    ],
    ids=["hash", "nonce", "bytes", "not signed yet"],
)
async def test_a_transaction_that_is_not_the_kept_one_is_told(
    scene: Scene, reply: dict[str, Any], same: bool | None
) -> None:
    row = await signed_row(scene)
    assert outcomes(attrs.evolve(row, reply=attrs.evolve(row.reply, **reply)))["transaction"] is same


async def test_the_answer_names_the_request_and_what_it_amounts_to(scene: Scene) -> None:
    row = await signed_row(scene)
    answer = await perform(COMMANDS, scene.context, "replay", {"request": str(row.rid), "dry": True})
    assert (answer["row"], answer["dry"], len(answer["checks"])) == (row.rid, True, 3)
    assert answer["same"] is False  # of the digest that the bench records


async def test_a_request_without_an_answer_has_nothing_to_compare(scene: Scene) -> None:
    with pytest.raises(CommandError, match="keeps no answer"):
        await perform(COMMANDS, scene.context, "replay", {"request": str(scene.rows["rejected"].rid), "dry": True})  # fmt: skip


async def test_only_a_running_connector_asks_the_core(scene: Scene) -> None:
    row = await signed_row(scene)
    with pytest.raises(CommandError, match="--dry-run"):
        await perform(COMMANDS, scene.context, "replay", {"request": str(row.rid)})


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
