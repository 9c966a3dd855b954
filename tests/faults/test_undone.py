"""Key management that ended undone is an alert until it is done: over a restart, and until an operator lets it begin again."""

from __future__ import annotations

from collections.abc import Callable

from kmsconn.emulator.control import ActiveDrills
from kmsconn.emulator.core_faults import FailingCore
from kmsconn.journal import inspecting
from kmsconn.model.events import RequestClosed
from kmsconn.model.life import State
from kmsconn.model.requests import Kind
from tests.faults.scene import Scene
from tests.faults.test_health_table import alert, core_always

KEY_MANAGEMENT = {"kms_operation_from_block_number": 0, "key_management_polling": 1.0}
REFUSED = FailingCore(code="INVALID_ARGUMENT", message="no such parameters")


def refuse_contexts(scene: Scene) -> Callable[[], None]:
    """Let the Core refuse contexts; return what ends it."""
    return core_always(scene, REFUSED, ("NewMpcContext",))


def begin_context(scene: Scene) -> None:
    """Let the owner announce a context, as an operator would in a drill."""
    ActiveDrills(scene.dependencies, scene.traffic).put_on("ethereum", "new-context", b"{}")


async def rejected(scene: Scene) -> int:
    """Wait until a context was rejected and return its row."""
    found = await scene.wait(
        lambda: [one for one in scene.told(RequestClosed) if one.state is State.REJECTED], 300
    )
    assert [one.kind for one in found] == [Kind.NEW_KMS_CONTEXT]
    rid: int = found[0].rid
    return rid


async def test_a_rejected_context_is_an_alert_over_a_restart_until_it_is_done(scene: Scene) -> None:
    scene.dependencies.ethereum.finality.depth = 2
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        await connector.wait_ready()
        repair = refuse_contexts(scene)
        begin_context(scene)
        rid = await rejected(scene)
        before = await scene.wait(lambda: alert(scene, "new_kms_context", "undone"), 10)
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        again = await scene.wait(lambda: alert(scene, "new_kms_context", "undone"), 10)
        assert again == before
        assert again.critical
        assert "no such parameters" in again.text
        repair()
        now = scene.ports().wall()
        await connector.components.journal.run(inspecting.retry, rid, now, now + 600)
        await scene.wait(lambda: alert(scene, "new_kms_context", "undone") is None, 60)
    async with scene.connected(**KEY_MANAGEMENT) as connector:
        await connector.wait_ready()
        assert alert(scene, "new_kms_context", "undone") is None
