"""A life of keys, as the owner of the two contracts on Ethereum leads it, and the ground truth about one node's part in it.

Its steps are the ceremonies of ``key_ceremonies``. The truth is read from Ethereum alone and never asks the connector.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import attrs
import trio

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.dependencies import sender_of
from kmsconn.emulator.fhevm_dependencies import CONTEXT, EPOCH, FhevmDependencies, Traffic, naming
from kmsconn.emulator.ground_truth import GroundTruth
from kmsconn.emulator.key_ceremonies import DEFAULT_PARAMS, KeyCeremonies, owner_of
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.contracts import GENERATION_BASE
from kmsconn.protocols.fhevm.key_management import EthereumOperation
from kmsconn.protocols.fhevm.profile import EVENTS, OPERATIONS
from kmsconn.protocols.queries import mapping_slot

Asked = tuple[str, int]
_REPLIES = {
    row.kind: row.reply for row in OPERATIONS if row.reply is not None and issubclass(row, EthereumOperation)
}
_NAMES = {function.selector: function.name for function in _REPLIES.values()}
_SELECTOR_BYTES, _WORD_BYTES = 4, 32


@attrs.frozen
class KeyVerdict:
    """What was asked for, what this node has replied to with success, and how many transactions were too many."""

    asked: tuple[Asked, ...]
    replied: tuple[Asked, ...]
    aborted: frozenset[Asked]
    doubled: int

    @property
    def open(self) -> tuple[Asked, ...]:
        """What still waits for this node's reply."""
        return tuple(one for one in self.asked if one not in {*self.replied, *self.aborted})

    @property
    def well(self) -> bool:
        """Everything was replied to, and nothing twice."""
        return not self.open and not self.doubled


def read_keys(dependencies: FhevmDependencies, sender: Address) -> KeyVerdict:
    """Read all blocks of Ethereum for what was asked of the committee, and for the replies of one wallet."""
    chain, asked, replies = dependencies.ethereum, [], Counter[Asked]()
    replied: list[Asked] = []
    blocks = (chain.block(number) for number in range(chain.head.number + 1))
    for mined in (mined for block in blocks if block is not None for mined in block.mined):
        asked += [one for log in mined.logs if (one := _asked(log)) is not None]
        if mined.transaction.sender == sender and (one := _replied(mined)) is not None:
            replies[one] += 1
            replied += [one] if mined.outcome.status else []
    aborted = frozenset(one for one in asked if _is_aborted(dependencies, one[1]))
    return KeyVerdict(tuple(asked), tuple(replied), aborted, sum(count - 1 for count in replies.values()))


def _asked(log: Log) -> Asked | None:
    if EVENTS.kinds.get(log.topics[0]) not in _REPLIES:
        return None
    content = EVENTS.decode(log)
    return None if content is None else (_REPLIES[content.kind].name, content.id)


def _replied(mined: Mined) -> Asked | None:
    data = mined.transaction.data
    name = _NAMES.get(data[:_SELECTOR_BYTES])
    return None if name is None else (name, int.from_bytes(data[_SELECTOR_BYTES:][:_WORD_BYTES]))


def _is_aborted(dependencies: FhevmDependencies, identifier: int) -> bool:
    """Tell whether a generation is over without consensus."""
    contract, state = dependencies.kms_generation.address, dependencies.ethereum.evm.state
    over, digest = (state.get((contract, mapping_slot(GENERATION_BASE + n, identifier)), 0) for n in (1, 3))
    return bool(over) and not digest


PACE, FINALITY, GENERATING = 0.5, 2, 1.0
"""Of a life beside a load: seconds between the blocks of Ethereum, blocks until one is final, seconds of a Core for what it makes."""
QUICK: dict[str, Any] = {"kms_operation_from_block_number": 0, "key_management_polling": PACE}
"""The settings of a connector that follows such a life."""
KEY_STEP_TIMEOUT = 180.0


@attrs.frozen
class KeyResult:
    """What came of a life of keys: what Ethereum says of the node, and which of all ``steps`` were taken."""

    verdict: KeyVerdict
    done: tuple[str, ...]
    steps: int

    @property
    def well(self) -> bool:
        """Every step was taken, every reply given, and none twice."""
        return len(self.done) == self.steps and self.verdict.well


@attrs.define(eq=False)
class KeyLife:
    """All ceremonies of an owner one after the other, and how far they are."""

    dependencies: FhevmDependencies
    ceremonies: KeyCeremonies
    done: list[str] = attrs.field(factory=list)

    @classmethod
    def beside(
        cls,
        traffic: Traffic,
        *ground_truths: GroundTruth,
        params: int = DEFAULT_PARAMS,
        migrates: bool = False,
    ) -> KeyLife:
        """Return one that takes half a minute beside a load: Ethereum is made quick, and each Core takes a second for a key.

        The committee stays the same in the next context; nothing ends before all of ``ground_truths`` say that it is answered.

        Its users name a context: what names none is lost when it is answered across a change of it (6.2, annex A).
        """
        dependencies = traffic.dependencies
        dependencies.ethereum.block_time, dependencies.ethereum.finality.depth = PACE, FINALITY
        for core in (*dependencies.cores, *dependencies.others):
            core.core.memory.generating = GENERATING
        traffic.extra_data = naming(CONTEXT, EPOCH)
        owner = owner_of(
            dependencies, dependencies.members, traffic, ground_truths, params, migrates=migrates
        )
        return cls(dependencies, owner)

    @property
    def steps(self) -> Mapping[str, Callable[[], Awaitable[None]]]:
        """The steps by name, in their order."""
        return self.ceremonies.by_name

    @property
    def doing(self) -> str:
        """The step that is under way, or will be; none after the last one."""
        return next((name for name in self.steps if name not in self.done), "")

    async def play(self) -> None:
        """Take all steps. Cancellation: at any time; ``done`` says how far it came."""
        for name, step in self.steps.items():
            await step()
            self.done.append(name)

    async def lead(self, reply_timeout: float = KEY_STEP_TIMEOUT) -> None:
        """Take all steps, but for so many seconds only. Cancellation: at any time."""
        with trio.move_on_after(reply_timeout):
            await self.play()

    def result(self, member: int = 0) -> KeyResult:
        """Return what came of it so far, of one node of the committee."""
        verdict = read_keys(self.dependencies, sender_of(member).address)
        return KeyResult(verdict, tuple(self.done), len(self.steps))
