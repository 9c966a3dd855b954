"""Each drill shows what docs/drills.md says of it: its alerts, what /healthz and /liveness answer, and that all is answered after it."""

from __future__ import annotations

import json
from http import HTTPStatus

import attrs
import pytest
import trio

from kmsconn.emulator.control import DRILLS, ActiveDrills
from kmsconn.emulator.network import Line
from kmsconn.model.events import RequestClosed
from tests.faults.scene import Scene
from tests.sampling import points_of
from tools.drills_page import SHOWN, Shown

pytestmark = [pytest.mark.once, pytest.mark.points]

FORMS = ("public", "direct", "unified", "wallet") * 3
SETTINGS = {"kms_operation_from_block_number": 0, "key_management_polling": 1.0}
FINALITY = 2  # blocks of Ethereum, so that nobody waits for it
SETTLING = 10.0  # seconds after which nobody looks at the replies of before any more
PLAYED = 8  # rows in each turn
ELSEWHERE = {"flood"}  # of real sockets, see e2e/test_monitoring_attacks.py


@attrs.frozen
class MemoryPort:
    """The port of a dependency in memory, to be shut and opened."""

    line: Line

    def shut(self) -> None:
        self.line.refuse = True
        self.line.cut()

    def open(self) -> None:
        self.line.refuse = False


def drilled(scene: Scene) -> ActiveDrills:
    """Return the drills of a scene."""
    scene.dependencies.ethereum.finality.depth = FINALITY
    for name in scene.dependencies.names:
        scene.dependencies.toggle_ports[name] = MemoryPort(scene.network.line(name, 80))  # type: ignore[assignment]
    return ActiveDrills(scene.dependencies, scene.traffic)


@attrs.frozen
class Played:
    """What came of a row: its alerts and statuses while the drill was on, and whether all was over after it."""

    alerts: set[tuple[str, str, bool]]
    statuses: tuple[int, int]
    waited: bool
    over: bool = True


def seen(scene: Scene, row: Shown, asked: list[bytes]) -> Played:
    """Look at a scene while a drill is on."""
    alerts = {
        (written(one.dependency, row), one.cause, one.critical) for one in scene.monitor.health().alerts
    }
    statuses = scene.http("/healthz").status, scene.http("/liveness").status
    return Played(alerts, statuses, waited=not scene.answered_of(asked))


def written(dependency: str, row: Shown) -> str:
    """Return a dependency as the row writes it, with ``…`` for the rest."""
    short = [one.dependency for one in row.alerts if one.dependency.endswith("…")]
    return next((one for one in short if dependency.startswith(one.removesuffix("…"))), dependency)


async def is_over(scene: Scene, asked: list[bytes]) -> bool:
    """Say whether everything is answered, no decryption was closed, and no alert is left, in good time."""
    try:
        ids = [*await scene.on_chain(asked), *await scene.ask(*FORMS)]
        await scene.wait(lambda: scene.answered >= set(ids), 600)
        await scene.wait(lambda: not scene.monitor.health().alerts, 120)
    except trio.TooSlowError:
        return False
    return not scene.told(RequestClosed) and scene.http("/healthz").status == HTTPStatus.OK


async def play(row: Shown, scene: Scene) -> Played:
    """Play a row: put its drill on beside a connector, ask, look, end it."""
    async with trio.open_nursery() as nursery, scene.connected(**SETTINGS) as connector:
        drills = drilled(scene)
        await nursery.start(drills.run)
        await connector.wait_ready()
        await scene.wait_answered(await scene.ask(*FORMS))
        await trio.sleep(SETTLING)
        asked = await ask_beside(row, scene, drills)
        await trio.sleep(row.after - row.lead)
        played = seen(scene, row, asked)
        drills.end_all()
        over = await is_over(scene, asked) if row.ends else True
        nursery.cancel_scope.cancel()
    return attrs.evolve(played, over=over)


async def ask_beside(row: Shown, scene: Scene, drills: ActiveDrills) -> list[bytes]:
    """Put the drill on, and ask before it or after it as the row says."""
    asked = [scene.traffic.forms[form]() for form in FORMS] if row.pending else []
    await scene.on_chain(asked)
    drills.put_on(row.target, row.drill, json.dumps(row.body).encode())
    await trio.sleep(row.lead)
    return asked or [scene.traffic.forms[form]() for form in FORMS]


def rows() -> list[Shown]:
    """Return the rows that are played: usually a few, others in another turn; ``KMSCONN_POINTS=all`` plays all."""
    return [SHOWN[at - 1] for at in points_of(len(SHOWN), PLAYED)]


def test_every_drill_has_a_row() -> None:
    assert {drill.name for drill in DRILLS} - {row.drill for row in SHOWN} == ELSEWHERE


@pytest.mark.parametrize("row", rows(), ids=lambda row: row.order[:60])
async def test_a_drill_shows_what_the_page_says(row: Shown, scene: Scene) -> None:
    played = await play(row, scene)
    alerts = {(one.dependency, one.cause, one.critical) for one in row.alerts}
    assert played == Played(alerts, (row.health, 200), row.waits)
