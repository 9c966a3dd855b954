"""A signal ends a command's work, and the command still says what it has."""

from __future__ import annotations

import signal

import pytest
import trio
import trio.testing

from kmsconn.operate.commands.command import until_interrupted


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_a_signal_cancels_the_work(number: signal.Signals) -> None:
    steps = []

    async def work() -> None:
        steps.append("begun")
        signal.raise_signal(number)
        await trio.sleep_forever()
        steps.append("never")

    await until_interrupted(work)
    assert steps == ["begun"]


async def test_without_a_signal_the_work_comes_to_its_end() -> None:
    steps = []

    async def work() -> None:
        await trio.sleep(1)
        steps.append("ended")

    await until_interrupted(work)
    assert steps == ["ended"]


async def test_an_error_of_the_work_comes_out() -> None:
    async def work() -> None:
        await trio.lowlevel.checkpoint()
        raise ValueError("why")

    with pytest.RaisesGroup(pytest.RaisesExc(ValueError, match="why")):
        await until_interrupted(work)


async def test_handlers_are_put_back() -> None:
    before = signal.getsignal(signal.SIGTERM)
    await until_interrupted(trio.lowlevel.checkpoint)
    assert signal.getsignal(signal.SIGTERM) == before
