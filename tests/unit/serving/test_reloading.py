"""Keys and certificates that change on disk are used without a restart, and faulty ones change nothing."""

from __future__ import annotations

import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trio
import trio.testing

from kmsconn.model.events import AlertCleared, AlertRaised
from kmsconn.serving.reloading import RELOAD_SECONDS
from tests.unit.serving.scene import KEY, OTHER_KEY, Scene, key, public_body, serving, wall
from tests.unit.transport.test_certificates import write_pair

PUBLIC = "/v1/public-decrypt"


def write(path: Path, *texts: str) -> None:
    """Replace a file of keys in one step."""
    entries = (
        f'[[keys]]\nid = "k{n}"\nsha256 = "{key(text).digest.hex()}"\n' for n, text in enumerate(texts)
    )
    new = path.with_suffix(".new")
    new.write_text("\n".join(entries))
    os.replace(new, path)  # noqa: PTH105 - what mv does


async def statuses(scene: Scene) -> list[int]:
    """Return what the holders of both keys get."""
    return [(await scene.client().post(PUBLIC, public_body(), one)).status for one in (KEY, OTHER_KEY)]


async def test_a_changed_file_is_used_within_seconds(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    write(path, KEY)
    async with serving(keys=(key(),), keys_file=path) as scene:
        assert await statuses(scene) == [200, 401]
        write(path, KEY, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS + 1)
        assert await statuses(scene) == [200, 200]
        write(path, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS)
        assert await statuses(scene) == [401, 200]


@pytest.mark.parametrize("text", ["", "[[keys]", '[[keys]]\nid = "a"\nsha256 = "x"'])
async def test_a_faulty_file_changes_nothing_and_is_told_until_it_is_right(tmp_path: Path, text: str) -> None:
    path = tmp_path / "keys.toml"
    write(path, KEY)
    async with serving(keys=(key(),), keys_file=path) as scene:
        path.write_text(text)
        await trio.sleep(RELOAD_SECONDS + 1)
        assert [one for one in scene.events if isinstance(one, AlertRaised)] == []
        await trio.sleep(3 * RELOAD_SECONDS)
        [alert] = [one for one in scene.events if isinstance(one, AlertRaised)]
        assert (alert.dependency, alert.cause) == ("http api", "api-keys")
        assert "stays in use" in alert.text
        assert await statuses(scene) == [200, 401]
        write(path, OTHER_KEY)
        await trio.sleep(RELOAD_SECONDS)
        assert await statuses(scene) == [401, 200]
    assert AlertCleared("http api", "api-keys") in scene.events


async def test_a_certificate_that_ends_soon_is_told_until_it_is_renewed(tmp_path: Path) -> None:
    now = datetime.fromtimestamp(wall(), UTC)
    files = write_pair(tmp_path, now + timedelta(days=13))
    async with serving(tls=files) as scene:
        await trio.sleep(3 * RELOAD_SECONDS)
        [alert] = [one for one in scene.events if isinstance(one, AlertRaised)]
        assert (alert.dependency, alert.cause) == ("http api", "certificate-ends")
        assert "tls_config.cert_path ends on 2027-01-28" in alert.text
        assert scene.service.statistics().certificate_end == (now + timedelta(days=13)).timestamp()
        write_pair(tmp_path, now + timedelta(days=90))
        await trio.sleep(2 * RELOAD_SECONDS)
        assert scene.events[-1] == AlertCleared("http api", "certificate-ends")


async def test_a_file_that_is_gone_changes_nothing(tmp_path: Path) -> None:
    path = tmp_path / "keys.toml"
    async with serving(keys=(key(),), keys_file=path) as scene:
        await trio.sleep(3 * RELOAD_SECONDS)
        assert await statuses(scene) == [200, 401]
    assert [one.cause for one in scene.events if isinstance(one, AlertRaised)] == ["api-keys"]
