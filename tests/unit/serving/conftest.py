from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.serving.scene import Scene, key, serving


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with serving() as scene:
        yield scene


@pytest.fixture
async def keyed() -> AsyncIterator[Scene]:
    """A port that wants a key."""
    async with serving(keys=(key(),)) as scene:
        yield scene
