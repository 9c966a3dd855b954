"""The timeline of a request, step by step; and a reply compared with what its recorded inputs give."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio

from kmsconn.ethereum.signing import PrivateKey
from kmsconn.ethereum.transactions import Transaction, sign_transaction
from kmsconn.journal import inspecting, moves
from kmsconn.journal.inspecting import PausedKind
from kmsconn.journal.moves import NewRequest, Signing
from kmsconn.journal.rows import HistoryEntry, Row
from kmsconn.model.life import TRANSITIONS, Answer, RowCause, State
from kmsconn.model.requests import Kind
from kmsconn.operate.control.commands import WORD_CHARACTERS, CommandError, perform
from kmsconn.operate.control.explaining import WORDS, Situation, explanation, find_timeline
from kmsconn.operate.control.requests import kept_checks
from kmsconn.operate.control.server import COMMANDS
from kmsconn.protocols.fhevm.decryptions import RESPONSE
from tests.unit.journal.samples import keep
from tests.unit.operate.control.scene import Scene
from tests.unit.protocols.test_fhevm_http_decryption import PUBLIC
from tests.unit.requests.bench import PROFILE, SETTINGS, wall


async def explain(scene: Scene, fate: str) -> Any:
    request = {"request": str(scene.rows[fate].rid)}
    [one] = (await perform(COMMANDS, scene.context, "explain", request))["requests"]
    return one


def test_every_transition_has_words() -> None:
    assert set(TRANSITIONS) - set(WORDS) == set()


async def test_a_waiting_request_says_for_what_and_for_how_long(scene: Scene) -> None:
    rid = scene.rows["pending"].rid
    await trio.sleep(5)
    scene.bench.journal.note_stage(rid, "check", 0.25)
    await scene.bench.journal.run(moves.defer, rid, wall() + 30, "core[0] is down", stage="submit")
    await trio.sleep(10)
    one = await explain(scene, "pending")
    assert [(step["what"], step["detail"], round(step["seconds"])) for step in one["timeline"]] == [
        ("recorded", "block 10", 5),
        ("waits in submit", "core[0] is down", 10),
    ]
    assert one["timeline"][1]["stages"] == {"check": 0.25}
    assert one["now"] == "pending, waits for another 20.0 s: core[0] is down"
    assert one["next"] == "once the connector runs again: a worker takes it: check, gather, submit, answer"


async def test_an_included_request_tells_all_its_steps(scene: Scene) -> None:
    rid, journal = scene.rows["pending"].rid, scene.bench.journal
    await journal.run(keep, rid, Answer(b"calldata", None), wall())
    await journal.run(moves.sign, Signing(rid, 7, b"raw", b"\x11" * 32))
    await journal.run(moves.move, "confirm", rid, block=12)
    one = await explain(scene, "pending")
    assert [(step["what"], step["detail"]) for step in one["timeline"]] == [
        ("recorded", "block 10"),
        ("the Core's answer is kept", ""),
        ("the reply is signed", f"nonce 7, 0x{'11' * 32}"),
        ("a block includes the reply", "block 12"),
    ]
    assert (one["transaction"], one["now"]) == (f"0x{'11' * 32}", "included")
    assert "block 12 becomes final" in one["next"]


@pytest.mark.parametrize(
    ("fate", "command"), [("rejected", "kmsconn requests retry"), ("quarantined", "kmsconn quarantine retry")]
)
async def test_a_request_that_ended_says_why_and_what_an_operator_can_do(
    scene: Scene, fate: str, command: str
) -> None:
    one = await explain(scene, fate)
    last = one["timeline"][-1]
    assert (last["what"], last["detail"], last["seconds"]) == (fate, f"because it was {fate}", None)
    assert command in one["next"]


async def test_a_request_of_a_paused_kind_says_so(scene: Scene) -> None:
    await scene.bench.journal.run(inspecting.pause, PausedKind(Kind.PUBLIC_DECRYPTION, 1.0))
    assert "kmsconn resume public_decryption" in (await explain(scene, "pending"))["next"]


async def test_a_retried_request_begins_with_how_it_had_ended(scene: Scene) -> None:
    await perform(COMMANDS, scene.context, "requests.retry", {"requests": [str(scene.rows["expired"].rid)]})
    one = await explain(scene, "expired")
    assert [step["what"] for step in one["timeline"]] == ["expired", "an operator has retried it"]


async def test_a_row_without_a_history_tells_the_times_that_it_has(scene: Scene) -> None:
    one = explanation(await scene.bench.row(scene.rows["done"].rid), Situation(wall(), ()))
    assert [step["what"] for step in one["timeline"]] == ["recorded", "done"]


async def test_no_step_takes_less_than_no_time_when_the_clock_is_set_back(scene: Scene) -> None:
    row = await scene.bench.row(scene.rows["pending"].rid)
    entries = (HistoryEntry(wall() + 500, "defer check"), HistoryEntry(wall() - 500, "defer check"))
    steps = explanation(row, Situation(wall() - 900, entries))["timeline"]
    assert [step["seconds"] for step in steps] == [pytest.approx(500, abs=1), 0.0, 0.0]


async def test_a_request_off_chain_waits_for_the_chain(scene: Scene) -> None:
    row = attrs.evolve(await scene.bench.row(scene.rows["pending"].rid), on_chain=False)
    assert "the chain has to have it again" in explanation(row, Situation(wall(), ()))["next"]


async def posted(scene: Scene) -> Row:
    """Make a row of a request over HTTP."""
    log = PROFILE.operations[PUBLIC.kind].log_of(PUBLIC)  # type: ignore[attr-defined]
    where = (log.address, PUBLIC.id, PUBLIC.kind)
    post = NewRequest(SETTINGS.chains.gateway.chain_id, *where, PROFILE.digest(log), log, 1e9, wall())
    row, _ = await scene.bench.journal.run(moves.take, post)
    assert row is not None
    scene.rows["posted"] = row
    return row


async def test_a_request_over_http_names_its_source_and_no_block(scene: Scene) -> None:
    await posted(scene)
    one = await explain(scene, "posted")
    assert (one["source"], one["block"], one["request_transaction"]) == ("http", None, None)
    assert [(step["what"], step["detail"]) for step in one["timeline"]] == [("recorded", "over HTTP")]
    assert (await explain(scene, "pending"))["source"] == "chain"


async def test_an_answer_over_http_is_said_to_be_kept(scene: Scene) -> None:
    row = await posted(scene)
    await scene.bench.journal.run(keep, row.rid, Answer(b"calldata", None), wall(), transition="deliver")
    one = await explain(scene, "posted")
    assert one["timeline"][-1]["what"] == "answered over HTTP: the answer is kept for whoever asks"
    assert (one["now"], one["next"]) == ("done", "nothing: its answer is kept for whoever asks over HTTP")


async def test_a_request_that_its_client_may_repeat_says_so(scene: Scene) -> None:
    row = await posted(scene)
    cause = RowCause.REPEATABLE | RowCause.ACCESS_DENIED
    await scene.bench.journal.run(moves.move, "reject", row.rid, reason="no right", cause=cause)
    assert (await explain(scene, "posted"))["next"] == "nothing, until its client asks again"
    await posted(scene)
    timeline = (await explain(scene, "posted"))["timeline"]
    assert [step["what"] for step in timeline] == ["rejected", "asked for again over HTTP"]


@pytest.mark.parametrize("by_id", [False, True])
async def test_a_request_is_found_by_row_and_id_with_its_steps(scene: Scene, by_id: bool) -> None:
    row = scene.rows["rejected"]
    found = await find_timeline(scene.context, f"0x{row.id:064x}" if by_id else str(row.rid))
    assert found is not None
    assert (found["row"], found["state"]) == (row.rid, "rejected")
    assert [step["what"] for step in found["timeline"]] == ["recorded", "rejected"]
    assert "because it was rejected" in found["timeline"][1]["detail"]
    assert await find_timeline(scene.context, f"0x{4711:064x}" if by_id else "4711") is None


KEY = PrivateKey(b"\x07" * 32)


async def signed_row(scene: Scene) -> Row:
    """Return a row with an answer and a signed transaction as this connector makes them."""
    row, journal = scene.rows["pending"], scene.bench.journal
    calldata = RESPONSE.encode(row.id, b"\x01" * 32, b"\x02" * 65, b"\x00")
    await journal.run(keep, row.rid, Answer(calldata, None), wall())
    transaction = Transaction(row.event.chain_id, 7, 1, 10, 100_000, row.event.contract, 0, calldata)
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
    await journal.run(keep, rid, Answer(b"calldata", None), wall())
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
