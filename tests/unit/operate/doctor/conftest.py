from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from tests.unit.operate.doctor.patient import Patient, patient


@pytest.fixture
async def one() -> AsyncIterator[Patient]:
    async with patient() as one:
        yield one
