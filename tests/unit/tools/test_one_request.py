"""The figures of ``make one-request``: the same in each run, and each counts what its sentence says."""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import cache
from pathlib import Path

import attrs
import pytest
import trio

from kmsconn.journal import queries
from kmsconn.journal.groups import Execution
from tests.unit.journal.samples import opened
from tools import weight
from tools.one_request import PACKAGE, Figures, Trace, commonest, measure, package_of, table


def lower() -> None:
    sorted(range(3), key=lambda number: -number)


def upper() -> None:
    lower()
    lower()


async def waits() -> None:
    await trio.lowlevel.checkpoint()
    await trio.lowlevel.checkpoint()


def own_file(file: str) -> str | None:
    """Count the functions above, as those of one package."""
    return "a" if file == __file__ else None


def traced(what: Callable[[], object], package: Callable[[str], str | None] = own_file) -> Trace:
    trace = Trace(package)
    with trace.watching():
        what()
    return trace


@cache
def figures() -> Figures:
    return measure()


@pytest.mark.slow
def test_two_runs_give_the_same_figures() -> None:
    assert figures() == measure()


@pytest.mark.slow
def test_each_figure_was_counted() -> None:
    assert min(attrs.astuple(figures())) > 1


def test_named_functions_are_counted_each_once_and_their_calls_each_time() -> None:
    trace = traced(upper)
    assert (len(trace.functions), trace.calls) == (2, 3)


def test_only_a_call_from_one_package_to_another_is_a_change() -> None:
    def package(file: str) -> str | None:
        return {__file__: "a", inspect.__file__: "b"}.get(file)

    def within_and_across() -> None:
        upper()
        inspect.isclass(int)
        inspect.isclass(str)
        lower()

    assert traced(within_and_across, package).package_changes == 2


def test_a_coroutine_that_goes_on_is_not_called_again() -> None:
    assert traced(lambda: trio.run(waits)).calls == 1


def test_the_emulator_the_test_kit_and_generated_code_are_left_out() -> None:
    counted = {
        name
        for name in ("journal", "emulator", "testing", "_generated")
        if package_of(f"{PACKAGE}/{name}/x.py")
    }
    assert counted == {"journal"}


def test_what_the_emulator_calls_is_left_out() -> None:
    """Its nodes write with the same functions with which a connector reads."""
    source = "def outside(call):\n    call()"
    names: dict[str, Callable[..., None]] = {}
    exec(compile(source, f"{PACKAGE}/emulator/x.py", "exec"), names)  # noqa: S102 - an emulator of our own

    def both() -> None:
        names["outside"](upper)
        lower()

    assert traced(both).calls == 2


def test_only_what_an_operation_executes_counts_as_its_statement(tmp_path: Path) -> None:
    """The writer begins and commits transactions too; those statements belong to no operation."""
    db = opened(tmp_path / "journal.db")

    def one_operation() -> None:
        db.begin()
        Execution(queries.has_sibling, (1,)).apply(db)
        db.commit()

    try:
        assert traced(one_operation, package_of)._statements == Counter({1: 1})
    finally:
        db.close()


def test_a_module_beside_the_packages_is_a_package_of_its_own_and_a_library_is_none() -> None:
    assert package_of(f"{PACKAGE}/errors.py") == "errors"
    assert package_of(trio.__file__) is None


def test_the_commonest_number_wins_and_the_smaller_of_two() -> None:
    assert commonest(Counter({6: 2, 3: 2, 9: 1})) == 3
    assert commonest(Counter()) == 0


def test_the_table_has_each_figure_beside_what_was_reported_and_the_aim() -> None:
    text = table(Figures(1111, 2, 3, 4, 5, 6))
    assert "| functions | 1,111 | 725 | 500 |\n" in text
    assert "| hops of a journal operation | 6 | 2 | 2 |\n" in text


def test_frames_are_counted_across_the_tasks_that_a_stage_spawned() -> None:
    """A stage is what stands in a file ``stages.py``; the one here spawns a task whose function calls ``send_all``."""
    source = """
async def stage(send_all, trio):
    async def task():
        await send_all()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(task)
"""
    names: dict[str, Callable[..., Awaitable[None]]] = {}
    exec(compile(source, "/x/stages.py", "exec"), names)  # noqa: S102 - a stage of our own

    async def send_all() -> None:
        await trio.lowlevel.checkpoint()

    trace = traced(lambda: trio.run(names["stage"], send_all, trio), lambda _file: None)
    assert trace.frames_to_socket == 3  # stage, task, send_all


MODULE = b'"""What it is.\n\nMore."""\n\n# why\nX = (\n    1,\n)\n\n\ndef f() -> str:\n    """Say."""\n    return """a\nb"""\n'


def test_docstrings_and_comments_are_prose_and_texts_are_code(tmp_path: Path) -> None:
    module = tmp_path / "module.py"
    module.write_bytes(MODULE)
    assert weight.weigh(module) == {"modules": 1, "small": True, "lines": 14, "code": 6, "prose": 4}


def test_the_product_is_the_sum_of_what_a_connector_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in (
        "kmsconn/journal/one.py",
        "kmsconn/errors.py",
        "kmsconn/emulator/two.py",
        "tests/test_one.py",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(MODULE)
    monkeypatch.setattr(weight, "ROOT", tmp_path)
    assert "| product | 2 | 2 | 28 | 12 | 8 |" in weight.table()
