"""Tells from the requests that pass and fail at each stage which dependency holds up which kinds. Pure, without a clock.

Where several requests failed for one cause since the last one of their kind passed, that kind cannot pass at all: that is critical.
No request ends for it.

A request that has not failed again for ``WINDOW`` seconds is forgotten: it has left the chain, or was ended elsewhere.

A *gate* is one dependency at one stage for one kind. Its *family* are the dependencies that stand in for each other, such as the shards
of the Core: a kind cannot pass at all only where it passes none of them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator

import attrs

OTHER_CONTENT = "other-content"
"""The cause of a wrong answer where the journal knows other content under the id: the Core may still hold that until its restart."""

SEVERAL = 3
"""Requests that fail alike before a kind is said not to pass: one may be wrong, two by chance."""

WINDOW = 600.0
"""Seconds after its last failure for which a request counts: it is tried again every minute, and a stage may take minutes."""

TRACKED = 4096
"""Requests that are remembered for each gate. More wait all the same, and are not counted."""


@attrs.frozen
class Gate:
    """One dependency at one stage for one kind of request. ``several``: how many failures mean that none passes."""

    dependency: str
    family: str
    stage: str
    kind: str
    several: int = SEVERAL


@attrs.frozen
class Failure:
    """How a request failed: the slug of the cause, what was said, and what to do about it."""

    cause: str
    text: str
    remedy: str = ""


@attrs.define
class _Waiting:
    """A request that failed: at which step first for this cause, and at which step and time last."""

    rid: int
    failure: Failure
    since: int
    last: int
    at: float


@attrs.frozen
class FailureVerdict:
    """Requests fail at a dependency for one cause: how many wait, of which kinds, and which kinds cannot pass at all."""

    dependency: str
    cause: str
    text: str
    remedy: str
    count: int
    kinds: tuple[str, ...]
    blocked: tuple[str, ...]


@attrs.define
class FailureTracker:
    """The outcomes of requests at the gates; passes and failures are counted, so that their order is known."""

    _step: int = 0
    _passed: dict[tuple[str, str, str], int] = attrs.field(factory=dict)
    _waiting: dict[Gate, dict[int, _Waiting]] = attrs.field(factory=lambda: defaultdict(dict))
    _gates: dict[int, set[Gate]] = attrs.field(factory=dict)

    def passed(self, gate: Gate, rid: int) -> None:
        """Note that a request passed a gate."""
        self._step += 1
        self._passed[gate.family, gate.stage, gate.kind] = self._step
        self.answered(gate.family, gate.stage, rid)

    def answered(self, family: str, stage: str, rid: int) -> None:
        """Note an answer that is neither a pass nor a failure, such as "not yet": the dependency does not fail this request any more."""
        for gate in tuple(self._gates.get(rid, ())):
            if (gate.family, gate.stage) == (family, stage):
                self._leave(gate, rid)

    def failed(self, gate: Gate, rid: int, failure: Failure, now: float) -> None:
        """Note that a request failed at a gate."""
        self._step += 1
        waiting = self._waiting[gate]
        known = waiting.get(rid)
        if known is not None and known.failure.cause == failure.cause:
            known.failure, known.last, known.at = failure, self._step, now
        elif known is not None or len(waiting) < TRACKED:
            waiting[rid] = _Waiting(rid, failure, self._step, self._step, now)
            self._gates.setdefault(rid, set()).add(gate)

    def ended(self, rid: int) -> None:
        """Note that a request is over, or is deferred for long."""
        for gate in tuple(self._gates.get(rid, ())):
            self._leave(gate, rid)

    def forgive(self, dependency: str, causes: Collection[str]) -> None:
        """Forget the failures at a dependency for these causes: it works again, and the requests that wait are tried again."""
        for gate, waiting in self._waiting.items():
            if gate.dependency == dependency:
                for rid in [rid for rid, one in waiting.items() if one.failure.cause in causes]:
                    self._leave(gate, rid)

    def _leave(self, gate: Gate, rid: int) -> None:
        self._waiting[gate].pop(rid, None)
        self._gates[rid].discard(gate)
        if not self._gates[rid]:
            del self._gates[rid]

    def verdicts(self, now: float) -> tuple[FailureVerdict, ...]:
        """Return one verdict for each dependency and cause that holds up requests; forget what the window has left behind."""
        self._forget(now - WINDOW)
        groups: dict[tuple[str, str], list[tuple[Gate, list[_Waiting]]]] = defaultdict(list)
        for gate, waiting in self._waiting.items():
            causes: dict[str, list[_Waiting]] = defaultdict(list)
            for one in waiting.values():
                causes[one.failure.cause].append(one)
            for cause, several in causes.items():
                groups[gate.dependency, cause].append((gate, several))
        return tuple(self._verdict(*key, group) for key, group in sorted(groups.items()))

    def _verdict(
        self, dependency: str, cause: str, group: list[tuple[Gate, list[_Waiting]]]
    ) -> FailureVerdict:
        latest = max((one for _, several in group for one in several), key=lambda one: one.last).failure
        return FailureVerdict(
            dependency,
            cause,
            latest.text,
            latest.remedy,
            len({one.rid for _, several in group for one in several}),
            tuple(sorted({gate.kind for gate, _ in group})),
            tuple(sorted(set(self._blocked(group)))),
        )

    def _blocked(self, group: list[tuple[Gate, list[_Waiting]]]) -> Iterator[str]:
        for gate, several in group:
            passed = self._passed.get((gate.family, gate.stage, gate.kind), 0)
            if sum(one.since > passed for one in several) >= gate.several:
                yield gate.kind

    def _forget(self, before: float) -> None:
        for gate, waiting in self._waiting.items():
            for rid in [rid for rid, one in waiting.items() if one.at < before]:
                self._leave(gate, rid)
