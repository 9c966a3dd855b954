"""A Core that takes decryptions and gives no result of them for minutes is named, whatever it says meanwhile."""

from __future__ import annotations

from pathlib import Path

import pytest
import trio

from kmsconn.errors import Forgotten, NotYet
from kmsconn.requests.failures import RESULT_LATE_AFTER
from tests.unit.requests.bench import Bench, open_bench


def named(bench: Bench) -> list[tuple[str, str, int]]:
    return [(one.reason.dependency, one.reason.cause, one.count) for one in bench.holdups()]


@pytest.mark.parametrize(
    "said", [NotYet("UNAVAILABLE"), Forgotten("NOT_FOUND")], ids=lambda one: type(one).__name__
)
async def test_a_result_that_is_late_is_named_until_it_is_there(said: Exception, tmp_path: Path) -> None:
    async with open_bench(tmp_path, answer=said) as bench:
        row = await bench.run(await bench.record())
        await trio.sleep(RESULT_LATE_AFTER - 1)
        row = await bench.run(row)
        assert named(bench) == []
        await trio.sleep(1)
        row = await bench.run(row)
        assert named(bench) == [("core[0]", "too-slow", 1)]
        del bench.stages.does["answer"]
        await bench.run(row)
        assert named(bench) == []


async def test_key_management_may_take_its_time(tmp_path: Path) -> None:
    async with open_bench(tmp_path, answer=NotYet("UNAVAILABLE")) as bench:
        row = await bench.run(await bench.record_key_request("crsgen_test_2048"))
        await trio.sleep(2 * RESULT_LATE_AFTER)
        await bench.run(row)
        assert named(bench) == []
