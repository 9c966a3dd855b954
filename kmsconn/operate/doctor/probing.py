"""Runs probes side by side: each under its own deadline, each once the facts that it needs are known. Knows no dependency.

A fact is settled once: learnt by the probe that gives it, or missing with the reason. A probe of which a fact is missing is not run: it
is one skipped line with that reason. A probe that fails, or takes too long, is one line too and stops no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from typing import Any, Generic, TypeVar

import attrs
import trio

from kmsconn.errors import KmsconnError, RequestError
from kmsconn.operate.doctor.diagnosis import CheckStatus, Diagnosis, fault, skipped

T = TypeVar("T")

PROBE_LIMIT = 15.0  # seconds for one probe: more than the ten in which a connection is made or given up
ASK_AGAIN = "check that it is reachable from this machine and not overloaded"


@attrs.define(eq=False)
class Fact(Generic[T]):
    """A value that one probe finds and others need; ``name`` says what it is in the reason why they could not be run."""

    name: str
    _known: list[T] = attrs.field(factory=list)
    _missing: str = ""
    _settled: trio.Event = attrs.field(factory=trio.Event)

    def learn(self, value: T) -> None:
        """Take the value. Repeating: the first one counts."""
        if not self._settled.is_set():
            self._known.append(value)
            self._settled.set()

    def lack(self, reason: str) -> None:
        """Take why there is no value. Repeating: no effect once it is settled."""
        if not self._settled.is_set():
            self._missing = reason
            self._settled.set()

    async def wait(self) -> None:
        """Return once it is settled."""
        await self._settled.wait()

    @property
    def missing(self) -> str:
        """Why there is no value; empty where there is one."""
        return "" if self._known else self._missing or f"{self.name} is not known"

    @property
    def value(self) -> T:
        """The value. Raises IndexError while it is missing: a probe names what it needs."""
        return self._known[0]


@attrs.frozen
class Probe:
    """One look at a dependency: what it is called, what it does, the facts that it needs and gives, and its limit in seconds.

    ``run`` may raise KmsconnError or OSError, which make one line with ``remedy``.
    """

    checked: str
    run: Callable[[], Awaitable[Sequence[Diagnosis]]]
    needs: tuple[Fact[Any], ...] = ()
    gives: tuple[Fact[Any], ...] = ()
    remedy: str = ASK_AGAIN
    limit: float = PROBE_LIMIT


async def run_probes(probes: Sequence[Probe]) -> list[Diagnosis]:
    """Run probes and return their lines, those of one probe together, in the order of the probes.

    A fact that no probe gives must be settled before. Cancellation: at any time.
    """
    lines: list[Sequence[Diagnosis]] = [()] * len(probes)

    async def put(index: int, probe: Probe) -> None:
        lines[index] = await _run(probe)

    async with trio.open_nursery() as nursery:
        for index, probe in enumerate(probes):
            nursery.start_soon(partial(put, index, probe))
    return [line for several in lines for line in several]


async def _run(probe: Probe) -> Sequence[Diagnosis]:
    for fact in probe.needs:
        await fact.wait()
    missing = next((fact.missing for fact in probe.needs if fact.missing), "")
    lines = [skipped(probe.checked, missing)] if missing else await _look(probe)
    for fact in probe.gives:
        fact.lack(missing or _why_not(probe, lines))
    return lines


def _why_not(probe: Probe, lines: Sequence[Diagnosis]) -> str:
    """Return why a probe did not learn what it gives: what its first line that is not well has found."""
    found = next((line.found for line in lines if line.status is not CheckStatus.OK), "")
    return f"{probe.checked}: {found}" if found else f"{probe.checked} did not tell"


async def _look(probe: Probe) -> Sequence[Diagnosis]:
    with trio.move_on_after(probe.limit):
        try:
            return await probe.run()
        except KmsconnError as error:
            own = error.remedy if isinstance(error, RequestError) else ""
            return [fault(probe.checked, str(error), own or probe.remedy)]
        except OSError as error:
            return [fault(probe.checked, error.strerror or type(error).__name__, probe.remedy)]
    return [fault(probe.checked, f"no result within {probe.limit:g} s", probe.remedy)]
