"""Requests that anvil's contracts take and the connector must not answer: the ACL, the owner's signature, the wallet say no."""

from __future__ import annotations

from pathlib import Path

import attrs
import pytest

from kmsconn.connector.connector import open_connector
from kmsconn.emulator.contracts.acl import Mood
from kmsconn.emulator.contracts.request_calls import UNIFIED_CALL
from kmsconn.emulator.dependencies import key_for
from kmsconn.model.events import Event, RequestClosed, RequestDeferred
from kmsconn.protocols.fhevm.contracts import DECRYPTION
from tests.real.anvil import contracts
from tests.real.anvil.ground_truth import wait_answered, wait_until
from tests.real.anvil.users import Plan, Users
from tests.real.anvil.world import World, open_world, sender_key
from tests.real.gateways import MOODS

pytestmark = pytest.mark.sampled

_SIGNATURE = 5
"""Which argument of the unified call it is."""


def signed_by_another(plan: Plan) -> Plan:
    """Put a signature of other bytes into a unified request."""
    function = DECRYPTION.function(UNIFIED_CALL)
    arguments = list(function.decode(plan.calldata))
    arguments[_SIGNATURE] = key_for("stranger").sign(bytes(32))
    return attrs.evolve(plan, calldata=function.encode(*arguments))


class Ends:
    """The requests that were deferred or closed, by the connector's own numbers."""

    def __init__(self) -> None:
        self.deferred: set[int] = set()
        self.closed: set[int] = set()

    def on_event(self, event: Event) -> None:
        match event:
            case RequestDeferred():
                self.deferred.add(event.rid)
            case RequestClosed():
                self.closed.add(event.rid)
            case _:
                pass


async def set_mood(world: World, mood: Mood) -> None:
    call = contracts.turn("Wallet", "setMood", MOODS.index(mood))
    await world.host.owner.do((world.at.wallet, call))


async def test_only_the_request_that_everybody_allows_is_answered(anvil: Path, tmp_path: Path) -> None:
    """Denied public and user requests wait; a stranger's signature for an account without code can never be right."""
    ends = Ends()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        settings = world.settings(tmp_path / "journal.db")
        async with open_connector(settings, on_event=ends.on_event):
            good = await users.ask("unified")
            denied = await users.request(await users.prepare("public", "direct", "unified", rights=False))
            forged = await users.request([signed_by_another(p) for p in await users.prepare("unified")])
            await wait_until(lambda: len(ends.deferred) >= len(denied) and len(ends.closed) >= len(forged))
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, 1
            )
    assert ground_truth.answered == (good[0].id,)
    assert set(ground_truth.open) == {one.id for one in (*denied, *forged)}
    assert len(ends.closed) == len(forged)


async def test_a_wallet_that_changes_its_mind_is_asked_again(anvil: Path, tmp_path: Path) -> None:
    """ERC-1271 by real code: no, a revert and an endless loop make the request wait; then the owner's signature counts."""
    ends = Ends()
    async with open_world(anvil, tmp_path) as world:
        users = Users(world)
        async with open_connector(world.settings(tmp_path / "journal.db"), on_event=ends.on_event):
            for count, mood in enumerate((Mood.NO, Mood.REVERT, Mood.BURN), start=1):
                await set_mood(world, mood)
                await users.ask("wallet")
                await wait_until(lambda least=count: len(ends.deferred) >= least)  # type: ignore[misc]
            await set_mood(world, Mood.HONEST)
            ground_truth = await wait_answered(
                world.gateway.rpc, world.at.decryption, sender_key().address, 3
            )
    assert (len(ground_truth.answered), ground_truth.open, ground_truth.doubled, ends.closed) == (
        3,
        (),
        (),
        set(),
    )
