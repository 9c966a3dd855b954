"""Runs probes side by side: each under its own deadline, each once those that it needs have ended. Knows no dependency.

A probe may find a value that others need. One of which another has found nothing is not run: it is one skipped line with the reason. A
probe that fails, or takes too long, is one line too and stops no other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, TypeVar

import attrs
import trio

from kmsconn.errors import KmsconnError, RequestError
from kmsconn.operate.doctor.diagnosis import CheckStatus, Diagnosis, fault, skipped

T = TypeVar("T")

PROBE_LIMIT = 15.0  # seconds for one probe: more than the ten in which a connection is made or given up
ASK_AGAIN = "check that it is reachable from this machine and not overloaded"


@attrs.frozen
class Discovery(Generic[T]):
    """What a probe has found for others, and its lines; None: nothing, and ``missing`` may say why."""

    value: T | None
    lines: Sequence[Diagnosis] = ()
    missing: str = ""


Look = Callable[[], Awaitable[Sequence[Diagnosis] | Discovery[T]]]


@attrs.define(eq=False)
class Probe(Generic[T]):
    """One look at a dependency: what it is called, what it does, the probes without which it cannot be run, and its limit in seconds.

    ``look`` may raise KmsconnError or OSError, which make one line with ``remedy``. What ``uses`` have found it can do without.
    """

    checked: str
    look: Look[T]
    needs: tuple[Probe[Any], ...] = ()
    uses: tuple[Probe[Any], ...] = ()
    remedy: str = ASK_AGAIN
    limit: float = PROBE_LIMIT
    missing: str = attrs.field(default="", init=False)
    """Why nothing was found; empty where something was."""
    _found: list[T] = attrs.field(factory=list, init=False)
    _ended: trio.Event = attrs.field(factory=trio.Event, init=False)

    @property
    def value(self) -> T:
        """What was found. Raises IndexError while it is missing: a probe names what it needs."""
        return self._found[0]

    async def wait(self) -> None:
        """Return once it has ended."""
        await self._ended.wait()

    async def run(self) -> Sequence[Diagnosis]:
        """Wait for the others, look, and return the lines. Once."""
        for one in (*self.needs, *self.uses):
            await one.wait()
        missing = next((one.missing for one in self.needs if one.missing), "")
        said = (
            Discovery[T](None, [skipped(self.checked, missing)], missing) if missing else await self._look()
        )
        if said.value is None:
            self.missing = said.missing or self._why_not(said.lines)
        else:
            self._found.append(said.value)
        self._ended.set()
        return said.lines

    def _why_not(self, lines: Sequence[Diagnosis]) -> str:
        """Return why nothing was found: what the first line that is not well says."""
        found = next((line.found for line in lines if line.status is not CheckStatus.OK), "")
        return f"{self.checked}: {found}" if found else f"{self.checked} did not tell"

    async def _look(self) -> Discovery[T]:
        with trio.move_on_after(self.limit):
            try:
                said = await self.look()
                return said if isinstance(said, Discovery) else Discovery(None, said)
            except KmsconnError as error:
                own = error.remedy if isinstance(error, RequestError) else ""
                return Discovery(None, [fault(self.checked, str(error), own or self.remedy)])
            except OSError as error:
                return Discovery(
                    None, [fault(self.checked, error.strerror or type(error).__name__, self.remedy)]
                )
        return Discovery(None, [fault(self.checked, f"no result within {self.limit:g} s", self.remedy)])


async def run_probes(probes: Sequence[Probe[Any]]) -> list[Diagnosis]:
    """Run probes and return their lines, those of one probe together, in the order of the probes.

    Every probe that another one needs must be among them. Cancellation: at any time.
    """
    lines: list[Sequence[Diagnosis]] = [()] * len(probes)

    async def put(index: int, probe: Probe[Any]) -> None:
        lines[index] = await probe.run()

    async with trio.open_nursery() as nursery:
        for index, probe in enumerate(probes):
            nursery.start_soon(put, index, probe)
    return [line for several in lines for line in several]
