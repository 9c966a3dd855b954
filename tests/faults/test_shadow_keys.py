"""A shadow beside an active connector through a life of keys: it starts, aborts and ends nothing at the Core, and compares all replies."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import trio

from kmsconn.config.description import Mode
from kmsconn.connector.connector import open_connector
from kmsconn.emulator.dependencies import sender_of
from kmsconn.model.events import Event, ReplyCompared, ReplySent, ReplySigned, RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from kmsconn.protocols.comparing import Likeness
from kmsconn.requests.stages import Stages
from tests.faults.ceremony import ENDS, LONG, Ceremony, open_ceremony
from tests.faults.scene import ports

pytestmark = pytest.mark.sampled

CHANGES = ("KeyGen", "CrsGen", "NewMpc", "Destroy", "Abort")
REPLIED = {Kind.PREP_KEYGEN, Kind.KEYGEN, Kind.CRSGEN, Kind.NEW_KMS_CONTEXT, Kind.NEW_KMS_EPOCH}
WITHOUT_REPLY = {Kind.ABORT_KEYGEN, Kind.ABORT_CRSGEN, Kind.KMS_EPOCH_DESTROYED, Kind.KMS_CONTEXT_DESTROYED}


def watch_core(ceremony: Ceremony) -> Counter[tuple[str, bytes]]:
    """Count the calls of the Core that change it, by method and message."""
    calls: Counter[tuple[str, bytes]] = Counter()

    def note(method: str, request: bytes) -> None:
        if method.startswith(CHANGES):
            calls[method, request] += 1

    ceremony.core_faults[0].on_call = note
    return calls


async def run_shadow(ceremony: Ceremony, events: list[Event]) -> None:
    """Run a shadow of the first node for ever."""
    shadow = ceremony.settings("shadow.db", 0).but(
        mode=Mode.SHADOW, private_key=None, tx_sender_address=sender_of(0).address
    )
    async with open_connector(shadow, ports=ports(ceremony.network), on_event=events.append):
        await trio.sleep_forever()


async def live(tmp_path: Path) -> tuple[list[Event], Counter[tuple[str, bytes]]]:
    """Take one node through a whole life of keys with a shadow beside it; return what the shadow told, and the changing calls."""
    events: list[Event] = []
    async with open_ceremony(tmp_path, members=1) as ceremony, trio.open_nursery() as nursery:
        calls = watch_core(ceremony)
        nursery.start_soon(run_shadow, ceremony, events)
        with trio.fail_after(LONG):
            for step in ceremony.owner.steps.values():
                await step()
        await trio.sleep(ENDS)
        ceremony.check_replies(0)
        nursery.cancel_scope.cancel()
    return events, calls


async def test_a_shadow_compares_a_life_of_keys_and_changes_no_core(tmp_path: Path) -> None:
    """Every changing call is made once, by the active connector; preparations, keys, CRS, contexts and epochs are equal."""
    events, calls = await live(tmp_path)
    assert {method for method, _ in calls} >= {"KeyGenPreproc", "KeyGen", "CrsGen", "NewMpcEpoch"}
    assert [call for call, times in calls.items() if times > 1] == []
    compared = [event for event in events if isinstance(event, ReplyCompared)]
    assert {event.kind for event in compared} == REPLIED
    assert {event.likeness for event in compared} == {Likeness.EQUAL}
    assert not [event for event in events if isinstance(event, ReplySigned | ReplySent)]
    ended = {
        event.kind: event.state
        for event in events
        if isinstance(event, RequestClosed) and event.kind in WITHOUT_REPLY
    }
    assert set(ended.values()) == {State.DONE}
    assert set(ended) == WITHOUT_REPLY


async def test_a_shadow_that_starts_what_the_other_one_starts_is_caught(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The mutation: a shadow whose stages do not know that they only read."""
    monkeypatch.setattr(Stages, "reading_only", property(lambda _self: False, lambda _self, _value: None))
    _, calls = await live(tmp_path)
    assert [call for call, times in calls.items() if times > 1]
