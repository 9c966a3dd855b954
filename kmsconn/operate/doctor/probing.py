"""Lines of a diagnosis, and the probes that find them, side by side: each under its own deadline, each once those that it needs have ended.

A probe may find a value that others need. One of which another has found nothing is not run: it is one skipped line with the reason. A
probe that fails, or takes too long, is one line too and stops no other. Knows no dependency.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from typing import Any, Generic, TypeVar

import attrs
import trio

from kmsconn.errors import KmsconnError, RequestError


class CheckStatus(StrEnum):
    """How a check ended. A fault stops requests from being answered; a warning may."""

    OK = "ok"
    WARNING = "warning"
    FAULT = "fault"
    SKIPPED = "skipped"


@attrs.frozen
class Diagnosis:
    """What was checked, how that ended, what was found, and what the operator is to do about it."""

    checked: str
    status: CheckStatus
    found: str
    remedy: str = ""


def ok(checked: str, found: str) -> Diagnosis:
    """Return that a check found nothing wrong."""
    return Diagnosis(checked, CheckStatus.OK, found)


def warning(checked: str, found: str, remedy: str) -> Diagnosis:
    """Return that a check found what may become a fault."""
    return Diagnosis(checked, CheckStatus.WARNING, found, remedy)


def fault(checked: str, found: str, remedy: str) -> Diagnosis:
    """Return that a check found a fault."""
    return Diagnosis(checked, CheckStatus.FAULT, found, remedy)


def skipped(checked: str, reason: str, remedy: str = "") -> Diagnosis:
    """Return that something could not be checked."""
    return Diagnosis(checked, CheckStatus.SKIPPED, reason, remedy)


def has_fault(lines: Iterable[Diagnosis]) -> bool:
    """Say whether any check found a fault."""
    return any(line.status is CheckStatus.FAULT for line in lines)


_WIDTH = max(len(status) for status in CheckStatus)


def as_text(lines: Sequence[Diagnosis]) -> Iterator[str]:
    """Yield one line for each check, one more with the remedy where there is one, and a last line with the numbers."""
    for line in lines:
        yield f"{line.status.value:{_WIDTH}}  {line.checked}: {line.found}"
        if line.remedy:
            yield f"{'':{_WIDTH}}  → {line.remedy}"
    numbers = ", ".join(f"{number} {status}" for status, number in _counts(lines).items())
    yield f"{len(lines)} checks: {numbers}"


def _counts(lines: Sequence[Diagnosis]) -> dict[str, int]:
    numbers = Counter(line.status for line in lines)
    return {status.value: numbers[status] for status in CheckStatus}


def as_json(lines: Sequence[Diagnosis]) -> dict[str, Any]:
    """Return the checks, how many ended how, and whether there is no fault."""
    checks = [attrs.asdict(line) for line in lines]
    return {"well": not has_fault(lines), "counts": _counts(lines), "checks": checks}


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
        """Wait for the others, look, and return the lines. Once. Of what was not found the first line that is not well tells why."""
        for one in (*self.needs, *self.uses):
            await one.wait()
        missing = next((one.missing for one in self.needs if one.missing), "")
        unlooked = Discovery[T](None, [skipped(self.checked, missing)], missing)
        said = unlooked if missing else await self._look()
        if said.value is None:
            why = next((line.found for line in said.lines if line.status is not CheckStatus.OK), "")
            self.missing = said.missing or f"{self.checked}{f': {why}' if why else ' did not tell'}"
        else:
            self._found.append(said.value)
        self._ended.set()
        return said.lines

    async def _look(self) -> Discovery[T]:
        found, remedy = f"no result within {self.limit:g} s", ""
        with trio.move_on_after(self.limit):
            try:
                said = await self.look()
                return said if isinstance(said, Discovery) else Discovery(None, said)
            except KmsconnError as error:
                found, remedy = str(error), error.remedy if isinstance(error, RequestError) else ""
            except OSError as error:
                found = error.strerror or type(error).__name__
        return Discovery(None, [fault(self.checked, found, remedy or self.remedy)])


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
