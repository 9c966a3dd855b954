"""A pipeline over a journal, and the dependencies of a whole tree, for one test each."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.unit.requests.bench import Bench, open_bench
from tests.unit.requests.few_components import FewComponents, few_components


@pytest.fixture
async def bench(tmp_path: Path) -> AsyncIterator[Bench]:
    async with open_bench(tmp_path) as bench:
        yield bench


@pytest.fixture
async def components(tmp_path: Path) -> AsyncIterator[FewComponents]:
    async with few_components(tmp_path) as components:
        yield components
