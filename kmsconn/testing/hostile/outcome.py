"""What came of a world with hostile answers, and what of that is wrong."""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from kmsconn.model import events
from kmsconn.model.events import Event
from kmsconn.model.life import State
from kmsconn.testing.ground_truth import GroundTruthReport
from kmsconn.testing.hostile.lies import Lie

CPU_SECONDS = 20.0  # for one whole world, on any machine
STEP_SECONDS = 1.0  # of CPU for one step of a task, on any machine
WELL = frozenset({State.DONE, State.ABORTED})  # ends that were wanted
PROMPT = 12  # blocks; a request that was answered within them was not disturbed
NAMES: Mapping[str, tuple[str, ...]] = {
    "gateway": ("gateway", "54321", "completeness", "deferred in check", "deferred in reply"),
    "ethereum": ("ethereum", "11155111", "deferred in check", "deferred in reply"),
    "host": ("host chain", "12345", "deferred in check"),
    "core0": ("core", "deferred in submit", "deferred in answer"),
    "bucket0": ("bucket", "deferred in gather"),
    "bucket1": ("bucket", "deferred in gather"),
    "bucket*": ("bucket", "deferred in gather"),
    "aws": ("wallet", "aws kms", "tx sender"),
}
"""How the connector may name a dependency: as such, or by the stage in which a request waits for it, with the reason."""


@attrs.frozen
class CpuUse:
    """Seconds of CPU of a whole world, and of its longest step of a task."""

    whole: float
    step: float

    def complaints(self) -> list[str]:
        """Return what took too long."""
        found = [f"took {self.whole:.1f} s of CPU"] if self.whole > CPU_SECONDS else []
        return found + ([f"a step took {self.step:.1f} s of CPU"] if self.step > STEP_SECONDS else [])


@attrs.frozen
class HostileOutcome:
    """What came of a world: whether the lie was told, what ended the process, what was said of the lie, what is on chain."""

    subject: str
    lie: Lie | None
    struck: int
    asked: dict[str, int]
    crash: str
    said: tuple[str, ...]
    """What the connector said of trouble while the lies lasted, and a little longer."""
    told: tuple[Event, ...] = attrs.field(repr=False)
    ground_truth: GroundTruthReport
    closed: dict[int, str]
    """The requests that ended without a reply, and why."""
    late: frozenset[int]
    """The requests that were asked when everybody was honest again."""
    keys: str
    """The step of the life of keys that was not taken."""
    cpu: CpuUse

    @property
    def named(self) -> bool:
        """Whether something that was said names the dependency."""
        names = NAMES[self.subject.partition(" ")[0]]
        return any(name in text.lower() for name in names for text in self.said)

    @property
    def undisturbed(self) -> bool:
        """Whether everything was answered as promptly as without the lie: then there was nothing to say."""
        return not self.ground_truth.open and max(self.ground_truth.blocks.values(), default=0) <= PROMPT

    @property
    def lost(self) -> tuple[int, ...]:
        """The requests that are open though nobody said why, or though nothing was hostile any more when they were asked.

        A wallet's public key is asked for once, at the start: behind another one everything waits, as is said, for a restart.
        """
        if self.subject == "aws GetPublicKey" and any("tx sender" in text for text in self.said):
            return ()
        return tuple(one for one in self.ground_truth.open if one not in self.closed or one in self.late)

    def complaints(self) -> list[str]:
        """Return what is wrong with it."""
        found = [self.crash] if self.crash else []
        found += [f"a worker crashed: {text}" for text in self.said if "unexpected-error" in text]
        found += [f"lost: {[hex(one) for one in self.lost]}"] if self.lost else []
        found += [] if self.lie is None or self.named or self.undisturbed else ["nobody was told of it"]
        found += [f"the keys stand at {self.keys!r}"] if self.keys and not self.closed else []
        found += (
            [f"doubled: {[hex(one) for one in self.ground_truth.doubled]}"]
            if self.ground_truth.doubled
            else []
        )
        found += self.cpu.complaints()
        return found


def trouble_in(event: Event) -> str:
    """Return what an event says of something that is not as it should be; nothing for all others."""
    match event:
        case events.RequestClosed(state=state) if state in WELL:
            return ""
        case events.AlertRaised():
            return f"{event.dependency}: {event.cause}: {event.text}"
        case events.RequestDeferred():
            return f"deferred in {event.stage}: {event.reason}"
        case events.RequestClosed() | events.ReplyReturned() | events.AnswerMismatch():
            return f"{type(event).__name__}: {event.reason}"
        case events.LogQuarantined():
            return f"LogQuarantined of chain {event.chain_id}: {event.reason}"
        case events.CiphertextMismatch() | events.AttestationMismatch():
            return f"{type(event).__name__}: {event.reason}"
        case _:
            return ""
