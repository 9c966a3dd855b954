"""The ground truth about one node's part in key management, read from the emulated Ethereum alone. Never asks the connector.

What is asked for is a pair of the function that replies and the id. Aborts and ends have no reply; ``KeyLife`` waits for what they do.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from kmsconn.emulator.blocks import Mined
from kmsconn.emulator.chain import EmulatedChain
from kmsconn.emulator.fhevm_dependencies import FhevmDependencies
from kmsconn.ethereum.abi import Log
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm.key_management import EthereumOperation
from kmsconn.protocols.fhevm.key_views import GENERATION_BASE
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
    for mined in _all(chain):
        asked += [one for log in mined.logs if (one := _asked(log)) is not None]
        if mined.transaction.sender == sender and (one := _replied(mined)) is not None:
            replies[one] += 1
            replied += [one] if mined.outcome.status else []
    aborted = frozenset(one for one in asked if _is_aborted(dependencies, one[1]))
    return KeyVerdict(tuple(asked), tuple(replied), aborted, sum(count - 1 for count in replies.values()))


def _all(chain: EmulatedChain) -> Iterator[Mined]:
    for number in range(chain.head.number + 1):
        block = chain.block(number)
        yield from () if block is None else block.mined


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
