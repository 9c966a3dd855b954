"""What is true on the emulated gateway, read from its blocks and from nothing that the connector says."""

from __future__ import annotations

from collections import Counter

import attrs

from kmsconn.emulator.neighbourhood import Neighbourhood
from kmsconn.ethereum.addresses import Address
from kmsconn.protocols.fhevm_014 import events
from kmsconn.protocols.fhevm_014.replies import PUBLIC_RESPONSE, USER_RESPONSE

_REPLIES = {function.selector: function for function in (PUBLIC_RESPONSE, USER_RESPONSE)}


@attrs.frozen
class Truth:
    """Ids requested in the canonical chain, answered by this node, included more than once (reverted ones count), still open."""

    requested: tuple[int, ...]
    answered: tuple[int, ...]
    doubled: tuple[int, ...]
    open: tuple[int, ...]


def truth_of(neighbours: Neighbourhood) -> Truth:
    """Read all blocks of the gateway. A request that left the chain with its block is not requested."""
    requested: list[int] = []
    answered: set[int] = set()
    included: Counter[int] = Counter()
    chain, contract = neighbours.gateway, neighbours.decryption.address
    for block in chain.blocks_with_logs(0, chain.head.number):
        logs = [log for mined in block.mined for log in mined.logs]
        requested += [int.from_bytes(log.topics[1]) for log in logs if log.topics[0] in events.TOPICS]
    for number in range(chain.head.number + 1):
        there = chain.block(number)
        for mined in there.mined if there is not None else ():
            identifier = _reply_to(
                mined.transaction.sender, neighbours.sender.address, mined.transaction.data
            )
            if identifier is None or mined.transaction.to != contract:
                continue
            included[identifier] += 1
            if mined.outcome.status == 1:
                answered.add(identifier)
    doubled = tuple(identifier for identifier, times in included.items() if times > 1)
    open_ = tuple(identifier for identifier in requested if identifier not in answered)
    return Truth(tuple(requested), tuple(sorted(answered)), doubled, open_)


def _reply_to(sender: Address, ours: Address, data: bytes) -> int | None:
    if sender != ours or data[:4] not in _REPLIES:
        return None
    return int.from_bytes(data[4:36])
